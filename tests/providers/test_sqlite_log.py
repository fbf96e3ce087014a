"""The log's index is made later than its rows; readers do not notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.providers.sqlite_child import HOUR
from wfe.ports.store import Batch
from wfe.providers.sqlite import SQLiteProvider
from wfe.testing.conformance.values import announcements, ending, fresh_id, start, transition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

INSTANCES = ("order-1", "order-2", "order-3")
REVISIONS = 20


@pytest.fixture
async def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SQLiteProvider]:
    """Three instances with twenty rows of two announcements each; the index has been made several times, not last."""
    monkeypatch.setattr("wfe.providers.sqlite.outcome.LOG_ROWS_UNINDEXED", 7)
    provider = SQLiteProvider(tmp_path / "wfe.db")
    await provider.store.open()
    await provider.lease.begin("host", name="host", ttl=HOUR)
    starts = [start(one, hold=True, **announcements(2)) for one in INSTANCES]
    await provider.store.commit(Batch(id=fresh_id(), session="host", starts=starts))
    for revision in range(1, REVISIONS):
        writes = [transition(one, revision, 1, **announcements(2, first=2 * revision + 1)) for one in INSTANCES]
        await provider.store.commit(Batch(id=fresh_id(), session="host", transitions=writes))
    yield provider
    await provider.store.close()


async def rows_in(provider: SQLiteProvider, table: str) -> int:
    count = await provider.store.write(
        lambda connection: connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    )
    return int(count[0])


async def test_part_of_the_log_is_indexed(provider: SQLiteProvider) -> None:
    """The other tests here look at both kinds of rows."""
    assert 0 < await rows_in(provider, "log_index") < await rows_in(provider, "log")


@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_history_has_every_row_once(provider: SQLiteProvider, limit: int) -> None:
    """Pages of any size give all announcements of one instance in order."""
    revisions: list[int] = []
    after = 0
    while rows := await provider.store.history("order-2", after, limit):
        revisions += [row.revision for row in rows]
        after = rows[-1].first_sequence + rows[-1].count - 1

    assert revisions == list(range(1, REVISIONS + 1))


async def test_history_from_the_middle_of_a_row(provider: SQLiteProvider) -> None:
    """A row of which only the first announcement was seen is given again."""
    rows = await provider.store.history("order-1", 9, 2)

    assert [row.first_sequence for row in rows] == [9, 11]


@pytest.mark.parametrize("limit", [1, 4, 1000])
async def test_log_of_one_instance_has_every_row_once(provider: SQLiteProvider, limit: int) -> None:
    """Pages of any size give all rows of one instance in commit order."""
    revisions: list[int] = []
    page = await provider.store.log_after(None, limit, instance_id="order-3")
    while page.rows:
        revisions += [row.revision for row in page.rows]
        page = await provider.store.log_after(page.cursor, limit, instance_id="order-3")

    assert revisions == list(range(1, REVISIONS + 1))


async def test_purge_leaves_no_row(provider: SQLiteProvider) -> None:
    """A purged instance leaves nothing in any table; the others keep theirs."""
    end = ending()
    write = transition("order-2", REVISIONS, 1, status=end.status, ended=True, hold=False)
    await provider.store.commit(Batch(id=fresh_id(), session="host", transitions=[write]))

    purged = await provider.store.purge()

    assert purged == 1
    assert await provider.store.history("order-2") == []
    assert await rows_in(provider, "log") == 2 * REVISIONS
    assert [len(await provider.store.history(one)) for one in ("order-1", "order-3")] == [REVISIONS, REVISIONS]

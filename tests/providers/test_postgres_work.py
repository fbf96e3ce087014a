"""How much the server does for what is asked of it, counted in rows that its indexes give, not in time."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from msgspec.structs import replace

from tests.providers.postgres_stores import HERE, commit, opened
from wfe.model.definition import DefinitionKey
from wfe.ports.store import PointerRow
from wfe.providers.postgres import PostgresProvider
from wfe.testing.conformance.values import (
    DEFINITION,
    HOUR,
    announcements,
    due,
    ending,
    event,
    message,
    no_wait,
    start,
    transition,
    wait,
)

SIZE = 400
ROWS_EACH = 25
"""A few rows are read for each thing that is written; what grows with the number of things shows far above this."""


async def rows_read(url: str) -> int:
    """Count the rows that scans of our tables and indexes have given so far, to backends that have ended by now."""
    connection = await asyncpg.connect(url)
    try:
        await until_alone(connection)
        return int(
            await connection.fetchval(
                "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes) "
                "+ (SELECT sum(seq_tup_read) FROM pg_stat_user_tables)"
            )
        )
    finally:
        await connection.close()


async def until_alone(connection: asyncpg.Connection) -> None:
    """Return once no other backend works on the database: each has reported its figures before it is gone."""
    others = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    async with asyncio.timeout(20):
        while await connection.fetchval(others):  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)


class Work:
    """Things to do in batches of SIZE, on a database that has SIZE times some of everything."""

    def __init__(self, provider: PostgresProvider) -> None:
        self._provider = provider
        self._round = 0

    def _ids(self, letter: str) -> list[str]:
        return [f"{letter}{self._round}-{number}" for number in range(SIZE)]

    async def prepare(self) -> None:
        """Start what the work needs."""
        self._round += 1
        provider = self._provider
        pointer = [PointerRow(1, b"p")]
        await commit(provider, starts=[start(each, hold=True, wake_at=0, pointers=pointer) for each in self._ids("h")])
        await commit(provider, starts=[start(each, subscribe=[wait(key=each)]) for each in self._ids("w")])
        await commit(provider, starts=[due(each) for each in self._ids("d")])
        blocked = DefinitionKey("nobody", 1, "runs this")
        await commit(provider, starts=[due(each, definition=blocked) for each in self._ids("b")])
        await commit(provider, publishes=[event(key=each) for each in self._ids("e")])
        await commit(provider, publishes=[event(key="hot") for _ in self._ids("e")])

    async def steps(self) -> None:
        """Plain transitions."""
        fields = announcements(1)
        pointer = [PointerRow(1, b"q")]
        writes = [transition(each, 1, 1, wake_at=0, pointers=pointer, data=b"{}", **fields) for each in self._ids("h")]
        await commit(self._provider, transitions=writes)

    async def waits(self) -> None:
        """Waits that begin, for events to come and for stored ones."""
        await commit(
            self._provider, starts=[start(f"new-{each}", subscribe=[wait(key=each)]) for each in self._ids("x")]
        )
        stored = [start(f"any-{each}", subscribe=[wait(key=each, as_of=0)]) for each in self._ids("e")]
        await commit(self._provider, starts=stored)
        await commit(
            self._provider, starts=[start(f"hot-{each}", subscribe=[wait(key="hot")]) for each in self._ids("x")]
        )

    async def timeouts(self) -> None:
        """Waits that end by time."""
        ids = self._ids("t")
        await commit(self._provider, starts=[start(each, hold=True, subscribe=[wait()]) for each in ids])
        writes = [transition(each, 1, 1, unsubscribe=[no_wait(required=True)]) for each in ids]
        await commit(self._provider, transitions=writes)

    async def events(self) -> None:
        """Events that are waited for, and that nobody waits for, on keys of their own and on one."""
        await commit(self._provider, publishes=[event(key=each) for each in self._ids("w")], room=SIZE)
        await commit(self._provider, publishes=[event(key="hot") for _ in self._ids("w")])

    async def messages(self) -> None:
        """Messages that take whom they reach."""
        await commit(self._provider, inbox=[message(each) for each in self._ids("d")], room=SIZE)

    async def ends(self) -> None:
        """Ends of instances."""
        changes = ending(pointers_gone=[1])
        writes = [replace(transition(each, 1, 1), changes=changes) for each in self._ids("h")]
        await commit(self._provider, transitions=writes)

    async def claims(self) -> None:
        """Taking what is due, beside what nobody can run."""
        await self._provider.store.claim(HERE, [DEFINITION], SIZE)


@pytest.mark.parametrize("kind", ["steps", "waits", "timeouts", "events", "messages", "ends", "claims"])
@pytest.mark.parametrize("analysed", [False, True], ids=["without statistics", "with statistics"])
async def test_work_does_not_grow_with_what_is_there(postgres_url: str, kind: str, analysed: bool) -> None:
    """A batch reads a few rows for each row that it writes, before the tables have statistics and after."""
    async with opened(postgres_url) as provider:
        await provider.lease.begin(HERE, name="here", ttl=HOUR)
        work = Work(provider)
        await work.prepare()
        await work.prepare()
        if analysed:
            connection = await asyncpg.connect(postgres_url)
            await connection.execute("ANALYZE")
            await connection.close()
    before = await rows_read(postgres_url)

    async with opened(postgres_url) as provider:
        again = Work(provider)
        again._round = work._round
        await getattr(again, kind)()
    after = await rows_read(postgres_url)

    assert after > before
    assert (after - before) / SIZE < ROWS_EACH

"""The statements of the SQLite provider read by index, so that what waits, or is over, costs nothing."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.providers.sqlite_child import HOUR, batch
from wfe.ports.store import Batch, Unsubscribe
from wfe.providers.sqlite import SQLiteProvider
from wfe.providers.sqlite.connection import connect
from wfe.testing.conformance.values import (
    DEFINITION,
    announcements,
    as_child,
    ending,
    event,
    fresh_id,
    message,
    start,
    transition,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from wfe.providers.sqlite.store import SQLiteStore

# A row for each definition, each living host, or each thing that was asked for ("w": the transitions of a batch).
SMALL = {"definition", "session", "json_each", "j", "sqlite_master", "CONSTANT", "w"}
# Reads no more than its limit.
PROBE = "SELECT n FROM inbox LIMIT 257"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """All statements that stores opened in this test have run, with their values."""
    seen: set[str] = set()

    def traced(*arguments: object, **options: object) -> sqlite3.Connection:
        connection = connect(*arguments, **options)  # type: ignore[arg-type]
        connection.set_trace_callback(seen.add)
        return connection

    monkeypatch.setattr("wfe.providers.sqlite.store.connect", traced)
    return seen


async def commit(store: SQLiteStore, *, transitions: object = (), starts: object = (), **fields: object) -> None:
    await store.commit(
        Batch(id=fresh_id(), session="host", transitions=transitions, starts=starts, **fields)  # type: ignore[arg-type]
    )


async def use_everything_that_is_frequent(provider: SQLiteProvider) -> None:
    store = provider.store
    await provider.lease.begin("host", name="host", ttl=HOUR)
    await commit(store, starts=[start("order-1", hold=True, **announcements(2)), start("order-2", wake_at=0)])
    await commit(store, starts=[start("order-2", wake_at=0)])
    await commit(
        store,
        transitions=[
            transition("order-1", 1, 1, subscribe=[wait()], children=[as_child("child-1", "order-1")], data=b"{}"),
        ],
        publishes=[event(key="other", effective_at=2**60)],
    )
    await commit(store, publishes=[event()], inbox=[message("order-2", request="r")], promote=5, room=5)
    await store.claim("host", [DEFINITION], 10)
    await store.claim("host", [DEFINITION], 10, ids=["order-2"], any_definition=True)
    await store.unclaimed(10)
    await store.unclaimed(10, after=(2**62, 1))
    await store.block({"child-1": "no code"})
    await store.inbox(["order-1", "order-2"])
    await store.pending_control(["r"])
    await commit(
        store,
        transitions=[
            transition("order-1", 2, 1, consumed=[1], positions=[("paid", "order-1", 1)], subscribe=[wait()]),
            transition("order-2", 1, 7),
        ],
    )
    await commit(store, transitions=[transition("order-1", 3, 1, unsubscribe=[Unsubscribe(1, 1, required=True)])])
    await commit(store, transitions=[transition("order-1", 4, 1, **vars_of(ending(cancel_children=b"cancel")))])
    await store.release("host", [("order-2", 2)])
    await store.get("order-1")
    await store.get("no such name")
    await store.ended(["order-1"])
    await store.known(["order-1"])
    await store.history("order-1")
    await store.errors("order-1")
    await store.log_after(None, 10)
    await store.log_after(None, 10, instance_id="order-1")
    await provider.lease.alive()
    await provider.lease.end("host")


def vars_of(changes: object) -> dict[str, object]:
    return {name: getattr(changes, name) for name in ("status", "ended", "hold", "cancel_children")}


async def test_no_frequent_statement_scans(tmp_path: Path, statements: set[str]) -> None:
    """No statement of commits, claims, sweeps and plain reads scans a table that grows with the number of instances."""
    provider = SQLiteProvider(tmp_path / "wfe.db")
    await provider.store.open()
    await use_everything_that_is_frequent(provider)
    await provider.store.close()

    scans = scans_of(tmp_path / "wfe.db", statements)

    assert len(statements) > 60
    assert scans == []


def scans_of(path: Path, statements: set[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    connection = sqlite3.connect(path)
    for statement in statements:
        if re.match("SELECT|INSERT|UPDATE|DELETE", statement) and statement != PROBE:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
            names = [match[1] for step in plan if (match := re.match(r"SCAN (\w+)", step))]
            found += [(name, statement) for name in names if name not in SMALL and not re.match(r"\d", name)]
    connection.close()
    return found


async def test_idle_sweep_costs_the_same_with_many_waiting(tmp_path: Path) -> None:
    """An idle claim takes as many steps of SQLite's machine with a thousand waiting instances as with ten."""
    provider = SQLiteProvider(tmp_path / "wfe.db")
    store = provider.store
    await store.open()
    await provider.lease.begin("host", name="host", ttl=HOUR)
    await commit(store, starts=[start(f"few-{i}", subscribe=[wait(key=f"{i}")]) for i in range(10)])
    few = await steps_of_claim(store)
    for part in range(10):
        starts = [start(f"many-{part}-{i}", wake_at=2**60, subscribe=[wait(key=f"{part}-{i}")]) for i in range(100)]
        await commit(store, starts=starts)

    many = await steps_of_claim(store)

    await store.close()
    assert 0 < many <= few + 20


async def test_idle_sweep_costs_the_same_with_many_held(tmp_path: Path) -> None:
    """Nor does it matter how many instances living hosts hold, due or not, with or without messages."""
    provider = SQLiteProvider(tmp_path / "wfe.db")
    store = provider.store
    await store.open()
    await provider.lease.begin("host", name="host", ttl=HOUR)
    few = await steps_of_claim(store)
    ids = [f"held-{i}" for i in range(1000)]
    await store.commit(batch("host", *ids))
    await commit(store, inbox=[message(one) for one in ids])

    many = await steps_of_claim(store)

    await store.close()
    assert 0 < many <= few + 60


@pytest.mark.parametrize("has_messages", [False, True])
async def test_page_of_what_nobody_takes_costs_the_same_wherever_it_is(tmp_path: Path, *, has_messages: bool) -> None:
    """A page in the middle of a thousand blocked instances, all due at the same time, costs what the first one does."""
    provider = SQLiteProvider(tmp_path / "wfe.db")
    store = provider.store
    await store.open()
    ids = [f"blocked-{number:04}" for number in range(1000)]
    await commit(store, starts=[start(one, wake_at=None if has_messages else 0) for one in ids])
    if has_messages:
        await commit(store, inbox=[message(one) for one in ids])
    place = (await store.unclaimed(600))[-1].place

    first = await steps_of(store, lambda: store.unclaimed(10))
    middle = await steps_of(store, lambda: store.unclaimed(10, after=place))

    await store.close()
    assert 0 < middle <= first + 20


async def steps_of_claim(store: SQLiteStore) -> int:
    """Count the steps of SQLite's virtual machine for a claim that finds nothing."""

    async def claim() -> None:
        assert (await store.claim("host", [DEFINITION], 100)).instances == []

    return await steps_of(store, claim)


async def steps_of(store: SQLiteStore, work: Callable[[], Awaitable[object]]) -> int:
    """Count the steps of SQLite's virtual machine for something."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    await store.write(lambda connection: connection.set_progress_handler(count, 1))
    await work()
    await store.write(lambda connection: connection.set_progress_handler(None, 0))
    return steps

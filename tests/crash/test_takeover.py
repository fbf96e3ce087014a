"""When a host dies or stands still, another one goes on with its instances; one that wakes up too late is fenced."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.crash.flows import STUCK, definitions, gate_of, plan_gated
from tests.crash.ledger import Entry, read_ledger
from tests.crash.processes import Process
from tests.crash.rounds import Bench, seed_of_run
from tests.crash.snapshot import take_snapshot
from tests.crash.waiting import until
from tests.servers.databases import DatabasePool
from tests.soundness import check
from wfe import StepExecutionContext, WorkflowBuilder, WorkflowDefinition, WorkflowHost, step

pytestmark = [pytest.mark.crash, pytest.mark.slow]

_GATED = 20
_SHARED = 300
_SWEEP_SECONDS = 0.1
_MARGIN_SECONDS = 1.5
"""What a loaded machine may need besides: begin of a process' turn, a few commits."""


@pytest.fixture(params=["sqlite", "postgres"])
def make_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str, float], Bench]]:
    """Make benches, on SQLite and on PostgreSQL: (name, lease TTL in seconds)."""
    taken: list[str] = []
    databases: DatabasePool | None = None
    if request.param == "postgres":
        databases = request.getfixturevalue("postgres_databases")

    def make(name: str, ttl: float) -> Bench:
        folder = tmp_path / name
        folder.mkdir()
        if databases is None:
            return Bench(f"sqlite:///{folder}/wfe.db", folder, name, ttl=ttl)
        taken.append(databases.take())
        bench = Bench(taken[-1], folder, name, ttl=ttl)
        asyncio.run(take_snapshot(bench.url, bench.ledger))  # makes the tables
        return bench

    yield make
    if databases is not None:
        check(taken)
        for url in taken:
            databases.give_back(url)


def _begun(bench: Bench, step: str, life: str) -> list[Entry]:
    return [
        entry
        for entry in read_ledger(bench.ledger)
        if entry.what == "begin" and entry.step == step and entry.life == life
    ]


def _wait_until_stuck(bench: Bench) -> None:
    until(lambda: len(_begun(bench, "stuck", STUCK)) == _GATED, "all instances stand in the middle of a body")


def _pause_outside_of_writes(process: Process, bench: Bench) -> None:
    """Stop a process, but not while it holds the write lock of its file: that would stop everybody, by design."""
    while True:
        process.pause()
        if not bench.url.startswith("sqlite:") or _can_write(bench.folder / "wfe.db"):
            return
        process.go_on()


def _can_write(path: Path) -> bool:
    connection = sqlite3.connect(path, timeout=0.2, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def _ended(bench: Bench) -> bool:
    instances = asyncio.run(take_snapshot(bench.url, bench.ledger)).instances
    return len(instances) == _GATED and all(stored.has_ended for stored in instances.values())


async def _offer_work(url: str, ttl: float, count: int) -> None:
    """Put instances into the store that nobody holds; who is alive takes them."""
    host = WorkflowHost(url, lease_ttl=ttl, sweep_interval=60)
    host.register(*definitions())
    async with host:
        later = datetime.now(UTC) + timedelta(seconds=1)  # when this host has stopped
        wanted = plan_gated("offered", count)
        await asyncio.gather(*(host.start_workflow("gated", {}, id=each.id, start_at=later) for each in wanted))


def test_stopped_for_twice_the_ttl(
    make_bench: Callable[[str, float], Bench], crash_rounds: Callable[[int], int]
) -> None:
    """While a host is stopped (SIGSTOP) for twice its lease TTL, another takes over and finishes its instances.

    Awake again, the first one is fenced: what its bodies answer is refused and changes nothing. It begins a new session
    and works on.
    """
    for number in range(crash_rounds(20)):
        bench = make_bench(f"stop-{number}", 1.0)
        with bench.spawn_stuck(_GATED) as sleeper, bench.spawn(work=False) as helper:
            sleeper.wait_ready()
            helper.wait_ready()
            _wait_until_stuck(bench)
            _pause_outside_of_writes(sleeper, bench)
            stopped_at = time.monotonic()
            until(lambda: _ended(bench), "the other host finishes everything")  # noqa: B023 - called before the next round
            until(lambda: time.monotonic() > stopped_at + 2 * bench.ttl, "twice the TTL has passed")  # noqa: B023
            bench.look()
            lines = len(read_ledger(bench.ledger))
            gate_of(bench.ledger).touch()
            sleeper.go_on()
            helper.finish()
            until(lambda: "lost its session" in sleeper.log, "the stopped host learns that it lost its session")
            asyncio.run(_offer_work(bench.url, bench.ttl, 5))
            until(lambda: len(_begun(bench, "last", STUCK)) == 5, "the host works again, in a new session")  # noqa: B023
            sleeper.finish()

        bench.check(bench.recover())
        late = [entry for entry in read_ledger(bench.ledger)[lines:] if entry.life == STUCK and entry.what == "end"]
        assert late, "no body of the stopped host ended late; nothing was shown"


class _Silent:
    """A renewer that renews nothing and does not say so: its host never learns that its session is over."""

    def renew(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _held_by(gate: asyncio.Event, begun: asyncio.Event) -> WorkflowDefinition[dict[str, Any]]:
    @step("held body")
    async def body(context: StepExecutionContext[dict[str, Any]]) -> None:
        begun.set()
        await gate.wait()
        context.data["written by"] = "late" if begun is not gate else "the other"

    return WorkflowBuilder().start_with(body).build("held")


async def test_host_that_knows_nothing_is_fenced(
    make_bench: Callable[[str, float], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    """The fence alone keeps an old holder from writing, also one that does not know that its session is over.

    Its late transition is refused and changes nothing of what the new holder recorded.
    """
    url = (await asyncio.to_thread(make_bench, "fence", 1.0)).url
    gate, begun, opened = asyncio.Event(), asyncio.Event(), asyncio.Event()
    opened.set()
    old = WorkflowHost(url, lease_ttl=1, sweep_interval=0.1)
    old.register(_held_by(gate, begun))
    old._life._lease.renewer = lambda *_: _Silent()  # type: ignore[method-assign]  # the fault
    async with old, WorkflowHost(url, lease_ttl=1, sweep_interval=0.1) as new:
        instance_id = await old.start_workflow("held")
        await asyncio.wait_for(begun.wait(), 10)
        new.register(_held_by(opened, opened))
        result = await new.wait(instance_id, timeout=20)
        history = await new.history(instance_id)

        gate.set()
        await asyncio.to_thread(until, lambda: "was refused (fenced)" in caplog.text, "the late transition is refused")

        assert result.data == {"written by": "the other"}
        assert (await new.get_workflow(instance_id)).data == result.data
        assert await new.history(instance_id) == history


def test_another_host_continues_within_ttl_and_sweep(make_bench: Callable[[str, float], Bench]) -> None:
    """When a host dies by kill -9, another one begins with its instances within lease TTL + sweep interval."""
    bench = make_bench("dies", 2.0)
    with bench.spawn_stuck(_GATED) as victim, bench.spawn(work=False) as helper:
        victim.wait_ready()
        helper.wait_ready()
        _wait_until_stuck(bench)

        victim.kill()

        killed_at = time.monotonic()
        bench.look()
        until(lambda: len(_begun(bench, "last", helper.life)) == _GATED, "the other host finishes everything")
        helper.finish()
    taken_over = max(entry.at for entry in _begun(bench, "stuck", "life2")) - killed_at
    assert taken_over < bench.ttl + _SWEEP_SECONDS * 1.25 + _MARGIN_SECONDS
    bench.check(bench.recover())


def test_restart_on_sqlite_waits_for_no_ttl(tmp_path: Path) -> None:
    """On SQLite the death of a process is seen at once: a restart after kill -9 waits for no TTL."""
    bench = Bench(f"sqlite:///{tmp_path}/wfe.db", tmp_path, seed_of_run(), ttl=3600)
    with bench.spawn_stuck(_GATED) as victim:
        victim.wait_ready()
        _wait_until_stuck(bench)
    bench.look()

    restarted_at = time.monotonic()
    with bench.spawn(work=False) as successor:
        until(lambda: len(_begun(bench, "stuck", successor.life)) == _GATED, "the next process goes on")
        successor.finish()

    first = min(entry.at for entry in _begun(bench, "stuck", "life2"))
    assert first - restarted_at < _MARGIN_SECONDS + 2
    bench.check(bench.recover())


def test_hosts_share_the_work(make_bench: Callable[[str, float], Bench]) -> None:
    """Hosts on one store share what there is to do: each runs what it has room for, none what another runs."""
    bench = make_bench("share", 5.0)
    with bench.spawn(work=False, max_active=20) as one, bench.spawn(work=False, max_active=20) as two:
        one.wait_ready()
        two.wait_ready()

        asyncio.run(_offer_work(bench.url, bench.ttl, _SHARED))

        until(lambda: len(_begun(bench, "last", one.life) + _begun(bench, "last", two.life)) == _SHARED, "all is done")
        one.finish()
        two.finish()
    runners: dict[str, set[str]] = {}
    for entry in read_ledger(bench.ledger):
        runners.setdefault(entry.instance, set()).add(entry.life)
    assert all(len(lives) == 1 for lives in runners.values())
    assert len(set().union(*runners.values())) == 2, "one host did everything"

"""PostgreSQL is restarted and its connections are cut while hosts work: everything goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.processes import Process
from tests.crash.rounds import Bench, seed_of_run
from tests.servers.postgres import PostgresServer
from tests.soundness import check
from wfe import StepExecutionContext, WorkflowBuilder, WorkflowHost, WorkflowStatus

pytestmark = [pytest.mark.crash, pytest.mark.slow]

_TTL = 60.0
"""Two thirds of it are longer than every outage here: hosts keep their instances, and no body may run twice."""


def _work_through(bench: Bench, disturb: Callable[[Process], None]) -> None:
    """Let a process work while it is disturbed; then all its work must have ended, and no body have run twice."""
    with bench.spawn() as process:
        process.wait_ready()
        disturb(process)
        process.finish()
    bench.check(bench.recover())


def test_server_restarted(
    tmp_path: Path, crash_rounds: Callable[[int], int], crashable_postgres: PostgresServer
) -> None:
    """After an `immediate` restart of PostgreSQL in mid-run the host goes on by itself.

    No start is lost, no transition whose commit was cut off is lost or made twice, and no body is begun a second time.
    """
    seed = seed_of_run()
    for number in range(crash_rounds(20)):
        folder = tmp_path / str(number)
        folder.mkdir()
        bench = Bench(crashable_postgres.create_database(), folder, f"{seed}/{number}", ttl=_TTL)

        def restart(process: Process, bench: Bench = bench) -> None:
            process.stays_for(bench.rng.uniform(0.02, 0.3))
            crashable_postgres.restart_immediate()

        _work_through(bench, restart)


def test_server_killed(tmp_path: Path, crash_rounds: Callable[[int], int], crashable_postgres: PostgresServer) -> None:
    """The same when PostgreSQL and all its processes are killed (SIGKILL) and started again."""
    seed = seed_of_run()
    for number in range(crash_rounds(10)):
        folder = tmp_path / str(number)
        folder.mkdir()
        bench = Bench(crashable_postgres.create_database(), folder, f"{seed}/{number}", ttl=_TTL)

        def crash(process: Process, bench: Bench = bench) -> None:
            process.stays_for(bench.rng.uniform(0.02, 0.3))
            crashable_postgres.crash()
            crashable_postgres.restart()

        _work_through(bench, crash)


def test_connections_cut(
    tmp_path: Path, crash_rounds: Callable[[int], int], crashable_postgres: PostgresServer
) -> None:
    """The same when only the host's connections are cut, again and again: also those of its lease and its hints."""
    seed = seed_of_run()
    for number in range(crash_rounds(20)):
        folder = tmp_path / str(number)
        folder.mkdir()
        bench = Bench(crashable_postgres.create_database(), folder, f"{seed}/{number}", ttl=_TTL)

        def cut(process: Process, bench: Bench = bench) -> None:
            for _ in range(8):
                process.stays_for(bench.rng.uniform(0.01, 0.08))
                crashable_postgres.terminate_backends(bench.url)

        _work_through(bench, cut)


@contextlib.contextmanager
def _paused(pid: int) -> Iterator[None]:
    """Stop a server with all its processes for a while."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    for process in (pid, *children):
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in (*children, pid):
            os.kill(process, signal.SIGCONT)


async def test_server_stands_still(crashable_postgres: PostgresServer) -> None:
    """While PostgreSQL stands still for longer than the lease TTL, a host counts itself as fenced in time.

    Its bodies are told to stop before the lease can be over by anybody's clock. When the server moves again, the host
    begins a new session by itself and goes on with its instances.
    """
    begun, told = threading.Event(), threading.Event()

    def body(context: StepExecutionContext[dict[str, Any]]) -> None:
        begun.set()
        if not gate.is_set() and context.cancelled.wait(60):
            told.set()

    gate = threading.Event()
    definition = WorkflowBuilder().start_with(body).build("patient")
    url = crashable_postgres.create_database()
    async with WorkflowHost(url, lease_ttl=3, sweep_interval=0.1) as host:
        instance_id = await host.start_workflow(definition)
        await asyncio.to_thread(begun.wait, 20)
        with _paused(crashable_postgres.pid):
            fenced = await asyncio.to_thread(told.wait, 3 + 1)
        gate.set()
        result = await host.wait(instance_id, timeout=30)

    assert fenced, "the host went on running a body for longer than its lease"
    assert result.status is WorkflowStatus.COMPLETE
    await asyncio.to_thread(check, [url])

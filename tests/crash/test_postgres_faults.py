"""PostgreSQL is restarted and its connections are cut while hosts work: everything goes on by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.processes import Process
from tests.crash.rounds import Bench, seed_of_run
from tests.servers.postgres import PostgresServer

pytestmark = [pytest.mark.crash, pytest.mark.slow]

_TTL = 15.0
"""Longer than every outage here, so that hosts keep their instances and no body may run twice."""


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
    """After an `immediate` restart of PostgreSQL in mid-run the host goes on by itself: no start is lost, no transition
    whose commit was cut off is lost or made twice, and no body is begun a second time."""
    seed = seed_of_run()
    print("seed", seed)
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
    print("seed", seed)
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
    print("seed", seed)
    for number in range(crash_rounds(20)):
        folder = tmp_path / str(number)
        folder.mkdir()
        bench = Bench(crashable_postgres.create_database(), folder, f"{seed}/{number}", ttl=_TTL)

        def cut(process: Process, bench: Bench = bench) -> None:
            for _ in range(8):
                process.stays_for(bench.rng.uniform(0.01, 0.08))
                crashable_postgres.terminate_backends(bench.url)

        _work_through(bench, cut)

"""Hosts that start at the same moment on a store that has no tables yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.rounds import Bench
from tests.servers.databases import DatabasePool

pytestmark = [pytest.mark.crash, pytest.mark.slow]


def _start_three(bench: Bench) -> None:
    with bench.spawn(work=False) as one, bench.spawn(work=False) as two, bench.spawn() as three:
        for process in (one, two, three):
            process.wait_ready()
        for process in (three, two, one):
            process.finish()
            bench.check_log(process)
    bench.check(bench.recover())


def test_on_sqlite(tmp_path: Path, crash_rounds: Callable[[int], int]) -> None:
    """Three processes that make the same file at once all come up, and what one of them starts is done once."""
    for number in range(crash_rounds(20)):
        folder = tmp_path / str(number)
        folder.mkdir()
        _start_three(Bench(f"sqlite:///{folder}/wfe.db", folder, str(number)))


def test_on_postgres(tmp_path: Path, crash_rounds: Callable[[int], int], postgres_databases: DatabasePool) -> None:
    """Three processes that make the tables of one database at once all come up; what one starts is done once."""
    for number in range(crash_rounds(20)):
        folder = tmp_path / str(number)
        folder.mkdir()
        url = postgres_databases.take()
        _start_three(Bench(url, folder, str(number)))
        postgres_databases.give_back(url)

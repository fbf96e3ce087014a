"""Processes on PostgreSQL are killed at random moments; nothing that was promised is lost, and everything goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.rounds import Bench, seed_of_run, until_bitten
from tests.servers.databases import DatabasePool, fetch_value

pytestmark = [pytest.mark.crash, pytest.mark.slow]

_TTL = 1.0
_ALONE_SECONDS = 20.0
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def _bench(folder: Path, seed: str, url: str) -> Bench:
    folder.mkdir()
    return Bench(url, folder, seed, ttl=_TTL, settle=lambda: _wait_until_alone(url))


def _wait_until_alone(url: str) -> None:
    """Return once the server has ended what the connections of a dead process had begun."""
    deadline = time.monotonic() + _ALONE_SECONDS
    while (left := fetch_value(url, _OTHERS)) != 0:
        assert time.monotonic() < deadline, f"{left} connections of a dead process are still there"


def test_killed_once(tmp_path: Path, crash_rounds: Callable[[int], int], postgres_databases: DatabasePool) -> None:
    """Kill -9 at a random moment loses nothing that was acknowledged and repeats only what was not recorded.

    Every acknowledged start, event, request and result is there, and everything ends as planned.
    """
    seed = seed_of_run()
    repeated: list[int] = []

    for number in until_bitten(crash_rounds(50), repeated):
        url = postgres_databases.take()
        bench = _bench(tmp_path / str(number), f"{seed}/{number}", url)
        # What a host acknowledges survives its death in either mode.
        bench.durability = "process" if number % 2 else "power"
        bench.crash_once()
        repeated.append(bench.check(bench.recover()))
        postgres_databases.give_back(url)

    assert sum(repeated) > 0, f"no kill hit a running body; nothing was shown (seed {seed})"


def test_killed_again_and_again(
    tmp_path: Path, crash_rounds: Callable[[int], int], postgres_databases: DatabasePool
) -> None:
    """The same holds when processes die several times in a row, each with new work, before one gets to finish."""
    seed = seed_of_run()
    repeated: list[int] = []

    for number in until_bitten(crash_rounds(10), repeated):
        url = postgres_databases.take()
        bench = _bench(tmp_path / str(number), f"{seed}/{number}", url)
        for _ in range(3):
            bench.crash_once()
        repeated.append(bench.check(bench.recover()))
        postgres_databases.give_back(url)

    assert sum(repeated) > 0, f"no kill hit a running body; nothing was shown (seed {seed})"

"""Processes on SQLite are killed at random moments; nothing that was promised is lost, and everything goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.rounds import Bench, seed_of_run, until_bitten
from tests.crash.snapshot import integrity

pytestmark = [pytest.mark.crash, pytest.mark.slow]


def _bench(folder: Path, seed: str) -> Bench:
    folder.mkdir()
    return Bench(f"sqlite:///{folder}/wfe.db", folder, seed)


def test_killed_once(tmp_path: Path, crash_rounds: Callable[[int], int]) -> None:
    """Kill -9 at a random moment loses nothing that was acknowledged and repeats only what was not recorded.

    Every acknowledged start, event, request and result is there, and everything ends as planned.
    """
    seed = seed_of_run()
    repeated: list[int] = []

    for number in until_bitten(crash_rounds(100), repeated):
        bench = _bench(tmp_path / str(number), f"{seed}/{number}")
        # What a host acknowledges survives its death in either mode.
        bench.durability = "process" if number % 2 else "power"
        bench.crash_once()
        repeated.append(bench.check(bench.recover()))
        assert integrity(bench.folder / "wfe.db") == "ok", bench

    assert sum(repeated) > 0, f"no kill hit a running body; nothing was shown (seed {seed})"


def test_killed_again_and_again(tmp_path: Path, crash_rounds: Callable[[int], int]) -> None:
    """The same holds when processes die several times in a row, each with new work, before one gets to finish."""
    seed = seed_of_run()
    repeated: list[int] = []

    for number in until_bitten(crash_rounds(20), repeated):
        bench = _bench(tmp_path / str(number), f"{seed}/{number}")
        for _ in range(3):
            bench.crash_once()
        repeated.append(bench.check(bench.recover()))
        assert integrity(bench.folder / "wfe.db") == "ok", bench

    assert sum(repeated) > 0, f"no kill hit a running body; nothing was shown (seed {seed})"


def test_one_of_two_killed(tmp_path: Path, crash_rounds: Callable[[int], int]) -> None:
    """When one of two processes that share a file is killed, the other goes on with its own work and the dead one's.

    Nothing is lost or done twice.
    """
    seed = seed_of_run()
    repeated: list[int] = []

    for number in until_bitten(crash_rounds(20), repeated):
        bench = _bench(tmp_path / str(number), f"{seed}/{number}")
        with bench.spawn() as survivor:
            survivor.wait_ready()
            with bench.spawn() as victim:
                victim.wait_ready()
                victim.kill_after(bench.rng.uniform(0.02, 0.4))
                bench.check_log(victim)
            bench.look()
            survivor.finish()
            bench.check_log(survivor)
        repeated.append(bench.check(bench.recover()))
        assert integrity(bench.folder / "wfe.db") == "ok", bench

    assert sum(repeated) > 0, f"no kill hit a running body; nothing was shown (seed {seed})"

"""The seeds of every test run: no rule may be broken, and everything that the simulation can do must happen in them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from functools import cache

import pytest

from wfe.testing.simulation import simulate_seed
from wfe.testing.simulation.coverage import happened, missing
from wfe.testing.simulation.faults import Faults
from wfe.testing.simulation.scenario import draw_scenario

PORTIONS = 30
PER_PORTION = 10
IN_SEEDS = 5
"""In so many of the seeds, at least, everything has to happen."""


@cache
def _found(seed: int) -> tuple[tuple[str, ...], Mapping[str, int], int]:
    """Give what is told of a seed: the same test process needs it twice."""
    outcome = simulate_seed(seed)
    return outcome.violations, outcome.seen, outcome.killed


@pytest.mark.parametrize("portion", range(PORTIONS))
def test_no_rule_is_broken(portion: int) -> None:
    """Whatever happens to hosts, network and clocks: every rule of the simulation holds, and everything ends."""
    for seed in range(portion * PER_PORTION, (portion + 1) * PER_PORTION):
        violations, _, _ = _found(seed)

        assert not violations, f"python -m wfe.testing.simulation --seed {seed}\n{violations}"


def test_everything_happens() -> None:
    """In some of these seeds each construct is reached, each fault is felt, each request made and answered.

    What bodies begin for hosts that have lost them is excused from some rules; that is hardly ever so.
    """
    seen: Counter[str] = Counter()
    seeds: Counter[str] = Counter()
    killed = 0
    for seed in range(PORTIONS * PER_PORTION):
        _, counts, deaths = _found(seed)
        seen.update(counts)
        seeds.update(happened(counts))
        killed += deaths

    assert missing(seeds, IN_SEEDS) == []
    assert killed > 100
    assert all(seen[f"request {fate}"] > 50 for fate in ("refused", "reply lost", "late"))
    assert seen["body begun by who had lost it"] < seen["body begun"] / 500


@pytest.mark.parametrize(
    ("fault", "strikes"),
    [
        *((kind, "_crash_at_request") for kind in ("crash before commit", "crash after commit", "crash after claim")),
        ("pause", "_pause"),
        ("cut", "_cut"),
        ("outage", "_outage"),
        ("evict", "_evict"),
        ("clock jump", "_jump"),
        ("store clock back", "_set_back"),
        ("store clock forth", "_set_forth"),
    ],
)
def test_a_fault_that_does_nothing_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch, fault: str, strikes: str
) -> None:
    """What counts is that a fault is felt: one that was drawn and does nothing is missing."""

    async def nothing(*_: object) -> None:
        pass

    seeds = [seed for seed in range(100) if any(each.kind == fault for each in draw_scenario(seed).faults)][:3]
    assert seeds
    monkeypatch.setattr(Faults, strikes, nothing)

    outcomes = [simulate_seed(seed) for seed in seeds]

    assert not any(outcome.seen[f"fault {fault}"] for outcome in outcomes)


@pytest.mark.parametrize("seed", [1, 7, 39, 142])
def test_a_seed_repeats_itself(seed: int) -> None:
    """The same seed gives the same run: every request, body, answer and time of the trace is equal."""
    first, second = simulate_seed(seed), simulate_seed(seed)

    assert first.trace.lines == second.trace.lines
    assert first.digest == second.digest


def test_a_seed_repeats_itself_in_another_process() -> None:
    """Nothing in a run depends on the process: not on the order of sets, nor on what ran before."""
    answers = [_digests(hash_seed) for hash_seed in ("1", "4711")]

    assert len(answers[0].splitlines()) == 4
    assert answers[0] == answers[1]
    assert answers[0].splitlines()[-1] == f"23 {simulate_seed(23).digest}"


def _digests(hash_seed: str) -> str:
    command = [sys.executable, "-m", "wfe.testing.simulation", "--digests", "--first", "20", "--seeds", "4"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
    )
    return done.stdout

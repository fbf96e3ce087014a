from __future__ import annotations

import pytest

from wfe.testing.simulation import simulate_seed

PORTIONS = 30
PER_PORTION = 10


@pytest.mark.parametrize("portion", range(PORTIONS))
def test_no_rule_is_broken(portion: int) -> None:
    """Whatever happens to hosts, network and clocks: every rule of the simulation holds, and everything ends."""
    for seed in range(portion * PER_PORTION, (portion + 1) * PER_PORTION):
        outcome = simulate_seed(seed)

        assert not outcome.violations, f"python -m wfe.testing.simulation --seed {seed}\n{outcome.violations}"


@pytest.mark.parametrize("seed", [1, 7, 39, 142])
def test_a_seed_repeats_itself(seed: int) -> None:
    """The same seed gives the same run: every request, body, answer and time of the trace is equal."""
    first, second = simulate_seed(seed), simulate_seed(seed)

    assert first.trace.lines == second.trace.lines
    assert first.digest == second.digest


def test_faults_bite() -> None:
    """The seeds are no walk in the park: hosts lose instances and are fenced, requests are refused and replies lost."""
    outcomes = [simulate_seed(seed) for seed in range(60)]

    assert sum(outcome.fenced for outcome in outcomes) > 0
    assert all(sum(outcome.troubles[name] for outcome in outcomes) > 10 for name in ("refused", "reply lost", "late"))
    assert sum(outcome.killed for outcome in outcomes) > 20

"""Whatever call or gap a process dies or a backend fails at: the end is the one that it would have been.

Each scenario is a small program. It is run without faults, and then once for each fault: each passage of each failpoint
that it reached, in each mode of that failpoint. What is stored afterwards (statuses, data, history, errors, children)
and what clients were told is the same; bodies begin again at most once, and only after a crash.

Without `--full` a fixed part of the faults is taken, other failpoints in each scenario.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest

from tests.crashpoints.cases import BODIES, Baseline, baseline, cases_of, strike
from tests.crashpoints.catalogue import SCENARIOS, sample
from tests.crashpoints.outcome import differences
from tests.crashpoints.places import MemoryPlace, Place, SQLitePlace
from tests.crashpoints.scenario import Scenario
from wfe.testing.failpoints import Blow, failpoints

pytestmark = pytest.mark.crash

_PLACES: dict[str, Callable[[], Place]] = {"memory": MemoryPlace, "sqlite": SQLitePlace}
_EVERY = {"memory": 3, "sqlite": 5}
"""A short run takes one of so many (failpoint, mode) pairs of each scenario."""
_PARTS = 4
"""Into so many tests the faults of one scenario are divided in a full run, so that none takes too long."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "part" in metafunc.fixturenames:
        metafunc.parametrize("part", range(_PARTS if metafunc.config.getoption("--full") else 1))


@cache
def _calm(place: str, scenario: Scenario) -> Baseline:
    return baseline(scenario, _PLACES[place])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
@pytest.mark.parametrize("place", _PLACES)
def test_any_fault_leaves_the_same_end(place: str, scenario: Scenario, part: int, pytestconfig: pytest.Config) -> None:
    """With one fault, a scenario ends as it does without."""
    calm = _calm(place, scenario)
    full = pytestconfig.getoption("--full")
    blows = cases_of(calm.passages)[part::_PARTS] if full else sample(scenario, calm.passages, _EVERY[place])

    verdicts = [strike(scenario, _PLACES[place], blow, calm) for blow in blows]

    assert [str(each.blow) for each in verdicts if not each.has_struck] == []
    assert {str(each.blow): each.problems for each in verdicts if each.problems} == {}
    repeats = sum(each.repeats for each in verdicts)
    sys.stdout.write(f"{scenario.name} on {place}: {len(blows)} faults, {repeats} bodies repeated\n")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_stores_agree(scenario: Scenario) -> None:
    """Without faults, a scenario leaves the same on SQLite as in memory."""
    memory, sqlite = _calm("memory", scenario), _calm("sqlite", scenario)

    assert differences(sqlite.outcome, memory.outcome) == []


def test_every_failpoint_is_reached() -> None:
    """The scenarios pass every failpoint, and the short run strikes each in every mode: on SQLite, which has most."""
    passages: Counter[str] = Counter()
    struck: set[tuple[str, str]] = set()
    for scenario in SCENARIOS:
        calm = _calm("sqlite", scenario)
        passages += calm.passages
        struck |= _pairs(sample(scenario, calm.passages, _EVERY["sqlite"]))

    there = [each for each in (*failpoints(), *BODIES) if not each.name.startswith("postgres.")]
    assert [each.name for each in there if not passages[each.name]] == []
    assert {(each.name, mode) for each in there for mode in each.modes} - struck == set()


def _pairs(blows: Sequence[Blow]) -> set[tuple[str, Any]]:
    return {(blow.point, blow.mode) for blow in blows}


def test_scenarios_are_forty_at_least() -> None:
    """There is a scenario for each construct of the language of workflows, and no name is given twice."""
    assert len(SCENARIOS) >= 40
    assert len({each.name for each in SCENARIOS}) == len(SCENARIOS)

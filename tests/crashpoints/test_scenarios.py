"""Whatever call or gap a process dies or a backend fails at: the end is the one that it would have been.

Each scenario is a small program. It is run without faults, and then once for each fault: each passage of each failpoint
that it reached, in each mode of that failpoint. What is stored afterwards (statuses, data, history, errors, children)
and what clients were told is the same; bodies begin again at most once, and only after a crash.

Without `--full` a fixed part of the faults is taken, other failpoints in each scenario.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from itertools import chain

import pytest

from tests.crashpoints.cases import BODIES, Baseline, baseline, cases_of, part_of, strike
from tests.crashpoints.catalogue import SCENARIOS, sample
from tests.crashpoints.outcome import differences
from tests.crashpoints.places import MemoryPlace, Place, SQLitePlace
from tests.crashpoints.scenario import Scenario
from wfe.testing.failpoints import Blow, failpoints

pytestmark = pytest.mark.crash

_PLACES: dict[str, Callable[[], Place]] = {"memory": MemoryPlace, "sqlite": SQLitePlace}
_ELSEWHERE: dict[str, tuple[str, ...]] = {"memory": ("sqlite.", "postgres."), "sqlite": ("postgres.",)}
"""Gaps in the code of other stores."""
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


def _blows(place: str, scenario: Scenario, *, full: bool) -> list[Blow]:
    """List the faults of a scenario that a run of these tests strikes."""
    passages = _calm(place, scenario).passages
    return cases_of(passages) if full else sample(scenario, passages, _EVERY[place])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
@pytest.mark.parametrize("place", _PLACES)
def test_any_fault_leaves_the_same_end(place: str, scenario: Scenario, part: int, pytestconfig: pytest.Config) -> None:
    """With one fault, a scenario ends as it does without."""
    full = pytestconfig.getoption("--full")
    calm, blows = _calm(place, scenario), _blows(place, scenario, full=full)
    blows = part_of(blows, part, _PARTS) if full else blows

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


@pytest.mark.parametrize("place", _PLACES)
def test_every_failpoint_is_struck(place: str, pytestconfig: pytest.Config) -> None:
    """Each failpoint that is there in a store is struck in every mode, also in the short run.

    The test above fails for each of its faults that does not strike; so what it takes on is what has struck.
    """
    full = pytestconfig.getoption("--full")

    struck = {(blow.point, blow.mode) for scenario in SCENARIOS for blow in _blows(place, scenario, full=full)}

    there = [each for each in (*failpoints(), *BODIES) if not each.name.startswith(_ELSEWHERE[place])]
    assert {(each.name, mode) for each in there for mode in each.modes} - struck == set()


def test_parts_are_the_whole() -> None:
    """Each fault is in exactly one of the parts among which a full run divides them, whatever else is listed."""
    blows = cases_of(_calm("memory", SCENARIOS[0]).passages)

    parts = [part_of(blows, part, _PARTS) for part in range(_PARTS)]

    assert sorted(map(str, chain.from_iterable(parts))) == sorted(map(str, blows))
    assert [part_of(blows[1:], part, _PARTS) for part in range(_PARTS)] == [
        [blow for blow in part if blow != blows[0]] for part in parts
    ]


def test_scenarios_are_forty_at_least() -> None:
    """There is a scenario for each construct of the language of workflows, and no name is given twice."""
    assert len(SCENARIOS) >= 40
    assert len({each.name for each in SCENARIOS}) == len(SCENARIOS)

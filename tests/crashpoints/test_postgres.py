"""The same on PostgreSQL, in real time: with `--full` every failpoint of every scenario, else a few.

Runs take as long as they take, so of each failpoint the first two passages of a scenario are struck and not all. Nor
do they repeat exactly: how often a host sweeps or is told something is chance. A fault that does not strike is tried
again, and counts only if it strikes; that each failpoint is struck in every mode, tests of their own see to.
"""

from __future__ import annotations

import sys
from functools import cache, partial

import pytest

from tests.crashpoints.cases import BODIES, Baseline, baseline, cases_of, part_of, strike
from tests.crashpoints.catalogue import SCENARIOS, sample
from tests.crashpoints.places import MemoryPlace
from tests.crashpoints.postgres import PostgresPlace
from tests.crashpoints.scenario import Scenario
from wfe.ports.gaps import Gap
from wfe.testing.failpoints import Blow, Mode, failpoints

pytestmark = pytest.mark.crash

_PASSAGES = 2
_TRIES = 3
_PARTS = 8
"""Into so many tests the faults of one scenario are divided in a full run, so that none takes minutes."""
_FEW = 12
"""In a short run, one of so many (failpoint, mode) pairs of a few scenarios."""
_BRIEF = ("chain", "two-keys", "child", "events-across-hosts", "cancel-body", "housekeeping")
_BRIEF_POINTS = ("lease.renewer", "renewer.close")
"""Those of the thread that renews sessions; others a short run strikes with the scenarios."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    full = metafunc.config.getoption("--full")
    if "part" in metafunc.fixturenames:
        metafunc.parametrize("part", range(_PARTS if full else 1))
        chosen = [each for each in SCENARIOS if full or each.name in _BRIEF]
        metafunc.parametrize("scenario", chosen, ids=lambda each: each.name)
    if "pair" in metafunc.fixturenames:
        there = [each for each in (*failpoints(), *BODIES) if not each.name.startswith("sqlite.")]
        there = [each for each in there if full or each.name in _BRIEF_POINTS]
        metafunc.parametrize("pair", [Blow(each.name, 1, mode) for each in there for mode in each.modes], ids=str)


def test_any_fault_leaves_the_same_end(
    postgres_url: str, scenario: Scenario, part: int, pytestconfig: pytest.Config
) -> None:
    """With one fault, a scenario ends as it does without.

    A fault that does not strike may do so only because no run came by its failpoint that often.
    """
    place = partial(PostgresPlace, postgres_url)
    calm = baseline(scenario, place)
    if pytestconfig.getoption("--full"):
        blows = part_of(cases_of(calm.passages, most=_PASSAGES), part, _PARTS)
    else:
        blows = sample(scenario, calm.passages, _FEW)

    verdicts = [strike(scenario, place, blow, calm, tries=_TRIES) for blow in blows]

    assert {str(each.blow): each.problems for each in verdicts if each.problems} == {}
    missed = [str(each.blow) for each in verdicts if not each.has_struck]
    sys.stdout.write(f"{scenario.name} on PostgreSQL: {len(blows) - len(missed)} faults; not passed again: {missed}\n")
    assert [str(each.blow) for each in verdicts if each.was_passed and not each.has_struck] == []
    assert len(missed) < len(blows)


@pytest.mark.parametrize(
    "blow",
    [
        Blow(gap, 2, mode)
        for gap in (Gap.POSTGRES_SENDING, Gap.POSTGRES_ANSWERED)
        for mode in (Mode.CRASH_BEFORE, Mode.REFUSED)
    ],
    ids=str,
)
def test_gaps_of_the_provider(postgres_url: str, blow: Blow) -> None:
    """A process that dies, and a connection that is lost, just before and just after a commit leave the same end."""
    scenario = next(each for each in SCENARIOS if each.name == "parallel")
    place = partial(PostgresPlace, postgres_url)

    verdict = strike(scenario, place, blow, baseline(scenario, place))

    assert verdict.has_struck
    assert verdict.problems == ()


def test_every_failpoint_is_struck(postgres_url: str, pair: Blow) -> None:
    """Every failpoint is struck in every mode, in one of the scenarios that pass it most surely.

    Without `--full` a few are.
    """
    place = partial(PostgresPlace, postgres_url)

    for scenario in _passing(pair.point)[:_TRIES]:
        verdict = strike(scenario, place, pair, baseline(scenario, place), tries=_TRIES)
        assert verdict.problems == ()
        if verdict.has_struck:
            return

    pytest.fail(f"{pair} has not struck")


def _passing(point: str) -> list[Scenario]:
    """Give the scenarios that pass a failpoint: those that are about it first, and then by how often they do."""
    twin = "store.commit" if point.startswith("postgres.") else point
    passing = [each for each in SCENARIOS if _calm_in_memory(each).passages[twin]]
    return sorted(passing, key=lambda each: (point not in each.about, -_calm_in_memory(each).passages[twin]))


@cache
def _calm_in_memory(scenario: Scenario) -> Baseline:
    return baseline(scenario, MemoryPlace)

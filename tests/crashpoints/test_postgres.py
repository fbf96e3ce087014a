"""The same on PostgreSQL, in real time: with `--full` every failpoint of every scenario, else a few."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial

import pytest

from tests.crashpoints.cases import BODIES, baseline, cases_of, strike
from tests.crashpoints.catalogue import SCENARIOS, sample
from tests.crashpoints.postgres import NOT_ON_POSTGRES, PostgresPlace
from tests.crashpoints.scenario import Scenario
from wfe.ports.gaps import Gap
from wfe.testing.failpoints import Blow, Mode, failpoints

pytestmark = pytest.mark.crash

_PASSAGES = 2
_PARTS = 4
_FEW = 12
"""In a short run, one of so many (failpoint, mode) pairs of a few scenarios."""
_BRIEF = ("chain", "two-keys", "child", "events-across-hosts", "cancel-body")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "part" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        metafunc.parametrize("part", range(_PARTS if full else 1))
        chosen = [each for each in SCENARIOS if full or each.name in _BRIEF]
        metafunc.parametrize("scenario", chosen, ids=lambda each: each.name)


def test_any_fault_leaves_the_same_end(
    postgres_url: str, scenario: Scenario, part: int, pytestconfig: pytest.Config
) -> None:
    """With one fault, a scenario ends as it does without.

    Runs do not repeat exactly here, so a fault may find its failpoint passed too rarely; most must strike.
    """
    place = partial(PostgresPlace, postgres_url)
    calm = baseline(scenario, place)
    if pytestconfig.getoption("--full"):
        blows = cases_of(calm.passages, most=_PASSAGES)[part::_PARTS]
    else:
        blows = sample(scenario, calm.passages, _FEW)
    blows = [blow for blow in blows if blow.point not in NOT_ON_POSTGRES]

    verdicts = [strike(scenario, place, blow, calm) for blow in blows]

    assert {str(each.blow): each.problems for each in verdicts if each.problems} == {}
    struck = sum(each.has_struck for each in verdicts)
    assert len(verdicts) - struck <= 1 + len(verdicts) // 5
    assert struck
    sys.stdout.write(f"{scenario.name} on PostgreSQL: {len(blows)} faults, {struck} struck\n")


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


def test_failpoints_are_reached(postgres_url: str, pytestconfig: pytest.Config) -> None:
    """With `--full`, every failpoint but those of renewing sessions is reached by some scenario."""
    if not pytestconfig.getoption("--full"):
        pytest.skip("takes a minute: --full")
    passages: Counter[str] = Counter()
    for scenario in SCENARIOS:
        passages += baseline(scenario, partial(PostgresPlace, postgres_url)).passages

    there = [each for each in (*failpoints(), *BODIES) if not each.name.startswith("sqlite.")]
    rare = {"store.held", "store.drop_events"} | NOT_ON_POSTGRES  # asked for once in minutes
    assert [each.name for each in there if not passages[each.name] and each.name not in rare] == []

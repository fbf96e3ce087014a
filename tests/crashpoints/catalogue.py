"""All scenarios, and which of their faults a short run takes."""

from __future__ import annotations

from collections import Counter

from tests.crashpoints.cases import BODIES
from tests.crashpoints.flows import FLOWS
from tests.crashpoints.hosts import HOSTS
from tests.crashpoints.messages import MESSAGES
from tests.crashpoints.scenario import Scenario
from wfe.testing.failpoints import Blow, failpoints

__all__ = ["SCENARIOS", "sample"]

SCENARIOS: tuple[Scenario, ...] = (*FLOWS, *MESSAGES, *HOSTS)

_STRIDE = 7
"""Passages of a point are drawn so far apart from one scenario to the next."""


def sample(scenario: Scenario, passages: Counter[str], every: int) -> list[Blow]:
    """Choose some faults of a scenario: the same in every run.

    One of `every` (failpoint, mode) pairs, others in the next scenario, each at one passage, a different one each time;
    and all modes of the failpoints that the scenario is about.
    """
    index = SCENARIOS.index(scenario)
    pairs = [(point.name, mode) for point in (*failpoints(), *BODIES) for mode in point.modes]
    return [
        Blow(name, 1 + (index + number) * _STRIDE % passages[name], mode)
        for number, (name, mode) in enumerate(pairs)
        if passages[name] and ((index + number) % every == 0 or name in scenario.about)
    ]

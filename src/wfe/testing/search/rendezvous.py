"""Events and waits: publishers and subscribers racing, waits of one event each, timeouts, cancels, a crash."""

from __future__ import annotations

from collections.abc import Sequence

from wfe.model.definition import Policies, Step
from wfe.model.message import ControlVerb
from wfe.model.policies import Continue
from wfe.testing.search.callers import asks, promotions, publishes, purges, starts
from wfe.testing.search.explore import Move
from wfe.testing.search.hosts import host_moves, time_moves
from wfe.testing.search.plans import registered, wait
from wfe.testing.search.world import World

__all__ = ["Rendezvous"]

_SINCE_START = (wait("first", "news", seconds=10), wait("second", "news"))
_ANY_TIME = (wait("first", "news", seconds=10), wait("second", "news", any_time=True))
_GOES_ON = {"first": Policies(error=Continue())}
"""After a timeout of the first wait comes the second."""


class Rendezvous:
    """One or two instances wait for an event, at most 10 s, then for another."""

    name = "rendezvous"

    def beginnings(self) -> Sequence[tuple[str, World]]:
        one, two = {"start A": 1}, {"start A": 1, "start B": 1}
        both = {"e1": 1, "e2": 1}
        return [
            ("an event and a crash", _world(_SINCE_START, {**one, "e1": 1, "crash": 1})),
            ("two events and a crash", _world(_SINCE_START, {**one, **both, "crash": 1})),
            ("two events, one again, a cancel, a purge", _world(_SINCE_START, {**one, **both, **_ASKED, "repeat": 1})),
            ("an event for later and others", _world(_ANY_TIME, {**one, **both, "later": 1})),
            ("two hosts and a cancel", _world(_SINCE_START, {**one, **both, "request": 1}, hosts=2)),
            ("two instances, an event, a cancel", _world(_SINCE_START, {**two, "e1": 1, "request": 1})),
            ("two instances and two events", _world(_SINCE_START, {**two, **both})),
            ("what waits is kept, an event, a cancel and a crash", _world(_SINCE_START, {**one, **_KEPT, "crash": 1})),
            ("what waits is kept, two hosts", _world(_SINCE_START, {**one, **_KEPT, "e2": 1}, hosts=2)),
            ("two instances that take stored events", _world(_ANY_TIME, {**two, "e1": 1, "request": 1})),
        ]

    def moves(self, state: World) -> Sequence[Move[World]]:
        callers = [*starts(state), *publishes(state), *asks(state, "A", ControlVerb.CANCEL), *purges(state)]
        return [*callers, *promotions(state), *host_moves(state), *time_moves(state)]


_ASKED = {"request": 1, "purge": 1}
_KEPT = {"keep": 1, "e1": 1, "request": 1}


def _world(steps: tuple[Step, ...], budget: dict[str, int], *, hosts: int = 1) -> World:
    return World(registered(*steps, policies=_GOES_ON), hosts=hosts, budget=budget)

"""Joins and requests: branches that answer, fail or pause in any order, requests at any time, a crash anywhere."""

from __future__ import annotations

from collections.abc import Sequence

from wfe.model.definition import Policies, Step
from wfe.model.message import ControlVerb
from wfe.model.policies import Fixed, RetryPolicy
from wfe.testing.search.callers import asks, publishes
from wfe.testing.search.explore import Move
from wfe.testing.search.hosts import host_moves, time_moves
from wfe.testing.search.plans import body, delay, each, parallel, registered, wait
from wfe.testing.search.world import World
from wfe.testing.search.writing import start

__all__ = ["Join"]

_BRANCHES = (parallel("all", (body("a"),), (delay("d", 5), body("b"))), body("after"))
_LOOP = (each("loop", 3, body("a"), max_parallel=2), body("after"))
_FAIL_FAST = (each("loop", 2, body("a"), fail_fast=True), body("after"))
_WAIT = (parallel("all", (body("a"),), (wait("w", "news", seconds=5),)), body("after"))
_TRIES_AGAIN = {
    False: {"a": Policies(retry=RetryPolicy(2, Fixed(1)))},
    True: {"a": Policies(retry=RetryPolicy(2, Fixed(0)))},
}
"""With a pause of a second before, or (in the loop that fails fast) at once."""


class Join:
    """One instance with branches, and a step after them; what fails is tried a second time."""

    name = "join"

    def beginnings(self) -> Sequence[tuple[str, World]]:
        return [
            ("a loop of three, two at a time, and a crash", _world(_LOOP, {"crash": 1})),
            ("a loop of three, two at a time, and a request", _world(_LOOP, {"request": 1})),
            ("a body beside a wait, an event and a request", _world(_WAIT, {"e1": 1, "request": 1})),
            ("a loop that fails fast, a failure and a crash", _world(_FAIL_FAST, {"failure": 1, "crash": 1})),
            ("a loop that fails fast, a failure and a request", _world(_FAIL_FAST, {"failure": 1, "request": 1})),
            ("branches, a failure and a request", _world(_BRANCHES, {"failure": 1, "request": 1})),
            ("a loop that fails fast, a crash and a request", _world(_FAIL_FAST, {"crash": 1, "request": 1})),
            ("a loop that fails fast and two requests", _world(_FAIL_FAST, {"request": 2})),
            ("branches, a crash and a request", _world(_BRANCHES, {"crash": 1, "request": 1})),
            ("branches and two requests", _world(_BRANCHES, {"request": 2})),
            ("a loop of three and two requests", _world(_LOOP, {"request": 2})),
        ]

    def moves(self, state: World) -> Sequence[Move[World]]:
        return [*publishes(state), *asks(state, "A", *ControlVerb), *host_moves(state), *time_moves(state)]


def _world(steps: tuple[Step, ...], budget: dict[str, int]) -> World:
    world = World(registered(*steps, policies=_TRIES_AGAIN[steps is _FAIL_FAST]), hosts=1, budget=budget)
    start(world, "caller", "A")
    return world

"""Ownership: three hosts, pauses longer than the lease, crashes, replies that are lost and requests that come late."""

from __future__ import annotations

from collections.abc import Sequence

from wfe.model.definition import Step
from wfe.testing.search.explore import Kind, Move
from wfe.testing.search.hosts import host_moves, time_moves
from wfe.testing.search.plans import body, delay, registered
from wfe.testing.search.world import World, now_of
from wfe.testing.search.writing import start

__all__ = ["Lease"]

_ONE_BODY = (body("one"),)
_CHAIN = (body("one"), delay("pause", 10), body("two"))


class Lease:
    """Three hosts want to run one instance: a body alone, or a body, a pause and another body.

    A session may expire at any moment: its host was stopped, or cut off, for longer than the lease lasts.
    """

    name = "lease"

    def beginnings(self) -> Sequence[tuple[str, World]]:
        return [
            ("a crash", _world(_CHAIN, {"crash": 1})),
            ("a crash and a lost reply", _world(_CHAIN, {"crash": 1, "lost reply": 1})),
            ("one body and every fault", _world(_ONE_BODY, {"expiry": 1, "crash": 1, "lost reply": 1, "block": 1})),
            ("a pause and a crash", _world(_CHAIN, {"expiry": 1, "crash": 1})),
            ("a pause and a lost reply", _world(_CHAIN, {"expiry": 1, "lost reply": 1})),
            ("two pauses and a slow sweeper", _world(_CHAIN, {"expiry": 2, "block": 1})),
            ("one body, three pauses and a lost reply", _world(_ONE_BODY, {"expiry": 3, "lost reply": 1})),
        ]

    def moves(self, state: World) -> Sequence[Move[World]]:
        blocks = [Move("a sweeper notes why A is not taken", Kind.FAULT, _block)] if state.may("block") else []
        return [*host_moves(state), *time_moves(state), *blocks]


def _world(steps: tuple[Step, ...], budget: dict[str, int]) -> World:
    world = World(registered(*steps), hosts=3, budget=budget)
    start(world, "caller", "A")
    return world


def _block(world: World) -> None:
    """A sweeper that saw the instance unclaimed says so, however late."""
    world.spend("block")
    instance = world.tables.instances["A"]
    holder = world.tables.holder(instance)
    if now_of(world.store.block({"A": "why"})) and (holder is not None or instance.has_ended):
        world.breaks("L2", f"a sweeper wrote A ({instance.status}) while {holder} held it")

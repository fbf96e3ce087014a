from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from wfe.testing.search.explore import Kind, Move, Outcome, search

END = 10


@dataclass
class Place:
    """Where somebody stands."""

    number: int = 0
    bad: int = -1
    broken: list[str] = field(default_factory=list)

    def copy(self) -> Place:
        return Place(self.number, self.bad)

    def key(self) -> bytes:
        return str(self.number).encode()

    def problems(self) -> Sequence[str]:
        return ["X: a bad place"] if self.number == self.bad else []

    def is_end(self) -> bool:
        return self.number == END


class Map:
    """Ways from place to place."""

    name = "map"

    def __init__(self, ways: Mapping[int, Sequence[int]], *, bad: int = -1, kind: Kind = Kind.PROGRESS) -> None:
        self.ways = ways
        self.bad = bad
        self.kind = kind

    def beginnings(self) -> Sequence[tuple[str, Place]]:
        return [("zero", Place(bad=self.bad))]

    def moves(self, state: Place) -> Sequence[Move[Place]]:
        return [Move(f"to {goal}", self.kind, _go(goal)) for goal in self.ways.get(state.number, ())]


def _go(goal: int) -> Callable[[Place], None]:
    def make(state: Place) -> None:
        state.number = goal

    return make


STEPS = {number: [goal for goal in (number + 1, number + 3) if goal <= END] for number in range(END)}


def searched(model: Map, states: int = 1000) -> Outcome:
    (outcome,) = search(model, states)
    return outcome


def test_every_state_is_visited_once() -> None:
    """Two ways to one state make one state of it."""
    outcome = searched(Map(STEPS))

    assert outcome.is_complete
    assert (outcome.states, outcome.ends) == (11, 1)
    assert not outcome.violations


def test_the_way_to_a_broken_rule_is_a_shortest_one() -> None:
    """7 is reached in three moves, not in seven."""
    outcome = searched(Map(STEPS, bad=7))

    assert outcome.rules == {"X"}
    assert len(outcome.path) == 3


def test_a_state_without_a_way_on_is_found() -> None:
    """Where something is left to do, somebody has to do it."""
    outcome = searched(Map({0: [1], 1: [4, 2], 2: [END]}))

    assert outcome.rules == {"W1"}
    assert outcome.path == ("to 1", "to 4")


def test_what_may_go_wrong_is_no_way_on() -> None:
    """A state that only a fault leads out of is stuck."""
    outcome = searched(Map(STEPS, kind=Kind.FAULT))

    assert outcome.rules == {"W1"}
    assert outcome.path == ()


def test_what_callers_may_do_is_no_way_on() -> None:
    """Nobody has to ask for anything, so something else has to happen."""
    outcome = searched(Map({0: [END]}, kind=Kind.CLIENT))

    assert outcome.rules == {"W1"}


def test_going_round_for_ever_is_found() -> None:
    """Moves that lead to and fro are no way to an end."""
    outcome = searched(Map({0: [1, END], 1: [2], 2: [1]}))

    assert outcome.rules == {"W1"}
    assert outcome.path == ("to 1",)


def test_the_search_ends_at_its_limit() -> None:
    """What was not visited is not judged."""
    outcome = searched(Map({number: [number + 1] for number in range(11, 1000)} | {0: [11]}), states=20)

    assert not outcome.is_complete
    assert outcome.states == 20
    assert not outcome.violations

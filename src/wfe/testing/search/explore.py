"""The search: breadth first over all states, each visited once, so that what it finds is reached by a shortest path."""

from __future__ import annotations

import gc
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

__all__ = ["Kind", "Model", "Move", "Outcome", "State", "search"]


class State(Protocol):
    """One state of a model."""

    broken: list[str]
    """Rules that the last move broke, each as `RULE: what happened`."""

    def copy(self) -> Self:
        """Make a copy that moves cannot tell from this state, and that shares nothing that moves change."""
        ...

    def key(self) -> bytes:
        """Give the same bytes for states that nothing to come can tell apart."""
        ...

    def problems(self) -> Sequence[str]:
        """Say which rules the state breaks."""
        ...

    def is_end(self) -> bool:
        """Tell whether nothing more needs to happen."""
        ...


S = TypeVar("S", bound=State)


class Kind(Enum):
    """Whose move it is."""

    PROGRESS = "progress"
    """Hosts, the store and time: some of these happen unless nothing is left to do."""
    CLIENT = "client"
    """Callers may do it, or not."""
    FAULT = "fault"
    """Nobody may count on it."""


class Move(NamedTuple, Generic[S]):
    """One thing that may happen next."""

    label: str
    kind: Kind
    make: Callable[[S], None]
    """Changes the state that it is given: a copy of the one for which the move was listed."""


class Model(Protocol[S]):
    """What is searched."""

    @property
    def name(self) -> str:
        """What the model is called."""
        ...

    def beginnings(self) -> Sequence[tuple[str, S]]:
        """Give the states to begin with, each with its name; first those from which fewer states are reached."""
        ...

    def moves(self, state: S) -> Sequence[Move[S]]:
        """List what may happen next."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a search from one beginning found."""

    beginning: str
    states: int
    moves: int
    depth: int
    """Moves from the beginning to the farthest state."""
    ends: int
    """States in which nothing more needs to happen."""
    is_complete: bool
    """Whether every reachable state was visited."""
    seconds: float
    violations: tuple[str, ...] = ()
    """What is wrong with the last state of the path; empty: no rule is broken anywhere."""
    path: tuple[str, ...] = ()
    """The moves of a shortest way there."""

    @property
    def rules(self) -> frozenset[str]:
        """Names of the broken rules."""
        return frozenset(text.partition(":")[0] for text in self.violations)

    def describe(self) -> list[str]:
        """Say it in lines."""
        extent = "all" if self.is_complete else "not all"
        rate = self.states / self.seconds if self.seconds else 0.0
        size = f"{self.states} states ({extent}), {self.moves} moves, {self.ends} ends, depth {self.depth}"
        lines = [f"{self.beginning}: {size}, {self.seconds:.1f} s, {rate:.0f} states/s"]
        if self.violations:
            lines += ["", *self.violations, "", "A shortest way there:"]
            lines += [f"{number:3}  {label}" for number, label in enumerate(self.path, 1)]
        return lines


def search(model: Model[S], states: int, *, only: str = "") -> list[Outcome]:
    """Visit so many states, or all there are if they are fewer, and check every rule in each.

    With `only`, the search begins at the beginning of that name alone.

    Beside the rules of the model: wherever something is left to do, somebody does it, and an end can be reached
    without callers and faults (W1). The beginnings are searched one after the other, each up to half of the states
    that are left, until one breaks a rule.
    """
    collects = gc.isenabled()
    gc.disable()  # states make no cycles, and walking hundreds of thousands of them takes most of the time
    outcomes: list[Outcome] = []
    try:
        beginnings = [each for each in model.beginnings() if only in {"", each[0]}]
        for number, (name, state) in enumerate(beginnings):
            left = states - sum(outcome.states for outcome in outcomes)
            is_last = number == len(beginnings) - 1
            outcomes.append(_Search(model, name, left if is_last else left // 2).run(state))
            if outcomes[-1].violations:
                break
    finally:
        if collects:
            gc.enable()
    return outcomes


class _Search(Generic[S]):
    def __init__(self, model: Model[S], name: str, limit: int) -> None:
        self._model = model
        self._name = name
        self._limit = limit
        self._numbers: dict[bytes, int] = {}
        self._labels: list[str] = []
        """How each state was reached first."""
        self._parents = array("q")
        self._depths = array("l")
        self._sources = array("l")
        """Moves that somebody makes for certain: from …"""
        self._targets = array("l")
        """… to."""
        self._ends = bytearray()
        self._expanded = 0
        self._moves = 0
        self._began = time.perf_counter()
        self._waiting: deque[S] = deque()

    def run(self, beginning: S) -> Outcome:
        self._visit(beginning, "", -1)
        violations = self._violations(beginning)
        if violations:
            return self._outcome(violations, [])
        while self._waiting and len(self._labels) < self._limit:
            found = self._expand(self._waiting.popleft(), self._expanded)
            if found is not None:
                return found
            self._expanded += 1
        return self._look_for_endless()

    def _expand(self, state: S, number: int) -> Outcome | None:
        """Make every move that is possible."""
        goes_on = False
        for move in self._model.moves(state):
            after = state.copy()
            move.make(after)
            self._moves += 1
            reached, is_new = self._visit(after, move.label, number)
            violations = self._violations(after) if is_new else after.broken
            if violations:
                return self._outcome(violations, [*self._path(number), move.label])
            if move.kind is Kind.PROGRESS and reached != number:
                goes_on = True
                self._sources.append(number)
                self._targets.append(reached)
        if not goes_on and not self._ends[number]:
            return self._outcome(["W1: something is left to do, and nobody does it"], self._path(number))
        return None

    def _visit(self, state: S, label: str, parent: int) -> tuple[int, bool]:
        key = state.key()
        number = self._numbers.get(key)
        if number is not None:
            return number, False
        number = self._numbers[key] = len(self._labels)
        self._labels.append(label)
        self._parents.append(parent)
        self._depths.append(0 if parent < 0 else self._depths[parent] + 1)
        self._ends.append(state.is_end())
        self._waiting.append(state)
        return number, True

    @staticmethod
    def _violations(state: S) -> Sequence[str]:
        return [*state.broken, *state.problems()]

    def _look_for_endless(self) -> Outcome:
        """Go back from the ends, and from the states whose moves are not known: what is not met never ends."""
        count = len(self._labels)
        into: list[list[int]] = [[] for _ in range(count)]
        for source, target in zip(self._sources, self._targets, strict=True):
            into[target].append(source)
        met = bytearray(self._ends)
        for number in range(self._expanded, count):
            met[number] = True
        todo = [number for number in range(count) if met[number]]
        while todo:
            for source in into[todo.pop()]:
                if not met[source]:
                    met[source] = True
                    todo.append(source)
        endless = met.find(0)
        if endless >= 0:
            return self._outcome(["W1: whatever happens from here on, it never ends"], self._path(endless))
        return self._outcome([], [])

    def _path(self, number: int) -> list[str]:
        labels: list[str] = []
        while number > 0:
            labels.append(self._labels[number])
            number = self._parents[number]
        return labels[::-1]

    def _outcome(self, violations: Sequence[str], path: Sequence[str]) -> Outcome:
        return Outcome(
            self._name,
            len(self._labels),
            self._moves,
            max(self._depths),
            sum(self._ends),
            not self._waiting,
            time.perf_counter() - self._began,
            tuple(violations),
            tuple(path),
        )

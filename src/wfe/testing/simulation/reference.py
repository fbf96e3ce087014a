"""Follows a plan without an engine: what must come of an instance, as far as that does not depend on the moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from wfe.model.moment import MICROSECONDS_PER_SECOND, Moment
from wfe.model.status import WorkflowStatus
from wfe.testing.simulation.building import CLAIMED, EVENT, field_of, key_of, rule_of
from wfe.testing.simulation.clocks import BEGINNING
from wfe.testing.simulation.shapes import (
    MANY_ATTEMPTS,
    Block,
    Child,
    Choice,
    Each,
    End,
    Fork,
    If,
    Node,
    Pause,
    Plan,
    Rule,
    Wait,
    While,
    Work,
)

__all__ = ["Reference", "follow"]

Data: TypeAlias = dict[str, Any]
Events: TypeAlias = Callable[[str, str, Moment | None], Sequence[object]]
"""Gives the payloads of the events of a name and key from a time on, in order; None: since the instance began."""
_Path: TypeAlias = tuple[tuple[int, int], ...]
"""Index and item of the loops around, outer first."""
_Ends: TypeAlias = frozenset[str]

_OK: _Ends = frozenset({"ok"})
_FAILED: _Ends = frozenset({"failed"})
_STATUS = {
    "ok": WorkflowStatus.COMPLETE,
    "ended": WorkflowStatus.COMPLETE,
    "failed": WorkflowStatus.FAILED,
    "terminated": WorkflowStatus.TERMINATED,
}


_NEVER = "an event that was never published"


class Reference:
    """What must come of one instance."""

    def __init__(self, statuses: frozenset[WorkflowStatus], data: Data, loose: frozenset[str], *, exact: bool) -> None:
        self.statuses = statuses
        self.data = data
        self.loose = loose
        """Fields whose values depend on the moment."""
        self.exact = exact
        """Whether the other fields are known."""

    def differences(self, found: Data) -> list[str]:
        """Name the fields that are not as they must be."""
        names = sorted({*self.data, *found} - self.loose)
        return [
            f"{name} is {found.get(name)!r}, must be {self.data.get(name)!r}"
            for name in names
            if found.get(name) != self.data.get(name)
        ]


def follow(plan: Plan, plans: Mapping[str, Plan], data: Data, events: Events) -> Reference:
    """Follow a plan from its input data."""
    walk = _Walk(plan, plans, data, events)
    ends = walk.block(plan.root, ())
    if plan.limit is not None:
        ends |= _FAILED
    return Reference(frozenset(_STATUS[end] for end in ends), walk.data, frozenset(walk.loose), exact=walk.exact)


class _Walk:
    """One instance on its way. Steps change `data`; ends are `ok`, `failed`, `ended` and `terminated`."""

    def __init__(self, plan: Plan, plans: Mapping[str, Plan], data: Data, events: Events) -> None:
        self._plan = plan
        self._plans = plans
        self._events = events
        self._consumed: dict[str, int] = {}
        self.data = dict(data)
        self.loose: set[str] = set()
        self.exact = True

    def block(self, block: Block, path: _Path) -> _Ends:
        ends: set[str] = set()
        at = 0
        while at < len(block):
            node = block[at]
            jumps = isinstance(node, Work) and bool(node.back_to) and self._count(node, path) < node.jumps
            got = self._node(node, path)
            ends |= got - {"ok"}
            if "ok" not in got:
                return frozenset(ends)
            if len(got) > 1:
                self.exact = False
            if jumps:
                assert isinstance(node, Work)
                target = node.back_to
                at = next(number for number, other in enumerate(block) if other.id == target)
            else:
                at += 1
        return frozenset({*ends, "ok"})

    def _node(self, node: Node, path: _Path) -> _Ends:
        match node:
            case Work():
                return self._work(node, path)
            case If():
                chosen = node.then if node.truth else node.otherwise
                return _OK if chosen is None else self.block(chosen, path)
            case While():
                return self._while(node, path)
            case Each():
                return self._each(node, path)
            case Fork():
                ends = self._together([self.block(block, path) for block in node.blocks], fail_fast=node.fail_fast)
                return self._ruled(ends, node.rule)
            case Choice():
                chosen = node.cases[node.chosen] if node.chosen < len(node.cases) else node.default
                return _OK if chosen is None else self.block(chosen, path)
            case Pause():
                return _OK
            case Wait():
                return self._wait(node, path)
            case Child():
                return self._child(node, path)
            case End():
                return frozenset({"ended"})

    def _count(self, node: Work, path: _Path) -> int:
        return int(self.data.get(field_of(node.id, _indices(path)), 0))

    def _work(self, node: Work, path: _Path) -> _Ends:
        if not node.when or (node.back_to and self._count(node, path) >= node.jumps):
            return _OK
        rule = rule_of(node, self._plan)
        if _fails_for_good(node, rule):
            return {"fail": _FAILED, "continue": _OK, "terminate": frozenset({"terminated"})}[rule.final]
        if node.counts and rule.attempts < MANY_ATTEMPTS and rule.final != "suspend":
            # How often hosts die in the middle of it depends on the moment.
            self.loose.add(field_of(node.id, _indices(path)))
            return _OK if rule.final == "continue" else frozenset({"ok", "failed"})
        if node.answer == "wait":
            field = field_of(node.id, _indices(path))
            if node.timeout is not None:
                self.loose.add(field)
                return _OK if rule.final == "continue" else frozenset({"ok", "failed"})
            self.data[field] = [*self.data.get(field, []), self._event(node.id, path)]
            return _OK
        if node.answer == "branch":
            ends = self._branches(node, path)
            if ends != _OK:
                return ends
        if node.claims:
            self.loose.add(CLAIMED)
        by_item = path[-1][1] if path and not node.back_to else 0
        field = field_of(node.id, _indices(path))
        self.data[field] = self._count(node, path) + 1 + by_item
        return self._follow_answer(node, path, field)

    def _follow_answer(self, node: Work, path: _Path, field: str) -> _Ends:
        match node.answer:
            case "output":
                self.data[f"out {field}"] = self.data[field]
            case "end":
                self.data["ended by"] = node.id
                return frozenset({"ended"})
            case "outcome" if node.times < len(node.blocks):
                return self.block(node.blocks[node.times], path)
            case _:
                pass
        return _OK

    def _branches(self, node: Work, path: _Path) -> _Ends:
        found: list[_Ends] = []
        for index in range(node.times):
            found.append(self.block(node.blocks[0], (*path, (index, index + 1))))
            if node.in_order and found[-1] == _FAILED:
                break
        return self._together(found, fail_fast=False, in_order=node.in_order)

    def _while(self, node: While, path: _Path) -> _Ends:
        turn = field_of(f"{node.id}.t", _indices(path))
        while self.data.get(turn, 0) < node.turns:
            ends = self.block(node.body, path)
            if ends != _OK:
                if "ok" in ends:
                    self.exact = False
                return ends
            self.data[turn] = self.data.get(turn, 0) + 1
        return _OK

    def _each(self, node: Each, path: _Path) -> _Ends:
        in_order = not node.parallel or node.max_parallel == 1
        found: list[_Ends] = []
        for index, item in enumerate(node.items):
            found.append(self.block(node.body, (*path, (index, item))))
            if in_order and "ok" not in found[-1]:
                break
        return self._ruled(self._together(found, fail_fast=node.fail_fast, in_order=in_order), node.rule)

    def _together(self, found: Sequence[_Ends], *, fail_fast: bool, in_order: bool = False) -> _Ends:
        """Join branches. What ends the instance, or cuts the others off, does so at some moment."""
        every = frozenset(end for ends in found for end in ends)
        abrupt = every & {"ended", "terminated"}
        if len(found) > 1 and not in_order and (abrupt or (fail_fast and "failed" in every)):
            self.exact = False
        joined = set(abrupt)
        if all(ends & {"ok", "failed"} for ends in found) or (fail_fast and "failed" in every):
            if "failed" in every:
                joined.add("failed")
            if all("ok" in ends for ends in found):
                joined.add("ok")
        return frozenset(joined)

    @staticmethod
    def _ruled(ends: _Ends, rule: Rule) -> _Ends:
        return (ends - {"failed"}) | {"ok"} if "failed" in ends and rule.final == "continue" else ends

    def _wait(self, node: Wait, path: _Path) -> _Ends:
        if node.shared or node.timeout is not None:
            self.loose.add(node.id)
        elif not path:
            self.data[node.id] = self._event(node.id, path, node.as_of)
        if node.timeout is None:
            return _OK
        return _OK if rule_of(node, self._plan).final == "continue" else frozenset({"ok", "failed"})

    def _event(self, step: str, path: _Path, as_of: str = "") -> object:
        key = key_of(self.data["key"], step, _indices(path))
        if as_of:
            since = 0 if as_of == "any" else BEGINNING + int(float(as_of) * MICROSECONDS_PER_SECOND)
            return next(iter(self._events(EVENT, key, since)), _NEVER)
        number = self._consumed.get(key, 0)
        self._consumed[key] = number + 1
        found = self._events(EVENT, key, None)
        return found[number] if number < len(found) else _NEVER

    def _child(self, node: Child, path: _Path) -> _Ends:
        indices = _indices(path)
        self.loose.add(field_of(node.id, indices))
        key = key_of(self.data["key"], node.id, indices)
        plan = self._plans[node.definition]
        inputs = {"x": self.data["x"], "key": key, "from": field_of(node.id, indices)}
        child = follow(plan, self._plans, inputs, lambda name, key, since: ())
        ends = set(_OK) if WorkflowStatus.COMPLETE in child.statuses else set()
        if child.statuses != {WorkflowStatus.COMPLETE}:  # pyright: ignore[reportUnnecessaryComparison]
            ends |= {"fail": _FAILED, "continue": _OK}[rule_of(node, self._plan).final]
        return frozenset(ends)


def _fails_for_good(node: Work, rule: Rule) -> bool:
    if rule.final == "suspend":
        return False  # it is resumed until it succeeds
    if node.fails and (node.how == "fatal" or (node.how == "not on" and rule.attempts > 1)):
        return True
    return node.fails + node.hangs >= rule.attempts


def _indices(path: _Path) -> tuple[int, ...]:
    return tuple(index for index, _ in path)

"""How states are copied: what moves change is copied, everything else is shared. Fields are copied by their kind."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import fields
from typing import Any, TypeVar

from wfe.engine.state import InstanceState
from wfe.engine.timers import Timers
from wfe.host.runner import Runner
from wfe.providers.memory.tables import Instance, Session, Tables

__all__ = ["copy_runner", "copy_tables"]

T = TypeVar("T")

_COLLECTIONS = frozenset({dict, list, set, OrderedDict})


def copy_tables(tables: Tables) -> Tables:
    """Copy what the memory provider keeps."""
    new = _shallow(tables, _TABLES)
    new.instances = {number: _shallow(each, _INSTANCE) for number, each in tables.instances.items()}
    new.live = {number: new.instances[number] for number in tables.live}
    new.stirring = {number: new.instances[number] for number in tables.stirring}
    new.names = {name: list(ids) for name, ids in tables.names.items()}
    new.children = {parent: dict(ids) for parent, ids in tables.children.items()}
    new.waiting = {topic: dict(waits) for topic, waits in tables.waiting.items()}
    new.topics = {topic: list(events) for topic, events in tables.topics.items()}
    new.sessions = {name: Session(each.name, each.expires) for name, each in tables.sessions.items()}
    return new


def copy_runner(runner: Runner) -> Runner:
    """Copy a runner with the state that it holds."""
    new = _shallow(runner, _RUNNER)
    new.state = _shallow(runner.state, _STATE)
    new.state.timers = _shallow(runner.state.timers, _TIMERS)
    new.state.timers._pointers = new.state.pointers  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no copy of its own
    return new


def _shallow(old: T, names: tuple[str, ...]) -> T:
    """Copy an object; collections in it are copied, what they hold is shared."""
    new: Any = object.__new__(type(old))
    for name in names:
        value: Any = getattr(old, name)
        setattr(new, name, value.copy() if type(value) in _COLLECTIONS else value)
    return new  # type: ignore[no-any-return]  # of the type of `old`


_TABLES = tuple(each.name for each in fields(Tables))
_INSTANCE = tuple(each.name for each in fields(Instance))
_RUNNER = tuple(Runner.__slots__)
_STATE = tuple(InstanceState.__slots__)
_TIMERS = tuple(Timers.__slots__)

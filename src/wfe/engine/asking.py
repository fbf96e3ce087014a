"""Values that the engine asks for: conditions, collections, selectors, mappings.

Literals, field paths and serialisable conditions are evaluated here. A callable is user code: the engine asks for its
value, through the function handed in, exactly once for each place where it needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from wfe.model.conditions import condition_from_plain
from wfe.model.definition import Code, ConditionTree, Field, Literal
from wfe.model.document import decode_plain

if TYPE_CHECKING:
    from wfe.model.definition import Step, Value
    from wfe.model.document import Patch
    from wfe.model.pointer import ErrorRecord
    from wfe.ports.store import Start

__all__ = [
    "AskFailed",
    "Asker",
    "ChildRequest",
    "CodeMissing",
    "LoopItem",
    "Question",
    "classes_of",
    "evaluate",
    "field_of",
]

_MOMENT_SLOTS = frozenset({"duration", "as_of"})
"""Slots whose literal may be a point in time, written `{"at": text}`."""


class AskFailed(Exception):
    """User code that was asked for a value raised, or gave something unusable. A failure of the step."""

    def __init__(self, error: ErrorRecord, *, retryable: bool = True, classes: tuple[str, ...] = ()) -> None:
        super().__init__(error.message)
        self.error = error
        self.retryable = retryable
        self.classes = classes


class CodeMissing(Exception):
    """What a step needs is not registered on this host (any more). Its pointer waits until it is."""


class LoopItem(msgspec.Struct, frozen=True):
    """One loop around a pointer."""

    item: bytes
    """As JSON text."""
    index: int


class Question(NamedTuple):
    """What user code is asked, and what it may look at."""

    step: Step
    slot: str
    data: bytes
    values: bytes
    loops: Callable[[], tuple[LoopItem, ...]]
    """The loops around, nearest first."""
    extra: bytes = b""
    """JSON of a further argument (the data of a child that ended)."""


class ChildRequest(NamedTuple):
    """A child to be started for a pointer."""

    id: str
    definition_id: str
    version: int | None
    data: object
    """The inputs: a mapping, or None for a copy of `parent_data`."""
    parent_data: bytes
    pointer: int
    on_parent_end: str


class Asker(Protocol):
    """Answers the engine's questions by calling the definition's code.

    `value` and `child` raise `AskFailed`, and `child` raises `CodeMissing`; nothing else.
    """

    def value(self, question: Question) -> object:
        """Call the code in the question's slot."""
        ...

    def check(self, fields: Patch, data: bytes) -> None:
        """Check that fields which no body wrote fit the data. Raises `DataError`, nothing else."""
        ...

    def child(self, request: ChildRequest) -> Start:
        """Make the start of a child: find its definition, check its data, decide its first advance."""
        ...


_TIMES = frozenset({"duration", "as_of"})
"""Slots in which a literal `{"at": …}` is a point in time."""


def evaluate(value: Value, question: Question, asker: Asker) -> object:
    """Give the value of a slot."""
    if isinstance(value, Code):
        return asker.value(question)
    if isinstance(value, Literal):
        plain = value.value
        if question.slot in _MOMENT_SLOTS and isinstance(plain, Mapping) and "at" in plain:
            return datetime.fromisoformat(str(plain["at"]))
        return plain
    if isinstance(value, ConditionTree):
        data = decode_plain(question.data)
        return condition_from_plain(value.plain).evaluate(data if isinstance(data, dict) else {})
    assert isinstance(value, Field)
    return field_of(decode_plain(question.data), value.path)


def field_of(data: object, path: str) -> object:
    """Give the value at a dotted path. Raises KeyError naming what is missing."""
    for name in path.lstrip(".").split("."):
        if isinstance(data, Mapping) and name in data:
            data = data[name]
        elif isinstance(data, list) and name.isdigit() and int(name) < len(data):
            data = data[int(name)]
        else:
            msg = f"the data has no field {path!r} (nothing at {name!r})"
            raise KeyError(msg)
    return data


def classes_of(kind: type[BaseException]) -> tuple[str, ...]:
    """Name an exception class and its bases, most special first, as `Failed.classes` has them."""
    return tuple(f"{each.__module__}.{each.__qualname__}" for each in kind.__mro__ if each is not object)

"""Reads columns that may hold what nobody of us has written.

SQLite takes any value for any column, and any bytes for a text. A row that somebody else has changed, or that lies on a
bad page, must cost its own instance and no other: so it is read as far as it can be, and what is wrong is told with it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Generic, NamedTuple, Self, TypeVar, get_args, get_type_hints

__all__ = ["Shape", "UnreadableText", "as_stored", "is_unreadable_text", "read_any_text", "reading_any_text", "shown"]

R = TypeVar("R", bound=NamedTuple)

_SHOWN = 40
_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")
_NOT_DECODED = "Could not decode to UTF-8"
_NOTHING: dict[type, object] = {int: 0, str: "", bytes: b""}
_NAMES = {int: "a number", str: "a text", bytes: "bytes"}


class UnreadableText(str):  # noqa: SLOT000 - its bytes lie beside it; there are few of them
    r"""A text that is no UTF-8, as it can be shown: what is no character is written as `\xff`.

    It does not leave the provider: as a value of a row it becomes a plain text.
    """

    raw: bytes
    """As it is stored."""

    def __new__(cls, raw: bytes) -> Self:
        text = super().__new__(cls, raw.decode("utf-8", "backslashreplace"))
        text.raw = raw
        return text


def as_stored(text: str) -> bytes | None:
    """Give the bytes of a text that is no UTF-8 from how it is shown; None: it is a text like any other."""
    raw = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text.encode())
    return None if raw == text.encode() else raw


def is_unreadable_text(error: Exception) -> bool:
    """Tell whether a statement met a text that is no UTF-8."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith(_NOT_DECODED)


def read_any_text(connection: sqlite3.Connection) -> None:
    """From now on give texts that are no UTF-8 as `UnreadableText` instead of failing.

    Every text then costs a call of Python: only connections that have met such a text are set so.
    """
    connection.text_factory = _text


@contextmanager
def reading_any_text(connection: sqlite3.Connection) -> Generator[None]:
    """Do so for a while."""
    before = connection.text_factory
    read_any_text(connection)
    try:
        yield
    finally:
        connection.text_factory = before


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return UnreadableText(raw)


class Shape(Generic[R]):
    """What the columns of a statement should hold: the fields of a named tuple, by their types."""

    def __init__(self, row: type[R]) -> None:
        hints = get_type_hints(row)
        self._make = row._make
        self._fields = [(name, get_args(hints[name]) or (hints[name],)) for name in row._fields]
        self._sound: set[tuple[type, ...]] = set()
        """Types of rows that have been looked at column by column, and were as they should be."""

    def read_all(self, rows: Sequence[Sequence[object]]) -> Iterable[tuple[R, str]]:
        """Do as `read` for many rows, faster where all are as they should be."""
        if {tuple(map(type, row)) for row in rows} <= self._sound:
            return zip(map(self._make, rows), repeat(""), strict=False)
        return map(self.read, rows)

    def read(self, row: Sequence[object]) -> tuple[R, str]:
        """Give a row, and what is wrong with it; nothing: "". Instead of what is wrong stands what is empty."""
        types = tuple(map(type, row))
        if types in self._sound:
            return self._make(row), ""
        problems = [f"{name} is {shown(value)}, not {_wanted(kinds)}" for name, value, kinds in self._odd(row)]
        if not problems:
            self._sound.add(types)
            return self._make(row), ""
        return self._make(self._mended(row)), "; ".join(problems)

    def _odd(self, row: Sequence[object]) -> Iterable[tuple[str, object, tuple[type, ...]]]:
        for (name, kinds), value in zip(self._fields, row, strict=True):
            if type(value) not in kinds:
                yield name, value, kinds

    def _mended(self, row: Sequence[object]) -> Iterable[object]:
        for (_, kinds), value in zip(self._fields, row, strict=True):
            if type(value) in kinds or isinstance(value, UnreadableText):
                yield str(value) if isinstance(value, UnreadableText) else value
            elif str in kinds and isinstance(value, bytes):
                yield str(UnreadableText(value))
            else:  # bytes that are no JSON rather than none: the row is there
                yield None if type(None) in kinds and bytes not in kinds else _NOTHING[kinds[0]]


def shown(value: object) -> str:
    """Show a value that should not be there."""
    if value is None:
        return "missing"
    text = f"the text '{value}'" if isinstance(value, UnreadableText) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _wanted(kinds: tuple[type, ...]) -> str:
    return "a text in UTF-8" if kinds[0] is str else _NAMES[kinds[0]]

"""Counts what a process asks of SQLite, from outside the program that asks."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from typing import Any

from bench.measure import Figures

# A table of the program's own: neither a function, nor the catalogue that a driver asks about types and settings.
_COMMIT_FUNCTION = re.compile(r"\.commit_v\d+\(")
_FROM_TABLE = re.compile(r"\b(?:FROM|JOIN)\s+(?!pg_|typeinfo|information_schema)[\w.\"]+\b\"?(?!\s*\()", re.IGNORECASE)


class StatementCounter:
    """Sees each statement on each SQLite connection opened after `arm`; counts between `begin` and `end`."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._rows: dict[int, int] = {}
        self._rows_before: dict[int, int] = {}
        self._armed = False
        self._active = False
        self.reads: Counter[str] = Counter()

    @classmethod
    def install(cls) -> StatementCounter:
        """Put a counter between `sqlite3.connect` and everybody who imports it later. Costs nothing until `arm`."""
        counter = cls()
        sqlite3.connect = counter._wrap(sqlite3.connect)  # type: ignore[assignment]
        return counter

    def arm(self) -> None:
        """Watch the connections that are opened from now on (in their own thread: SQLite asks for that)."""
        self._armed = True

    def begin(self) -> None:
        """Start to count, from zero."""
        self._kinds.clear()
        self.reads.clear()
        self._rows.clear()
        self._rows_before.clear()
        self._active = True

    def end(self) -> Figures:
        """Stop; rows written, statements that read, all statements, and commits."""
        self._active = False
        rows = sum(total - self._rows_before[key] for key, total in self._rows.items())
        return {
            "rows": rows,
            "reads": self._kinds["read"],
            "statements": self._kinds.total(),
            "commits": self._kinds["commit"],
        }

    def _wrap(self, connect: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
        def counted(*arguments: Any, **options: Any) -> sqlite3.Connection:  # noqa: ANN401
            connection = connect(*arguments, **options)
            if self._armed:
                self._trace(connection)
            return connection

        return counted

    def _trace(self, connection: sqlite3.Connection) -> None:
        key = id(connection)

        def traced(statement: str) -> None:
            if not self._active:
                return
            # Called before the statement runs, in the connection's own thread, the only one that may ask it. The last
            # call is for a COMMIT, when all rows of its transaction have been counted.
            self._rows_before.setdefault(key, connection.total_changes)
            self._rows[key] = connection.total_changes
            kind = kind_of(statement)
            self._kinds[kind] += 1
            if kind == "read":
                self.reads[" ".join(statement.split())[:120]] += 1

        connection.set_trace_callback(traced)


def kind_of(statement: str) -> str:
    """`read`, `write`, `commit`, `notify` or `other`; a statement that both reads and writes counts as a write.

    A call of a function of the database is `other`: what it does inside shows in the rows written, not here.
    """
    words = re.split(r"[\s(;]+", statement.strip().upper())
    first = words[0] if words else ""
    if first in {"INSERT", "UPDATE", "DELETE", "REPLACE"}:
        return "write"
    if first == "WITH" and {"INSERT", "UPDATE", "DELETE"} & set(words):
        return "write"
    if first in {"COMMIT", "END"}:
        return "commit"
    if first == "NOTIFY" or "PG_NOTIFY" in words:
        return "notify"
    if _COMMIT_FUNCTION.search(statement):
        return "write"  # what it does inside shows in the rows written
    return "read" if first in {"SELECT", "WITH"} and _FROM_TABLE.search(statement) else "other"

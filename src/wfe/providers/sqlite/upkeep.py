"""Definitions, and what is thrown away."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wfe.model.definition import DefinitionKey
from wfe.model.moment import Moment
from wfe.ports.store import DefinitionRow
from wfe.providers.sqlite.columns import Shape
from wfe.providers.sqlite.connection import writing
from wfe.providers.sqlite.counters import INDEXED
from wfe.providers.sqlite.loading import json_list
from wfe.providers.sqlite.place import Place

__all__ = ["Upkeep"]

_TABLES_OF_INSTANCE = (
    "document",
    "context",
    "pointer",
    "item",
    "error",
    "position",
    "inbox",
    "subscription",
    "log_index",
)


class _Columns(NamedTuple):
    """A recorded definition."""

    id: str
    version: int
    hash: str
    plan: str
    source: str


_SHAPE = Shape(_Columns)


@dataclass(eq=False)
class Upkeep:
    """Jobs of the writer that are not on the way of running workflows."""

    place: Place

    def save_definition(self, connection: sqlite3.Connection, row: DefinitionRow) -> DefinitionKey | None:
        """Record a definition, unless another structure of its id and version is in use; then give that one's key."""
        with writing(connection, self.place):
            there = connection.execute(
                "SELECT k, hash, plan, source FROM definition WHERE id = ? AND version = ? AND plan IS NOT NULL",
                row.key[:2],
            ).fetchone()
            if there is not None and there[1:] == (row.key.hash, row.plan, row.source):
                return None
            if there is not None and there[1] != row.key.hash:
                if self._in_use(connection, there[0]):
                    return DefinitionKey(row.key.id, row.key.version, there[1])
                connection.execute("UPDATE definition SET plan = NULL, source = NULL WHERE k = ?", (there[0],))
            connection.execute(
                "INSERT INTO definition (id, version, hash, plan, source) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (id, version, hash) DO UPDATE SET plan = excluded.plan, source = excluded.source",
                (*row.key, row.plan, row.source),
            )
            return None

    @staticmethod
    def recorded(connection: sqlite3.Connection) -> list[DefinitionRow]:
        """Read the recorded definitions, but for those whose rows are damaged."""
        rows = connection.execute(
            "SELECT id, version, hash, plan, source FROM definition WHERE plan IS NOT NULL ORDER BY k"
        )
        return [
            DefinitionRow(DefinitionKey(row.id, row.version, row.hash), row.plan, row.source)
            for row, damage in map(_SHAPE.read, rows)
            if not damage
        ]

    def purge(
        self,
        connection: sqlite3.Connection,
        ids: Sequence[str] | None,
        status: Sequence[str],
        ended_before: Moment | None,
        limit: int,
    ) -> int:
        """Delete up to `limit` ended instances with all their rows."""
        with writing(connection, self.place):
            numbers = _purgeable(connection, ids, status, ended_before, limit)
            given = (json_list(numbers),)
            connection.execute(
                "DELETE FROM log WHERE k IN (SELECT k FROM log_index WHERE n IN (SELECT value FROM json_each(?)))",
                given,
            )
            connection.execute(
                f"DELETE FROM log WHERE k > {INDEXED} AND +n IN (SELECT value FROM json_each(?))",
                given,
            )
            for table in (*_TABLES_OF_INSTANCE, "instance"):
                connection.execute(f"DELETE FROM {table} WHERE n IN (SELECT value FROM json_each(?))", given)
        return len(numbers)

    def drop_events(self, connection: sqlite3.Connection, before: Moment, limit: int) -> int:
        """Delete up to `limit` of the oldest events, of those from before a time.

        A wait that a stored event fits took it when one of the two came, so no live wait would match a stored event.
        Times rise with sequence numbers: the old ones are the first.
        """
        with writing(connection, self.place):
            row = connection.execute(
                "SELECT max(sequence) FROM (SELECT sequence, time FROM event ORDER BY sequence LIMIT ?) WHERE time < ?",
                (limit, before),
            ).fetchone()
            return connection.execute("DELETE FROM event WHERE sequence <= ?", (row[0] or 0,)).rowcount

    def _in_use(self, connection: sqlite3.Connection, definition: int) -> bool:
        return (
            connection.execute(
                "SELECT 1 FROM instance WHERE definition = ? AND ended_at IS NULL LIMIT 1", (definition,)
            ).fetchone()
            is not None
        )


def _purgeable(
    connection: sqlite3.Connection,
    ids: Sequence[str] | None,
    status: Sequence[str],
    ended_before: Moment | None,
    limit: int,
) -> list[int]:
    wanted = {str(one) for one in status}
    query = "SELECT n, status, created_at, ended_at FROM instance"
    if ids is None:
        rows = connection.execute(f"{query} ORDER BY n")
    else:
        rows = connection.execute(f"{query} WHERE id IN (SELECT value FROM json_each(?))", (json_list(list(ids)),))
    found: list[int] = []
    for n, standing, created_at, ended_at in rows:
        if len(found) >= limit:
            break
        if ids is None and ended_before is not None and created_at >= ended_before:
            # Instances are numbered in the order of their creation: all others are newer still.
            break
        if ended_at is None or (wanted and standing not in wanted):
            continue
        if ended_before is None or ended_at < ended_before:
            found.append(n)
    rows.close()
    return found

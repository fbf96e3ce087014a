"""What is read beside the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import NamedTuple

from wfe.model.errors import ConfigurationError
from wfe.model.moment import Moment
from wfe.ports.store import (
    DATA_ARE_MISSING,
    NO_DEFINITION,
    EndedRow,
    InboxRow,
    InstanceRow,
    ListFilter,
    LogCursorPage,
    LogRow,
)
from wfe.providers.sqlite.columns import Shape
from wfe.providers.sqlite.connection import snapshot
from wfe.providers.sqlite.counters import INDEXED, last_log
from wfe.providers.sqlite.loading import inbox_rows_of, json_list
from wfe.providers.sqlite.names import DefinitionNumbers

__all__ = ["Reads"]

_INSTANCE = (
    "SELECT i.n, i.id, i.definition, i.status, i.run, i.revision, i.fence, s.id, i.head, d.data, c.vals, i.created_at, "
    "i.ended_at, i.wake_at, i.blocked_reason, i.activations, i.name, i.reference, i.parent_id "
    "FROM instance i LEFT JOIN session s ON s.k = i.owner LEFT JOIN document d ON d.n = i.n "
    "LEFT JOIN context c ON c.n = i.n "
)
_LOG = (
    "SELECT l.k, i.id, l.revision, l.first_sequence, l.count, l.run, l.time, l.records, i.definition "
    "FROM log l JOIN instance i ON i.n = l.n "
)
# The log of one instance is read from the index, then from the rows at the end that are not in it yet.
_ABOVE = "l.count > 0 AND l.first_sequence + l.count - 1 > ?2"
HISTORY = (
    f"{_LOG} JOIN log_index x ON x.k = l.k WHERE x.n = ?1 AND x.first_sequence >= coalesce("
    "(SELECT max(first_sequence) FROM log_index WHERE n = ?1 AND first_sequence <= ?2), 0) "
    f"AND {_ABOVE} ORDER BY x.first_sequence, x.k LIMIT ?3"
)
HISTORY_END = f"{_LOG} WHERE l.k > {INDEXED} AND +l.n = ?1 AND {_ABOVE} ORDER BY l.k LIMIT ?3"
LOG_OF_ONE = f"{_LOG} JOIN log_index x ON x.k = l.k WHERE x.n = ?1 AND x.k > ?2 ORDER BY x.k LIMIT ?3"
LOG_OF_ONE_END = f"{_LOG} WHERE l.k > max({INDEXED}, ?2) AND +l.n = ?1 ORDER BY l.k LIMIT ?3"
_COMMON = frozenset({"runnable", "complete"})
_LIST_CURSOR = "instances-before-"
_LOG_CURSOR = "log-after-"


class _Columns(NamedTuple):
    """A row of `_INSTANCE`."""

    n: int
    id: str
    definition: int
    status: str
    run: int
    revision: int
    fence: int
    owner: str | None
    head: bytes
    data: bytes | None
    values: bytes | None
    created_at: Moment
    ended_at: Moment | None
    wake_at: Moment | None
    blocked_reason: str | None
    activations: int
    name: str | None
    reference: str | None
    parent_id: str | None


class _EndedColumns(NamedTuple):
    """What waiters are told of."""

    n: int
    id: str
    definition: int
    status: str
    head: bytes
    data: bytes | None


_SHAPE = Shape(_Columns)
_ENDED_SHAPE = Shape(_EndedColumns)


class Reads:
    """Jobs of the reader. None of them takes a lock that a writer would wait for."""

    def __init__(self) -> None:
        self.definitions = DefinitionNumbers()

    def held(self, connection: sqlite3.Connection, session: str) -> list[tuple[str, int]]:
        """List what a session holds."""
        return connection.execute(
            "SELECT id, fence FROM instance WHERE owner = (SELECT k FROM session WHERE id = ?)", (session,)
        ).fetchall()

    def inbox(self, connection: sqlite3.Connection, ids: Sequence[str]) -> list[InboxRow]:
        """Read inbox rows of instances in the order of their ids."""
        return inbox_rows_of(connection, ids)

    def pending_control(self, connection: sqlite3.Connection, request_ids: Sequence[str]) -> list[str]:
        """Give the requests whose rows are still there."""
        return [
            request
            for (request,) in connection.execute(
                "SELECT DISTINCT request FROM inbox "
                "WHERE request IN (SELECT value FROM json_each(?)) AND request IS NOT NULL",
                (json_list(list(request_ids)),),
            )
        ]

    def get(self, connection: sqlite3.Connection, id_or_name: str) -> InstanceRow | None:
        """Read one instance by id, else by name."""
        row = connection.execute(f"{_INSTANCE} WHERE i.id = ?", (id_or_name,)).fetchone()
        if row is None:
            row = connection.execute(
                f"{_INSTANCE} WHERE i.n = (SELECT max(n) FROM instance WHERE name = ? AND name IS NOT NULL)",
                (id_or_name,),
            ).fetchone()
        if row is None:
            return None
        return self._instance(connection, row, self._pointers(connection, row[0]))

    def ended(self, connection: sqlite3.Connection, ids: Sequence[str], until: Collection[str]) -> list[EndedRow]:
        """Read those that have ended or stand in one of the given statuses."""
        rows = connection.execute(
            "SELECT i.n, i.id, i.definition, i.status, i.head, d.data FROM json_each(?) j "
            "CROSS JOIN instance i ON i.id = j.value LEFT JOIN document d ON d.n = i.n "
            "WHERE i.ended_at IS NOT NULL OR i.status IN (SELECT value FROM json_each(?))",
            (json_list(list(dict.fromkeys(ids))), json_list([str(status) for status in until])),
        ).fetchall()
        return [
            EndedRow(
                id=row.id,
                definition=self.definitions.key(connection, row.definition),
                status=row.status,
                head=row.head,
                data=row.data or b"",
                pointers=self._pointers(connection, row.n),
            )
            for row, _ in map(_ENDED_SHAPE.read, rows)
        ]

    def list_instances(
        self, connection: sqlite3.Connection, where: ListFilter, limit: int, cursor: str | None
    ) -> tuple[list[InstanceRow], str | None]:
        """List instances, newest first."""
        conditions, values = _conditions(where)
        if cursor is not None:
            conditions.append("i.n < ?")
            values.append(_number_in(cursor, _LIST_CURSOR))
        condition = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        rows = connection.execute(f"{_INSTANCE}{condition}ORDER BY i.n DESC LIMIT ?", (*values, limit + 1)).fetchall()
        page = [self._instance(connection, row) for row in rows[:limit]]
        return page, f"{_LIST_CURSOR}{rows[limit - 1][0]}" if page and len(rows) > limit else None

    def known(self, connection: sqlite3.Connection, ids: Sequence[str]) -> list[str]:
        """Give those ids that exist."""
        return [
            instance_id
            for (instance_id,) in connection.execute(
                "SELECT id FROM instance WHERE id IN (SELECT value FROM json_each(?))", (json_list(list(ids)),)
            )
        ]

    def history(self, connection: sqlite3.Connection, instance_id: str, after: int, limit: int) -> list[LogRow]:
        """Read log rows of one instance whose last sequence number is above `after`."""
        with snapshot(connection):
            row = connection.execute("SELECT n FROM instance WHERE id = ?", (instance_id,)).fetchone()
            if row is None:
                return []
            rows = connection.execute(HISTORY, (row[0], after, limit)).fetchall()
            if len(rows) < limit:
                rows += connection.execute(HISTORY_END, (row[0], after, limit - len(rows))).fetchall()
            return [self._log_row(connection, row) for row in rows]

    def errors(self, connection: sqlite3.Connection, instance_id: str) -> list[bytes]:
        """Read the failed attempts of one instance."""
        return [
            error
            for (error,) in connection.execute(
                "SELECT error FROM error WHERE n = (SELECT n FROM instance WHERE id = ?) ORDER BY number",
                (instance_id,),
            )
        ]

    def log_after(
        self, connection: sqlite3.Connection, cursor: str | None, limit: int, instance_id: str | None
    ) -> LogCursorPage:
        """Read log rows in commit order. One writer at a time numbers them, so none becomes visible late."""
        with snapshot(connection):
            last = self.log_end(connection)
            if cursor == "now":
                return LogCursorPage([], f"{_LOG_CURSOR}{last}")
            after = 0 if cursor is None else _number_in(cursor, _LOG_CURSOR)
            rows = self._log_rows(connection, after, limit, instance_id)
        place = rows[-1][0] if rows and len(rows) == limit else max(after, last)
        return LogCursorPage([self._log_row(connection, row) for row in rows], f"{_LOG_CURSOR}{place}")

    def numbered_log(
        self, connection: sqlite3.Connection, after: int, limit: int, instance_id: str | None
    ) -> list[tuple[int, LogRow]]:
        """Read log rows in commit order with their places."""
        with snapshot(connection):
            rows = self._log_rows(connection, after, limit, instance_id)
            return [(row[0], self._log_row(connection, row)) for row in rows]

    def log_end(self, connection: sqlite3.Connection) -> int:
        """Give the place of the last log row that was written."""
        return last_log(connection)

    def data_version(self, connection: sqlite3.Connection) -> int:
        """Give a number that changes whenever another connection, of any process, has committed."""
        return int(connection.execute("PRAGMA data_version").fetchone()[0])

    def _log_rows(
        self, connection: sqlite3.Connection, after: int, limit: int, instance_id: str | None
    ) -> list[tuple[int, str, int, int, int, int, int, bytes, int]]:
        if instance_id is None:
            return connection.execute(f"{_LOG} WHERE l.k > ? ORDER BY l.k LIMIT ?", (after, limit)).fetchall()
        row = connection.execute("SELECT n FROM instance WHERE id = ?", (instance_id,)).fetchone()
        if row is None:
            return []
        rows = connection.execute(LOG_OF_ONE, (row[0], after, limit)).fetchall()
        if len(rows) < limit:
            rows += connection.execute(LOG_OF_ONE_END, (row[0], after, limit - len(rows))).fetchall()
        return rows

    def _log_row(
        self, connection: sqlite3.Connection, row: tuple[int, str, int, int, int, int, int, bytes, int]
    ) -> LogRow:
        key = self.definitions.key(connection, row[8])
        return LogRow(str(row[1]), *row[2:8], key.id, key.version)

    def _pointers(self, connection: sqlite3.Connection, n: int) -> list[bytes]:
        return [state for (state,) in connection.execute("SELECT state FROM pointer WHERE n = ? ORDER BY slot", (n,))]

    def _instance(
        self, connection: sqlite3.Connection, columns: Sequence[object], pointers: Sequence[bytes] = ()
    ) -> InstanceRow:
        row, damage = _SHAPE.read(columns)
        definition = self.definitions.key(connection, row.definition)
        if definition == NO_DEFINITION:
            damage = damage or f"its definition (number {row.definition}) is not in the store"
        elif row.data is None or row.values is None:
            damage = damage or DATA_ARE_MISSING
        return InstanceRow(
            id=row.id,
            definition=definition,
            status=row.status,
            run=row.run,
            revision=row.revision,
            fence=row.fence,
            owner=row.owner,
            head=row.head,
            data=row.data or b"",
            values=row.values or b"",
            created_at=row.created_at,
            ended_at=row.ended_at,
            wake_at=row.wake_at,
            blocked_reason=row.blocked_reason,
            activations=row.activations,
            name=row.name,
            reference=row.reference,
            parent_id=row.parent_id,
            pointers=pointers,
            damage=damage,
        )


def _conditions(where: ListFilter) -> tuple[list[str], list[object]]:
    conditions: list[str] = []
    values: list[object] = []
    if where.status:
        conditions.append(f"i.status IN ({', '.join('?' * len(where.status))})")
        values += [str(status) for status in where.status]
        if _COMMON.isdisjoint(where.status):
            # Word for word the conditions of an index.
            conditions.append("i.status <> 'runnable' AND i.status <> 'complete'")
    if where.definition_id is not None:
        conditions.append("i.definition IN (SELECT k FROM definition WHERE id = ?)")
        values.append(where.definition_id)
    if where.reference is not None:
        conditions.append("i.reference = ? AND i.reference IS NOT NULL")
        values.append(where.reference)
    if where.since is not None:
        conditions.append("i.created_at >= ?")
        values.append(where.since)
    if where.parent_id is not None:
        conditions.append("i.parent_id = ? AND i.parent_id IS NOT NULL")
        values.append(where.parent_id)
    return conditions, values


def _number_in(cursor: str, prefix: str) -> int:
    number = cursor.removeprefix(prefix)
    if number == cursor or not (number.isascii() and number.isdecimal()) or len(number) > 18:  # noqa: PLR2004 - 64 bits
        raise ConfigurationError(
            f"{cursor!r} is no cursor of this store; pass one that a page gave, unchanged, or None to begin."
        )
    return int(number)

"""What is read of instances, their messages and their log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from wfe.model.definition import DefinitionKey
from wfe.model.errors import ConfigurationError
from wfe.model.status import WorkflowStatus
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
from wfe.providers.postgres.answers import definition_key
from wfe.providers.postgres.cursor import LogCursor
from wfe.providers.postgres.pool import Pool

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Reads"]

_LIST_CURSOR = "before-"
_LARGEST_NUMBER_DIGITS = 18
_USUAL = frozenset({WorkflowStatus.RUNNABLE, WorkflowStatus.COMPLETE})
_LIVE = frozenset({WorkflowStatus.RUNNABLE, WorkflowStatus.SUSPENDED})


class Reads:
    """Statements that read. They never lock, and each is one round trip."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        schema = pool.place.quoted_schema
        self._schema = schema
        self._instance = f"""
            SELECT i.*, p.id AS definition_id, p.version, p.hash, d.data, d.vals
            FROM {schema}.instance i
            LEFT JOIN {schema}.plan p ON p.n = i.plan
            LEFT JOIN {schema}.document d ON d.n = i.n"""
        self._pointers = f"ARRAY(SELECT r.state FROM {schema}.pointer r WHERE r.n = i.n ORDER BY r.slot) AS pointers"
        self._log = f"""
            SELECT i.id, l.revision, l.first_sequence, l.count, l.run, l.time, l.records, p.id AS definition_id,
                p.version, l.xid, l.n
            FROM {schema}.log l
            JOIN {schema}.instance i ON i.n = l.n
            LEFT JOIN {schema}.plan p ON p.n = i.plan"""

    @property
    def is_open(self) -> bool:
        """Whether the store was opened and not closed."""
        return self._pool.is_open

    async def _fetch(self, doing: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
        return await self._pool.run(doing, lambda connection, _: connection.fetch(statement, *arguments))

    # Messages

    async def inbox(self, ids: Sequence[str]) -> Sequence[InboxRow]:
        """Read inbox rows in the order of their ids."""
        rows = await self._fetch(
            "read messages",
            f"""SELECT b.*, i.id AS instance_id FROM {self._schema}.inbox b
            JOIN {self._schema}.instance i ON i.n = b.n
            WHERE i.id = ANY ($1::text[]) AND i.ended_at IS NULL ORDER BY b.id""",
            list(ids),
        )
        return [
            InboxRow(
                row["id"],
                row["instance_id"],
                row["message"],
                row["pointer"],
                row["wait"],
                row["sequence"],
                row["name"],
                row["key"],
                row["payload"],
            )
            for row in rows
        ]

    async def pending_control(self, request_ids: Sequence[str]) -> Collection[str]:
        """Give the requests that were not consumed. What reached an instance as it ended counts as consumed."""
        rows = await self._fetch(
            "look for requests",
            f"""SELECT DISTINCT b.request FROM {self._schema}.inbox b JOIN {self._schema}.instance i ON i.n = b.n
            WHERE b.request = ANY ($1::text[]) AND b.request <> '' AND i.ended_at IS NULL""",
            list(request_ids),
        )
        return [row["request"] for row in rows]

    # Instances

    async def get(self, id_or_name: str) -> InstanceRow | None:
        """Read one instance."""
        rows = await self._fetch(
            "read an instance",
            f"""SELECT i.*, {self._pointers} FROM ({self._instance}) i WHERE i.n = coalesce(
                (SELECT n FROM {self._schema}.instance WHERE id = $1),
                (SELECT n FROM {self._schema}.instance WHERE name = $1 ORDER BY n DESC LIMIT 1))""",
            id_or_name,
        )
        return _instance_row(rows[0], rows[0]["pointers"]) if rows else None

    async def ended(self, ids: Sequence[str], until: Collection[str]) -> Sequence[EndedRow]:
        """Read those that have ended or reached a status."""
        rows = await self._fetch(
            "read ended instances",
            f"""SELECT i.*, {self._pointers} FROM ({self._instance}) i
            WHERE i.id = ANY ($1::text[]) AND (i.ended_at IS NOT NULL OR i.status = ANY ($2::text[]))""",
            list(ids),
            list(until),
        )
        return [
            EndedRow(
                id=row["id"],
                definition=_definition(row),
                status=row["status"],
                head=row["head"],
                data=row["data"] or b"",
                pointers=row["pointers"],
            )
            for row in rows
        ]

    async def list_instances(
        self, where: ListFilter, limit: int, cursor: str | None
    ) -> tuple[Sequence[InstanceRow], str | None]:
        """Read a page, newest first. Numbers of instances grow: the last one of a page tells where the next begins."""
        before = None if cursor is None else _number_in(cursor)
        conditions = ["true"]
        arguments: list[object] = []

        def require(condition: str, value: object) -> None:
            arguments.append(value)
            conditions.append(condition.format(f"${len(arguments)}"))

        if before is not None:
            require("i.n < {}", before)
        if where.status:
            require("i.status = ANY ({}::text[])", list(where.status))
            # What a partial index asks for has to be said in so many words.
            if not _USUAL.intersection(where.status):
                conditions.append("i.status NOT IN ('runnable', 'complete')")
            if set(where.status) <= _LIVE:
                conditions.append("i.status IN ('runnable', 'suspended')")
        if where.definition_id is not None:
            require("i.definition_id = {}", where.definition_id)
        if where.reference is not None:
            require("i.reference = {}", where.reference)
        if where.since is not None:
            require("i.created_at >= {}", where.since)
        if where.parent_id is not None:
            require("i.parent_id = {}", where.parent_id)
        rows = await self._fetch(
            "list instances",
            f"SELECT * FROM ({self._instance}) i WHERE {' AND '.join(conditions)} ORDER BY n DESC LIMIT {limit + 1:d}",
            *arguments,
        )
        page = [_instance_row(row) for row in rows[:limit]]
        return page, f"{_LIST_CURSOR}{rows[limit - 1]['n']}" if len(rows) > limit > 0 else None

    async def known(self, ids: Sequence[str]) -> Collection[str]:
        """Give those that exist."""
        rows = await self._fetch(
            "look for instances", f"SELECT id FROM {self._schema}.instance WHERE id = ANY ($1::text[])", list(ids)
        )
        return [row["id"] for row in rows]

    async def errors(self, instance_id: str) -> Sequence[bytes]:
        """Read failed attempts."""
        rows = await self._fetch(
            "read errors",
            f"""SELECT e.error FROM {self._schema}.error e JOIN {self._schema}.instance i ON i.n = e.n
            WHERE i.id = $1 ORDER BY e.number""",
            instance_id,
        )
        return [row["error"] for row in rows]

    # Log

    async def history(self, instance_id: str, after: int, limit: int) -> Sequence[LogRow]:
        """Read log rows of one instance that have records after a sequence number."""
        rows = await self._fetch(
            "read the history",
            f"""{self._log} WHERE i.id = $1 AND l.count > 0 AND l.first_sequence + l.count - 1 > $2
            ORDER BY l.revision LIMIT $3""",
            instance_id,
            after,
            limit,
        )
        return [_log_row(row) for row in rows]

    async def log_after(self, cursor: str | None, limit: int, instance_id: str | None) -> LogCursorPage:
        """Read log rows in the order of their transactions, up to the oldest that still runs."""
        if cursor == "now":
            return LogCursorPage([], str(await self.log_end()))
        after = LogCursor() if cursor is None else LogCursor.of(cursor)
        rows = await self.log_rows(after, limit, instance_id)
        return LogCursorPage([row for _, row in rows], str(rows[-1][0] if rows else after))

    async def log_end(self) -> LogCursor:
        """Give the cursor behind everything that has happened."""
        rows = await self._fetch("read the end of the log", "SELECT pg_current_snapshot()::text AS snapshot")
        return LogCursor.of_snapshot(rows[0]["snapshot"])

    async def log_rows(
        self, after: LogCursor, limit: int, instance_id: str | None
    ) -> Sequence[tuple[LogCursor, LogRow]]:
        """Read log rows behind a cursor, each with its own."""
        arguments: list[object] = [after.xid, after.n, after.revision, limit]
        conditions = [
            "(l.xid, l.n, l.revision) > ($1::bigint, $2::bigint, $3::bigint)",
            "l.xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
        ]
        if instance_id is not None:
            arguments.append(instance_id)
            conditions.append(f"i.id = ${len(arguments)}")
        if after.seen:
            arguments.append(after.seen)
            conditions.append(f"NOT pg_visible_in_snapshot(l.xid::text::xid8, ${len(arguments)}::text::pg_snapshot)")
        # One instance has one holder at a time: the order of its transactions is that of its revisions.
        order = "l.xid, l.n, l.revision" if instance_id is None else "l.revision"
        rows = await self._fetch(
            "read the log", f"{self._log} WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT $4", *arguments
        )
        return [(after.moved(row["xid"], row["n"], row["revision"]), _log_row(row)) for row in rows]


def _definition(row: asyncpg.Record) -> DefinitionKey:
    return definition_key(row["definition_id"], row["version"], row["hash"])


def _damage(row: asyncpg.Record) -> str:
    if row["definition_id"] is None:
        return f"its definition (plan {row['plan']}) is not in the store"
    return DATA_ARE_MISSING if row["data"] is None or row["vals"] is None else ""


def _instance_row(row: asyncpg.Record, pointers: Sequence[bytes] = ()) -> InstanceRow:
    return InstanceRow(
        id=row["id"],
        definition=_definition(row),
        status=row["status"],
        run=row["run"],
        revision=row["revision"],
        fence=row["fence"],
        owner=row["owner"] or None,
        head=row["head"],
        data=row["data"] or b"",
        values=row["vals"] or b"",
        created_at=row["created_at"],
        ended_at=row["ended_at"],
        wake_at=row["wake_at"],
        blocked_reason=row["blocked_reason"],
        activations=row["activations"],
        name=row["name"],
        reference=row["reference"],
        parent_id=row["parent_id"],
        pointers=pointers,
        damage=_damage(row),
    )


def _log_row(row: asyncpg.Record) -> LogRow:
    return LogRow(
        row["id"],
        row["revision"],
        row["first_sequence"],
        row["count"],
        row["run"],
        row["time"],
        row["records"],
        row["definition_id"] or NO_DEFINITION.id,
        row["version"] or NO_DEFINITION.version,
    )


def _number_in(cursor: str) -> int:
    number = cursor.removeprefix(_LIST_CURSOR)
    if number == cursor or not (number.isascii() and number.isdecimal() and len(number) <= _LARGEST_NUMBER_DIGITS):
        raise ConfigurationError(
            f"{cursor!r} is no cursor of this store; pass one that a page gave, unchanged, or None to begin."
        )
    return int(number)

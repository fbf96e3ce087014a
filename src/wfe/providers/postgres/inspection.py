"""Shows everything that a schema keeps, on a connection of its own.

A few instances at a time are read in one transaction with one snapshot (REPEATABLE READ, read only), by their numbers.
Rows of which one instance may have many come through a cursor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from wfe.model.definition import DefinitionKey
from wfe.ports.inspection import Damage, Inspector, OverlookedEvent, StoredEvent, StoredInstance
from wfe.ports.store import DefinitionRow, ErrorRow, InboxRow, ItemsRow, LogRow, ParentLink, PointerRow
from wfe.providers.postgres.answers import definition_key
from wfe.providers.postgres.connector import Connector
from wfe.providers.postgres.faults import connection_errors, translate
from wfe.providers.postgres.structure import Structure

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Inspection"]

_BATCH = 100
_PORTION = 500
_SHOWN = 20
"""So many of one kind of damage are told at a time; when they are mended, the next show."""
_LAST = 2**63 - 1
_WHOLE_TABLE = "10min"
"""How long a statement that reads a whole table may take."""
_TABLES = ("document", "pointer", "item", "error", "log", "position", "inbox", "subscription")


class Inspection:
    """One look through everything."""

    def __init__(self, connector: Connector, inspector: Inspector) -> None:
        self._connector = connector
        self._inspector = inspector
        self._schema = connector.place.quoted_schema

    async def run(self) -> None:
        """Show all instances, then what is wrong with events and numbers."""
        errors = connection_errors()
        try:
            connection = await self._connector.connect("wfe inspection")
            try:
                structure = await Structure.read(connection, self._connector.place)
                for damage in structure.damages():
                    self._inspector.damage(damage)
                if not structure.is_workable:
                    return
                after: int | None = 0
                while after is not None:
                    async with connection.transaction(isolation="repeatable_read", readonly=True):
                        after = await self._batch(connection, after)
                await self._events(connection)
                await self._definitions(connection)
                await self._whole(connection)
            finally:
                connection.terminate()
        except errors as error:
            raise translate(error, self._connector.place, "inspect the store") from error

    async def _batch(self, connection: asyncpg.Connection, after: int) -> int | None:
        schema = self._schema
        rows = await connection.fetch(
            f"""SELECT i.*, p.id AS definition_id, p.version, p.hash, d.data, d.vals,
                coalesce(above.ended_at IS NOT NULL, false) AS parent_has_ended
            FROM {schema}.instance i
            LEFT JOIN {schema}.plan p ON p.n = i.plan
            LEFT JOIN {schema}.document d ON d.n = i.n
            LEFT JOIN {schema}.instance above ON above.id = i.parent_id
            WHERE i.n > $1 ORDER BY i.n LIMIT $2""",
            after,
            _BATCH,
        )
        last = rows[-1]["n"] if len(rows) == _BATCH else _LAST
        parts = _Parts(connection, schema, after, last)
        await parts.read(rows)
        errors = _Portions(
            parts.cursor("SELECT r.n, r.number, r.error FROM {schema}.error r WHERE {between} ORDER BY r.n, r.number")
        )
        log = _Portions(
            parts.cursor(
                """SELECT r.n, r.revision, r.first_sequence, r.count, r.run, r.time, r.records
                FROM {schema}.log r WHERE {between} ORDER BY r.n, r.revision"""
            )
        )
        for row in rows:
            self._inspector.instance(parts.stored(row))
            async for portion in errors.of(row["n"]):
                self._inspector.errors([ErrorRow(each["number"], each["error"]) for each in portion])
            async for portion in log.of(row["n"]):
                self._inspector.log([_log_row(row["id"], each) for each in portion])
            self._inspector.finished()
        await self._belonging(connection, after, last)
        return None if last == _LAST else last

    async def _belonging(self, connection: asyncpg.Connection, after: int, last: int) -> None:
        """Show rows that belong to no instance (A3), and what else the database alone can tell of instances."""
        schema = self._schema
        for table in _TABLES:
            rows = await connection.fetch(
                f"""SELECT DISTINCT r.n FROM {schema}.{table} r WHERE r.n > $1 AND r.n <= $2
                AND NOT EXISTS (SELECT 1 FROM {schema}.instance i WHERE i.n = r.n) LIMIT {_SHOWN}""",
                after,
                last,
            )
            for row in rows:
                see = f"SELECT * FROM {table} WHERE n = {row['n']}"
                self._inspector.damage(Damage("A3", f"rows of {table} are left of an instance that is not there", see))
        for rule, statement, what, see in _OF_INSTANCES:
            for row in await connection.fetch(f"{statement.format(schema=schema)} LIMIT {_SHOWN}", after, last):
                values = tuple(row)[1:]
                self._inspector.damage(Damage(rule, what.format(*values), see.format(*values), row["id"]))

    async def _events(self, connection: asyncpg.Connection) -> None:
        """Show the events, page by page in the order of their ids."""
        page = f"SELECT id, sequence, payload FROM {self._schema}.event WHERE id > $1 ORDER BY id LIMIT {_PORTION}"
        rows = await connection.fetch(page, "")
        while rows:
            self._inspector.events([_event(row) for row in rows])
            rows = await connection.fetch(page, rows[-1]["id"])

    async def _definitions(self, connection: asyncpg.Connection) -> None:
        rows = await connection.fetch(
            f"""SELECT p.id, p.version, p.hash, d.body, d.source FROM {self._schema}.definition d
            JOIN {self._schema}.plan p ON p.n = d.plan ORDER BY p.n"""
        )
        self._inspector.definitions(
            [
                DefinitionRow(DefinitionKey(row["id"], row["version"], row["hash"]), row["body"], row["source"])
                for row in rows
            ]
        )

    async def _whole(self, connection: asyncpg.Connection) -> None:
        for rule, statement, what, see in _WHOLE:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(f"SET LOCAL statement_timeout = '{_WHOLE_TABLE}'")
                rows = await connection.fetch(f"{statement.format(schema=self._schema)} LIMIT {_SHOWN}")
            for row in rows:
                self._inspector.damage(Damage(rule, what.format(*row), see.format(*row)))


class _Parts:
    """What the instances of a batch consist of."""

    def __init__(self, connection: asyncpg.Connection, schema: str, after: int, last: int) -> None:
        self._connection = connection
        self._schema = schema
        self._between = (after, last)
        self._plans: dict[int, str] = {}
        self._pointers: dict[int, list[PointerRow]] = {}
        self._items: dict[int, list[ItemsRow]] = {}
        self._inbox: dict[int, list[InboxRow]] = {}
        self._waits: dict[int, list[tuple[int, int]]] = {}
        self._overlooked: dict[int, list[OverlookedEvent]] = {}
        self._children: dict[str, list[str]] = {}

    def _statement(self, text: str) -> str:
        return text.format(schema=self._schema, between="r.n > $1 AND r.n <= $2")

    def cursor(self, text: str) -> AsyncIterator[asyncpg.Record]:
        """Go through rows without having all of them in memory."""
        cursor: AsyncIterator[asyncpg.Record] = aiter(
            self._connection.cursor(self._statement(text), *self._between, prefetch=_PORTION)
        )
        return cursor

    async def read(self, rows: list[asyncpg.Record]) -> None:
        """Read everything but the log and the errors."""
        for row in await self._connection.fetch(
            f"SELECT plan, body FROM {self._schema}.definition WHERE plan = ANY ($1::integer[])",
            sorted({row["plan"] for row in rows}),
        ):
            self._plans[row["plan"]] = row["body"]
        await self._gather(
            self._pointers,
            "SELECT r.n, r.slot, r.state FROM {schema}.pointer r WHERE {between} ORDER BY r.n, r.slot",
            lambda row: PointerRow(row["slot"], row["state"]),
        )
        await self._gather(
            self._items,
            "SELECT r.n, r.pointer, r.items FROM {schema}.item r WHERE {between} ORDER BY r.n, r.pointer",
            lambda row: ItemsRow(row["pointer"], row["items"]),
        )
        # What reached an instance as it ended counts as consumed, as everywhere in this store.
        await self._gather(
            self._inbox,
            """SELECT r.*, i.id AS instance_id FROM {schema}.inbox r JOIN {schema}.instance i ON i.n = r.n
            WHERE {between} AND i.ended_at IS NULL ORDER BY r.n, r.id""",
            _inbox_row,
        )
        await self._gather(
            self._waits,
            "SELECT r.n, r.pointer, r.wait FROM {schema}.subscription r WHERE {between}",
            lambda row: (row["pointer"], row["wait"]),
        )
        await self._gather(
            self._overlooked,
            """SELECT r.n, r.pointer, r.wait, e.sequence FROM {schema}.subscription r CROSS JOIN LATERAL (
                SELECT e.sequence FROM {schema}.event e
                WHERE e.topic = r.topic AND e.sequence > r.after_sequence AND e.time >= r.from_time LIMIT 1) e
            WHERE {between}""",
            lambda row: OverlookedEvent(row["pointer"], row["wait"], row["sequence"]),
        )
        for row in await self._connection.fetch(
            f"""SELECT parent_id, id FROM {self._schema}.instance
            WHERE parent_id = ANY ($1::text[]) AND ended_at IS NULL""",
            [row["id"] for row in rows],
        ):
            self._children.setdefault(row["parent_id"], []).append(row["id"])

    async def _gather(self, groups: dict[int, list[Any]], text: str, make: Callable[[asyncpg.Record], object]) -> None:
        for row in await self._connection.fetch(self._statement(text), *self._between):
            groups.setdefault(row["n"], []).append(make(row))

    def stored(self, row: asyncpg.Record) -> StoredInstance:
        """Give an instance."""
        n, parent = row["n"], row["parent_id"]
        return StoredInstance(
            id=row["id"],
            definition=definition_key(row["definition_id"], row["version"], row["hash"]),
            plan=self._plans.get(row["plan"]),
            status=row["status"],
            run=row["run"],
            revision=row["revision"],
            fence=row["fence"],
            owner=row["owner"] or None,
            wake_at=row["wake_at"],
            created_at=row["created_at"],
            ended_at=row["ended_at"],
            activations=row["activations"],
            digest=row["digest"],
            head=row["head"],
            data=row["data"],
            values=row["vals"],
            parent=None if parent is None else ParentLink(parent, row["parent_pointer"], row["on_parent_end"]),
            parent_has_ended=row["parent_has_ended"],
            pointers=self._pointers.get(n, ()),
            items=self._items.get(n, ()),
            inbox=self._inbox.get(n, ()),
            waits=self._waits.get(n, ()),
            overlooked=self._overlooked.get(n, ()),
            live_children=self._children.get(row["id"], ()),
        )


class _Portions:
    """Rows of several instances, sorted by instance, of which only a portion is in memory."""

    def __init__(self, rows: AsyncIterator[asyncpg.Record]) -> None:
        self._rows = rows
        self._next: asyncpg.Record | None = None
        self._has_begun = False

    async def of(self, n: int) -> AsyncIterator[list[asyncpg.Record]]:
        """Give the rows of an instance. Instances are asked for in order."""
        if not self._has_begun:
            self._has_begun = True
            self._next = await anext(self._rows, None)
        portion: list[asyncpg.Record] = []
        while self._next is not None and self._next["n"] <= n:
            if self._next["n"] == n:
                portion.append(self._next)
            self._next = await anext(self._rows, None)
            if len(portion) == _PORTION:
                yield portion
                portion = []
        if portion:
            yield portion


def _event(row: asyncpg.Record) -> StoredEvent:
    quoted = row["id"].replace("'", "''")
    what = "future event" if row["sequence"] is None else f"event {row['sequence']}"
    return StoredEvent(f"{what} {row['id']!r}", row["payload"], f"SELECT * FROM event WHERE id = '{quoted}'")


def _inbox_row(row: asyncpg.Record) -> InboxRow:
    return InboxRow(
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


def _log_row(instance_id: str, row: asyncpg.Record) -> LogRow:
    return LogRow(
        instance_id,
        row["revision"],
        row["first_sequence"],
        row["count"],
        row["run"],
        row["time"],
        row["records"],
    )


class _Rule(NamedTuple):
    """A rule, a statement that gives rows where it is broken, what is wrong, and how to see it."""

    rule: str
    statement: str
    what: str
    see: str


def _last_given(sequence: str) -> str:
    return f"(SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM {{schema}}.{sequence} s)"


def _numbers(rule: str, table: str, column: str, sequence: str) -> _Rule:
    return _Rule(
        rule,
        # What was given last is looked up after the rows have been, so that it is never behind them because of that.
        f"SELECT m.n, {_last_given(sequence)} FROM (SELECT max({column}) AS n FROM {{schema}}.{table}) m "
        f"WHERE m.n > {_last_given(sequence)}",
        f"the newest row of {table} has number {{0}}, the last that was given out is {{1}}: it would be used again",
        f"SELECT * FROM {sequence}",
    )


_OF_INSTANCES = (
    _Rule(
        "E2",
        "SELECT i.id, r.sequence FROM {schema}.inbox r JOIN {schema}.instance i ON i.n = r.n "
        f"WHERE r.n > $1 AND r.n <= $2 AND r.sequence > {_last_given('event_number')}",
        "event {0} was delivered to it, and no such event was published",
        "SELECT * FROM inbox WHERE sequence = {0}",
    ),
    _Rule(
        "E4",
        "SELECT i.id, r.sequence FROM {schema}.position r JOIN {schema}.instance i ON i.n = r.n "
        f"WHERE r.n > $1 AND r.n <= $2 AND r.sequence > {_last_given('event_number')}",
        "one of its positions is {0}, and no such event was published",
        "SELECT * FROM position WHERE sequence = {0}",
    ),
)
"""Over a range of instances; the first column is the instance's id."""

_WHOLE = (
    _Rule(
        "E5",
        "SELECT o.* FROM (SELECT e.sequence, e.time, lag(e.sequence) OVER topic AS before, lag(e.time) OVER topic AS "
        "earlier FROM {schema}.event e WHERE e.sequence IS NOT NULL WINDOW topic AS (PARTITION BY e.topic ORDER BY "
        "e.sequence)) o WHERE o.before = o.sequence OR o.earlier > o.time",
        "event {0} follows event {2}, and its time is {1} after {3}",
        "SELECT * FROM event WHERE sequence IN ({0}, {2})",
    ),
    _numbers("T3", "instance", "n", "instance_number"),
    _numbers("E2", "inbox", "id", "inbox_number"),
    _numbers("E5", "event", "sequence", "event_number"),
)

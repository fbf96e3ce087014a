"""Shows everything that a database file keeps, and checks its indexes and numbers.

A few instances at a time are read in one transaction, by their numbers: so no transaction is long, and nothing that
belongs to them can change between two statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from wfe.model.definition import DefinitionKey
from wfe.model.moment import Moment
from wfe.ports.inspection import Damage, Inspector, OverlookedEvent, StoredEvent, StoredInstance
from wfe.ports.store import NO_DEFINITION, ErrorRow, InboxRow, ItemsRow, LogRow, ParentLink, PointerRow
from wfe.providers.sqlite.columns import Shape, reading_any_text
from wfe.providers.sqlite.connection import snapshot
from wfe.providers.sqlite.counters import INDEXED
from wfe.providers.sqlite.loading import inbox_rows, json_list
from wfe.providers.sqlite.structure import is_workable, odd_values, structure_damages
from wfe.providers.sqlite.upkeep import Upkeep

__all__ = ["inspect_batch", "inspect_events", "inspect_log", "inspect_structure", "inspect_whole"]

_BATCH = 100
_PORTION = 500
_LOG_PORTION = 20_000
_SHOWN = 20
"""So many of one kind of damage are told at a time; when they are mended, the next show."""
_LAST = 2**63 - 1

_INSTANCES = (
    "SELECT i.n, i.id, i.definition, i.status, i.run, i.revision, i.fence, i.owner, s.id, i.wake_at, i.created_at, "
    "i.ended_at, i.activations, i.digest, i.head, d.data, c.vals, i.parent_id, i.parent_pointer, i.on_parent_end, "
    "p.ended_at IS NOT NULL "
    "FROM instance i LEFT JOIN session s ON s.k = i.owner LEFT JOIN document d ON d.n = i.n "
    "LEFT JOIN context c ON c.n = i.n LEFT JOIN instance p ON p.id = i.parent_id "
    "WHERE i.n > ? ORDER BY i.n LIMIT ?"
)
_BETWEEN = "n > ?1 AND n <= ?2"
_LOG_INDEXED = (
    "SELECT x.n, l.revision, l.first_sequence, l.count, l.run, l.time, l.records FROM log_index x "
    "JOIN log l ON l.k = x.k AND l.n = x.n WHERE x.n > ? AND x.n <= ? ORDER BY x.n, x.first_sequence, x.k"
)
_LOG_END = (
    "SELECT l.n, l.revision, l.first_sequence, l.count, l.run, l.time, l.records FROM log l "
    f"WHERE l.k > {INDEXED} AND +l.n > ? AND +l.n <= ? ORDER BY l.n, l.k"
)
# An event that is above the instance's position: what it had consumed when it began to wait is not kept, but whatever
# has come between was delivered to another wait of it. (A wait `as_of` a time looks at all.)
_OVERLOOKED = (
    "SELECT s.n, s.pointer, s.wait, (SELECT e.sequence FROM event e WHERE e.name = s.name AND e.key = s.key "
    "AND e.time >= s.as_of AND (s.as_of <> i.created_at OR e.sequence > coalesce("
    "(SELECT p.sequence FROM position p WHERE p.n = s.n AND p.name = s.name AND p.key = s.key), 0)) LIMIT 1) "
    "FROM subscription s JOIN instance i ON i.n = s.n WHERE s.n > ?1 AND s.n <= ?2"
)
_TABLES = ("document", "context", "pointer", "item", "error", "position", "inbox", "subscription", "log_index")


class _Columns(NamedTuple):
    """A row of `_INSTANCES`."""

    n: int
    id: str
    definition: int
    status: str
    run: int
    revision: int
    fence: int
    owner: int | None
    session: str | None
    wake_at: Moment | None
    created_at: Moment
    ended_at: Moment | None
    activations: int
    digest: bytes
    head: bytes
    data: bytes | None
    values: bytes | None
    parent_id: str | None
    parent_pointer: int | None
    on_parent_end: str | None
    parent_has_ended: int

    @property
    def holder(self) -> str | None:
        """Name of the session that holds it."""
        return None if self.owner is None else self.session or f"number {self.owner}"

    @property
    def parent(self) -> ParentLink | None:
        """The pointer that waits for it."""
        if self.parent_id is None:
            return None
        return ParentLink(self.parent_id, self.parent_pointer or 0, self.on_parent_end or "")


class _Row(NamedTuple):
    """A row that hangs on an instance, by a number: a pointer, items, an error."""

    number: int
    packed: bytes


class _LogColumns(NamedTuple):
    """A row of the log, but for whose it is."""

    revision: int
    first_sequence: int
    records_count: int
    run: int
    time: Moment
    records: bytes


_SHAPE = Shape(_Columns)
_ROW_SHAPE = Shape(_Row)
_LOG_SHAPE = Shape(_LogColumns)


def inspect_batch(connection: sqlite3.Connection, inspector: Inspector, after: int) -> int | None:
    """Show the instances that follow the one with a number. Give the number to go on after; None: these were all."""
    with snapshot(connection), reading_any_text(connection):
        rows = [_SHAPE.read(row)[0] for row in connection.execute(_INSTANCES, (after, _BATCH)).fetchall()]
        last = rows[-1].n if len(rows) == _BATCH else _LAST
        batch = _Batch(connection, after, last, rows)
        for row in rows:
            inspector.instance(batch.stored(row))
            for errors in batch.errors_of(row.n):
                inspector.errors(errors)
            for log in batch.log_of(row.n):
                inspector.log(log)
            inspector.finished()
        for damage in (*_of_instances(connection, after, last), *_orphans(connection, after, last)):
            inspector.damage(damage)
        for table in ("instance", *_TABLES):
            for damage in odd_values(connection, table, batch.ids, _BETWEEN, (after, last)):
                inspector.damage(damage)
    return None if last == _LAST else last


class _Batch:
    """What a few instances consist of."""

    def __init__(self, connection: sqlite3.Connection, after: int, last: int, rows: list[_Columns]) -> None:
        self._between = between = (after, last)
        self._connection = connection
        self._definitions = _definitions(connection, {row.definition for row in rows})
        self._pointers = self._grouped(f"SELECT n, slot, state FROM pointer WHERE {_BETWEEN} ORDER BY n, slot")
        self._items = self._grouped(f"SELECT n, pointer, items FROM item WHERE {_BETWEEN} ORDER BY n, pointer")
        self._waits = self._grouped(f"SELECT n, pointer, wait FROM subscription WHERE {_BETWEEN}")
        self._overlooked = self._grouped(_OVERLOOKED)
        self._errors = _Portions(
            connection.execute(f"SELECT n, number, error FROM error WHERE {_BETWEEN} ORDER BY n, number", between)
        )
        self._log = _Portions(connection.execute(_LOG_INDEXED, between))
        self._log_end = self._grouped(_LOG_END)
        self.ids = {row.n: row.id for row in rows}
        self._inbox: dict[str, list[InboxRow]] = {}
        for message in inbox_rows(connection, json_list(list(self.ids))):
            self._inbox.setdefault(message.instance_id, []).append(message)
        self._children: dict[str, list[str]] = {}
        for parent, child in connection.execute(
            "SELECT parent_id, id FROM instance WHERE parent_id IN (SELECT value FROM json_each(?)) "
            "AND ended_at IS NULL",
            (json_list(list(self.ids.values())),),
        ):
            self._children.setdefault(parent, []).append(child)

    def _grouped(self, statement: str) -> dict[int, list[tuple[Any, ...]]]:
        groups: dict[int, list[tuple[Any, ...]]] = {}
        for n, *row in self._connection.execute(statement, self._between):
            groups.setdefault(n, []).append(tuple(row))
        return groups

    def stored(self, row: _Columns) -> StoredInstance:
        """Give an instance."""
        key, plan = self._definitions.get(row.definition, (NO_DEFINITION, None))
        return StoredInstance(
            id=row.id,
            definition=key,
            plan=plan,
            status=row.status,
            run=row.run,
            revision=row.revision,
            fence=row.fence,
            owner=row.holder,
            wake_at=row.wake_at,
            created_at=row.created_at,
            ended_at=row.ended_at,
            activations=row.activations,
            digest=row.digest,
            head=row.head,
            data=row.data,
            values=row.values,
            parent=row.parent,
            parent_has_ended=bool(row.parent_has_ended),
            pointers=[PointerRow(*_ROW_SHAPE.read(each)[0]) for each in self._pointers.get(row.n, ())],
            items=[ItemsRow(*_ROW_SHAPE.read(each)[0]) for each in self._items.get(row.n, ())],
            inbox=self._inbox.get(row.id, ()),
            waits=self._waits.get(row.n, ()),
            overlooked=[
                OverlookedEvent._make(each) for each in self._overlooked.get(row.n, ()) if each[-1] is not None
            ],
            live_children=self._children.get(row.id, ()),
        )

    def errors_of(self, n: int) -> Iterator[list[ErrorRow]]:
        """Give the errors of an instance, in portions."""
        for rows in self._errors.of(n):
            yield [ErrorRow(*_ROW_SHAPE.read(row)[0]) for row in rows]

    def log_of(self, n: int) -> Iterator[list[LogRow]]:
        """Give the log of an instance, in portions: from the index first, then the rows that are not in it yet."""
        instance_id = self.ids[n]
        for rows in self._log.of(n):
            yield [LogRow(instance_id, *_LOG_SHAPE.read(row)[0]) for row in rows]
        end = self._log_end.get(n)
        if end:
            yield [LogRow(instance_id, *_LOG_SHAPE.read(row)[0]) for row in end]


class _Portions:
    """Rows of several instances, sorted by instance, of which only a portion is in memory."""

    def __init__(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._rows = iter(rows)
        self._next = next(self._rows, None)

    def of(self, n: int) -> Iterator[list[Sequence[Any]]]:
        """Give the rows of an instance, without its number. Instances are asked for in order."""
        portion: list[Sequence[Any]] = []
        while self._next is not None and self._next[0] <= n:
            if self._next[0] == n:
                portion.append(self._next[1:])
            self._next = next(self._rows, None)
            if len(portion) == _PORTION:
                yield portion
                portion = []
        if portion:
            yield portion


def _definitions(connection: sqlite3.Connection, numbers: set[int]) -> dict[int, tuple[DefinitionKey, str | None]]:
    return {
        k: (DefinitionKey(*key), None if plan is None else str(plan) if isinstance(plan, str) else "")
        for k, *key, plan in connection.execute(
            "SELECT k, id, version, hash, plan FROM definition WHERE k IN (SELECT value FROM json_each(?))",
            (json_list(sorted(numbers)),),
        )
    }


def _of_instances(connection: sqlite3.Connection, after: int, last: int) -> Iterator[Damage]:
    for rule, statement, what, see in _OF_INSTANCES:
        for instance_id, *values in connection.execute(f"{statement} LIMIT {_SHOWN}", (after, last)):
            yield Damage(rule, what.format(*values), see.format(*values), instance_id)


def _orphans(connection: sqlite3.Connection, after: int, last: int) -> Iterator[Damage]:
    """A3: rows that belong to no instance."""
    for table in _TABLES:
        for (n,) in connection.execute(
            f"SELECT DISTINCT n FROM {table} WHERE {_BETWEEN} "
            f"AND n NOT IN (SELECT n FROM instance WHERE {_BETWEEN}) LIMIT {_SHOWN}",
            (after, last),
        ):
            yield Damage(
                "A3",
                f"rows of {table} are left of an instance that is not there",
                f"SELECT * FROM {table} WHERE n = {n}",
            )


def inspect_log(connection: sqlite3.Connection, inspector: Inspector, after: int) -> int | None:
    """Show what is wrong with a portion of the log. Give the place to go on after; None: this was all."""
    last = after + _LOG_PORTION
    with snapshot(connection), reading_any_text(connection):
        (newest,) = connection.execute("SELECT coalesce(max(k), 0) FROM log").fetchone()
        for (k,) in connection.execute(
            "SELECT k FROM log WHERE k > ? AND k <= ? AND NOT EXISTS (SELECT 1 FROM instance i WHERE i.n = log.n) "
            f"LIMIT {_SHOWN}",
            (after, last),
        ):
            see = f"SELECT * FROM log WHERE k = {k}"
            inspector.damage(Damage("A3", "a log row is left of an instance that is not there", see))
        for damage in odd_values(connection, "log", {}, "k > ? AND k <= ?", (after, last)):
            inspector.damage(damage)
    return last if newest > last else None


def inspect_events(connection: sqlite3.Connection, inspector: Inspector, after: int) -> int | None:
    """Show a page of the stored events. Give the number to go on after; None: these were all."""
    with snapshot(connection), reading_any_text(connection):
        rows = connection.execute(
            "SELECT sequence, payload FROM event WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, _PORTION)
        ).fetchall()
        last = rows[-1][0] if len(rows) == _PORTION else _LAST
        inspector.events([_event("event", "sequence", *row) for row in rows])
        for damage in odd_values(connection, "event", {}, "sequence > ? AND sequence <= ?", (after, last)):
            inspector.damage(damage)
    return None if last == _LAST else last


def _event(table: str, key: str, number: int, payload: object) -> StoredEvent:
    what = f"event {number}" if table == "event" else f"the future event number {number}"
    see = f"SELECT * FROM {table} WHERE {key} = {number}"
    return StoredEvent(what, payload if isinstance(payload, bytes) else b"", see)


def inspect_structure(connection: sqlite3.Connection, inspector: Inspector) -> bool:
    """Show what is wrong with tables and indexes. False: the rows cannot be looked at."""
    with snapshot(connection):
        for damage in structure_damages(connection):
            inspector.damage(damage)
        return is_workable(connection)


class _Rule(NamedTuple):
    """A rule, a statement that gives rows where it is broken, what is wrong, and how to see it."""

    rule: str
    statement: str
    what: str
    see: str


def _numbers(rule: str, table: str, column: str, counter: str) -> _Rule:
    newest = f"(SELECT max({column}) FROM {table})"
    return _Rule(
        rule,
        f"SELECT {newest}, b.{counter} FROM batch b WHERE b.k = (SELECT max(k) FROM batch) AND b.{counter} < {newest}",
        f"the newest row of {table} has number {{0}}, the last that was given out is {{1}}: it would be used again",
        "SELECT * FROM batch ORDER BY k DESC LIMIT 1",
    )


_NEWEST_EVENT = "(SELECT event FROM batch WHERE k = (SELECT max(k) FROM batch))"

_OF_INSTANCES = (
    _Rule(
        "Q1",
        "SELECT i.id, i.n FROM instance i WHERE i.n > ?1 AND i.n <= ?2 AND i.owner IS NULL AND i.ended_at IS NULL "
        "AND EXISTS (SELECT 1 FROM inbox b WHERE b.n = i.n) "
        "AND NOT EXISTS (SELECT 1 FROM called c WHERE c.definition = i.definition AND c.n = i.n)",
        "nobody holds it, messages wait for it, and no claim looks at it",
        "SELECT * FROM inbox WHERE n = {0}",
    ),
    _Rule(
        "Q1",
        "SELECT i.id, i.owner FROM instance i WHERE i.n > ?1 AND i.n <= ?2 AND i.owner IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM session s WHERE s.k = i.owner)",
        "the session {0} that holds it is not there; the next sweep of a host frees it",
        "SELECT * FROM instance WHERE owner IS {0!r}",
    ),
    _Rule(
        "E2",
        "SELECT i.id, b.sequence FROM inbox b JOIN instance i ON i.n = b.n WHERE b.n > ?1 AND b.n <= ?2 "
        f"AND b.sequence > {_NEWEST_EVENT}",
        "event {0} was delivered to it, and no such event was published",
        "SELECT * FROM inbox WHERE sequence = {0}",
    ),
    _Rule(
        "E4",
        "SELECT i.id, p.sequence FROM position p JOIN instance i ON i.n = p.n WHERE p.n > ?1 AND p.n <= ?2 "
        f"AND p.sequence > {_NEWEST_EVENT}",
        "one of its positions is {0}, and no such event was published",
        "SELECT * FROM position WHERE sequence = {0}",
    ),
)
"""Over a range of instances; the first column is the instance's id."""

_WHOLE = (
    _Rule(
        "E1",
        "SELECT e.sequence + 1 FROM event e WHERE e.sequence < (SELECT max(sequence) FROM event) "
        "AND NOT EXISTS (SELECT 1 FROM event f WHERE f.sequence = e.sequence + 1)",
        "event {0} is missing, although older ones are there",
        "SELECT * FROM event WHERE sequence > {0} - 3 ORDER BY sequence LIMIT 5",
    ),
    _Rule(
        "E1",
        "SELECT b.event FROM batch b WHERE b.k = (SELECT max(k) FROM batch) "
        "AND b.event > (SELECT max(sequence) FROM event)",
        "event {0} is the newest that was published, and is missing, although older ones are there",
        "SELECT * FROM event ORDER BY sequence DESC LIMIT 5",
    ),
    _Rule(
        "E5",
        "SELECT e.sequence, f.sequence FROM event e JOIN event f ON f.sequence = e.sequence + 1 WHERE f.time < e.time",
        "event {1} has an earlier time than event {0}",
        "SELECT * FROM event WHERE sequence IN ({0}, {1})",
    ),
    _Rule(
        "E7",
        "SELECT f.k FROM future f JOIN event e ON e.id = f.id",
        "the future event number {0} is published already",
        "SELECT * FROM future WHERE k = {0}",
    ),
    _Rule(
        "T3",
        "SELECT max(n) FROM instance WHERE NOT EXISTS (SELECT 1 FROM batch) HAVING max(n) IS NOT NULL",
        "no batch has its marker any more, from which hosts know which numbers were given out (here up to {0})",
        "SELECT max(n) FROM instance",
    ),
    _numbers("T3", "instance", "n", "instance"),
    _numbers("T3", "log", "k", "log"),
    _numbers("E2", "inbox", "k", "inbox"),
    _numbers("E5", "event", "sequence", "event"),
)


def inspect_whole(connection: sqlite3.Connection, inspector: Inspector) -> None:
    """Show what is wrong with events, numbers and the file itself."""
    for rule, statement, what, see in _WHOLE:
        with snapshot(connection), reading_any_text(connection):
            for row in connection.execute(f"{statement} LIMIT {_SHOWN}").fetchall():
                inspector.damage(Damage(rule, what.format(*row), see.format(*row)))
    with snapshot(connection), reading_any_text(connection):
        future = connection.execute("SELECT k, payload FROM future")
        while portion := future.fetchmany(_PORTION):
            inspector.events([_event("future", "k", *row) for row in portion])
        inspector.definitions(Upkeep.recorded(connection))
        for table in ("future", "definition", "session", "batch"):
            for damage in islice(odd_values(connection, table, {}), _SHOWN):
                inspector.damage(damage)
    for (text,) in connection.execute(f"PRAGMA integrity_check({_SHOWN})").fetchall():
        if text != "ok":
            inspector.damage(Damage("T10", f"the file is damaged: {text}", "PRAGMA integrity_check"))

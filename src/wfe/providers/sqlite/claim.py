"""Taking and giving back instances outside of commits.

Every statement reads an index whose entries are instances with something to do: what waits, or is held, costs nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from wfe.model.definition import DefinitionKey
from wfe.model.moment import Moment
from wfe.ports.store import ClaimReply, LoadedInstance, UnclaimedRow
from wfe.providers.sqlite.columns import Shape, as_stored
from wfe.providers.sqlite.connection import begin_write, commit, relaxed, roll_back, writing
from wfe.providers.sqlite.counters import SystemClock, store_time
from wfe.providers.sqlite.faults import CommitUnknown
from wfe.providers.sqlite.loading import json_list, take
from wfe.providers.sqlite.names import DefinitionNumbers
from wfe.providers.sqlite.place import Place
from wfe.providers.sqlite.sessions import bury, find_dead, remove_locks

__all__ = ["Claims"]

_LAST: Moment = 2**62
"""Beyond all times. What is no number, in a damaged row, is greater than any number: texts, then bytes."""
# The conditions are those of the partial index, word for word: else SQLite would not use it.
FREE_AND_TIMED = "owner IS NULL AND wake_at IS NOT NULL AND status <> 'suspended'"
DUE = (
    "SELECT n, wake_at FROM instance INDEXED BY instance_due "
    f"WHERE definition = ? AND {FREE_AND_TIMED} AND wake_at <= ? AND activations < ? ORDER BY wake_at LIMIT ?"
)
NEXT_WAKE = (
    "SELECT min(wake_at) FROM instance INDEXED BY instance_due "
    f"WHERE definition = ? AND {FREE_AND_TIMED} AND wake_at > ? AND wake_at <= {_LAST}"
)
CALLED = (
    "SELECT c.n, min(coalesce(i.wake_at, ?2), ?2) FROM called c CROSS JOIN instance i ON i.n = c.n "
    "WHERE c.definition = ?1 AND i.owner IS NULL AND i.ended_at IS NULL "
    "AND i.activations < ?3 AND EXISTS (SELECT 1 FROM inbox b WHERE b.n = c.n) LIMIT ?4"
)
NAMED = (
    "SELECT i.n, i.definition, min(coalesce(i.wake_at, ?2), ?2), i.ended_at IS NULL AND ("
    "(i.wake_at <= ?2 AND i.status <> 'suspended') OR EXISTS (SELECT 1 FROM inbox b WHERE b.n = i.n)) "
    "FROM json_each(?1) j CROSS JOIN instance i ON i.id = j.value "
    "WHERE i.activations < ?3 "
    "AND (i.owner IS NULL OR NOT EXISTS (SELECT 1 FROM session s WHERE s.k = i.owner AND s.expires_at > ?2))"
)
_ANY_NUMBER = 2**62
NEXT_EVENT = f"SELECT min(effective_at) FROM future WHERE effective_at <= {_LAST}"
# Pages of what is due: the rest of those due at one time, those due later, and those with messages alone. Each seeks
# in its index; SQLite does not for `(wake_at, n) > (?, ?)`.
DUE_THEN_AFTER = (
    "SELECT wake_at, n FROM instance INDEXED BY instance_due "
    f"WHERE definition = ? AND {FREE_AND_TIMED} AND wake_at = ? AND n > ? ORDER BY n LIMIT ?"
)
DUE_AFTER = (
    "SELECT wake_at, n FROM instance INDEXED BY instance_due "
    f"WHERE definition = ? AND {FREE_AND_TIMED} AND wake_at > ? AND wake_at <= ? ORDER BY wake_at, n LIMIT ?"
)
CALLED_AFTER = (
    f"SELECT {_LAST}, c.n FROM called c CROSS JOIN instance i ON i.n = c.n "
    "WHERE c.definition = ?1 AND c.n > ?2 AND i.owner IS NULL AND i.ended_at IS NULL "
    "AND (i.wake_at IS NULL OR i.wake_at > ?3 OR i.status = 'suspended') "
    "AND EXISTS (SELECT 1 FROM inbox b WHERE b.n = c.n) ORDER BY c.n LIMIT ?4"
)
# What a dead session still holds: it is as good as free, and is made so by the next that may write.
LEFT_AFTER = (
    f"SELECT place, n FROM (SELECT CASE WHEN wake_at <= :now AND status <> 'suspended' THEN wake_at ELSE {_LAST} END "
    "AS place, n FROM instance i WHERE owner = :owner AND ended_at IS NULL AND ((wake_at <= :now AND "
    "status <> 'suspended') OR EXISTS (SELECT 1 FROM inbox b WHERE b.n = i.n))) "
    "WHERE (place, n) > (:since, :number) ORDER BY place, n LIMIT :limit"
)
UNCLAIMED = (
    "SELECT id, definition, blocked_reason, activations, "
    "EXISTS (SELECT 1 FROM inbox b WHERE b.n = instance.n AND b.message IS NOT NULL) FROM instance WHERE n = ?"
)
# Each distinct value is found by one seek in an index. They are asked for once a sweep: rows may name a definition, or
# a holder, that is not there.
DUE_DEFINITIONS = (
    "WITH RECURSIVE d(k) AS ("
    f"SELECT min(definition) FROM instance INDEXED BY instance_due WHERE {FREE_AND_TIMED} "
    "UNION ALL SELECT (SELECT min(definition) FROM instance INDEXED BY instance_due "
    f"WHERE {FREE_AND_TIMED} AND definition > d.k) FROM d WHERE d.k IS NOT NULL) "
    "SELECT k FROM d WHERE k IS NOT NULL UNION SELECT k FROM definition"
)
HELD_BY_NOBODY = (
    "WITH RECURSIVE o(k) AS ("
    "SELECT min(owner) FROM instance WHERE owner IS NOT NULL "
    "UNION ALL SELECT (SELECT min(owner) FROM instance WHERE owner IS NOT NULL AND owner > o.k) "
    "FROM o WHERE o.k IS NOT NULL) "
    "SELECT k FROM o WHERE k IS NOT NULL AND NOT EXISTS (SELECT 1 FROM session s WHERE s.k = o.k)"
)


class _UnclaimedColumns(NamedTuple):
    """A row of `UNCLAIMED`."""

    id: str
    definition: int
    blocked_reason: str | None
    activations: int
    has_message: int


_UNCLAIMED_SHAPE = Shape(_UnclaimedColumns)


def held_by_nobody(connection: sqlite3.Connection) -> list[int]:
    """Give the holders that rows name and that are no sessions, dead or alive."""
    return [owner for (owner,) in connection.execute(HELD_BY_NOBODY)]


@dataclass(eq=False)
class Claims:
    """Jobs of the writer that take instances, give them back, or say why nobody takes them."""

    place: Place
    clock: SystemClock
    definitions: DefinitionNumbers
    _doubtful: list[tuple[str, list[tuple[str, int]]]] = field(default_factory=list[tuple[str, list[tuple[str, int]]]])
    """Session and holds of takings whose COMMIT failed; nobody was told of them, so they are given back if they are."""

    def claim(
        self,
        connection: sqlite3.Connection,
        session: str,
        runnable: Collection[DefinitionKey],
        limit: int,
        ids: Sequence[str] | None,
        *,
        any_definition: bool,
        activations_below: int | None,
    ) -> ClaimReply:
        """Take instances that have something to do and that no living session holds."""
        with relaxed(connection):
            self._settle(connection)
            self._bury(connection)
            now = store_time(connection, self.clock)
            below = _ANY_NUMBER if activations_below is None else activations_below
            search = _Search(self, connection, now, limit, ids, runnable, any_definition, below)
            return self._claim(connection, session, search)

    def _claim(self, connection: sqlite3.Connection, session: str, search: _Search) -> ClaimReply:
        now, taken = search.now, list[LoadedInstance]()
        if search.limit > 0 and search.numbers():
            # Looked at without the write lock first: most sweeps find nothing, and then nobody is disturbed.
            now, taken = self._take(connection, session, search)
        return ClaimReply(now, taken, self._next_wake(connection, now), connection.execute(NEXT_EVENT).fetchone()[0])

    def bury_and_list(
        self, connection: sqlite3.Connection, limit: int, after: tuple[Moment, int] | None
    ) -> list[UnclaimedRow]:
        """List a page of what is due and unheld, when what dead sessions held has been made so."""
        with relaxed(connection):
            self._bury(connection, held_by_nobody(connection))
        return self._due_places(connection, store_time(connection, self.clock), limit, after, ())

    def unclaimed(
        self, connection: sqlite3.Connection, limit: int, after: tuple[Moment, int] | None
    ) -> list[UnclaimedRow]:
        """List a page of what is due and unheld, longest due first. Writes nothing."""
        now = store_time(connection, self.clock)
        return self._due_places(
            connection, now, limit, after, [*find_dead(connection, self.place, now), *held_by_nobody(connection)]
        )

    def _due_places(
        self,
        connection: sqlite3.Connection,
        now: Moment,
        limit: int,
        after: tuple[Moment, int] | None,
        dead: Iterable[int],
    ) -> list[UnclaimedRow]:
        since, number = after or (-1, 0)
        places: list[tuple[Moment, int]] = []
        for (definition,) in connection.execute(DUE_DEFINITIONS).fetchall():
            places += connection.execute(DUE_THEN_AFTER, (definition, since, number, limit)).fetchall()
            places += connection.execute(DUE_AFTER, (definition, since, now, limit)).fetchall()
            beyond = number if since == _LAST else 0
            places += connection.execute(CALLED_AFTER, (definition, beyond, now, limit)).fetchall()
        for session in dead:
            given = {"owner": session, "now": now, "since": since, "number": number, "limit": limit}
            places += connection.execute(LEFT_AFTER, given).fetchall()
        rows = (self._unclaimed_row(connection, place) for place in sorted(places)[:limit])
        return [row for row in rows if row is not None]

    def _unclaimed_row(self, connection: sqlite3.Connection, place: tuple[Moment, int]) -> UnclaimedRow | None:
        found = connection.execute(UNCLAIMED, (place[1],)).fetchone()
        if found is None:  # an index that is damaged has what its table has not
            return None
        row, _ = _UNCLAIMED_SHAPE.read(found)
        key = self.definitions.key(connection, row.definition)
        return UnclaimedRow(row.id, key, row.blocked_reason, row.activations, place, bool(row.has_message))

    def release(self, connection: sqlite3.Connection, session: str, holds: Sequence[tuple[str, int]]) -> None:
        """Give instances back unchanged."""
        with relaxed(connection), writing(connection, self.place):
            for instance_id, fence in holds:
                row = self._release(connection, session, instance_id, fence)
                raw = None if row is not None else as_stored(instance_id)
                if raw is not None:
                    row = self._release(connection, session, raw, fence)
                if row is not None:
                    call_if_unread(connection, row[0])

    def _release(
        self, connection: sqlite3.Connection, session: str, instance_id: str | bytes, fence: int
    ) -> tuple[int] | None:
        row: tuple[int] | None = connection.execute(
            "UPDATE instance SET owner = NULL, activations = max(activations - 1, 0) "
            "WHERE id IN (CAST(?1 AS TEXT), ?1) AND fence = ?2 AND owner = (SELECT k FROM session WHERE id = ?3) "
            "RETURNING n",
            (instance_id, fence, session),
        ).fetchone()
        return row

    def block(self, connection: sqlite3.Connection, reasons: Mapping[str, str]) -> list[str]:
        """Say why nobody takes instances, of those that are still unheld."""
        with relaxed(connection), writing(connection, self.place):
            now = store_time(connection, self.clock)
            return [
                instance_id
                for instance_id, reason in reasons.items()
                if connection.execute(
                    "UPDATE instance SET blocked_reason = ?1 WHERE id = ?2 AND ended_at IS NULL AND (owner IS NULL OR "
                    "NOT EXISTS (SELECT 1 FROM session s WHERE s.k = instance.owner AND s.expires_at > ?3))",
                    (reason, instance_id, now),
                ).rowcount
            ]

    def _take(
        self, connection: sqlite3.Connection, session: str, search: _Search
    ) -> tuple[Moment, list[LoadedInstance]]:
        taken: list[LoadedInstance] = []
        begin_write(connection)
        try:
            now = search.now = store_time(connection, self.clock)
            row = connection.execute("SELECT k FROM session WHERE id = ? AND expires_at > ?", (session, now)).fetchone()
            if row is not None:
                taken = take(connection, self.definitions, search.numbers(), row[0])
            if taken:
                commit(connection, self.place)
            else:
                roll_back(connection)
        except CommitUnknown:
            self._doubtful.append((session, [(instance.id, instance.fence) for instance in taken]))
            raise
        except BaseException:
            roll_back(connection)
            raise
        return now, taken

    def _settle(self, connection: sqlite3.Connection) -> None:
        while self._doubtful:
            self.release(connection, *self._doubtful[-1])
            self._doubtful.pop()

    def _bury(self, connection: sqlite3.Connection, not_there: Sequence[int] = ()) -> None:
        dead = [*find_dead(connection, self.place, store_time(connection, self.clock)), *not_there]
        if dead:
            with writing(connection, self.place):
                gone = bury(connection, dead)
            remove_locks(self.place, gone)

    def _next_wake(self, connection: sqlite3.Connection, now: Moment) -> Moment | None:
        wakes = [connection.execute(NEXT_WAKE, (number, now)).fetchone()[0] for number in all_definitions(connection)]
        return min((wake for wake in wakes if wake is not None), default=None)


@dataclass(eq=False)
class _Search:
    """Looks for instances that a claim may take."""

    claims: Claims
    connection: sqlite3.Connection
    now: Moment
    limit: int
    ids: Sequence[str] | None
    runnable: Collection[DefinitionKey]
    any_definition: bool
    activations_below: int

    def numbers(self) -> list[int]:
        """Give the numbers of up to `limit` instances, longest due first."""
        found = self._due() if self.ids is None else self._named(self.ids)
        earliest: dict[int, Moment] = {}
        for n, since in found:
            earliest[n] = min(since, earliest.get(n, since))
        return sorted(earliest, key=earliest.__getitem__)[: self.limit]

    def _due(self) -> Iterable[tuple[int, Moment]]:
        for number in self._definitions():
            given = (number, self.now, self.activations_below, self.limit)
            yield from self.connection.execute(DUE, given).fetchall()
            yield from self.connection.execute(CALLED, given).fetchall()

    def _named(self, ids: Sequence[str]) -> Iterable[tuple[int, Moment]]:
        runnable = set(self._definitions())
        given = (json_list(list(ids)), self.now, self.activations_below)
        for n, definition, since, is_due in self.connection.execute(NAMED, given).fetchall():
            if definition in runnable and (is_due or self.any_definition):
                yield n, since

    def _definitions(self) -> list[int]:
        if self.any_definition:
            return all_definitions(self.connection)
        names = self.claims.definitions
        found = (names.find(self.connection, key) for key in self.runnable)
        return [number for number in found if number is not None]


def all_definitions(connection: sqlite3.Connection) -> list[int]:
    """Give the numbers of all definitions that instances may have."""
    return [number for (number,) in connection.execute("SELECT k FROM definition")]


def call_if_unread(connection: sqlite3.Connection, n: int) -> None:
    """Let claims find an instance that was given back with messages unread."""
    connection.execute(
        "INSERT OR IGNORE INTO called SELECT definition, n FROM instance "
        "WHERE n = ? AND EXISTS (SELECT 1 FROM inbox WHERE inbox.n = instance.n)",
        (n,),
    )

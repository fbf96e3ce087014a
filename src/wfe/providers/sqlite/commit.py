"""How a batch is written: one transaction, guards first."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from wfe.ports.store import (
    Batch,
    Changes,
    CommitReply,
    Delivery,
    LoadedInstance,
    Start,
    StartOutcome,
    TransitionOutcome,
    TransitionWrite,
)
from wfe.providers.sqlite.bulk import Bulk
from wfe.providers.sqlite.connection import begin_write, commit, roll_back, writing
from wfe.providers.sqlite.counters import Counters, SystemClock
from wfe.providers.sqlite.delivery import Mail
from wfe.providers.sqlite.effects import Effects
from wfe.providers.sqlite.loading import json_list, take
from wfe.providers.sqlite.names import DefinitionNumbers
from wfe.providers.sqlite.outcome import recorded_reply, write_marker
from wfe.providers.sqlite.place import Place
from wfe.providers.sqlite.schema import VERSION

__all__ = ["BatchWriter"]

_NUMBERS_KEPT = 200_000
_PROBES = 257

_UPDATE = (
    "UPDATE instance SET revision = instance.revision + 1, activations = 0, status = w.column1, run = w.column2, "
    "wake_at = w.column3, ended_at = w.column4, head = w.column5"
)
_WRITES = "FROM (VALUES {rows}) AS w"
_GUARD = "WHERE n = w.column6 AND revision = w.column7 AND fence = w.column8"
_HOLD = Bulk(f"{_UPDATE} {_WRITES} {_GUARD}", 8)
_LEAVE = Bulk(f"{_UPDATE}, owner = NULL {_WRITES} {_GUARD}", 8)
_INSERT = Bulk("INSERT INTO instance VALUES {rows}", 20)


class _GuardMissedError(Exception):
    """Some transition or start of the batch is to be refused; which one has to be found out."""


@dataclass(eq=False)
class BatchWriter:
    """Writes batches on the writer's connection.

    Takes every batch to be acceptable as a whole and guards all its transitions at once. Only if the number of rows
    or a constraint says otherwise, it begins again and looks at each.
    """

    place: Place
    clock: SystemClock
    definitions: DefinitionNumbers
    _numbers: dict[str, int] = field(default_factory=dict[str, int])
    """Instance id → number, of instances that this process works on; numbers are never used twice."""
    _version: int = -1
    _counters: Counters = field(default_factory=Counters)
    inbox_is_empty: bool = False
    """These three hold until another connection commits, which changes `_version`; so a plain step needs no read."""

    def write(self, connection: sqlite3.Connection, batch: Batch) -> CommitReply:
        """Write a batch in one transaction, or find that it was written before.

        Raises:
            CommitUnknown: The outcome is open; `find` tells it later.
        """
        try:
            return self._attempt(connection, batch, careful=False)
        except _GuardMissedError:
            return self._attempt(connection, batch, careful=True)

    def find(self, connection: sqlite3.Connection, batch: Batch) -> CommitReply | None:
        """Give the reply of a batch that was written before; None: it was not, and never will be.

        A commit that failed may have left all its pages in the write-ahead log, where nobody reads them unless a crash
        makes SQLite look through the log again. A commit of our own writes over them.
        """
        reply = recorded_reply(connection, self.definitions, batch)
        if reply is None:
            with writing(connection, self.place):
                connection.execute(f"PRAGMA user_version = {VERSION}")
        return reply

    def _attempt(self, connection: sqlite3.Connection, batch: Batch, *, careful: bool) -> CommitReply:
        begin_write(connection)
        try:
            counters = self._look_around(connection).begun(self.clock())
            reply = recorded_reply(connection, self.definitions, batch) if careful else None
            if reply is not None:
                roll_back(connection)
                return reply
            writing = _Writing(self, connection, batch, counters, careful=careful)
            reply = writing.run()
            commit(connection, self.place)
        except sqlite3.IntegrityError as error:
            self._rolled_back(connection)
            if careful:
                raise
            raise _GuardMissedError from error
        except BaseException:
            self._rolled_back(connection)
            raise
        self._committed(writing, counters)
        return reply

    def _look_around(self, connection: sqlite3.Connection) -> Counters:
        """Give the counters in force; read them only if somebody else has written."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._counters = Counters.read(connection)
            self.inbox_is_empty = False
            self._version = version
        return self._counters

    def _rolled_back(self, connection: sqlite3.Connection) -> None:
        roll_back(connection)
        self.definitions.rolled_back()

    def _committed(self, writing: _Writing, counters: Counters) -> None:
        self.definitions.committed()
        if writing.is_recorded:
            self._counters = counters
        self.inbox_is_empty = writing.inbox_is_empty
        numbers = self._numbers
        if len(numbers) > _NUMBERS_KEPT:
            numbers.clear()
        for instance_id in writing.given_up:
            numbers.pop(instance_id, None)
        numbers.update(writing.held_new)

    def numbers(self, connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, int]:
        """Give the numbers of instances, as far as they are known or can be found."""
        known = self._numbers
        missing = [instance_id for instance_id in ids if instance_id not in known]
        if missing:
            found = connection.execute(
                "SELECT id, n FROM instance WHERE id IN (SELECT value FROM json_each(?))", (json_list(missing),)
            ).fetchall()
            known.update(found)
        return known

    def forget_all(self) -> None:
        """Forget everything: a new connection may lead to another database."""
        self._numbers.clear()
        self._version = -1

    def forget(self, instance_id: str) -> None:
        """Look the number of an instance up again next time."""
        self._numbers.pop(instance_id, None)


class _Writing:
    """One batch on its way."""

    def __init__(
        self,
        writer: BatchWriter,
        connection: sqlite3.Connection,
        batch: Batch,
        counters: Counters,
        *,
        careful: bool,
    ) -> None:
        self._writer = writer
        self._connection = connection
        self._batch = batch
        self._counters = counters
        self._session: int | None = None
        self._careful = careful
        self._effects = Effects(counters)
        self._mail = Mail(connection, counters)
        self._accepted: list[tuple[int, TransitionWrite]] = []
        self._created: list[tuple[int, Start]] = []
        self._children: list[str] = []
        self._new_numbers: dict[str, int] = {}
        self._waits: list[tuple[int, str, int | None, Changes]] = []
        self.held_new: list[tuple[str, int]] = []
        self.given_up: list[str] = []
        self.inbox_is_empty = writer.inbox_is_empty
        self.is_recorded = False

    def run(self) -> CommitReply:
        """Write everything but the COMMIT."""
        batch, counters = self._batch, self._counters
        first_inbox = counters.inbox + 1
        transitions = self._transitions(batch.transitions)
        starts = self._starts(batch.starts)
        self._start_children()
        self._effects.write(self._connection)
        self._begin_waits()
        self._reach_others()
        promoted = self._mail.promote(batch.promote) if batch.promote else 0
        publishes = [self._mail.publish(event) for event in batch.publishes]
        inbox = self._mail.send(batch.inbox) if batch.inbox else []
        taken, deliveries = self._deliver() if self._mail.inserted else ([], [])
        reply = CommitReply(
            now=counters.now,
            transitions=transitions,
            starts=starts,
            publishes=publishes,
            inbox=inbox,
            unread=self._unread(),
            deliveries=deliveries,
            taken=taken,
            children=self._children,
        )
        self.is_recorded = bool(self._accepted or self._created or promoted or publishes or any(inbox))
        if self.is_recorded:
            write_marker(self._connection, batch, counters, first_inbox, reply)
        return reply

    # Transitions

    def _transitions(self, writes: Sequence[TransitionWrite]) -> list[TransitionOutcome]:
        if not writes:
            return []
        numbers = self._writer.numbers(self._connection, [write.instance_id for write in writes])
        outcomes = [TransitionOutcome.ACCEPTED] * len(writes)
        hold: list[object] = []
        leave: list[object] = []
        for index, write in enumerate(writes):
            changes = write.changes
            n = numbers.get(write.instance_id)
            if n is None or self._careful or (changes.unsubscribe and _requires_wait(changes)):
                n, outcomes[index] = self._look(write)
                if outcomes[index] is not TransitionOutcome.ACCEPTED:
                    continue
            self._accept(n, write, changes, hold, leave)
        if _HOLD.run(self._connection, hold) + _LEAVE.run(self._connection, leave) != len(self._accepted):
            raise _GuardMissedError
        return outcomes

    def _accept(
        self,
        n: int,
        write: TransitionWrite,
        changes: Changes,
        hold: list[object],
        leave: list[object],
    ) -> None:
        ended = changes.ended
        row = (
            _plain(changes.status),
            changes.run,
            None if ended else changes.wake_at,
            self._counters.now if ended else None,
            changes.head,
            n,
            write.revision,
            write.fence,
        )
        if changes.hold and not ended:
            hold += row
        else:
            leave += row
            self.given_up.append(write.instance_id)
        self._accepted.append((n, write))
        self._effects.add(n, write.revision + 1, changes)
        if changes.subscribe and not ended:
            self._waits.append((n, write.instance_id, None, changes))

    def _look(self, write: TransitionWrite) -> tuple[int, TransitionOutcome]:
        """Look at the guard of one transition; the write lock makes that as good as a guarded write."""
        row = self._connection.execute(
            "SELECT n, revision, fence FROM instance WHERE id = ?", (write.instance_id,)
        ).fetchone()
        # A remembered number may be that of an instance which was purged since, its id given to a new one.
        self._writer.forget(write.instance_id)
        if row is None or row[2] != write.fence:
            return 0, TransitionOutcome.FENCED
        n, revision, _ = row
        if revision != write.revision or any(n == accepted for accepted, _ in self._accepted if self._careful):
            return n, TransitionOutcome.STALE
        for wait in write.changes.unsubscribe:
            if wait.required and not self._waits_still(n, wait.pointer, wait.wait):
                return n, TransitionOutcome.WAIT_GONE
        return n, TransitionOutcome.ACCEPTED

    def _waits_still(self, n: int, pointer: int, wait: int) -> bool:
        return (
            self._connection.execute(
                "SELECT 1 FROM subscription WHERE n = ? AND pointer = ? AND wait = ?", (n, pointer, wait)
            ).fetchone()
            is not None
        )

    # Starts

    def _starts(self, starts: Sequence[Start]) -> list[StartOutcome]:
        if not starts:
            return []
        there = self._digests(starts)
        rows: list[object] = []
        outcomes: list[StartOutcome] = []
        for start in starts:
            digest = there.get(start.id)
            if digest is None:
                there[start.id] = start.digest
                self._add_row(rows, start, hold=start.changes.hold and not start.changes.ended)
                outcomes.append(StartOutcome.CREATED)
            else:
                outcomes.append(StartOutcome.EXISTS if digest == start.digest else StartOutcome.CONFLICT)
        _INSERT.run(self._connection, rows)
        return outcomes

    def _start_children(self) -> None:
        """Start the children of what was accepted and created, and theirs."""
        pending = [child for _, write in self._accepted for child in write.changes.children]
        pending += [child for _, start in self._created for child in start.changes.children]
        while pending:
            there = self._digests(pending)
            rows: list[object] = []
            grandchildren: list[Start] = []
            for child in pending:
                if child.id not in there:
                    there[child.id] = child.digest
                    self._add_row(rows, child, hold=False)
                    self._children.append(child.id)
                    grandchildren += child.changes.children
            _INSERT.run(self._connection, rows)
            pending = grandchildren

    def _digests(self, starts: Sequence[Start]) -> dict[str, bytes]:
        """Give the digests of instances that exist. Taken to be none, until an insert says otherwise."""
        if not self._careful:
            return {}
        return dict(
            self._connection.execute(
                "SELECT id, digest FROM instance WHERE id IN (SELECT value FROM json_each(?))",
                (json_list([start.id for start in starts]),),
            ).fetchall()
        )

    def _add_row(self, rows: list[object], start: Start, *, hold: bool) -> None:
        """Give a new instance its number and gather what it writes."""
        counters, changes, parent = self._counters, start.changes, start.parent
        counters.instance += 1
        n = counters.instance
        self._created.append((n, start))
        self._effects.add(n, 1, changes)
        self._effects.add_what_is_empty(n, changes)
        if changes.subscribe and not changes.ended:
            self._waits.append((n, start.id, counters.now, changes))
        if hold:
            self.held_new.append((start.id, n))
        rows += (
            n,
            start.id,
            self._writer.definitions.give(self._connection, start.definition),
            _plain(changes.status),
            changes.run,
            1,
            1 if hold else 0,
            self._session_number() if hold else None,
            None if changes.ended else changes.wake_at,
            0,
            None,
            counters.now,
            counters.now if changes.ended else None,
            start.name,
            start.reference,
            start.digest,
            None if parent is None else parent.instance_id,
            None if parent is None else parent.pointer,
            None if parent is None else parent.on_parent_end,
            changes.head,
        )

    def _session_number(self) -> int:
        if self._session is None:
            row = self._connection.execute("SELECT k FROM session WHERE id = ?", (self._batch.session,)).fetchone()
            if row is None:
                # A session that is over, or that another lease service keeps: for this store it is dead.
                row = self._connection.execute(
                    "INSERT INTO session (id, name, expires_at, locked) VALUES (?, '', 0, 0) RETURNING k",
                    (self._batch.session,),
                ).fetchone()
            self._session = int(row[0])
        return self._session

    # Others

    def _begin_waits(self) -> None:
        for n, instance_id, known, changes in self._waits:
            created_at = known
            if created_at is None:
                (created_at,) = self._connection.execute("SELECT created_at FROM instance WHERE n = ?", (n,)).fetchone()
            self._mail.subscribe(n, instance_id, created_at, changes)

    def _reach_others(self) -> None:
        for _, write in self._accepted:
            if write.changes.messages or write.changes.cancel_children is not None:
                self._reach(write.instance_id, write.changes)
        for _, start in self._created:
            if start.changes.messages or start.changes.cancel_children is not None:
                self._reach(start.id, start.changes)

    def _reach(self, instance_id: str, changes: Changes) -> None:
        if changes.messages:
            self._mail.send(changes.messages)
        if changes.cancel_children is not None:
            self._mail.cancel_children(instance_id, changes.cancel_children)

    def _deliver(self) -> tuple[list[LoadedInstance], list[Delivery]]:
        """Take what the messages reached and nobody holds, as far as there is room; tell of the other rows."""
        reached = list(dict.fromkeys(n for n, _ in self._mail.inserted))
        owners: dict[int, str | None] = {}
        free: list[int] = []
        definitions: dict[int, int] = {}
        for n, definition, owner in self._connection.execute(
            "SELECT i.n, i.definition, s.id FROM instance i LEFT JOIN session s ON s.k = i.owner AND s.expires_at > ? "
            "WHERE i.n IN (SELECT value FROM json_each(?))",
            (self._counters.now, json_list(reached)),
        ).fetchall():
            owners[n], definitions[n] = owner, definition
        free = [n for n in reached if owners[n] is None]
        wanted = self._fitting(free, definitions)
        taken = take(self._connection, self._writer.definitions, wanted, self._session_number()) if wanted else []
        self.held_new += [(instance.id, n) for n, instance in zip(wanted, taken, strict=True)]
        gone = set(wanted)
        self._connection.executemany(
            "INSERT OR IGNORE INTO called VALUES (?, ?)", [(definitions[n], n) for n in free if n not in gone]
        )
        return taken, [Delivery(row.instance_id, owners[n], row) for n, row in self._mail.inserted if n not in gone]

    def _fitting(self, free: Sequence[int], definitions: dict[int, int]) -> list[int]:
        batch = self._batch
        if batch.room <= 0 or not free or not self._session_lives():
            return []
        names = self._writer.definitions
        runnable: Collection[int] = {
            number for number in {definitions[n] for n in free} if names.key(self._connection, number) in batch.runnable
        }
        return [n for n in free if definitions[n] in runnable][: batch.room]

    def _session_lives(self) -> bool:
        row = self._connection.execute(
            "SELECT k FROM session WHERE id = ? AND expires_at > ?", (self._batch.session, self._counters.now)
        ).fetchone()
        if row is None:
            return False
        self._session = int(row[0])
        return True

    def _unread(self) -> list[str]:
        """Give the instances of accepted transitions whose inbox has rows; those given back are marked for claims."""
        if self._mail.inserted:
            self.inbox_is_empty = False
        if not self._accepted or self.inbox_is_empty:
            return []
        rows = self._connection.execute("SELECT n FROM inbox LIMIT ?", (_PROBES,)).fetchall()
        if not rows:
            self.inbox_is_empty = True
            return []
        if len(rows) == _PROBES:
            # Many rows: ask for this batch's instances instead of reading all.
            rows = self._connection.execute(
                "SELECT j.value FROM json_each(?) j WHERE EXISTS (SELECT 1 FROM inbox WHERE inbox.n = j.value)",
                (json_list([n for n, _ in self._accepted]),),
            ).fetchall()
        unread = {n for (n,) in rows}
        found = [(n, write) for n, write in self._accepted if n in unread]
        self._connection.executemany(
            "INSERT OR IGNORE INTO called SELECT definition, n FROM instance WHERE n = ? AND owner IS NULL",
            [(n,) for n, write in found if not write.changes.hold],
        )
        return [write.instance_id for _, write in found]


def _requires_wait(changes: Changes) -> bool:
    return any(wait.required for wait in changes.unsubscribe)


_texts: dict[str, str] = {}


def _plain(status: str) -> str:
    """Give the text of a status as exactly a `str`: SQLite's binding is several times slower for an enum's member."""
    text = _texts.get(status)
    if text is None:
        text = _texts[status] = str(status)
    return text

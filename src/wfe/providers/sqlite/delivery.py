"""What one instance, caller or event means for other instances: rows in their inboxes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from wfe.model.moment import Moment
from wfe.ports.store import Changes, InboxInsert, InboxRow, Publication, Publish, PublishOutcome
from wfe.providers.sqlite.counters import Counters
from wfe.providers.sqlite.loading import json_list

__all__ = ["Mail"]

STORED_MATCH = (
    "SELECT sequence, name, key, payload FROM event "
    "WHERE name = ? AND key = ? AND sequence > ? AND time >= ? ORDER BY sequence LIMIT 1"
)
WAITERS = (
    "SELECT s.n, s.pointer, s.wait, i.id FROM subscription s JOIN instance i ON i.n = s.n "
    "WHERE s.name = ? AND s.key = ? AND s.as_of <= ? ORDER BY s.n, s.pointer, s.wait"
)


class _Waiter(NamedTuple):
    """Who gets an event."""

    n: int
    pointer: int
    wait: int
    instance_id: str


class _Event(NamedTuple):
    """What is delivered."""

    sequence: int
    name: str
    key: str
    payload: bytes


class Mail:
    """Inserts the inbox rows of one transaction, matches events with waits, and remembers whom it reached."""

    def __init__(self, connection: sqlite3.Connection, counters: Counters) -> None:
        self._connection = connection
        self._counters = counters
        self.inserted: list[tuple[int, InboxRow]] = []
        """(number of the instance, row), in the order of their ids."""

    def send(self, messages: Sequence[InboxInsert]) -> list[bool]:
        """Insert messages for instances that exist and have not ended; tell for each whether its did."""
        found: dict[str, int] = dict(
            self._connection.execute(
                "SELECT id, n FROM instance WHERE id IN (SELECT value FROM json_each(?)) AND ended_at IS NULL",
                (json_list([message.instance_id for message in messages]),),
            ).fetchall()
        )
        for message in messages:
            n = found.get(message.instance_id)
            if n is not None:
                self._insert_message(n, message)
        return [message.instance_id in found for message in messages]

    def cancel_children(self, parent_id: str, message: bytes) -> None:
        """Send a message to each live child that ends with its parent."""
        for n, child_id in self._connection.execute(
            "SELECT n, id FROM instance WHERE parent_id = ? AND on_parent_end = 'cancel' AND ended_at IS NULL",
            (parent_id,),
        ).fetchall():
            self._insert_message(n, InboxInsert(child_id, message))

    def subscribe(self, n: int, instance_id: str, created_at: Moment, changes: Changes) -> None:
        """Begin the waits of a transition: each takes the first stored event that fits, else it waits for others."""
        for wait in changes.subscribe:
            after, since = 0, wait.as_of
            if since is None:
                after, since = self._position(n, wait.name, wait.key), created_at
            row = self._connection.execute(
                STORED_MATCH,
                (wait.name, wait.key, after, since),
            ).fetchone()
            if row is not None:
                self._insert_event(_Waiter(n, wait.pointer, wait.wait, instance_id), _Event(*row))
            else:
                self._connection.execute(
                    "INSERT OR REPLACE INTO subscription VALUES (?, ?, ?, ?, ?, ?)",
                    (n, wait.pointer, wait.wait, wait.name, wait.key, since),
                )

    def promote(self, limit: int) -> int:
        """Publish future events that are due, in the order of their times; tell how many."""
        due = self._connection.execute(
            "SELECT k, id, name, key, payload FROM future WHERE effective_at <= ? ORDER BY effective_at, k LIMIT ?",
            (self._counters.now, limit),
        ).fetchall()
        for k, event_id, name, key, payload in due:
            self._connection.execute("DELETE FROM future WHERE k = ?", (k,))
            self._announce(event_id, name, key, payload)
        return len(due)

    def publish(self, event: Publish) -> Publication:
        """Store an event, now or aside, unless one of that id is there."""
        there = self._connection.execute(
            "SELECT name, key, payload FROM event WHERE id = ?1 "
            "UNION ALL SELECT name, key, payload FROM future WHERE id = ?1",
            (event.id,),
        ).fetchone()
        if there is not None:
            same = there == (event.name, event.key, event.payload)
            return Publication(PublishOutcome.EXISTS if same else PublishOutcome.CONFLICT)
        if event.effective_at is not None and event.effective_at > self._counters.now:
            self._connection.execute(
                "INSERT INTO future (id, name, key, payload, effective_at) VALUES (?, ?, ?, ?, ?)",
                (event.id, event.name, event.key, event.payload, event.effective_at),
            )
            return Publication(PublishOutcome.CREATED)
        return Publication(PublishOutcome.CREATED, self._announce(event.id, event.name, event.key, event.payload))

    def _announce(self, event_id: str, name: str, key: str, payload: bytes) -> int:
        """Give the event its sequence number and hand it to every wait that it matches; tell to how many."""
        counters = self._counters
        counters.event += 1
        self._connection.execute(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", (counters.event, event_id, name, key, payload, counters.now)
        )
        # Its sequence number and time are the highest of all, so no position and no instance's start is above them.
        matched = self._connection.execute(
            WAITERS,
            (name, key, counters.now),
        ).fetchall()
        event = _Event(counters.event, name, key, payload)
        for waiter in map(_Waiter._make, matched):
            self._connection.execute("DELETE FROM subscription WHERE n = ? AND pointer = ? AND wait = ?", waiter[:3])
            self._insert_event(waiter, event)
        return len(matched)

    def _position(self, n: int, name: str, key: str) -> int:
        row = self._connection.execute(
            "SELECT sequence FROM position WHERE n = ? AND name = ? AND key = ?", (n, name, key)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def _insert_message(self, n: int, message: InboxInsert) -> None:
        self._counters.inbox += 1
        k = self._counters.inbox
        self._connection.execute(
            "INSERT INTO inbox (k, n, request, message) VALUES (?, ?, ?, ?)",
            (k, n, message.id or None, message.message),
        )
        self.inserted.append((n, InboxRow(k, message.instance_id, message.message)))

    def _insert_event(self, waiter: _Waiter, event: _Event) -> None:
        self._counters.inbox += 1
        k = self._counters.inbox
        self._connection.execute(
            "INSERT INTO inbox VALUES (?, ?, NULL, NULL, ?, ?, ?, ?, ?, ?)",
            (k, *waiter[:3], *event),
        )
        row = InboxRow(k, waiter.instance_id, None, waiter.pointer, waiter.wait, *event)
        self.inserted.append((waiter.n, row))

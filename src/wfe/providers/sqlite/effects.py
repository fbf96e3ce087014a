"""The rows that transitions and starts write besides the instance's own row."""

from __future__ import annotations

import sqlite3

from wfe.ports.store import Changes
from wfe.providers.sqlite.bulk import Bulk
from wfe.providers.sqlite.counters import Counters
from wfe.providers.sqlite.loading import EMPTY, json_list

__all__ = ["Effects"]

_INSERT_LOG = Bulk("INSERT INTO log VALUES {rows}", 8)
_PUT_POINTERS = Bulk("INSERT OR REPLACE INTO pointer VALUES {rows}", 3)
_PUT_DOCUMENTS = Bulk("INSERT OR REPLACE INTO document VALUES {rows}", 2)
_GIVEN = "(SELECT value FROM json_each(?))"


class Effects:
    """Gathers the rows of a batch by table, and writes each table's with few calls.

    Rows that every step writes are gathered as values one after another, which is the cheapest for Python.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._log: list[object] = []
        self._pointers: list[object] = []
        self._documents: list[object] = []
        self._contexts: list[tuple[int, bytes]] = []
        self._items: list[tuple[int, int, bytes]] = []
        self._errors: list[tuple[int, int, bytes]] = []
        self._positions: list[tuple[int, str, str, int]] = []
        self._pointers_gone: list[tuple[int, int]] = []
        self._items_gone: list[tuple[int, int]] = []
        self._waits_gone: list[tuple[int, int, int]] = []
        self._consumed: list[tuple[int, int]] = []
        self._ended: list[int] = []

    def add(self, n: int, revision: int, changes: Changes) -> None:
        """Gather what an accepted transition, or a start's first one, writes. `revision`: the one that it produces."""
        counters = self._counters
        counters.log += 1
        self._log += (
            counters.log,
            n,
            revision,
            changes.first_sequence,
            changes.record_count,
            changes.run,
            counters.now,
            changes.records,
        )
        for pointer in changes.pointers:
            self._pointers += (n, pointer.slot, pointer.state)
        data = changes.data
        if data is not None:
            self._documents += (n, data)
        if changes.ended:
            self._ended.append(n)
        if changes.pointers_gone:
            self._pointers_gone.extend([(n, slot) for slot in changes.pointers_gone])
        if changes.consumed:
            self._consumed.extend([(row, n) for row in changes.consumed])
        self._add_rare(n, changes)

    def add_what_is_empty(self, n: int, changes: Changes) -> None:
        """Gather the data and values of a new instance that has none: a row that is missing is damage."""
        if changes.data is None:
            self._documents += (n, EMPTY)
        if changes.values is None:
            self._contexts.append((n, EMPTY))

    def _add_rare(self, n: int, changes: Changes) -> None:
        if changes.values is not None:
            self._contexts.append((n, changes.values))
        if changes.items or changes.items_gone:
            self._items.extend([(n, row.pointer, row.items) for row in changes.items])
            self._items_gone.extend([(n, pointer) for pointer in changes.items_gone])
        if changes.errors:
            self._errors.extend([(n, row.number, row.error) for row in changes.errors])
        if changes.positions:
            self._positions.extend([(n, name, key, sequence) for name, key, sequence in changes.positions])
        if changes.unsubscribe:
            self._waits_gone.extend([(n, wait.pointer, wait.wait) for wait in changes.unsubscribe])

    def write(self, connection: sqlite3.Connection) -> None:
        """Write all that was gathered; inside a write transaction."""
        many = connection.executemany
        _INSERT_LOG.run(connection, self._log)
        if self._pointers_gone:
            many("DELETE FROM pointer WHERE n = ? AND slot = ?", self._pointers_gone)
        if self._pointers:
            _PUT_POINTERS.run(connection, self._pointers)
        if self._documents:
            _PUT_DOCUMENTS.run(connection, self._documents)
        self._write_rare(connection)
        if self._ended:
            self._sweep_ended(connection)

    def _write_rare(self, connection: sqlite3.Connection) -> None:
        many = connection.executemany
        if self._contexts:
            many("INSERT OR REPLACE INTO context VALUES (?, ?)", self._contexts)
        if self._items_gone:
            many("DELETE FROM item WHERE n = ? AND pointer = ?", self._items_gone)
        if self._items:
            many("INSERT OR REPLACE INTO item VALUES (?, ?, ?)", self._items)
        if self._errors:
            many("INSERT OR REPLACE INTO error VALUES (?, ?, ?)", self._errors)
        if self._positions:
            many(
                "INSERT INTO position VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET sequence = max(sequence, excluded.sequence)",
                self._positions,
            )
        if self._waits_gone:
            many("DELETE FROM subscription WHERE n = ? AND pointer = ? AND wait = ?", self._waits_gone)
        if self._consumed:
            many("DELETE FROM inbox WHERE k = ? AND n = ?", self._consumed)

    def _sweep_ended(self, connection: sqlite3.Connection) -> None:
        """Nothing reaches an ended instance any more."""
        given = (json_list(self._ended),)
        for table in ("subscription", "inbox", "item"):
            connection.execute(f"DELETE FROM {table} WHERE n IN {_GIVEN}", given)

"""The numbers that stand for definitions in the rows of instances."""

from __future__ import annotations

import sqlite3

from wfe.model.definition import DefinitionKey
from wfe.ports.store import NO_DEFINITION

__all__ = ["DefinitionNumbers"]


class DefinitionNumbers:
    """Numbers of definitions, remembered: they never change once they are committed.

    One for each connection. What a transaction adds is remembered when it has committed.
    """

    def __init__(self) -> None:
        self._numbers: dict[DefinitionKey, int] = {}
        self._keys: dict[int, DefinitionKey] = {}
        self._added: dict[DefinitionKey, int] = {}

    def forget(self) -> None:
        """Forget all: a new connection may lead to another database."""
        self._numbers.clear()
        self._keys.clear()
        self._added.clear()

    def find(self, connection: sqlite3.Connection, key: DefinitionKey) -> int | None:
        """Give the number of a definition, None if no row has named it yet."""
        number = self._numbers.get(key) or self._added.get(key)
        if number is None:
            row = connection.execute(
                "SELECT k FROM definition WHERE id = ? AND version = ? AND hash = ?", tuple(key)
            ).fetchone()
            if row is None:
                return None
            number = self._remember(key, row[0])
        return number

    def give(self, connection: sqlite3.Connection, key: DefinitionKey) -> int:
        """Give the number of a definition, a new one if need be; inside a write transaction."""
        number = self.find(connection, key)
        if number is None:
            cursor = connection.execute("INSERT INTO definition (id, version, hash) VALUES (?, ?, ?)", tuple(key))
            number = self._added[key] = int(cursor.lastrowid or 0)
        return number

    def key(self, connection: sqlite3.Connection, number: int) -> DefinitionKey:
        """Give the definition of a number; `NO_DEFINITION` if there is none, which is damage."""
        key = self._keys.get(number)
        if key is None:
            row = connection.execute("SELECT id, version, hash FROM definition WHERE k = ?", (number,)).fetchone()
            if row is None:
                return NO_DEFINITION
            key = DefinitionKey(*row)
            if key not in self._added:
                self._remember(key, number)
        return key

    def committed(self) -> None:
        """The transaction that used `give` has committed."""
        if self._added:
            for key, number in self._added.items():
                self._remember(key, number)
            self._added.clear()

    def rolled_back(self) -> None:
        """The transaction that used `give` has not."""
        self._added.clear()

    def _remember(self, key: DefinitionKey, number: int) -> int:
        key = DefinitionKey(*key)
        self._numbers[key] = number
        self._keys[number] = key
        return number

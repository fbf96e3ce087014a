"""The rows of a store, to be changed behind its back: the same statements on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from wfe.engine.state import decode_head, decode_pointers, encode_head, encode_pointer
from wfe.model.instance import Head
from wfe.model.lifecycle import LogRecord, decode_records, encode_records
from wfe.model.pointer import Pointer

__all__ = ["PostgresRows", "Rows", "SQLiteRows"]

T = TypeVar("T")


class _Database(Protocol):
    kind: str

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]: ...


class Rows:
    """What a damage is planted with. Statements name their values as `?1` and so on."""

    def __init__(self, database: _Database) -> None:
        self.kind = database.kind
        self.run = database.run

    def n(self, instance_id: str) -> int:
        """Number of an instance."""
        return int(self.run("SELECT n FROM instance WHERE id = ?1", instance_id)[0][0])

    def change(self, table: str, instance_id: str, what: str, *values: object) -> None:
        """Change all rows of an instance: `what` is the middle of an UPDATE, from SET on, with values from ?2."""
        self.run(f"UPDATE {table} {what} WHERE n = ?1", self.n(instance_id), *values)

    def delete(self, table: str, instance_id: str) -> None:
        """Delete all rows of an instance in a table."""
        self.run(f"DELETE FROM {table} WHERE n = ?1", self.n(instance_id))

    # Heads and pointers

    def head(self, instance_id: str) -> Head:
        """Read the head of an instance."""
        return decode_head(self.run("SELECT head FROM instance WHERE id = ?1", instance_id)[0][0])

    def set_head(self, instance_id: str, **changes: Any) -> None:
        """Change fields of the head of an instance."""
        head = msgspec.structs.replace(self.head(instance_id), **changes)
        self.change("instance", instance_id, "SET head = ?2", encode_head(head))

    def pointers(self, instance_id: str) -> dict[int, Pointer]:
        """Read the pointers of an instance."""
        rows = self.run("SELECT state FROM pointer WHERE n = ?1 ORDER BY slot", self.n(instance_id))
        return decode_pointers(state for (state,) in rows)

    def pointer(self, instance_id: str, which: Callable[[Pointer], bool] = lambda _: True) -> Pointer:
        """Read the first pointer of an instance that is like that."""
        return next(pointer for pointer in self.pointers(instance_id).values() if which(pointer))

    def put_pointer(self, instance_id: str, pointer: Pointer, *, slot: int | None = None) -> None:
        """Write a pointer, new or changed."""
        at = pointer.slot if slot is None else slot
        self.run("DELETE FROM pointer WHERE n = ?1 AND slot = ?2", self.n(instance_id), at)
        self.run(
            "INSERT INTO pointer (n, slot, state) VALUES (?1, ?2, ?3)", self.n(instance_id), at, encode_pointer(pointer)
        )

    def set_pointer(self, instance_id: str, which: Callable[[Pointer], bool] = lambda _: True, **changes: Any) -> None:
        """Change fields of the first pointer of an instance that is like that."""
        self.put_pointer(instance_id, msgspec.structs.replace(self.pointer(instance_id, which), **changes))

    # Logs

    def announce(self, instance_id: str, *records: LogRecord, at: int | None = None) -> None:
        """Put announcements into the last log row of an instance, and count them as if they belonged there."""
        revision, packed = self.run(
            "SELECT revision, records FROM log WHERE n = ?1 ORDER BY revision DESC LIMIT 1", self.n(instance_id)
        )[0]
        found = decode_records(packed)
        place = len(found) if at is None else at
        found[place:place] = records
        self.rewrite(instance_id, revision, found)
        head = self.head(instance_id)
        self.set_head(instance_id, sequence=head.sequence + len(records))

    def rewrite(self, instance_id: str, revision: int, records: list[LogRecord]) -> None:
        """Replace the announcements of a revision."""
        self.run(
            "UPDATE log SET records = ?3, count = ?4 WHERE n = ?1 AND revision = ?2",
            self.n(instance_id),
            revision,
            encode_records(records),
            len(records),
        )


class SQLiteRows:
    """A file that no host uses."""

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement and give its rows."""
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.text_factory = lambda raw: raw.decode(errors="replace")  # some damages are texts that are none
            return connection.execute(statement, values).fetchall()


class PostgresRows:
    """The schema `wfe` of a database, through one connection, to be closed."""

    kind = "postgres"

    def __init__(self, url: str) -> None:
        # In a thread with a loop of its own: who plants may stand in another loop.
        self._thread = ThreadPoolExecutor(1)
        self._runner = asyncio.Runner()
        self._connection: Any = self._do(self._connect(url))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._thread.submit(self._runner.run, work).result()

    async def _connect(self, url: str) -> object:
        import asyncpg

        return await asyncpg.connect(url, server_settings={"search_path": "wfe"})

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement and give its rows."""
        return [tuple(row) for row in self._do(self._connection.fetch(statement.replace("?", "$"), *values))]

    def close(self) -> None:
        """Disconnect."""
        self._do(self._connection.close())
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()

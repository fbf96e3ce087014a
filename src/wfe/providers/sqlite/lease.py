"""Sessions: a row with an end, and a lock that the operating system lets go when the process dies."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from datetime import timedelta

from wfe.model.errors import LeaseLost, ProviderUnavailable
from wfe.model.moment import microseconds
from wfe.providers.sqlite.connection import close, connect, relaxed, writing
from wfe.providers.sqlite.counters import SystemClock, store_time
from wfe.providers.sqlite.faults import CommitUnknown, translated
from wfe.providers.sqlite.place import Place
from wfe.providers.sqlite.sessions import (
    HostLock,
    bury,
    ended_uncleanly,
    find_dead,
    lock_path,
    remove_leftovers,
    remove_locks,
)
from wfe.providers.sqlite.store import SQLiteStore

__all__ = ["SQLiteLease", "SQLiteRenewer"]


class SQLiteLease:
    """Keeps the sessions of one database file."""

    def __init__(self, place: Place, clock: SystemClock, store: SQLiteStore) -> None:
        self._place = place
        self._clock = clock
        self._store = store
        self._locks: dict[str, HostLock] = {}

    async def begin(self, session: str, *, name: str, ttl: timedelta) -> None:
        self._store.refuse_reader()
        await self._check()
        lock = self._lock(session)

        def insert(connection: sqlite3.Connection) -> None:
            with relaxed(connection), writing(connection, self._place):
                expires_at = store_time(connection, self._clock) + microseconds(ttl)
                connection.execute(
                    "INSERT INTO session (id, name, expires_at, locked) VALUES (?, ?, ?, ?)",
                    (session, name, expires_at, int(lock is not None)),
                )
            remove_leftovers(connection, self._place)

        try:
            await self._store.write(insert)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        if lock is not None:
            self._locks[session] = lock

    async def end(self, session: str) -> None:
        def remove(connection: sqlite3.Connection) -> None:
            row = connection.execute("SELECT k FROM session WHERE id = ?", (session,)).fetchone()
            if row is not None:
                with relaxed(connection), writing(connection, self._place):
                    gone = bury(connection, [row[0]])
                remove_locks(self._place, gone)

        try:
            await self._store.write(remove)
        finally:
            # Free in any case: what could not be written now is found dead by its lock.
            lock = self._locks.pop(session, None)
            if lock is not None:
                lock.release()

    async def alive(self) -> Collection[str]:
        def read(connection: sqlite3.Connection) -> list[str]:
            dead = set(find_dead(connection, self._place, store_time(connection, self._clock)))
            return [session for k, session in connection.execute("SELECT k, id FROM session") if k not in dead]

        return await self._store.read(read)

    def renewer(self, session: str, ttl: timedelta) -> SQLiteRenewer:
        return SQLiteRenewer(self._place, self._clock, self._store, session, ttl)

    async def _check(self) -> None:
        """Have the file checked if somebody did not end in good order. After a good end this costs one small read."""
        if self._place.path is not None and await self._store.read(
            lambda connection: ended_uncleanly(connection, self._place, store_time(connection, self._clock))
        ):
            await self._store.check()

    def _lock(self, session: str) -> HostLock | None:
        if self._place.path is None:
            return None
        path = lock_path(self._place, session)
        try:
            return HostLock(path)
        except OSError as error:
            raise ProviderUnavailable(
                f"The lock file {path} of a session could not be made: {error}. "
                "Give this user the right to write the database's folder."
            ) from error


class SQLiteRenewer:
    """Renews one session on a connection of its own; a database in memory has but the one of its store."""

    def __init__(self, place: Place, clock: SystemClock, store: SQLiteStore, session: str, ttl: timedelta) -> None:
        self._place = place
        self._clock = clock
        self._store = store
        self._session = session
        self._ttl = microseconds(ttl)
        # Then there is time for another try before the session ends.
        self._patience = ttl.total_seconds() / 3
        self._connection: sqlite3.Connection | None = None

    def renew(self) -> None:
        self._do(self._renew)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection)

    def _do(self, job: Callable[[sqlite3.Connection], None]) -> None:
        if self._place.path is None:
            self._store.write_blocking(job)
            return
        try:
            if self._connection is None:
                # What a power loss takes from here is only how long a session lives that the loss has ended.
                self._connection = connect(self._place, "process", writes=True)
            job(self._connection)
        except CommitUnknown:
            self.close()
            raise
        except sqlite3.Error as error:
            self.close()
            raise translated(error, self._place) from error

    def _renew(self, connection: sqlite3.Connection) -> None:
        with writing(connection, self._place, patience=self._patience):
            now = store_time(connection, self._clock)
            renewed = connection.execute(
                "UPDATE session SET expires_at = ? WHERE id = ? AND expires_at > ?",
                (now + self._ttl, self._session, now),
            ).rowcount
        if not renewed:
            raise LeaseLost(
                f"Session {self._session!r} has expired or was ended, so it cannot be renewed; another host may hold "
                "its instances now. If this repeats, find what stalls this process for longer than lease_ttl, or raise "
                "lease_ttl."
            )

"""Which sessions live, as the database's rows and the lock files beside it say."""

from __future__ import annotations

import fcntl
import glob
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from wfe.model.moment import Moment
from wfe.providers.sqlite.creation import draft_path
from wfe.providers.sqlite.place import Place

__all__ = ["HostLock", "bury", "ended_uncleanly", "find_dead", "lock_path", "remove_leftovers", "remove_locks"]

_BURIED_AT_ONCE = 1000
_EXPIRES_AT = "CASE WHEN typeof(expires_at) = 'integer' THEN expires_at ELSE 0 END"
"""A session of a damaged row is over. If it lives, its host learns that when it renews it, and begins another."""
_YOUNG_SECONDS = 60.0


def lock_path(place: Place, session: str) -> Path:
    """Give the path of a session's lock file."""
    return place.beside(f"-host-{quote(session, safe='')}")


class HostLock:
    """An OS lock that a session holds from its begin to the death of its process."""

    _held: set[HostLock] = set()  # noqa: RUF012 - all of this process, for the child of a fork

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise
        self._held.add(self)

    def release(self) -> None:
        """Remove the file and let the lock go."""
        if self in self._held:
            self._held.discard(self)
            self.path.unlink(missing_ok=True)
            os.close(self._file)

    @classmethod
    def close_inherited(cls) -> None:
        """Close the copies that a forked child has: the lock must end with the parent."""
        for lock in cls._held:
            os.close(lock._file)  # noqa: SLF001 - of its own class
        cls._held.clear()


os.register_at_fork(after_in_child=HostLock.close_inherited)


def find_dead(connection: sqlite3.Connection, place: Place, now: Moment) -> list[int]:
    """Give the numbers of the sessions that are over: expired, or their process is dead."""
    dead = []
    for number, session, expires_at, locked in connection.execute(f"SELECT k, id, {_EXPIRES_AT}, locked FROM session"):
        if expires_at <= now or (locked and _is_free(lock_path(place, session))):
            dead.append(number)
    return dead


def ended_uncleanly(connection: sqlite3.Connection, place: Place, now: Moment) -> bool:
    """Tell whether a session is there whose process has died without ending it, or the whole machine with it."""
    return any(
        _is_free(path) or (expires_at <= now and not path.exists())
        for session, expires_at in connection.execute(f"SELECT id, {_EXPIRES_AT} FROM session WHERE locked")
        for path in [lock_path(place, session)]
    )


def bury(connection: sqlite3.Connection, dead: list[int]) -> list[str]:
    """Make what dead sessions held unheld; inside a write transaction.

    Fences stay: the next taking raises them. A session that held very much is done in parts, so that no transaction is
    long; its row stays until nothing is left.

    Returns:
        The sessions that are gone. When the transaction has committed, `remove_locks` does away with their lock files.
    """
    gone: list[str] = []
    for number in dead:
        (session,) = connection.execute(
            "UPDATE session SET expires_at = 0 WHERE k = ? RETURNING id", (number,)
        ).fetchone() or (None,)
        held = connection.execute(
            "SELECT n FROM instance WHERE owner = ? LIMIT ?", (number, _BURIED_AT_ONCE)
        ).fetchall()
        connection.executemany("UPDATE instance SET owner = NULL WHERE n = ?", held)
        connection.executemany(
            "INSERT OR IGNORE INTO called SELECT definition, n FROM instance "
            "WHERE n = ? AND EXISTS (SELECT 1 FROM inbox WHERE inbox.n = instance.n)",
            held,
        )
        if session is not None and len(held) < _BURIED_AT_ONCE:
            connection.execute("DELETE FROM session WHERE k = ?", (number,))
            gone.append(session)
    return gone


def remove_locks(place: Place, gone: list[str]) -> None:
    """Remove the lock files of sessions that are over."""
    if place.path is not None:
        for session in gone:
            lock_path(place, session).unlink(missing_ok=True)


def _is_free(path: Path) -> bool:
    """Tell whether a lock file exists and nobody locks it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A shared lock, so that two that look at the same time do not take each other for the holder.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def remove_leftovers(connection: sqlite3.Connection, place: Place) -> None:
    """Remove what killed processes have left beside the file: unlocked lock files without a session, unfinished files.

    Young ones stay: their session, or their file, may be beginning just now.
    """
    if place.path is None:
        return
    for path in _beside(place, draft_path(place, "")):
        if _is_old(path):
            path.unlink(missing_ok=True)
    locks = lock_path(place, "")
    for path in _beside(place, locks):
        session = unquote(path.name.removeprefix(locks.name))
        known = connection.execute("SELECT 1 FROM session WHERE id = ?", (session,)).fetchone()
        if known is None and _is_old(path) and _is_free(path):
            path.unlink(missing_ok=True)


def _beside(place: Place, stem: Path) -> Iterator[Path]:
    assert place.path is not None, "there is nothing beside a database in memory"
    return place.path.parent.glob(f"{glob.escape(stem.name)}*")


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _YOUNG_SECONDS
    except OSError:
        return False

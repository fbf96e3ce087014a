"""Connections: how they are opened, and how a write transaction begins."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Literal, TypeAlias
from urllib.parse import quote

from wfe.model.errors import ConfigurationError
from wfe.ports import gaps
from wfe.ports.gaps import Gap
from wfe.providers.sqlite.faults import BUSY_LIMIT_SECONDS, CommitUnknown, breaks_connection, is_busy, translated
from wfe.providers.sqlite.place import MEMORY, Place

__all__ = [
    "Durability",
    "begin_write",
    "checkpoint",
    "close",
    "commit",
    "connect",
    "relaxed",
    "roll_back",
    "settle",
    "snapshot",
    "writing",
]

Durability: TypeAlias = Literal["power", "process"]
"""`power`: what is committed survives a power loss. `process`: only the death of the process, and is faster."""

_WRITE_ATTEMPT_SECONDS = 0.008
_CHECKPOINT_PAGES = 4000
_CACHE_KIB = 16_384

# After a fork, the child's copies of these must not be closed: closing would touch the parent's files.
_open: set[sqlite3.Connection] = set()


def connect(
    place: Place,
    durability: Durability,
    *,
    writes: bool,
    first: Callable[[sqlite3.Connection, Place], object] | None = None,
) -> sqlite3.Connection:
    """Open a connection for use by one thread at a time.

    Args:
        first: Looks whether the file is the right one, before anything is done to it.
    """
    connection = sqlite3.connect(
        # Never make a file here: `create` does, with its mode.
        MEMORY if place.path is None else f"file:{quote(str(place.path))}?mode=rw",
        uri=place.path is not None,
        timeout=_WRITE_ATTEMPT_SECONDS if writes else BUSY_LIMIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        if first is not None:
            first(connection, place)
        _use_wal(connection, place)
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        if not writes:
            connection.execute("PRAGMA query_only = ON")
        settle(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def settle(connection: sqlite3.Connection) -> None:
    """Give a new connection what holds for all of them, and keep it from being closed by the child of a fork."""
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA trusted_schema = OFF")
    _open.add(connection)


def close(connection: sqlite3.Connection) -> None:
    """Close a connection; what is wrong with it no longer matters."""
    _open.discard(connection)
    try:
        connection.close()
    except sqlite3.Error:
        # The handle goes with the process at the latest; the file is consistent whatever happens here.
        return


def begin_write(
    connection: sqlite3.Connection,
    kind: Literal["IMMEDIATE", "EXCLUSIVE"] = "IMMEDIATE",
    *,
    patience: float = BUSY_LIMIT_SECONDS,
) -> None:
    """Take the write lock, waiting for other processes as long as `patience` (seconds).

    SQLite's own waiting sleeps for longer and longer, so that a process that commits without a pause would keep the
    others out for seconds. Short attempts find the gaps between its transactions.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute(f"BEGIN {kind}")
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        else:
            break
    if gaps.reached is not None:
        gaps.reached(Gap.SQLITE_BEGUN)


@contextmanager
def writing(connection: sqlite3.Connection, place: Place, *, patience: float = BUSY_LIMIT_SECONDS) -> Generator[None]:
    """Make what is done inside one transaction.

    Raises:
        CommitUnknown: The commit failed in a way that leaves its outcome open.
    """
    begin_write(connection, patience=patience)
    try:
        yield
    except BaseException:
        roll_back(connection)
        raise
    commit(connection, place)


@contextmanager
def relaxed(connection: sqlite3.Connection) -> Generator[None]:
    """Let commits return before the disk has them.

    For changes that a power loss may undo: sessions, and who holds what, for it ends all processes on the file anyway.
    A later commit that waits for the disk makes those before it durable, too.
    """
    (level,) = connection.execute("PRAGMA synchronous").fetchone()
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA synchronous = {level}")


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Generator[None]:
    """Let several statements read the same state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        roll_back(connection)


def commit(connection: sqlite3.Connection, place: Place) -> None:
    """Make the transaction durable.

    Raises:
        CommitUnknown: It failed in a way that leaves its outcome open.
    """
    try:
        if gaps.reached is not None:
            gaps.reached(Gap.SQLITE_WRITTEN)
        connection.execute("COMMIT")
        if gaps.reached is not None:
            gaps.reached(Gap.SQLITE_COMMITTED)
    except sqlite3.Error as error:
        if breaks_connection(error):
            raise CommitUnknown(str(translated(error, place))) from error
        roll_back(connection)
        raise


def checkpoint(connection: sqlite3.Connection) -> None:
    """Move what was committed from the write-ahead log into the file, as far as nobody is in the way."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction, if there still is one, without its changes."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _use_wal(connection: sqlite3.Connection, place: Place) -> None:
    if place.path is None:
        return
    mode = _wal_mode(connection)
    if mode != "wal":
        raise ConfigurationError(
            f"The SQLite file {place.path} cannot use a write-ahead log ({mode} instead); its file system has no "
            "shared memory. Put it on a local disk."
        )


def _wal_mode(connection: sqlite3.Connection) -> str:
    deadline = time.monotonic() + BUSY_LIMIT_SECONDS
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            # Two processes that make the same file at once: SQLite does not wait here by itself.
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.005)


def forget_after_fork() -> None:
    """Keep the parent's connections of a forked child from being closed there."""
    _inherited.extend(_open)


_inherited: list[sqlite3.Connection] = []
os.register_at_fork(after_in_child=forget_after_fork)

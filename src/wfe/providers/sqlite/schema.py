"""The tables, as numbered migrations.

An instance has a number besides its id: rows of instances that run at the same time then lie side by side, so that a
batch changes few pages, and keys are short. Definitions and sessions have numbers too.

What a commit inserts is numbered by the `batch` table, not by SQLite: no number is used again after its row is gone, so
cursors stay true and a remembered number never means another instance.
"""

from __future__ import annotations

import sqlite3
from contextlib import nullcontext

from wfe.model.errors import ConfigurationError
from wfe.ports.provider import no_store, older_store
from wfe.providers.sqlite.connection import begin_write, roll_back, snapshot
from wfe.providers.sqlite.place import Place

__all__ = ["APPLICATION_ID", "VERSION", "check_there", "check_up_to_date", "migrate", "version_of"]

APPLICATION_ID = 0x77666531  # "wfe1"
"""Says in a file that it is a store of wfe."""

_FIRST = (
    # The last batches, so that an unknown outcome can be found out; `outcome` is NULL when everything was accepted. The
    # last of them keeps store time and the last numbers given, so that a commit needs no row of its own for these.
    """CREATE TABLE batch (
        k INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, now INTEGER NOT NULL,
        instance INTEGER NOT NULL, log INTEGER NOT NULL, inbox INTEGER NOT NULL, event INTEGER NOT NULL,
        indexed INTEGER NOT NULL, inbox_first INTEGER NOT NULL, outcome BLOB
    )""",
    # `plan` is NULL for a key that instances use and that is not (or no longer) recorded.
    """CREATE TABLE definition (
        k INTEGER PRIMARY KEY, id TEXT NOT NULL, version INTEGER NOT NULL, hash TEXT NOT NULL, plan TEXT, source TEXT,
        UNIQUE (id, version, hash)
    )""",
    """CREATE TABLE session (
        k INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
        expires_at INTEGER NOT NULL, locked INTEGER NOT NULL
    )""",
    """CREATE TABLE instance (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, definition INTEGER NOT NULL, status TEXT NOT NULL,
        run INTEGER NOT NULL, revision INTEGER NOT NULL, fence INTEGER NOT NULL, owner INTEGER, wake_at INTEGER,
        activations INTEGER NOT NULL, blocked_reason TEXT, created_at INTEGER NOT NULL, ended_at INTEGER,
        name TEXT, reference TEXT, digest BLOB NOT NULL, parent_id TEXT, parent_pointer INTEGER, on_parent_end TEXT,
        head BLOB NOT NULL
    )""",
    # The indexes are partial so that a plain step, and a held instance on the whole, touches none but `owner`.
    "CREATE INDEX instance_owner ON instance (owner) WHERE owner IS NOT NULL",
    """CREATE INDEX instance_due ON instance (definition, wake_at)
        WHERE owner IS NULL AND wake_at IS NOT NULL AND status <> 'suspended'""",
    # Most instances run or are complete; the others are asked for, and are few.
    """CREATE INDEX instance_status ON instance (status)
        WHERE status <> 'runnable' AND status <> 'complete'""",
    "CREATE INDEX instance_name ON instance (name) WHERE name IS NOT NULL",
    "CREATE INDEX instance_reference ON instance (reference) WHERE reference IS NOT NULL",
    "CREATE INDEX instance_parent ON instance (parent_id) WHERE parent_id IS NOT NULL",
    # Unheld instances whose inbox may have rows: claims look here instead of into all inboxes.
    "CREATE TABLE called (definition INTEGER, n INTEGER, PRIMARY KEY (definition, n)) WITHOUT ROWID",
    "CREATE TABLE document (n INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE context (n INTEGER PRIMARY KEY, vals BLOB NOT NULL)",
    "CREATE TABLE pointer (n INTEGER, slot INTEGER, state BLOB NOT NULL, PRIMARY KEY (n, slot)) WITHOUT ROWID",
    "CREATE TABLE item (n INTEGER, pointer INTEGER, items BLOB NOT NULL, PRIMARY KEY (n, pointer)) WITHOUT ROWID",
    "CREATE TABLE error (n INTEGER, number INTEGER, error BLOB NOT NULL, PRIMARY KEY (n, number)) WITHOUT ROWID",
    """CREATE TABLE position (
        n INTEGER, name TEXT, key TEXT, sequence INTEGER NOT NULL, PRIMARY KEY (n, name, key)
    ) WITHOUT ROWID""",
    # A message, or a matched event: then `message` is NULL.
    """CREATE TABLE inbox (
        k INTEGER PRIMARY KEY, n INTEGER NOT NULL, request TEXT, message BLOB,
        pointer INTEGER, wait INTEGER, sequence INTEGER, name TEXT, key TEXT, payload BLOB
    )""",
    "CREATE INDEX inbox_instance ON inbox (n)",
    "CREATE INDEX inbox_request ON inbox (request) WHERE request IS NOT NULL",
    """CREATE TABLE subscription (
        n INTEGER, pointer INTEGER, wait INTEGER, name TEXT NOT NULL, key TEXT NOT NULL, as_of INTEGER NOT NULL,
        PRIMARY KEY (n, pointer, wait)
    ) WITHOUT ROWID""",
    "CREATE INDEX subscription_match ON subscription (name, key)",
    """CREATE TABLE event (
        sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, key TEXT NOT NULL,
        payload BLOB NOT NULL, time INTEGER NOT NULL
    )""",
    "CREATE INDEX event_match ON event (name, key)",
    """CREATE TABLE future (
        k INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, key TEXT NOT NULL,
        payload BLOB NOT NULL, effective_at INTEGER NOT NULL
    )""",
    "CREATE INDEX future_due ON future (effective_at)",
    """CREATE TABLE log (
        k INTEGER PRIMARY KEY, n INTEGER NOT NULL, revision INTEGER NOT NULL, first_sequence INTEGER NOT NULL,
        count INTEGER NOT NULL, run INTEGER NOT NULL, time INTEGER NOT NULL, records BLOB NOT NULL
    )""",
    # Which rows of the log are whose, of those up to `batch.indexed`. Thousands are entered at a time, sorted: an
    # index kept with each row costs a third of all that a step writes.
    """CREATE TABLE log_index (
        n INTEGER, first_sequence INTEGER, k INTEGER, PRIMARY KEY (n, first_sequence, k)
    ) WITHOUT ROWID""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)
"""Statements that lead from each version to the next. Old ones are never changed."""

VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, place: Place) -> None:
    """Bring the schema up to date, in one transaction that no other process can enter.

    Raises:
        ConfigurationError: The schema is newer than this program, or the file belongs to another program.
    """
    if version_of(connection, place) == VERSION:
        return
    begin_write(connection, "EXCLUSIVE")
    try:
        # Another process may have been first while this one waited.
        for statements in MIGRATIONS[version_of(connection, place) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def check_there(connection: sqlite3.Connection, place: Place) -> None:
    """Make sure that the file holds a store of this version or an older one.

    Raises:
        ConfigurationError: It is empty, belongs to another program or a newer version, or was tampered with.
    """
    if not version_of(connection, place):
        raise no_store(place.url, "the file is empty")


def check_up_to_date(connection: sqlite3.Connection, place: Place) -> None:
    """Make sure that the file holds a store of this version.

    Raises:
        ConfigurationError: As for `check_there`, or the store is an older one.
    """
    check_there(connection, place)
    version = version_of(connection, place)
    if version < VERSION:
        raise older_store(place.url, version, VERSION)


def version_of(connection: sqlite3.Connection, place: Place) -> int:
    """Give the number of the schema; 0 for an empty file.

    Raises:
        ConfigurationError: It is newer than this program, belongs to another one, or does not fit what the file holds.
    """
    # Of one moment: another process may be making the tables.
    with nullcontext() if connection.in_transaction else snapshot(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (version or tables):
        raise ConfigurationError(
            f"The SQLite file {place.path} belongs to another program. Name another file; wfe makes it."
        )
    if version > VERSION:
        raise ConfigurationError(
            f"The SQLite file {place.path} has schema {version}, made by a newer wfe; this one knows {VERSION}. "
            "Nothing was changed. Install the newer wfe, or name another file."
        )
    if version < 0 or (tables and not version):
        raise ConfigurationError(
            f"The SQLite file {place.path} has the tables of wfe, but says that its schema is {version}: another "
            "program has changed it. Nothing was changed now. Restore a backup, or set PRAGMA user_version to the "
            f"number that it had (this wfe makes {VERSION})."
        )
    return int(version)

"""What SQLite's errors mean to the users of the store."""

from __future__ import annotations

import re
import sqlite3

from wfe.model.errors import ConfigurationError, DataError, ProviderUnavailable, WfeError
from wfe.providers.sqlite.place import Place

__all__ = ["DAMAGE_ADVICE", "CommitUnknown", "breaks_connection", "is_busy", "is_damage", "translated"]

BUSY_LIMIT_SECONDS = 30.0

DAMAGE_ADVICE = "stop all its users, keep a copy, and restore a backup or use `sqlite3 … .recover`"
_ADVICE = {
    sqlite3.SQLITE_BUSY: (
        f"another process has held its write lock for {BUSY_LIMIT_SECONDS:.0f} s; "
        "see which one (fuser), and end it if it hangs"
    ),
    sqlite3.SQLITE_LOCKED: "a table is locked by another user of the same connection",
    sqlite3.SQLITE_READONLY: "it is read-only; give this user the right to write the file and its folder",
    sqlite3.SQLITE_PERM: "access is denied; give this user the right to read and write the file and its folder",
    sqlite3.SQLITE_AUTH: "access is denied",
    sqlite3.SQLITE_IOERR: "the disk answered with an error; see the system log, and free space if it is full",
    sqlite3.SQLITE_FULL: "the disk is full; free some space, then it goes on by itself",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; see that its folder exists and may be written",
    sqlite3.SQLITE_CORRUPT: f"it is damaged; {DAMAGE_ADVICE}",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database; name another file",
    sqlite3.SQLITE_NOMEM: "memory is exhausted",
    sqlite3.SQLITE_PROTOCOL: "its locks could not be taken; too many processes open it at once",
}
_OTHER_TABLES = ("no such ", "no query solution", "table ", "malformed database schema")
"""How SQLite begins to say that a table, column or index is missing, or is another: somebody dropped it, or a page of
the schema is damaged."""
_HOPELESS_AT_OPEN = frozenset(
    {
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)
_HARMLESS = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_INTERRUPT,
    }
)


_LACKS_A_PART = re.compile("no such (table|column|index)|table .* has (no column|[0-9]+ columns)")


class CommitUnknown(ProviderUnavailable):
    """A COMMIT failed in a way that leaves open whether it happened."""


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether only a lock of another connection was in the way."""
    return _primary(error) == sqlite3.SQLITE_BUSY


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether the file is not what SQLite has written."""
    return _primary(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def breaks_connection(error: sqlite3.Error) -> bool:
    """Tell whether the connection is not to be trusted any more, so that a new one must be opened."""
    return _primary(error) not in _HARMLESS


def translated(error: Exception, place: Place, *, opening: bool = False) -> WfeError:
    """Give our error for one of `sqlite3`; raise it `from` the original.

    Args:
        opening: The store is being opened, so what will not mend itself is a matter of configuration.
    """
    if isinstance(error, WfeError):
        return error
    if isinstance(error, UnicodeDecodeError):  # SQLite quotes a damaged page in what it says of it
        damaged = f"The SQLite file {_name(place)} could not be used: {_ADVICE[sqlite3.SQLITE_CORRUPT]}."
        return ConfigurationError(damaged) if opening else ProviderUnavailable(damaged)
    if isinstance(error, (OverflowError, UnicodeEncodeError, sqlite3.ProgrammingError, sqlite3.InterfaceError)):
        return DataError(f"A value cannot be stored in the SQLite file {_name(place)}: {error}.", reason="unstorable")
    code = _primary(error) if isinstance(error, sqlite3.Error) else -1
    if code == sqlite3.SQLITE_ERROR and _LACKS_A_PART.match(str(error)):
        return ConfigurationError(
            f"The SQLite file {_name(place)} could not be used: {error}. Another program has changed it: "
            f"{DAMAGE_ADVICE}."
        )
    advice = _ADVICE.get(code, "this was not expected; please report it")
    if str(error).startswith(_OTHER_TABLES):
        advice = f"its tables are not those that wfe makes; `wfe doctor --check` tells which, else {DAMAGE_ADVICE}"
    message = f"The SQLite file {_name(place)} could not be used: {error}; {advice}."
    if opening and code in _HOPELESS_AT_OPEN:
        return ConfigurationError(message)
    return ProviderUnavailable(message)


def _primary(error: sqlite3.Error) -> int:
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else -1


def _name(place: Place) -> str:
    return str(place.path) if place.path is not None else "in memory"

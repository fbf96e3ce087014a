"""Connections that only read: nothing is made or changed for them, neither the file nor what lies beside it."""

from __future__ import annotations

import os
import sqlite3
from urllib.parse import quote

from wfe.model.errors import ProviderUnavailable
from wfe.providers.sqlite.connection import settle
from wfe.providers.sqlite.faults import BUSY_LIMIT_SECONDS
from wfe.providers.sqlite.place import Place, found
from wfe.providers.sqlite.schema import check_up_to_date

__all__ = ["Reading"]

_RIGHTS = os.R_OK | os.W_OK


class Reading:
    """Opens such connections to one file, and tells whether what they read can be relied on."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._still: tuple[int, int, int] | None = None
        """What the file looked like when it was opened in the belief that nobody writes."""

    def open(self) -> sqlite3.Connection:
        """Open a connection that reads.

        Raises:
            ConfigurationError: There is no store that this version can read.
        """
        place = self._place
        place.check("read")
        assert place.path is not None
        self._still = None
        connection = sqlite3.connect(
            f"file:{quote(str(place.path))}?{self._how()}",
            uri=True,
            timeout=BUSY_LIMIT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA query_only = ON")
            check_up_to_date(connection, place)
        except BaseException:
            connection.close()
            raise
        settle(connection)
        return connection

    def _how(self) -> str:
        """Give the options with which SQLite leaves everything as it is.

        With `ro` it makes a write-ahead log that it cannot remove again, if there is none; with `rw` it removes the one
        that it makes, but also moves one that a crash has left into the file. And a user who may not write there can
        read a file without such a log only as one that never changes.
        """
        if found(self._place.beside("-wal")) is not None:
            return "mode=ro"
        if os.access(self._place.beside(""), _RIGHTS) and os.access(self._place.beside("").parent, _RIGHTS | os.X_OK):
            return "mode=rw"
        self._still = self._looks()
        return "mode=ro&immutable=1"

    def check(self) -> None:
        """Make sure that what was read since the opening is of one state.

        Raises:
            ProviderUnavailable: Somebody began to write into a file that had to be read as one that never changes.
        """
        if self._still is not None and self._still != self._looks():
            raise ProviderUnavailable(
                f"The SQLite file {self._place.path} was written while it was read without the right to share it; what "
                "was read does not count. Ask again, or give this user the right to write its folder."
            )

    def _looks(self) -> tuple[int, int, int]:
        there = found(self._place.beside(""))
        if there is None or found(self._place.beside("-wal")) is not None:
            return (0, 0, 0)
        return there.st_ino, there.st_size, there.st_mtime_ns

"""Places in the log."""

from __future__ import annotations

import re
from typing import NamedTuple

from wfe.model.errors import ConfigurationError

__all__ = ["LogCursor"]

_FORM = re.compile(r"(\d{1,18})\.(\d{1,18})\.(\d{1,18})(?:\.([0-9:,]+))?", re.ASCII)


class LogCursor(NamedTuple):
    """Transaction, instance and revision of the last row that was read: rows are read in that order."""

    xid: int = 0
    n: int = 0
    revision: int = 0
    seen: str = ""
    """Snapshot in which reading began "now": what it sees had happened before, though older transactions still ran."""

    @staticmethod
    def of(text: str) -> LogCursor:
        """Read a cursor.

        Raises:
            ConfigurationError: It is none of ours.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ConfigurationError(
                f"{text!r} is no cursor of this log; pass one that was given with what was read, unchanged."
            )
        return LogCursor(int(match[1]), int(match[2]), int(match[3]), match[4] or "")

    @staticmethod
    def of_snapshot(snapshot: str) -> LogCursor:
        """Give the place behind all that a snapshot (xmin:xmax:running) sees."""
        return LogCursor(int(snapshot.partition(":")[0]), 0, 0, snapshot)

    def moved(self, xid: int, n: int, revision: int) -> LogCursor:
        """Go on to a row that was read."""
        # A snapshot sees nothing from its xmax on.
        over = not self.seen or xid >= int(self.seen.split(":")[1])
        return LogCursor(xid, n, revision, "" if over else self.seen)

    def __str__(self) -> str:
        place = f"{self.xid}.{self.n}.{self.revision}"
        return f"{place}.{self.seen}" if self.seen else place

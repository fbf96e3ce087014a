"""Store time, and the numbers that rows get.

Each batch leaves them in its marker; the last marker has those in force.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeAlias

from wfe.model.moment import Moment

__all__ = ["INDEXED", "Counters", "SystemClock", "last_log", "store_time"]

SystemClock: TypeAlias = Callable[[], Moment]

_LAST = "SELECT k, now, instance, log, inbox, event, indexed FROM batch WHERE k = (SELECT max(k) FROM batch)"
INDEXED = "coalesce((SELECT indexed FROM batch WHERE k = (SELECT max(k) FROM batch)), 0)"
"""SQL for the last row of the log that `log_index` has."""
# Where the markers are gone, or the last of them is damaged: no number of a row that is there is given again.
_FOUND = (
    "SELECT coalesce((SELECT max(k) FROM batch), 0), 0, coalesce((SELECT max(n) FROM instance), 0), "
    "coalesce((SELECT max(k) FROM log), 0), coalesce((SELECT max(k) FROM inbox), 0), "
    "coalesce((SELECT max(sequence) FROM event), 0), coalesce((SELECT max(k) FROM log_index), 0)"
)
_NONE = (0, 0, 0, 0, 0, 0, 0)


class Counters:
    """The numbers while one transaction goes on with them. Every number is the last one given.

    `batch`: the marker. `indexed`: the last row of the log that `log_index` has.
    """

    __slots__ = ("batch", "event", "inbox", "indexed", "instance", "log", "now")

    def __init__(self, numbers: tuple[int, ...] = _NONE) -> None:
        self.batch, self.now, self.instance, self.log, self.inbox, self.event, self.indexed = numbers

    @staticmethod
    def read(connection: sqlite3.Connection) -> Counters:
        """Read the numbers in force; inside a transaction."""
        row = connection.execute(_LAST).fetchone()
        if row is None or any(type(number) is not int for number in row):
            row = connection.execute(_FOUND).fetchone()
        return Counters(row)

    def begun(self, system_now: Moment) -> Counters:
        """Give a copy for a transaction that begins now; time stands rather than going back with the clock."""
        return Counters(
            (self.batch, max(self.now, system_now), self.instance, self.log, self.inbox, self.event, self.indexed)
        )


def store_time(connection: sqlite3.Connection, clock: SystemClock) -> Moment:
    """Give store time: the system's, but never earlier than the last commit's."""
    row = connection.execute("SELECT now FROM batch WHERE k = (SELECT max(k) FROM batch)").fetchone()
    return clock() if row is None or type(row[0]) is not int else max(row[0], clock())


def last_log(connection: sqlite3.Connection) -> int:
    """Give the place of the last log row that was written."""
    row = connection.execute("SELECT log FROM batch WHERE k = (SELECT max(k) FROM batch)").fetchone()
    return 0 if row is None or type(row[0]) is not int else int(row[0])

"""Store time, and the numbers that rows get."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeAlias

from wfe.model.moment import Moment

__all__ = ["Counters", "SystemClock", "store_time"]

SystemClock: TypeAlias = Callable[[], Moment]


class Counters:
    """The row of `counters` while one transaction changes it. Every number is the last one given.

    `indexed`: the last row of the log that `log_index` has.
    """

    __slots__ = ("batch", "event", "inbox", "indexed", "instance", "log", "now")

    def __init__(self, row: tuple[int, ...], system_now: Moment) -> None:
        self.now, self.instance, self.log, self.inbox, self.event, self.batch, self.indexed = row
        # Never earlier than the last commit's, whatever the system clock does.
        self.now = max(self.now, system_now)

    def write(self, connection: sqlite3.Connection) -> None:
        """Store the numbers; part of the transaction that read them."""
        connection.execute(
            "UPDATE counters SET now = ?, instance = ?, log = ?, inbox = ?, event = ?, batch = ?, indexed = ? "
            "WHERE one = 1",
            (self.now, self.instance, self.log, self.inbox, self.event, self.batch, self.indexed),
        )


COUNTER_COLUMNS = "now, instance, log, inbox, event, batch, indexed"


def store_time(connection: sqlite3.Connection, clock: SystemClock) -> Moment:
    """Give store time: the system's, but never earlier than the last commit's."""
    (last,) = connection.execute("SELECT now FROM counters WHERE one = 1").fetchone()
    return max(int(last), clock())

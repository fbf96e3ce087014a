"""The SQLite provider: store, lease, hints and lifecycle of one database file."""

from __future__ import annotations

import os
import time

from wfe.model.errors import ConfigurationError
from wfe.model.moment import Moment
from wfe.ports.clock import Clock
from wfe.ports.provider import StoreMode, check_mode
from wfe.providers.sqlite.connection import Durability
from wfe.providers.sqlite.hints import SQLiteHints
from wfe.providers.sqlite.lease import SQLiteLease
from wfe.providers.sqlite.lifecycle import SQLiteLifecycle
from wfe.providers.sqlite.place import Place
from wfe.providers.sqlite.store import SQLiteStore

__all__ = ["SQLiteProvider"]


class SQLiteProvider:
    """Keeps everything in one file on a local disk. Several hosts and processes of one machine may use it at once.

    Args:
        path: The file, `:memory:`, or a `sqlite:///` URL of either. The file is made if there is none, with mode 0600;
            its folder must exist. What is in memory goes when the store is closed.
        durability: `power`: what is committed survives a power loss. `process`: it survives only the death of the
            process; a power loss may take the last commits (none in part), and commits are faster.
        clock: Gives store time; the system clock by default.
        mode: What opening may do: `create` a store where there is none; `write` one that is there; or only `read`, by
            which no file, table or setting is made or changed. A host needs one of the first two.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "power",
        clock: Clock | None = None,
        mode: StoreMode = "create",
    ) -> None:
        if durability not in ("power", "process"):
            raise ConfigurationError(f'Expected durability "power" or "process", got {durability!r}.')
        check_mode(mode)
        place = Place.of(path)
        now = _system_time if clock is None else clock.now
        self.url: str = place.url
        self.store: SQLiteStore = SQLiteStore(place, durability, now, mode)
        self.lease: SQLiteLease = SQLiteLease(place, now, self.store)
        self.hints: SQLiteHints = SQLiteHints(place)
        self.lifecycle: SQLiteLifecycle = SQLiteLifecycle(self.store)


def _system_time() -> Moment:
    return time.time_ns() // 1000

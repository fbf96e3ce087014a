"""Sessions of hosts in one process."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from wfe.model.errors import LeaseLost
from wfe.providers.memory.tables import Session, Tables

__all__ = ["MemoryLease", "MemoryRenewer"]


class MemoryLease:
    """Keeps sessions, timed by the monotonic side of the clock handed in."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def begin(self, session: str, *, name: str, ttl: timedelta) -> None:
        tables = self._tables
        with tables.lock:
            for over in [other for other in tables.sessions if not tables.is_alive(other)]:
                del tables.sessions[over]
            tables.sessions[session] = Session(name, tables.clock.monotonic() + ttl.total_seconds())

    async def end(self, session: str) -> None:
        with self._tables.lock:
            self._tables.sessions.pop(session, None)

    async def alive(self) -> Collection[str]:
        with self._tables.lock:
            return [session for session in self._tables.sessions if self._tables.is_alive(session)]

    def renewer(self, session: str, ttl: timedelta) -> MemoryRenewer:
        return MemoryRenewer(self._tables, session, ttl)


class MemoryRenewer:
    """Renews one session; may be called from any thread."""

    def __init__(self, tables: Tables, session: str, ttl: timedelta) -> None:
        self._tables = tables
        self._session = session
        self._ttl = ttl

    def renew(self) -> None:
        tables = self._tables
        with tables.lock:
            if not tables.is_alive(self._session):
                msg = (
                    f"Session {self._session!r} has expired or was ended, so it cannot be renewed; another host may "
                    "hold its instances now. If this repeats, find what stalls this process for longer than lease_ttl, "
                    "or raise lease_ttl."
                )
                raise LeaseLost(msg)
            tables.sessions[self._session].expires = tables.clock.monotonic() + self._ttl.total_seconds()

    def close(self) -> None:
        """Nothing is held."""

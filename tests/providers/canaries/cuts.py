"""A connection for memory, which has none to lose: so that what hosts are promised about lost ones can be broken."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from wfe.model.errors import ProviderUnavailable
from wfe.ports.hints import Hint, HintKind
from wfe.providers.memory import MemoryProvider
from wfe.providers.memory.lease import MemoryLease, MemoryRenewer
from wfe.testing import TestClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from wfe.ports.provider import Provider
    from wfe.providers.memory.tables import Tables

__all__ = ["RemoteLease", "RemoteRenewer", "cut", "remote", "tell_followers", "tell_receivers"]


class RemoteRenewer(MemoryRenewer):
    """The first renewal after a cut finds the connection lost, the next one makes it again."""

    def __init__(self, tables: Tables, session: str, ttl: timedelta) -> None:
        super().__init__(tables, session, ttl)
        self.is_connected = True

    def renew(self) -> None:
        if not self.is_connected:
            self.connect()
            msg = "The connection was lost."
            raise ProviderUnavailable(msg)
        super().renew()

    def connect(self) -> None:
        """Connect again."""
        self.is_connected = True


class RemoteLease(MemoryLease):
    """Gives renewers that can be cut off."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.tables = tables
        self.renewers: list[RemoteRenewer] = []

    def renewer(self, session: str, ttl: timedelta) -> MemoryRenewer:
        self.renewers.append(RemoteRenewer(self.tables, session, ttl))
        return self.renewers[-1]


@asynccontextmanager
async def remote() -> AsyncIterator[Provider]:
    """Make a memory provider whose renewers can be cut off."""
    provider: Any = MemoryProvider(clock=TestClock())
    provider.lease = RemoteLease(provider._tables)
    yield provider


async def cut(provider: Provider) -> None:
    """Lose every connection of a view; those that only listen have it again at once."""
    if isinstance(provider.lease, RemoteLease):
        for renewer in provider.lease.renewers:
            renewer.is_connected = False
    tell_receivers(provider)
    tell_followers(provider)


def tell_receivers(provider: Any) -> None:
    """Tell who receives hints here that some may have been lost."""
    for session in provider.hints._sessions:
        provider._exchange.receivers[session].take(Hint(HintKind.WORK, ()))


def tell_followers(provider: Any) -> None:
    """Let who reads announcements look for news."""
    for tell in tuple(provider._tables.listeners.values()):
        tell()

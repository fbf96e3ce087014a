"""The lease port: which hosts are alive.

A session is one start of one host. While it lives, what it holds is its own. Liveness decides only who may *try*: the
fences of the store keep an old holder from writing, whatever any clock or lease service says.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Protocol

__all__ = ["Lease", "Renewer"]


class Renewer(Protocol):
    """Renews one session from a thread of its own, with a connection of its own.

    All methods block; one thread calls them.
    """

    def renew(self) -> None:
        """Let the session live for another `ttl` from now, by the backend's clock.

        Gives up after a third of the TTL, so that there is time for another try.

        Raises:
            LeaseLost: The session had already expired or was ended; it cannot be renewed again.
            ProviderUnavailable: No answer; it may or may not have been renewed. Asking again is safe.
        """
        ...

    def close(self) -> None:
        """Give up the connection. The session goes on until it expires or is ended."""
        ...


class Lease(Protocol):
    """Keeps the sessions of hosts."""

    async def begin(self, session: str, *, name: str, ttl: timedelta) -> None:
        """Begin a session, alive for `ttl` unless renewed. `session` is random, new for every start; `name` is a label.

        Raises:
            ProviderUnavailable: No answer; begin with a new session id.
        """
        ...

    async def end(self, session: str) -> None:
        """End a session at once: what it held counts as unheld. Ending one that is over is harmless."""
        ...

    async def alive(self) -> Collection[str]:
        """Give the ids of the living sessions."""
        ...

    def renewer(self, session: str, ttl: timedelta) -> Renewer:
        """Make the renewer of a session; it connects when it is first used."""
        ...

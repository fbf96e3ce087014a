"""Opens connections, with what holds for all of them."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from wfe.providers.postgres.faults import Kind, client, kind_of
from wfe.providers.postgres.place import Place

if TYPE_CHECKING:
    import asyncpg

__all__ = ["CONNECT_SECONDS", "Connector"]

_log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
_PROBES = 3
"""Questions without an answer after which the other side counts as gone; a third of `keepalive` lies between them."""


class Connector:
    """Knows how to connect to one place: for the pool, for hints and for the renewer, each with its own connections.

    What the server must know is told as the connection begins. A pooler may refuse that; then the connection is made
    without, and the server's own settings hold.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._tells_settings = True
        self._attempts: set[asyncio.Task[asyncpg.Connection]] = set()
        """Those that nobody waits for any more."""

    @property
    def place(self) -> Place:
        """Where connections lead."""
        return self._place

    def forget_statements(self) -> None:
        """Prepare no statements from now on."""
        self._place = replace(self._place, statement_cache_size=0)

    async def connect(
        self, label: str, *, direct: bool = False, prepares: bool = True, timeout: float = CONNECT_SECONDS
    ) -> asyncpg.Connection:
        """Open a connection. The client's errors leave it as they are.

        Args:
            label: Its application name, by which the server's side of it is found.
            direct: Go past a pooler, where the URL names a way.
            prepares: Its statements come often enough to be prepared.
            timeout: How long to wait, in seconds.
        """
        attempt = asyncio.create_task(self._attempt(label, direct=direct, prepares=prepares), name="wfe connecting")
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(attempt)
        except BaseException:
            # The client leaves an error behind that nobody can fetch when it is cancelled while it connects. So it goes
            # on to its own end.
            self._attempts.add(attempt)
            attempt.add_done_callback(self._came_late)
            raise

    def _came_late(self, attempt: asyncio.Task[asyncpg.Connection]) -> None:
        self._attempts.discard(attempt)
        if not attempt.cancelled() and attempt.exception() is None:
            attempt.result().terminate()

    async def _attempt(self, label: str, *, direct: bool, prepares: bool) -> asyncpg.Connection:
        told = self._tells_settings or (direct and self._place.direct is not None)
        try:
            settings = _settings(self._place) if told else {}
            connection = await self._open(label, settings, direct=direct, prepares=prepares)
        except client().PostgresError as error:
            if not told or kind_of(error) is not Kind.SETTINGS:
                raise
            _log.warning(
                "PostgreSQL at %s is reached through a pooler that does not pass settings on (%s): going on without. "
                "Set them for the role instead; see the page on hosts and stores.",
                self._place.url,
                error,
            )
            self._tells_settings = False
            connection = await self._open(label, {}, direct=direct, prepares=prepares)
        _keep_alive(connection, self._place)
        return connection

    async def _open(self, label: str, settings: dict[str, str], *, direct: bool, prepares: bool) -> asyncpg.Connection:
        connection: asyncpg.Connection = await client().connect(
            self._place.direct_dsn if direct else self._place.dsn,
            timeout=CONNECT_SECONDS,
            statement_cache_size=self._place.statement_cache_size if prepares else 0,
            # Statements are few; those that commit must not be prepared anew every few minutes.
            max_cached_statement_lifetime=0,
            server_settings={"application_name": label} | settings,
        )
        return connection


def _settings(place: Place) -> dict[str, str]:
    reads = {"default_transaction_read_only": "on"} if place.mode == "read" else {}
    return reads | {
        # The functions rely on it: every statement sees what was committed before it.
        "default_transaction_isolation": "read committed",
        "statement_timeout": str(_milliseconds(place.statement_timeout)),
        # Shorter, so that a statement which is ended for its time was mostly at work, and did not wait for somebody
        # else. It counts anew for each lock, though: many short waits add up.
        "lock_timeout": str(_milliseconds(place.statement_timeout * 4 / 5)),
        "idle_in_transaction_session_timeout": str(_milliseconds(place.idle_in_transaction_timeout)),
        # A host that is cut off gives up its locks, long before TCP would by itself.
        "tcp_keepalives_idle": str(_whole_seconds(place.keepalive)),
        "tcp_keepalives_interval": str(_whole_seconds(place.keepalive / _PROBES)),
        "tcp_keepalives_count": str(_PROBES),
        "tcp_user_timeout": str(_milliseconds(place.keepalive * 2)),
    }


def _keep_alive(connection: asyncpg.Connection, place: Place) -> None:
    """Have the system ask whether the server is still there; it keeps routers from forgetting the connection, too."""
    transport = getattr(connection, "_transport", None)
    line = None if transport is None else transport.get_extra_info("socket")
    if line is None or line.family not in (socket.AF_INET, socket.AF_INET6):
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _whole_seconds(place.keepalive)),
        ("TCP_KEEPINTVL", _whole_seconds(place.keepalive / _PROBES)),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", _milliseconds(place.keepalive * 2)),
    ):
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            line.setsockopt(socket.IPPROTO_TCP, option, value)


def _milliseconds(duration: timedelta) -> int:
    return max(1, duration // timedelta(milliseconds=1))


def _whole_seconds(duration: timedelta) -> int:
    return max(1, round(duration.total_seconds()))

"""Connections, and trying again when one is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from wfe.model.errors import ProviderUnavailable
from wfe.providers.postgres.faults import Kind, client, connection_errors, kind_of, translate
from wfe.providers.postgres.place import Place

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Pool", "Retry", "connect"]

T = TypeVar("T")

_log = logging.getLogger(__name__)
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 2.0
_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 5.0


async def connect(place: Place, label: str = "wfe", *, timeout: float = _CONNECT_SECONDS) -> asyncpg.Connection:
    """Open a connection. The client's errors leave it as they are."""
    connection: asyncpg.Connection = await client().connect(
        place.dsn,
        timeout=timeout,
        statement_cache_size=place.statement_cache_size,
        # Statements are few; those that commit must not be prepared anew every few minutes.
        max_cached_statement_lifetime=0,
        server_settings={"application_name": label},
    )
    return connection


class Retry:
    """Counts what was tried, and says how long to wait before the next time: twice as long each time, less a random part."""

    def __init__(self, limit: float) -> None:
        self._deadline = monotonic() + limit
        self._pause = _FIRST_PAUSE
        self.attempt = 0

    @property
    def left(self) -> float:
        """Seconds until giving up."""
        return self._deadline - monotonic()

    async def pause(self) -> bool:
        """Wait, and give True; or give False at once if there is no time left."""
        self.attempt += 1
        pause = self._pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads hosts, guards nothing
        if pause >= self.left:
            return False
        await asyncio.sleep(pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        return True


class Pool:
    """A few connections of one loop.

    What runs on them must be safe to run twice: a connection can be lost after the server did the work.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._idle: list[asyncpg.Connection] = []
        self._room = asyncio.Semaphore(place.pool_size)
        self._closing = False
        self._busy = 0
        self._calm = asyncio.Event()
        self._calm.set()

    @property
    def place(self) -> Place:
        """Where the connections lead."""
        return self._place

    async def run(
        self, doing: str, work: Callable[[asyncpg.Connection, int], Coroutine[object, object, T]]
    ) -> T:
        """Do some work on a connection, again on another one if that is lost.

        `work` gets the connection and how often it was tried before.

        Raises:
            ProviderUnavailable: No answer within the limit; what was asked may or may not have happened.
            ConfigurationError: The server refuses, and would again.
            DataError: A value cannot be stored. Nothing was written.
        """
        retry = Retry(self._place.limit.total_seconds())
        errors = connection_errors()
        while True:
            try:
                async with self._connection(retry.left) as connection:
                    # Half-open connections answer never: time is limited for each try as for all of them.
                    async with asyncio.timeout(max(retry.left, 0.001)):
                        return await work(connection, retry.attempt)
            except errors as error:
                if not self._may_try_again(error) or not await retry.pause():
                    raise translate(error, self._place, doing) from error
                _log.warning("PostgreSQL at %s: could not %s, trying again: %s", self._place.url, doing, error)

    def _may_try_again(self, error: BaseException) -> bool:
        kind = kind_of(error)
        if kind is Kind.STATEMENT_CACHE and self._place.statement_cache_size:
            _log.warning(
                "Prepared statements do not reach PostgreSQL at %s: going on without them. Add "
                "statement_cache_size=0 to its URL.",
                self._place.url,
            )
            self._place = replace(self._place, statement_cache_size=0)
            self._drop_idle()
        return kind in (Kind.LOST, Kind.AGAIN, Kind.STATEMENT_CACHE) and not self._closing

    @contextlib.asynccontextmanager
    async def _connection(self, seconds: float) -> AsyncIterator[asyncpg.Connection]:
        if self._closing:
            raise ProviderUnavailable(f"The store on PostgreSQL at {self._place.url} is closed; open it first.")
        async with asyncio.timeout(max(seconds, 0.001)):
            await self._room.acquire()
        connection: asyncpg.Connection | None = None
        self._busy += 1
        self._calm.clear()
        try:
            connection = self._idle_one() or await connect(
                self._place, f"wfe {uuid4().hex[:12]}", timeout=max(min(seconds, _CONNECT_SECONDS), 0.001)
            )
            yield connection
        except BaseException as error:
            # After a cancellation or a timeout the answer may still be on its way: such a connection is not used again.
            if connection is not None:
                self._put_back(connection, usable=self._is_sound(error))
            raise
        else:
            self._put_back(connection, usable=True)
        finally:
            self._room.release()
            self._busy -= 1
            if not self._busy:
                self._calm.set()

    def _is_sound(self, error: BaseException) -> bool:
        asyncpg_errors = connection_errors()[0]
        return isinstance(error, asyncpg_errors) and kind_of(error) in (Kind.AGAIN, Kind.DATA, Kind.UNEXPECTED)

    def _idle_one(self) -> asyncpg.Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def _put_back(self, connection: asyncpg.Connection, *, usable: bool) -> None:
        if usable and not self._closing and not connection.is_closed():
            self._idle.append(connection)
        else:
            connection.terminate()

    def _drop_idle(self) -> None:
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()

    def open(self) -> None:
        """Allow work; a pool may be opened again after it was closed."""
        self._closing = False

    async def close(self) -> None:
        """Let what runs come to its end, within the limit, and disconnect."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._place.limit.total_seconds()):
                await self._calm.wait()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(_close(connection) for connection in idle))


async def _close(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=_CLOSE_SECONDS)
    except connection_errors():
        connection.terminate()

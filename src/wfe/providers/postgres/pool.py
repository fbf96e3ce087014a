"""Connections, and trying again when one is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar
from uuid import uuid4

from wfe.model.errors import ProviderUnavailable, WfeError
from wfe.model.repetition import Repetition
from wfe.ports.provider import only_read
from wfe.providers.postgres.connector import CONNECT_SECONDS, Connector
from wfe.providers.postgres.faults import Kind, connection_errors, is_refused_write, kind_of, took_too_long, translate
from wfe.providers.postgres.place import Place

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Pool", "Retry"]

T = TypeVar("T")

Work: TypeAlias = "Callable[[asyncpg.Connection, int], Coroutine[object, object, T]]"

_log = logging.getLogger(__name__)
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 2.0
_CLOSE_SECONDS = 5.0
_PATIENCE = 1.2
"""By how much a client waits longer than the server works: what the server ends by itself keeps its connection."""


class _Labelled(NamedTuple):
    connection: asyncpg.Connection
    label: str
    """Its application name, by which the server's side of it is found."""


class Retry:
    """Counts tries, and waits between them: twice as long each time, less a random part."""

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
    """A few connections of one loop, of which one at least is never taken by reads.

    What runs on them must be safe to run twice: a connection can be lost after the server did the work.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        place = connector.place
        self._limit = place.limit.total_seconds()
        self._statement_timeout = place.statement_timeout.total_seconds()
        self._idle: list[_Labelled] = []
        self._room = asyncio.Semaphore(place.pool_size)
        self._room_to_read = asyncio.Semaphore(max(place.pool_size - 1, 1))
        self._left_behind: set[str] = set()
        self._closing = False
        self._busy = 0
        self._calm = asyncio.Event()
        self._calm.set()
        self._trouble = Repetition()

    @property
    def connector(self) -> Connector:
        """How connections beside those of the pool are opened."""
        return self._connector

    @property
    def place(self) -> Place:
        """Where the connections lead."""
        return self._connector.place

    @property
    def is_open(self) -> bool:
        """Whether work is allowed."""
        return not self._closing

    async def run(
        self,
        doing: str,
        work: Work[T],
        *,
        first: bool = False,
        at_once: timedelta | None = None,
        within: timedelta | None = None,
    ) -> T:
        """Do some work on a connection, again on another one if that is lost.

        Args:
            doing: What it is, for messages: an infinitive.
            work: Gets the connection, and how often it was tried before.
            first: It need not wait for reads to end.
            at_once: How long one try may take; by default as long as the server works on one statement.
            within: How long to try to reach the server, if that is less than the place's limit.

        Raises:
            ProviderUnavailable: No answer within the limit; what was asked may or may not have happened.
            ConfigurationError: The server refuses, and would again.
            DataError: A value cannot be stored. Nothing was written.
            WfeError: The server refuses for a reason that is not known here.
        """
        limit = self._limit if within is None else min(self._limit, within.total_seconds())
        retry = Retry(limit)
        errors = connection_errors()
        while True:
            try:
                result = await self._try(doing, work, retry, first=first, at_once=at_once)
            except errors as error:
                if self.place.mode == "read" and is_refused_write(error):
                    raise only_read(self.place.url) from error
                if not self._may_try_again(error) or self._is_in_vain(error, retry) or not await retry.pause():
                    raise translate(error, self.place, doing, within=limit) from error
                if self._trouble.again():
                    _log.warning(
                        "PostgreSQL at %s: could not %s, trying again (failure %d in a row): %s",
                        self.place.url,
                        doing,
                        self._trouble.count,
                        str(error) or type(error).__name__,
                    )
            else:
                if failures := self._trouble.over():
                    _log.info("PostgreSQL at %s answers again, after %d failures.", self.place.url, failures)
                return result

    async def _try(self, doing: str, work: Work[T], retry: Retry, *, first: bool, at_once: timedelta | None) -> T:
        if self._room.locked() or not (first or not self._room_to_read.locked()):
            await self._wait_for_turn(retry.left, doing, first=first)
        else:  # most often: neither of these waits
            if not first:
                await self._room_to_read.acquire()
            await self._room.acquire()
        try:
            labelled = await self._take(retry.left)
            try:
                if self._left_behind:
                    await self._end_left_behind(labelled.connection)
                # A half-open connection never answers: some of the time is left for a new one.
                async with asyncio.timeout(self._patience(retry.left, at_once)):
                    result = await work(labelled.connection, retry.attempt)
            except BaseException as error:
                # After a cancellation or a timeout the answer may still be on its way: it is not used again.
                self._put_back(labelled, usable=_is_sound(error))
                raise
            self._put_back(labelled, usable=True)
            return result
        finally:
            self._room.release()
            if not first:
                self._room_to_read.release()

    def _patience(self, left: float, at_once: timedelta | None) -> float:
        if at_once is not None:
            return at_once.total_seconds()
        return max(min(left, self._statement_timeout * _PATIENCE), 0.001)

    def _may_try_again(self, error: BaseException) -> bool:
        kind = kind_of(error)
        if kind is Kind.STATEMENT_CACHE and self.place.statement_cache_size:
            _log.warning(
                "Prepared statements do not reach PostgreSQL at %s: going on without them. Add "
                "statement_cache_size=0 to its URL.",
                self.place.url,
            )
            self._connector.forget_statements()
            self._drop_idle()
        return kind in (Kind.LOST, Kind.AGAIN, Kind.STATEMENT_CACHE) and not self._closing

    def _is_in_vain(self, error: BaseException, retry: Retry) -> bool:
        """Whether the server gave up what took too long, and would have less time for it now."""
        return took_too_long(error) and retry.left < self._statement_timeout

    async def _wait_for_turn(self, seconds: float, doing: str, *, first: bool) -> None:
        seconds = max(min(seconds, self.place.acquire_timeout.total_seconds()), 0.001)
        may_read = first
        try:
            async with asyncio.timeout(seconds):
                if not first:
                    may_read = await self._room_to_read.acquire()
                await self._room.acquire()
        except BaseException as error:
            if may_read and not first:
                self._room_to_read.release()
            if not isinstance(error, TimeoutError):
                raise
            raise ProviderUnavailable(
                f"Could not {doing}: all {self.place.pool_size} connections to PostgreSQL at {self.place.url} have "
                f"been in use for {seconds:.3g} s. Nothing was asked of the server. Find what it is busy with, or "
                "raise pool_size."
            ) from error

    async def _take(self, seconds: float) -> _Labelled:
        """Give a connection, which is to be put back."""
        if self._closing:
            raise ProviderUnavailable(f"The store on PostgreSQL at {self.place.url} is closed; open it first.")
        self._busy += 1
        self._calm.clear()
        try:
            return self._idle_one() or await self._connect(seconds)
        except BaseException:
            self._is_back()
            raise

    def _is_back(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._calm.set()

    async def _connect(self, seconds: float) -> _Labelled:
        label = f"wfe {uuid4().hex}"
        seconds = max(min(seconds, CONNECT_SECONDS), 0.001)
        connection = await self._connector.connect(label, timeout=seconds)
        return _Labelled(connection, label)

    async def _end_left_behind(self, connection: asyncpg.Connection) -> None:
        """End the server's side of connections that were dropped with work under way, as it may hold locks.

        (One that waits for a client that is gone to take its rows would hold them until TCP gives up.)
        """
        labels = list(self._left_behind)
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = ANY ($1::text[]) AND pid <> pg_backend_pid()",
                labels,
            )
        self._left_behind.difference_update(labels)

    def _idle_one(self) -> _Labelled | None:
        while self._idle:
            labelled = self._idle.pop()
            if not labelled.connection.is_closed():
                return labelled
        return None

    def _put_back(self, labelled: _Labelled, *, usable: bool) -> None:
        self._is_back()
        if usable and not self._closing and not labelled.connection.is_closed():
            self._idle.append(labelled)
            return
        if not usable:
            self._left_behind.add(labelled.label)
        labelled.connection.terminate()

    def _drop_idle(self) -> None:
        for labelled in self._idle:
            labelled.connection.terminate()
        self._idle.clear()

    def open(self) -> None:
        """Allow work; a pool may be opened again after it was closed."""
        self._closing = False

    async def close(self) -> None:
        """Let what runs come to its end, within the limit, and disconnect."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.place.limit.total_seconds()):
                await self._calm.wait()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(_close(labelled.connection) for labelled in idle))


def _is_sound(error: BaseException) -> bool:
    """Tell whether the connection is in order after an error."""
    refused = isinstance(error, connection_errors()) and kind_of(error) in (Kind.AGAIN, Kind.DATA, Kind.UNEXPECTED)
    return refused or isinstance(error, WfeError)


async def _close(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=_CLOSE_SECONDS)
    except connection_errors():
        connection.terminate()

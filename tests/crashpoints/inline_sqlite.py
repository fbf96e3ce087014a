"""The SQLite provider without threads: its jobs run where they are asked for, so that virtual time can pass."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tests.crashpoints.exchange import Exchange, ExchangeHints
from wfe.model.errors import ConfigurationError
from wfe.providers.sqlite import SQLiteProvider
from wfe.providers.sqlite.connection import close
from wfe.providers.sqlite.sessions import HostLock
from wfe.providers.sqlite.worker import Worker, _nothing, _ours
from wfe.testing.failpoints import Crashed

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from wfe.ports.clock import Clock
    from wfe.ports.lease import Renewer
    from wfe.providers.sqlite.lease import SQLiteRenewer

__all__ = ["InlineSQLite"]

T = TypeVar("T")


class _InlineWorker(Worker):
    """Runs each job at once, on the caller's thread."""

    async def start(self) -> None:
        self._process = os.getpid()
        self._pause = self._next_try = 0.0
        self._thread = threading.current_thread()
        try:
            await self.call(_nothing, opening=True)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        self._thread = None
        self.abandon()

    def call(self, job: Callable[[sqlite3.Connection], T], *, opening: bool = False) -> asyncio.Future[T]:
        self._refuse_wrong_use()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(self._execute(job))
        except Crashed:
            self.abandon()  # at once: others must not wait for its locks. Nobody is there any more to be told
        except Exception as error:  # noqa: BLE001 - as the worker does
            future.set_exception(_ours(error, self._place, opening=opening))
        return future

    def abandon(self) -> None:
        """Close the connection as the operating system does: what is not committed is gone."""
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection)


class _InlineRenewer:
    """Renews a session; if its process dies meanwhile, its connection goes at once."""

    def __init__(self, inner: SQLiteRenewer) -> None:
        self._inner = inner

    def renew(self) -> None:
        try:
            self._inner.renew()
        except Crashed:
            self._inner.close()
            raise

    def close(self) -> None:
        self._inner.close()


class InlineSQLite(SQLiteProvider):
    """One process's way to the file."""

    def __init__(self, path: Path, clock: Clock, exchange: Exchange) -> None:
        super().__init__(path, durability="process", clock=clock)
        store = self.store
        one_reader = store._reader is store._writer
        writer, reader = store._writer, store._reader
        store._writer = _InlineWorker(writer._name, writer._place, writer._open_connection)
        store._reader = (
            store._writer if one_reader else _InlineWorker(reader._name, reader._place, reader._open_connection)
        )
        store.check = self._check  # type: ignore[method-assign]  # it has a thread of its own
        self._renewers: list[_InlineRenewer] = []
        make = self.lease.renewer

        def renewer(session: str, ttl: timedelta) -> Renewer:
            made = _InlineRenewer(make(session, ttl))
            self._renewers.append(made)
            return made

        self.lease.renewer = renewer  # type: ignore[method-assign, assignment]  # to know them when the process dies
        self.hints = ExchangeHints(exchange)  # type: ignore[assignment]  # sockets need a loop of the real world

    async def _check(self) -> None:
        """Look whether the file is sound, as a host does when another one has not ended in good order."""
        ((found,),) = await self.store.read(lambda connection: connection.execute("PRAGMA quick_check(3)").fetchall())
        if found != "ok":
            raise ConfigurationError(found)

    def abandon(self) -> None:
        """Do what the operating system does when the process dies: connections and locks go, files stay."""
        for worker in (self.store._writer, self.store._reader):
            assert isinstance(worker, _InlineWorker)
            worker.abandon()
        for renewer in self._renewers:
            renewer.close()
        for lock in self.lease._locks.values():
            if lock in HostLock._held:
                HostLock._held.discard(lock)
                os.close(lock._file)
        self.lease._locks.clear()

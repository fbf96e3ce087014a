"""Runs on PostgreSQL: in real time, with real connections."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context, copy_context
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import asyncpg

from tests.crashpoints.places import Place
from wfe.host.session import ThreadRenewal
from wfe.host.system import SystemClock
from wfe.providers.postgres import PostgresProvider
from wfe.testing.failpoints import Crashed
from wfe.testing.simulation.loop import PROCESS, Process, last_words, unheard

if TYPE_CHECKING:
    from wfe import WorkflowHost
    from wfe.ports.provider import Provider
    from wfe.providers.postgres.lease import PostgresRenewer

__all__ = ["PostgresPlace"]

_EMPTY = """
DO $$
DECLARE found text;
BEGIN
    SELECT string_agg(format('wfe.%I', tablename), ', ') INTO found
        FROM pg_tables WHERE schemaname = 'wfe' AND tablename <> 'migration';
    IF found IS NOT NULL THEN
        EXECUTE 'TRUNCATE ' || found;
    END IF;
END
$$
"""


class _Renewal(ThreadRenewal):
    """Renews on a thread that may let its process die, and ends with it without a word."""

    def _go(self, rounds: Generator[float, None, None]) -> None:
        with contextlib.suppress(Crashed):
            super()._go(rounds)


class _Connection(PostgresProvider):
    """One process's way to the server. Knows its sessions, to end them where a dead host's would expire."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sessions: list[str] = []
        begin = self.lease.begin

        async def beginning(session: str, *, name: str, ttl: timedelta) -> None:
            self.sessions.append(session)
            await begin(session, name=name, ttl=ttl)

        self.lease.begin = beginning  # type: ignore[method-assign]
        self._renewers: list[PostgresRenewer] = []
        renewer = self.lease.renewer

        def making(session: str, ttl: timedelta) -> PostgresRenewer:
            self._renewers.append(renewer(session, ttl))
            return self._renewers[-1]

        self.lease.renewer = making  # type: ignore[method-assign]

    def cut(self) -> None:
        """Drop the connections of the store."""
        self.store._pool._drop_idle()

    def end(self) -> None:
        """Drop those of the threads that renewed sessions, as the death of their process does. Not in a loop."""
        for renewer in self._renewers:
            renewer.close()


class PostgresPlace(Place):
    """A database that is emptied before each run."""

    is_virtual = False
    pace = 0.1

    def __init__(self, url: str) -> None:
        self.latency = None
        self.loop = asyncio.new_event_loop()
        self._thread = threading.current_thread()
        self.clock = SystemClock()
        self._url = url
        self._root = Process("world")
        self._connections: list[_Connection] = []
        self._problems: list[str] = []
        self.loop.set_exception_handler(self._note)
        self._tasks: list[tuple[asyncio.Task[Any], Process | None]] = []
        """All that were ever made: those of the dead must not be collected, for that would run their last blocks."""
        self.loop.set_task_factory(self._make_task)
        self.loop.run_until_complete(self._empty())

    async def _empty(self) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(_EMPTY)
        finally:
            await connection.close()

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._problems.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        context: Context = options.get("context") or copy_context()
        self._tasks.append((task, context.get(PROCESS)))
        return task

    def _unheard(self) -> list[asyncio.Task[Any]]:
        """List what has failed without anybody asking, in processes that live: the dead go on here until they ask."""
        living = [task for task, process in self._tasks if process is None or not process.dead]
        ready = cast("Any", self.loop)._ready
        return [task for task in unheard(living, ready) if not isinstance(task.exception(), Crashed)]

    def connect(self) -> Provider:
        connection = _Connection(self._url)
        self._connections.append(connection)
        return cast("Provider", connection)

    async def bury(self, backend: Provider) -> None:
        """Let the time pass after which the sessions of the dead are over."""
        dead = cast("_Connection", backend)
        dead.cut()
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute("DELETE FROM wfe.session WHERE id = ANY ($1::text[])", dead.sessions)
        except asyncpg.UndefinedTableError:
            pass  # it died before it had made the tables
        finally:
            await connection.close()

    def process(self, name: str) -> Process:
        return Process(name)

    def context_of(self, process: Process) -> Context:
        context = copy_context()
        context.run(PROCESS.set, process)
        return context

    def root_context(self) -> Context:
        return self.context_of(self._root)

    def in_loop(self, call: Callable[[], None]) -> None:
        if threading.current_thread() is self._thread:
            call()
            return
        with contextlib.suppress(RuntimeError):  # the run is over: nobody is left whom it concerns
            self.loop.call_soon_threadsafe(call)

    def prepare(self, host: WorkflowHost) -> None:
        host._life.renewal = _Renewal

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        self.loop.run_until_complete(cast("Any", work()))

    def close(self) -> list[str]:
        problems = [*self._problems, *map(last_words, self._unheard())]
        self._problems.clear()
        self.loop.set_exception_handler(lambda *_: None)  # what the dead say now is of no account
        self.loop.run_until_complete(self._end_all())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        for connection in self._connections:
            connection.end()
        return problems

    async def _end_all(self) -> None:
        while tasks := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.1)  # what they do at their end may wait for ever as well
        for connection in self._connections:
            connection.cut()
        await asyncio.sleep(0)

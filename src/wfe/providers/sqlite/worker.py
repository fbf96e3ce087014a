"""Threads that own a connection each and run jobs on it, one after another."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

from wfe.model.errors import ConfigurationError, ProviderUnavailable, WfeError
from wfe.ports.provider import only_read
from wfe.providers.sqlite.columns import is_unreadable_text, read_any_text
from wfe.providers.sqlite.connection import close, roll_back
from wfe.providers.sqlite.faults import BUSY_LIMIT_SECONDS, breaks_connection, is_busy, translated
from wfe.providers.sqlite.place import Place

__all__ = ["NoWriter", "Worker"]

T = TypeVar("T")
_IDLE_SECONDS = 1.0
_MANY_JOBS = 100
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0


class Worker:
    """Runs jobs on one connection in a thread of its own.

    After an error that leaves the connection in doubt it is dropped, and opened again for the next job; while that
    fails, jobs are refused at once and the pauses between tries grow.
    """

    def __init__(
        self,
        name: str,
        place: Place,
        open_connection: Callable[[], sqlite3.Connection],
        idle: Callable[[sqlite3.Connection], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """`idle` is run once when nothing was asked for a while after many jobs, `check` after each job."""
        self._name = name
        self._place = place
        self._open_connection = open_connection
        self._idle = idle
        self._check = check
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._pause = 0.0
        self._next_try = 0.0
        self._refusal = ""

    def refuse(self, why: str) -> None:
        """Take no more jobs until it is started anew."""
        self._refusal = why

    @property
    def is_running(self) -> bool:
        """Whether jobs are taken."""
        return self._thread is not None

    async def start(self) -> None:
        """Open the connection and begin to take jobs.

        Raises:
            ConfigurationError, ProviderUnavailable: It cannot be opened; nothing was begun.
        """
        self._process = os.getpid()
        self._refusal = ""
        self._pause = self._next_try = 0.0  # what failed before somebody asked anew does not count
        self._jobs = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()
        try:
            await self.call(_nothing, opening=True)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Run the jobs that are waiting, then close the connection."""
        thread, self._thread = self._thread, None
        if thread is None or os.getpid() != self._process:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._jobs.put(lambda: self._leave(loop, done))
        self._jobs.put(None)
        await done
        thread.join()

    def call(self, job: Callable[[sqlite3.Connection], T], *, opening: bool = False) -> asyncio.Future[T]:
        """Run a job on the connection and give its result.

        Foreign errors are translated. A job that has begun is not stopped by cancelling the future.
        """
        self._refuse_wrong_use()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                result = self._execute(job)
            except Exception as error:  # noqa: BLE001 - it is handed to the caller, whatever it is
                _post(loop, partial(_fail, future, _ours(error, self._place, opening=opening)))
            else:
                _post(loop, partial(_succeed, future, result))

        self._jobs.put(work)
        return future

    def call_blocking(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job on the connection; for other threads than the loop's."""
        self._refuse_wrong_use()
        done = threading.Event()
        outcome: list[T] = []
        failure: list[Exception] = []

        def work() -> None:
            try:
                outcome.append(self._execute(job))
            except Exception as error:  # noqa: BLE001 - it is raised in the caller's thread
                failure.append(_ours(error, self._place))
            done.set()

        self._jobs.put(work)
        done.wait()
        if failure:
            raise failure[0]
        return outcome[0]

    def _refuse_wrong_use(self) -> None:
        if self._refusal:
            raise ProviderUnavailable(self._refusal)
        if self._thread is None:
            raise ProviderUnavailable(f"The store {self._place.url} is not open. Open it first.")
        if os.getpid() != self._process:
            raise ConfigurationError(
                f"The store {self._place.url} was opened by process {self._process} and cannot be used in its child "
                f"{os.getpid()}. Open a store of its own in each process, after the fork."
            )

    def _run(self) -> None:
        done = 0
        while True:
            try:
                work = self._jobs.get(timeout=_IDLE_SECONDS if self._idle and done >= _MANY_JOBS else None)
            except Empty:
                done = 0
                self._rest()
                continue
            if work is None:
                return
            work()
            done += 1

    def _rest(self) -> None:
        try:
            if self._idle is not None:
                self._execute(self._idle)
        except (sqlite3.Error, WfeError):
            # Nobody has asked for this; who asks next is told if it lasts.
            return

    def _execute(self, job: Callable[[sqlite3.Connection], T]) -> T:
        deadline = time.monotonic() + BUSY_LIMIT_SECONDS
        while True:
            connection = self._connection or self._connect()
            try:
                result = job(connection)
                if self._check is not None:
                    self._check()
            except Exception as error:
                if is_unreadable_text(error) and connection.text_factory is str:
                    # A sound store never pays for this; of a damaged one, only the rows with such texts suffer.
                    roll_back(connection)
                    read_any_text(connection)
                    continue
                self._mend(connection, error)
                # A read, too, is refused for a moment while another process repairs what a crash has left.
                if not isinstance(error, sqlite3.Error) or not is_busy(error) or time.monotonic() > deadline:
                    raise
            else:
                return result

    def _connect(self) -> sqlite3.Connection:
        now = time.monotonic()
        if now < self._next_try:
            raise ProviderUnavailable(
                f"The store {self._place.url} is not usable; it is opened again in {self._next_try - now:.1f} s."
            )
        try:
            self._connection = self._open_connection()
        except Exception:
            self._pause = min(max(self._pause * 2, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
            self._next_try = now + self._pause
            raise
        self._pause = 0.0
        return self._connection

    def _mend(self, connection: sqlite3.Connection, error: Exception) -> None:
        """Leave no transaction open, and no connection that cannot be trusted."""
        cause = error if isinstance(error, sqlite3.Error) else error.__cause__
        broken = isinstance(cause, UnicodeDecodeError) or (
            isinstance(cause, sqlite3.Error) and breaks_connection(cause)
        )
        try:
            roll_back(connection)
        except sqlite3.Error:
            broken = True
        if broken and self._place.path is not None:
            self._connection = None
            close(connection)

    def _leave(self, loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
        if self._connection is not None:
            close(self._connection)
            self._connection = None
        _post(loop, partial(_succeed, done, None))


class NoWriter(Worker):
    """Stands where a writer would, of a store that is only read."""

    async def start(self) -> None:
        """Open nothing."""

    async def stop(self) -> None:
        """Close nothing."""

    def _refuse_wrong_use(self) -> None:
        raise only_read(self._place.url)


def _ours(error: Exception, place: Place, *, opening: bool = False) -> Exception:
    if isinstance(error, (sqlite3.Error, OverflowError, UnicodeEncodeError, UnicodeDecodeError)):
        ours = translated(error, place, opening=opening)
        ours.__cause__ = error
        return ours
    return error


def _nothing(_: sqlite3.Connection) -> None:
    """Only have the connection opened."""


def _post(loop: asyncio.AbstractEventLoop, settle: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        # The loop is closed: nobody waits for this answer any more.
        return


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

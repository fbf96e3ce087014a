"""The time limit of one attempt, and of the hooks around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

__all__ = ["Overrun", "TimeLimit", "run_within"]

_T = TypeVar("_T")


class Overrun(Exception):
    """The time was over before the work was."""


class TimeLimit:
    """How long something may take. Its clock begins when the work has its place, not while it queues for one."""

    def __init__(self, limit: timedelta, *, begun: Callable[[], None] | None = None) -> None:
        """Make a limit.

        Args:
            begun: Called when the clock begins; from the thread that took the work, if one did.
        """
        self._limit = limit
        self._begun = begun
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False
        self.over: asyncio.Future[None] = self._loop.create_future()

    def begin(self) -> None:
        """The work has its place. In the loop."""
        if self._begun is not None:
            self._begun()
        self._start_clock()

    def begin_from_thread(self) -> None:
        """The work has its place, which is the calling thread."""
        if self._begun is not None:
            self._begun()
        self._loop.call_soon_threadsafe(self._start_clock)

    def _start_clock(self) -> None:
        if self._timer is None and not self._is_stopped:
            self._timer = self._loop.call_later(self._limit.total_seconds(), self._end)

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def stop(self) -> None:
        """Nobody waits any more."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()


async def run_within(limit: TimeLimit, work: Coroutine[Any, Any, _T], *, grace: float, over: Callable[[], None]) -> _T:
    """Run something until its limit is reached; then cancel it and wait for its end, for at most `grace` seconds.

    Args:
        over: Called when the limit is reached, before the work is cancelled.

    Raises:
        Overrun: The limit was reached.
    """
    # A task of its own, so that a coroutine that swallows its cancellation can be left behind.
    task = asyncio.ensure_future(_caught(work))
    either: list[asyncio.Future[Any]] = [task, limit.over]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=grace)
        if not done:
            raise
    finally:
        limit.stop()
    if task.done():
        answer, error = task.result()
        if error is not None:
            raise error
        return answer  # type: ignore[return-value]  # there is one where there is no error
    over()
    task.cancel()
    await asyncio.wait([task], timeout=grace)
    raise Overrun


async def _caught(work: Coroutine[Any, Any, _T]) -> tuple[_T | None, BaseException | None]:
    try:
        return await work, None
    except BaseException as error:  # noqa: BLE001 - a SystemExit that ends a task ends the whole loop
        return None, error

"""A bounded pool of threads for bodies that are not coroutines.

A body that overstays its time cannot be killed; it is abandoned. Its thread no longer counts against the bound, and
ends
when the body does, so that hanging bodies never use up the pool.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Call", "ThreadPool"]


class Call:
    """One call on the pool."""

    __slots__ = ("_pool", "abandoned", "context", "done", "function", "loop", "started")

    def __init__(self, pool: ThreadPool, function: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self.function = function
        self.loop = loop
        self.done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
        """Gets the answer or the error. A future's own exception cannot be a StopIteration, but a body's can."""
        self.started = False
        self.abandoned = False

    def abandon(self) -> None:
        """Give up waiting for it. If it has not begun it never will; if it runs, its thread no longer counts."""
        self._pool.abandon(self)

    def finish(self, answer: object, error: BaseException | None) -> None:
        """Hand the outcome over, in the loop."""
        if not self.done.done():
            self.done.set_result((answer, error))


class ThreadPool:
    """Runs calls on at most `limit` threads, started when needed."""

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._waiting = 0
        """Calls that no thread has taken yet. Counted, because a thread takes one before it can say so."""
        self._closed = False

    def submit(self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> Call:
        """Call a function on a thread; `done` of what is given back is a future of `loop`."""
        call = Call(self, function, loop)
        with self._lock:
            self._calls.put(call)
            self._waiting += 1
            if self._idle < self._waiting and self._threads < self._limit:
                self._start_thread()
        return call

    def _start_thread(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def abandon(self, call: Call) -> None:
        """See `Call.abandon`."""
        with self._lock:
            if call.abandoned:
                return
            call.abandoned = True
            if call.started:
                self._threads -= 1
                if not self._closed and self._waiting and self._threads < self._limit:
                    self._start_thread()

    def close(self) -> None:
        """Let idle threads end; threads that are busy end with their call. Does not wait for them."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._calls.put(None)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            call = self._calls.get()
            with self._lock:
                self._idle -= 1
                if call is None:
                    self._threads -= 1
                    return
                self._waiting -= 1
                if call.abandoned:
                    continue
                call.started = True
            answer, error = None, None
            try:
                answer = call.function()
            except BaseException as raised:  # noqa: BLE001 - SystemExit of a body must not end the thread unseen
                error = raised
            try:
                call.loop.call_soon_threadsafe(call.finish, answer, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            with self._lock:
                if _was_abandoned(call):
                    return
                call.started = False


def _was_abandoned(call: Call) -> bool:
    """Look again: another thread may have given the call up while it ran."""
    return call.abandoned

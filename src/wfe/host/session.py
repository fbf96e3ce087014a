"""The session of a host.

Begun at its start, renewed by a thread of its own, and given up when renewal fails for too long.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from wfe.model.errors import LeaseLost, WfeError

if TYPE_CHECKING:
    from wfe.ports.clock import Clock
    from wfe.ports.lease import Lease, Renewer

__all__ = ["Renewal", "Session", "ThreadRenewal"]

_log = logging.getLogger("wfe.host")

_STALL_NAMED_AFTER = 1.0
_SURE_FOR = 0.9
"""Share of the TTL after which the host no longer relies on its session."""


class Renewal(Protocol):
    """Goes through the rounds of a renewal beside the event loop, pausing between them."""

    def start(self, rounds: Generator[float, None, None]) -> None:
        """Begin: each item is the pause, in seconds, after which the next one is asked for."""
        ...

    async def stop(self) -> None:
        """Ask for no further round."""
        ...


class ThreadRenewal:
    """Goes through the rounds on a thread of its own, so that a busy loop does not hold them up."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, rounds: Generator[float, None, None]) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._go, args=(rounds,), name="wfe-lease", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread, and wait for it for a while."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 5)

    def _go(self, rounds: Generator[float, None, None]) -> None:
        with closing(rounds):
            for pause in rounds:
                if self._stop.wait(pause):
                    break


class Session:
    """Keeps one session alive, and says when it is lost.

    Renewal is every third of the TTL. After two thirds without success the host counts itself as fenced: its monotonic
    clock says
    so before the store's can. A loop that stands still for `stall_limit` is not renewed for ever: its host is as good
    as dead.
    """

    def __init__(
        self,
        lease: Lease,
        session_id: str,
        *,
        ttl: timedelta,
        clock: Clock,
        stall_limit: float,
        lost: Callable[[str], None],
        renewal: Callable[[], Renewal] = ThreadRenewal,
    ) -> None:
        self.id = session_id
        self._lease = lease
        self._ttl = ttl.total_seconds()
        self._ttl_delta = ttl
        self._clock = clock
        self._stall_limit = stall_limit
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._renewal = renewal()
        self._beat = self._renewed = clock.monotonic()
        self._named_at = 0.0
        self._is_over = False

    async def begin(self, name: str) -> None:
        """Begin the session and its renewal."""
        self._renewed = self._clock.monotonic()
        await self._lease.begin(self.id, name=name, ttl=self._ttl_delta)
        self._renewal.start(self._rounds())

    def is_sure(self) -> bool:
        """Tell whether the session cannot have expired, by this machine's steady clock; give it up if it may have.

        After the whole process stood still, whatever was ready runs before the renewal has its turn.
        """
        silent = self._clock.monotonic() - self._renewed
        if silent < self._ttl * _SURE_FOR and not self._is_over:
            return True
        if not self._is_over:
            self._is_over = True
            # Soon, not now: who asks is in the middle of handing out what the session holds.
            self._loop.call_soon(self._lost, f"it was not renewed for {silent:.1f} s")
        return False

    async def end(self) -> None:
        """End the session: what it held is free at once."""
        await self._renewal.stop()
        try:
            await self._lease.end(self.id)
        except WfeError as error:
            _log.warning("The session could not be ended (it expires by itself): %s", error)

    def _rounds(self) -> Generator[float, None, None]:
        """Renew round by round; the items are the pauses between. Ends when there is nothing left to renew."""
        renewer = self._lease.renewer(self.id, self._ttl_delta)
        usual = pause = min(self._ttl / 3, 1.0)
        try:
            while True:
                yield pause
                pause = usual
                now = self._clock.monotonic()
                stalled = self._watch(now)
                if stalled is None or self._is_over:
                    return
                if now - self._renewed < self._ttl / 3 and stalled < self._stall_limit:
                    continue
                if stalled >= self._stall_limit:
                    self._tell(f"the event loop has stood still for {stalled:.0f} s")
                    return
                try:
                    renewer.renew()
                    self._renewed = now
                except LeaseLost as error:
                    self._tell(str(error))
                    return
                except WfeError as error:
                    if self._clock.monotonic() - self._renewed > self._ttl * 2 / 3:
                        self._tell(f"it could not be renewed in time: {error}")
                        return
                    _log.warning("The session could not be renewed, trying again: %s", error)
                    pause = min(self._ttl / 10, 0.5) + usual
        finally:
            _close(renewer)

    def _watch(self, now: float) -> float | None:
        """Look whether the loop moves; name what holds it up after a second. None: the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._mark)
        except RuntimeError:
            return None
        stalled = now - self._beat - min(self._ttl / 3, 1.0)
        if stalled > _STALL_NAMED_AFTER and now - self._named_at > 10 * _STALL_NAMED_AFTER:
            self._named_at = now
            _log.warning("%s", self._blame(stalled))
        return max(0.0, stalled)

    def _mark(self) -> None:
        self._beat = self._clock.monotonic()

    def _blame(self, stalled: float) -> str:
        task = asyncio.current_task(self._loop)
        name = task.get_name() if task is not None else "something"
        frame = sys._current_frames().get(_thread_of(self._loop))  # noqa: SLF001 - the documented way to see another thread  # pyright: ignore[reportPrivateUsage]
        where = "".join(traceback.format_stack(frame)[-3:]) if frame is not None else ""
        return (
            f"The event loop has stood still for {stalled:.1f} s in {name}. A coroutine must not block: use a plain "
            "function as "
            f"step body (it runs on a thread), or await.\n{where}"
        )

    def _tell(self, reason: str) -> None:
        try:
            self._loop.call_soon_threadsafe(self._lost, reason)
        except RuntimeError:
            _log.warning("The session is lost after its loop has closed: %s", reason)


def _thread_of(loop: asyncio.AbstractEventLoop) -> int:
    return getattr(loop, "_thread_id", None) or 0


def _close(renewer: Renewer) -> None:
    try:
        renewer.close()
    except WfeError as error:
        _log.debug("Closing the renewer: %s", error)

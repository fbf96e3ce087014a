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
from wfe.model.repetition import Repetition

if TYPE_CHECKING:
    from wfe.ports.clock import Clock
    from wfe.ports.lease import Lease, Renewer

__all__ = ["Renewal", "Session", "ThreadRenewal"]

_log = logging.getLogger("wfe.host")

_STALL_NAMED_AFTER = 1.0
_TRIED_FOR = 2 / 3
"""Share of the TTL after which a session that cannot be renewed is given up."""
_SURE_FOR = 0.9
"""Share of the TTL after which the host no longer relies on its session, whatever the reason for the silence."""
_SHORTEST = 0.001


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

    It is renewed every third of the TTL. When that has failed and two thirds are over, the host counts itself as
    fenced: its monotonic clock says so before the store's can. Where nothing has failed but the process, or its first
    attempt, stood still, there are nine tenths, so that a short pause costs no work. (See decision 0021.)

    A loop that stands still for `stall_limit` is not renewed for ever: its host is as good as dead.
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
        self.is_over = False
        """It was lost, given up or ended."""
        self._trouble = Repetition()
        """Failures to renew since the last success."""
        self._look: asyncio.TimerHandle | None = None

    async def begin(self, name: str) -> None:
        """Begin the session and its renewal."""
        self._renewed = self._clock.monotonic()
        await self._lease.begin(self.id, name=name, ttl=self._ttl_delta)
        self._renewal.start(self._rounds())
        self._look_at_time()

    def is_sure(self) -> bool:
        """Tell whether the session cannot have expired, by this machine's steady clock; give it up if it may have.

        After the whole process stood still, whatever was ready runs before the renewal has its turn.
        """
        silent = self._clock.monotonic() - self._renewed
        if silent < self._ttl * _SURE_FOR and not self.is_over:
            return True
        if not self.is_over:
            self.is_over = True
            # Soon, not now: who asks is in the middle of handing out what the session holds.
            self._loop.call_soon(self._lost, f"it was not renewed for {silent:.1f} s")
        return False

    def _look_at_time(self) -> None:
        """Give the session up when its time is over, also while the renewal hangs."""
        if self.is_over:
            return
        silent = self._clock.monotonic() - self._renewed
        limit = self._ttl * (_TRIED_FOR if self._trouble.count else _SURE_FOR)
        if silent >= limit:
            self._give_up(f"it was not renewed for {silent:.1f} s")
            return
        next_look = self._ttl * (_TRIED_FOR if silent < self._ttl * _TRIED_FOR else _SURE_FOR) - silent
        self._look = self._loop.call_later(max(next_look, _SHORTEST), self._look_at_time)

    def _give_up(self, reason: str) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._lost(reason)

    async def end(self) -> None:
        """End the session: what it held is free at once. Ending it twice is harmless."""
        self.is_over = True
        if self._look is not None:
            self._look.cancel()
        try:
            await self._renewal.stop()
        finally:
            try:
                await self._lease.end(self.id)
            except WfeError as error:
                _log.warning("The session could not be ended (it expires by itself): %s", error)

    def _rounds(self) -> Generator[float, None, None]:
        """Renew round by round; the items are the pauses between. Ends when there is nothing left to renew."""
        renewer = self._lease.renewer(self.id, self._ttl_delta)
        usual = pause = min(self._ttl / 3, 1.0)
        # The first round renews, too: from then on the renewer has its connection, whoever else wants one.
        due = 0.0
        try:
            while True:
                yield pause
                pause = usual
                now = self._clock.monotonic()
                stalled = self._watch(now)
                if stalled is None or self.is_over:
                    return
                if stalled >= self._stall_limit:
                    self._tell(f"the event loop has stood still for {stalled:.0f} s")
                    return
                if now - self._renewed < due:
                    continue
                due = self._ttl / 3
                if self._trouble.count and now - self._renewed >= self._ttl * _TRIED_FOR:
                    self._tell("it could not be renewed in time")
                    return
                try:
                    renewer.renew()
                except LeaseLost as error:
                    self._tell(str(error))
                    return
                except WfeError as error:
                    left = self._failed(error)
                    if left <= _SHORTEST:
                        self._tell(f"it could not be renewed in time: {error}")
                        return
                    pause = min(usual + min(self._ttl / 10, 0.5), left)
                else:
                    self._renewed = now
                    self._trouble.over()
        finally:
            _close(renewer)

    def _failed(self, error: WfeError) -> float:
        """Note that a renewal has failed; give the seconds that are left to try again."""
        if self._trouble.again():
            _log.warning(
                "The session could not be renewed, trying again (failure %d in a row): %s", self._trouble.count, error
            )
        return self._ttl * _TRIED_FOR - (self._clock.monotonic() - self._renewed)

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
            self._loop.call_soon_threadsafe(self._give_up, reason)
        except RuntimeError:
            _log.warning("The session is lost after its loop has closed: %s", reason)


def _thread_of(loop: asyncio.AbstractEventLoop) -> int:
    return getattr(loop, "_thread_id", None) or 0


def _close(renewer: Renewer) -> None:
    try:
        renewer.close()
    except WfeError as error:
        _log.debug("Closing the renewer: %s", error)

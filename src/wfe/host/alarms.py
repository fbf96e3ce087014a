"""Wake times that are soon: one heap of bounded size, so that a timer asks nothing of the store before it is due."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wfe.model.moment import Moment

__all__ = ["Alarms"]

HORIZON = 60_000_000
"""Microseconds ahead that count as soon; the sweep finds what is later."""
_MOST = 100_000


class Alarms:
    """Calls back when the time of an instance has come."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], Moment],
        due: Callable[[list[tuple[Moment, str]]], None],
    ) -> None:
        self._loop = loop
        self._now = now
        self._due = due
        self._heap: list[tuple[Moment, str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: Moment = 0
        self._look_at: Moment = 0

    def set(self, instance_id: str, wake: Moment, *, held: bool) -> None:
        """Look at an instance at a time, if that is soon.

        The sweep does not look at what is held, so those are kept however far ahead they are.
        """
        if not held and (wake - self._now() > HORIZON or len(self._heap) >= _MOST):
            return
        heapq.heappush(self._heap, (wake, instance_id))
        self._arm()

    def look(self, wake: Moment, look: Callable[[], None]) -> None:
        """Call `look` at a time, if that is soon and nobody looks before."""
        pause = wake - self._now()
        if pause < HORIZON and not (self._look_at and self._look_at <= wake):
            self._look_at = wake
            self._loop.call_later(max(0.0, pause / 1_000_000), self._looked, look)

    def look_again(self) -> None:
        """Call back for what is due though its timer has not rung: the time of the store was set forward."""
        if self._heap and self._heap[0][0] <= self._now():
            self._ring()

    def stop(self) -> None:
        """Call back no more."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _looked(self, look: Callable[[], None]) -> None:
        self._look_at = 0
        look()

    def _arm(self) -> None:
        if not self._heap:
            return
        wake = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= wake:
                return
            self._timer.cancel()
        self._timer_at = wake
        self._timer = self._loop.call_later(max(0.0, (wake - self._now()) / 1_000_000), self._ring)

    def _ring(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        due: list[tuple[Moment, str]] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap))
        if due:
            self._due(due)
        self._arm()

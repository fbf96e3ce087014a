"""The clock of the machine."""

from __future__ import annotations

import time

from wfe.model.moment import Moment

__all__ = ["SystemClock"]

_NANOSECONDS_PER_MICROSECOND = 1_000


class SystemClock:
    """Time as the operating system tells it."""

    def now(self) -> Moment:
        return time.time_ns() // _NANOSECONDS_PER_MICROSECOND

    def monotonic(self) -> float:
        return time.monotonic()

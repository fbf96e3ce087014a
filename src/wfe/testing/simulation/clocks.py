"""Time and randomness of simulated processes."""

from __future__ import annotations

import asyncio
from random import Random

from wfe.model.moment import MICROSECONDS_PER_SECOND, Moment

__all__ = ["BEGINNING", "SeededEntropy", "SkewedClock"]

BEGINNING = 1_767_225_600 * MICROSECONDS_PER_SECOND
"""Store time at the beginning of every run."""


class SkewedClock:
    """The clock of one machine: virtual time, shifted and drifting."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, offset: float = 0.0, drift: float = 0.0) -> None:
        """Make a clock.

        Args:
            offset: Seconds by which its wall clock is ahead.
            drift: By how much it runs fast; 0.001 gains a second in a thousand.
        """
        self._loop = loop
        self.offset = offset
        self._rate = 1.0 + drift

    def now(self) -> Moment:
        return BEGINNING + int((self._loop.time() * self._rate + self.offset) * MICROSECONDS_PER_SECOND)

    def monotonic(self) -> float:
        return self._loop.time() * self._rate


class SeededEntropy:
    """Ids and randomness from a seed."""

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose
        self._prefix = seed.rpartition(":")[2]
        self._count = 0

    def new_id(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count:05x}-{self._random.getrandbits(32):08x}"

    def random(self) -> float:
        return self._random.random()

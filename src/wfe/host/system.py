"""The clock and the randomness of the real world."""

from __future__ import annotations

import os
import random
import time

from wfe.model.moment import Moment

__all__ = ["SystemClock", "SystemEntropy"]


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> Moment:
        """Give wall-clock time in microseconds since the epoch."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Give seconds that never go back."""
        return time.monotonic()


class SystemEntropy:
    """Ids and randomness from the operating system."""

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 - for jitter, not for secrets

    def new_id(self) -> str:
        """Give 32 hexadecimal digits, ordered by time and unguessable (as UUID version 7)."""
        moment = time.time_ns() // 1_000_000
        return f"{moment:012x}{os.urandom(10).hex()}"

    def random(self) -> float:
        """Give a number in [0, 1)."""
        return self._random.random()

"""The clock and the randomness of the real world."""

from __future__ import annotations

import os
import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from wfe.model.moment import Moment
from wfe.ports.clock import is_moved_by_hand

if TYPE_CHECKING:
    from wfe.ports.clock import Clock
    from wfe.ports.provider import Provider

__all__ = ["SystemClock", "SystemEntropy", "session_ttl", "steady"]


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> Moment:
        """Give wall-clock time in microseconds since the epoch."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Give seconds that never go back."""
        return time.monotonic()


_FOR_EVER = timedelta(days=36_500)


def steady(clock: Clock) -> Clock:
    """Give the clock that tells how long this process was silent: the machine's, where one is moved by hand."""
    return SystemClock() if is_moved_by_hand(clock) else clock


def session_ttl(wanted: timedelta, clock: Clock | None, provider: Provider) -> timedelta:
    """Give how long a session lives without being renewed.

    In a store whose time is moved by hand, what is wanted would end it with the first move; the death of its process
    shows there without that.
    """
    has_own_time = not provider.url.startswith(("memory:", "sqlite:"))
    return wanted if clock is None or has_own_time or not is_moved_by_hand(clock) else _FOR_EVER


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

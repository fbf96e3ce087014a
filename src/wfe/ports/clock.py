"""The clock port, and the other things that a deterministic run must hand in."""

from __future__ import annotations

from typing import Protocol

from wfe.model.moment import Moment

__all__ = ["Clock", "Entropy", "is_moved_by_hand"]


class Clock(Protocol):
    """Time as this process sees it."""

    def now(self) -> Moment:
        """Give the wall-clock time in microseconds since the epoch. It may jump."""
        ...

    def monotonic(self) -> float:
        """Give seconds since some fixed point; never goes back."""
        ...


def is_moved_by_hand(clock: Clock) -> bool:
    """Tell whether somebody moves a clock (its attribute `moved_by_hand`), while other things happen in real time.

    What such a clock says is the time of delays and limits, but not for how long this process has been silent.
    """
    return bool(getattr(clock, "moved_by_hand", False))


class Entropy(Protocol):
    """Source of ids and randomness."""

    def new_id(self) -> str:
        """Give a new unguessable id, unique for ever."""
        ...

    def random(self) -> float:
        """Give a number in [0, 1)."""
        ...

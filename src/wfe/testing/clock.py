"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from wfe.model.moment import MICROSECONDS_PER_SECOND, Moment, from_datetime, microseconds, to_datetime

__all__ = ["TestClock"]

_START = datetime(2026, 1, 1, tzinfo=UTC)


class TestClock:
    """Virtual wall and monotonic time.

    `advance` moves both, as time does; `set_wall` moves the wall clock alone, as an administrator does.

    A host that is given one gives it to the memory or SQLite store that it makes from its URL. Its delays, retries and
    limits of workflows then come when the clock is moved; its session does not end by that.
    """

    moved_by_hand = True
    __test__ = False  # its name looks like a test class to collectors

    def __init__(self, start: datetime = _START) -> None:
        self._wall = from_datetime(start)
        self._elapsed = 0

    def now(self) -> Moment:
        return self._wall

    def monotonic(self) -> float:
        return self._elapsed / MICROSECONDS_PER_SECOND

    @property
    def wall(self) -> datetime:
        """The time of the wall clock."""
        return to_datetime(self._wall)

    def advance(self, duration: timedelta) -> None:
        """Let time pass.

        Raises:
            ValueError: The duration is negative. Nothing has changed.
        """
        if duration < timedelta(0):
            msg = f"time passes forward only, got {duration}; use set_wall to put the wall clock back"
            raise ValueError(msg)
        self._wall += microseconds(duration)
        self._elapsed += microseconds(duration)

    def set_wall(self, when: datetime) -> None:
        """Set the wall clock to an aware time, forward or back; the monotonic clock does not move."""
        self._wall = from_datetime(when)

"""The clock that tests move by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from wfe.testing import TestClock

if TYPE_CHECKING:
    from wfe.ports.clock import Clock

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def test_clock_stands_still() -> None:
    """Time passes only when the test says so."""
    clock: Clock = TestClock(MIDNIGHT)

    assert (clock.now(), clock.monotonic()) == (clock.now(), clock.monotonic()) == (1_772_323_200_000_000, 0.0)


def test_advance_moves_both_times() -> None:
    """Wall time and monotonic time pass together, to the microsecond."""
    clock = TestClock(MIDNIGHT)

    clock.advance(timedelta(days=30, microseconds=7))

    assert clock.wall == MIDNIGHT + timedelta(days=30, microseconds=7)
    assert clock.monotonic() == 30 * 86_400 + 7e-6


def test_wall_clock_may_jump() -> None:
    """Setting the wall clock back leaves the monotonic time."""
    clock = TestClock(MIDNIGHT)
    clock.advance(timedelta(seconds=5))

    clock.set_wall(MIDNIGHT - timedelta(hours=1))

    assert (clock.wall, clock.monotonic()) == (MIDNIGHT - timedelta(hours=1), 5.0)


def test_time_does_not_run_backwards() -> None:
    """A negative duration is refused, and nothing moves."""
    clock = TestClock(MIDNIGHT)

    with pytest.raises(ValueError, match="forward"):
        clock.advance(timedelta(microseconds=-1))

    assert (clock.wall, clock.monotonic()) == (MIDNIGHT, 0.0)

"""Points in time inside the engine: whole microseconds since 1970-01-01 UTC, and the datetimes that people see.

Integers compare, add and store faster than datetimes, and every backend keeps them exactly.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeAlias

__all__ = ["LAST_MOMENT", "MICROSECONDS_PER_SECOND", "Moment", "from_datetime", "microseconds", "to_datetime"]

Moment: TypeAlias = int
"""Microseconds since the epoch, UTC."""

MICROSECONDS_PER_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MOMENT: Moment = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
"""The last one that can be shown."""
_MICROSECOND = timedelta(microseconds=1)


def to_datetime(moment: Moment) -> datetime:
    """Give the aware UTC datetime of a moment."""
    return _EPOCH + timedelta(microseconds=moment)


def from_datetime(when: datetime) -> Moment:
    """Give the moment of an aware datetime; a naive one is a ValueError."""
    if when.tzinfo is None:
        msg = f"an aware datetime is needed, got {when!r}; add a time zone"
        raise ValueError(msg)
    return (when - _EPOCH) // _MICROSECOND


def microseconds(duration: timedelta) -> int:
    """Give a duration in whole microseconds."""
    return duration // _MICROSECOND

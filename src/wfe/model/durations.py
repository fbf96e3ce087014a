"""Durations as people write them: a `timedelta`, seconds as a number, or text such as `1h30m`."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from itertools import pairwise
from typing import TypeAlias

__all__ = ["DurationLike", "format_duration", "to_timedelta"]

DurationLike: TypeAlias = timedelta | int | float | str
"""What every duration of the public API may be given as."""

_ACCEPTED = 'a timedelta, seconds as a number, or text such as "250ms", "30s", "1h30m", "7d" or "PT1H30M"'

# Each unit at most once, from large to small; only the last part may have a fraction (checked below).
_NUMBER = r"(\d+(?:\.\d+)?)"
_UNITS = (
    ("w", timedelta(weeks=1)),
    ("d", timedelta(days=1)),
    ("h", timedelta(hours=1)),
    ("m", timedelta(minutes=1)),
    ("s", timedelta(seconds=1)),
    ("ms", timedelta(milliseconds=1)),
    ("us", timedelta(microseconds=1)),
)
_SHORT = re.compile("".join(rf"(?:{_NUMBER}{unit})?" for unit, _ in _UNITS))
# ISO 8601 without years and months, whose length depends on the calendar.
_ISO = re.compile(
    rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?=\d)(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?", re.IGNORECASE
)
_MAX_LENGTH = 64


def to_timedelta(value: DurationLike) -> timedelta:
    """Give the duration that *value* means.

    Numbers are seconds. Text has parts of falling units (`w d h m s ms us`), of which the last may have a fraction, or
    the ISO 8601 form without years and months. Text that is only a number is refused, since it names no unit.

    Raises:
        ValueError: The value is none of these, not finite, or too long for a timedelta; the text names what is
        accepted.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return _from_text(value)
    # bool is an int to Python; `timeout=True` is a mistake all the same. Callers without types may pass anything.
    if isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _refusal(value)
    if not math.isfinite(value):
        raise _refusal(value)
    try:
        return timedelta(seconds=value)
    except OverflowError:
        raise _refusal(value) from None


def format_duration(duration: timedelta) -> str:
    """Give a duration as people read it, with at most two units: `1h30m`, `4.2s`, `250ms`."""
    if duration < timedelta(0):
        return f"-{format_duration(-duration)}"
    seconds = duration.total_seconds()
    if not seconds:
        return "0s"
    if duration < timedelta(milliseconds=1):
        return f"{duration // timedelta(microseconds=1)}us"
    if duration < timedelta(milliseconds=999.5):
        return f"{round(seconds * 1000)}ms"
    if duration < timedelta(seconds=59.95):
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    return _two_units(round(seconds))


def _two_units(seconds: int) -> str:
    sizes = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    for (large, large_size), (small, small_size) in pairwise(sizes):
        if seconds >= large_size:
            rest = seconds % large_size // small_size
            return f"{seconds // large_size}{large}" + (f"{rest}{small}" if rest else "")
    return f"{seconds}s"


def _from_text(text: str) -> timedelta:
    plain = text.strip()
    if not plain or len(plain) > _MAX_LENGTH or not plain.isascii():
        raise _refusal(text)
    if match := _SHORT.fullmatch(plain):
        sizes = [size for _, size in _UNITS]
    elif match := _ISO.fullmatch(plain):
        sizes = [timedelta(weeks=1), timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)]
    else:
        raise _refusal(text)
    parts = [(number, size) for number, size in zip(match.groups(), sizes, strict=True) if number is not None]
    if not parts or any("." in number for number, _ in parts[:-1]):
        raise _refusal(text)
    try:
        return sum((_times(number, size) for number, size in parts), timedelta())
    except OverflowError:
        raise _refusal(text) from None


def _times(number: str, size: timedelta) -> timedelta:
    return size * float(number) if "." in number else size * int(number)


def _refusal(value: object) -> ValueError:
    shown = repr(value)
    shown = shown if len(shown) <= _MAX_LENGTH else f"{shown[:_MAX_LENGTH]}…"
    return ValueError(f"{shown} is not a duration; expected {_ACCEPTED}")

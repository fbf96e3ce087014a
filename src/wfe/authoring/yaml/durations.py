"""Durations in files: `250ms 30s 5m 2h 1d 1h30m`, or an integer of milliseconds."""

from __future__ import annotations

import re
from datetime import timedelta

__all__ = ["parse_duration"]

_PARTS = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,12})ms)?", re.ASCII)
_MILLISECONDS = re.compile(r"[0-9]{1,15}")


def parse_duration(value: object) -> timedelta | None:
    """Give the duration that a scalar stands for, or None where it stands for none."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        return None
    if _MILLISECONDS.fullmatch(text):
        return timedelta(milliseconds=int(text))
    match = _PARTS.fullmatch(text)
    if not text or match is None:
        return None
    days, hours, minutes, seconds, milliseconds = (int(part or 0) for part in match.groups())
    try:
        return timedelta(days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
    except OverflowError:
        return None

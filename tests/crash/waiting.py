"""Waiting, for a bounded time, until something can be seen."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["until"]

_POLL_SECONDS = 0.01


def until(seen: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Return once `seen` says so.

    Raises:
        AssertionError: It did not within the time.
    """
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(_POLL_SECONDS)

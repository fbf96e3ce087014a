"""Calls into the event loop of somebody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

__all__ = ["call_in"]


def call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call soon in `loop`, from the code of any loop and thread; without effect when `loop` is closed.

    In the running loop this takes no detour through its self-pipe, so that a simulated loop sees the call in its order.
    """
    with contextlib.suppress(RuntimeError):  # closed, and whoever listened there is gone with it
        if loop is asyncio.get_running_loop():
            loop.call_soon(callback)
        else:
            loop.call_soon_threadsafe(callback)

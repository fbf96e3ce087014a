"""Work that others may give up, or wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["Effort"]


class Effort:
    """One piece of work, done by the task that begins it, and given up by whoever finds that it is not wanted.

    To be given up is no cancellation of that task: what it does afterwards is not touched.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._limit: asyncio.Timeout | None = None
        self._is_given_up = False
        self._over = asyncio.Event()

    async def through(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do the work, once. False: it was given up before its end, or before it began."""
        limit = asyncio.timeout(None)
        try:
            async with limit:
                if self._is_given_up:
                    work.close()
                    return False
                self._limit = limit
                await work
        except TimeoutError:
            if not limit.expired():
                raise
            return False
        finally:
            self._limit = None
            self._over.set()
        return True

    def give_up(self) -> None:
        """Let it come to no more than it has by now: it gets a CancelledError where it waits."""
        if not self._is_given_up and self._limit is not None:
            self._limit.reschedule(self.loop.time())
        self._is_given_up = True

    async def over(self) -> None:
        """Return when it is over, however it ended."""
        await self._over.wait()

"""The end of a simulated loop: nothing of its processes outlives it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from random import Random
from typing import Any

from wfe.testing.simulation.loop import SimulatedLoop


def test_who_is_killed_begins_nothing_elsewhere() -> None:
    """What a killed task would begin as it ends is not begun: not in this loop, and not in one made for it."""
    loop = SimulatedLoop(Random(1))
    wanted: list[Coroutine[Any, Any, None]] = []

    async def clean_up() -> None:
        """Never reached."""

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            wanted.append(clean_up())
            await asyncio.shield(wanted[0])

    async def scene() -> None:
        process = loop.process("host")
        loop.spawn(process, work())
        await asyncio.sleep(1)
        process.kill()

    loop.run_until_complete(scene())

    loop.dispose()

    assert [inspect.getcoroutinestate(each) for each in wanted] == [inspect.CORO_CLOSED]

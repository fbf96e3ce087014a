"""Simulated loops: errors of tasks that nobody asks for are found, and nothing of a process outlives its loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from random import Random
from typing import Any

from wfe.testing.simulation.loop import SimulatedLoop, last_words


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


async def _fail() -> None:
    await asyncio.sleep(1)
    raise KeyError("unforeseen")


def test_an_error_that_nobody_asks_for_is_found() -> None:
    """A task that has ended with an error is listed, in a process that lives and in one that has died since."""
    loop = SimulatedLoop(Random(1))
    living, dying = loop.process("living"), loop.process("dying")

    async def scene() -> None:
        loop.spawn(living, _fail())
        loop.spawn(dying, _fail())
        await asyncio.sleep(2)
        dying.kill()

    loop.run_until_complete(scene())

    assert [last_words(task) for task in loop.unheard()] == ["_fail has ended with KeyError: 'unforeseen'"] * 2
    loop.dispose()


def test_an_error_that_somebody_asks_for_is_none() -> None:
    """Who awaits a task takes its error; so would one whose process dies just before it is told."""
    loop = SimulatedLoop(Random(1))
    process = loop.process("host")

    async def ask(work: Coroutine[Any, Any, None]) -> None:
        await asyncio.gather(asyncio.get_running_loop().create_task(work), return_exceptions=True)

    async def fail_and_die() -> None:
        loop.call_soon(process.kill, context=loop.context_of(process))  # before the one who waits is told
        raise KeyError("unforeseen")

    async def scene() -> None:
        loop.spawn(process, ask(_fail()))
        await asyncio.sleep(2)
        loop.spawn(process, ask(fail_and_die()))
        await asyncio.sleep(1)

    loop.run_until_complete(scene())

    assert process.dead
    assert loop.unheard() == []
    loop.dispose()

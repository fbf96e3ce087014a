"""Places of runs hear what their processes fail with."""

from __future__ import annotations

import asyncio

from tests.crashpoints.places import MemoryPlace
from wfe.testing.failpoints import Crashed


def test_what_fails_unheard_is_told_at_the_end() -> None:
    """A task that has ended with an error which nobody asked for is a problem; the last words of the dead are none."""
    place = MemoryPlace()
    process = place.process("host")

    async def fail(error: BaseException) -> None:
        raise error

    async def scene() -> None:
        for error in (TypeError("unforeseen"), Crashed()):
            place.loop.create_task(fail(error), context=place.context_of(process))
        await asyncio.sleep(1)

    place.run(scene)

    (problem,) = place.close()
    assert problem.endswith("has ended with TypeError: unforeseen")

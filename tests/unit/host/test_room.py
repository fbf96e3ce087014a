"""Who waits for a body of a limited type gets a place in the order of waiting."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

from wfe.host.room import Room

if TYPE_CHECKING:
    import asyncio

    from wfe.host.bodies import BodySurroundings
    from wfe.host.runner import Runner


class _Waiter:
    """An instance whose body waits; only what the room asks it for."""

    def __init__(self, name: str, *, wanted: bool = True) -> None:
        self.name = name
        self.held = True
        self.awaited = {1} if wanted else set()
        self.asked = 0

    def may_begin(self, number: int) -> bool:
        self.asked += number
        return False


def _runner(waiter: _Waiter) -> Runner:
    return cast("Runner", waiter)


def _room() -> Room:
    nothing = cast("asyncio.AbstractEventLoop", None)
    return Room(nothing, cast("BodySurroundings", None), limit=10, tasks={}, draining=lambda: False)


def test_who_is_dropped_changes_no_order() -> None:
    """A body that is wanted no more leaves the line of a full type as it is: nobody is moved to its end."""
    room = _room()
    line = [_runner(_Waiter(name)) for name in "abc"]
    room._running_of["mail"] = room._limits["mail"] = 1
    room._waiting_of["mail"] = deque((each, 1) for each in line)
    room._queue.append((_runner(_Waiter("gone", wanted=False)), 1))

    room._fill()

    assert [runner for runner, _ in room._waiting_of["mail"]] == line
    assert not room._queue


def test_the_place_of_who_is_dropped_is_for_the_next() -> None:
    """A free place of a type is not lost with the one who was let in for it."""
    room = _room()
    following = _Waiter("next")
    room._running_of["mail"], room._limits["mail"] = 0, 1
    room._waiting_of["mail"] = deque([(_runner(following), 1)])
    room._queue.append((_runner(_Waiter("gone", wanted=False)), 1))

    room._fill()

    assert following.asked == 1

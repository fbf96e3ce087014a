"""Waiting instances that this host keeps, so that what they wait for finds them in memory.

An instance that waits needs nobody: usually it is given back with the transition that makes it wait, and whoever is
there when its event comes takes it. Taking and loading it is most of what an event costs, though. So a host that is
alone keeps a limited number of those that have begun to wait lately. With others on the store it keeps none: an event
that is published there should not need this host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wfe.model.status import WorkflowStatus

if TYPE_CHECKING:
    from wfe.engine.transition import Transition
    from wfe.host.core import HostCore
    from wfe.host.runner import Runner
    from wfe.model.moment import Moment
    from wfe.ports.store import Changes

__all__ = ["Residents", "kept"]

_MOST = 256
_LONGEST_SECONDS = 30.0
_FAR = 3_600_000_000
"""In microseconds. By then an instance that is kept has been given back for long."""


def kept(transition: Transition, now: Moment) -> Changes:
    """Give what a transition that leaves its instance waiting writes where such are kept.

    Only those are that nobody but this host has to do with, and not by time: not what is suspended or stopping, which
    goes on when somebody asks for it, nor what has not begun, goes on at once where there is code for it, or has a
    timer that may ring before it is given back. So nothing has to watch the time of what is kept.
    """
    changes, head = transition.changes, transition.head
    is_quiet = head.status is WorkflowStatus.RUNNABLE and head.stopping is None and not changes.ended
    is_timed = changes.wake_at is not None and changes.wake_at < now + _FAR
    if not is_quiet or is_timed or head.next_pointer == 1:
        return changes
    return msgspec.structs.replace(changes, hold=True)


class Residents:
    """Knows which held instances only wait."""

    def __init__(self, core: HostCore) -> None:
        self._core = core
        self._since: dict[Runner, float] = {}
        """In the order in which they began to wait, by the steady clock."""

    def __contains__(self, runner: object) -> bool:
        return runner in self._since

    def changes(self, transition: Transition) -> Changes:
        """Give what a transition writes: one that leaves the instance waiting keeps it, if it may be kept."""
        if transition.waits and self._has_place():
            return kept(transition, self._core.now())
        return transition.changes

    def _has_place(self) -> bool:
        core = self._core
        return len(self._since) < _MOST and core.alone() and not core.draining and core.taking.is_half_empty

    def keep(self, runner: Runner) -> None:
        """An instance waits and is still held. It is given back if its definition was taken away meanwhile."""
        core = self._core
        self._since[runner] = core.monotonic()
        if core.registry.to_run(runner.state.definition_key) is not runner.registration:
            self._give_back([runner])

    def leave(self, runner: Runner) -> None:
        """It waits no more, or is not held any more."""
        self._since.pop(runner, None)

    def look(self) -> None:
        """Give back those that have waited for long; all of them, if others came or there is no room left."""
        core = self._core
        everyone = not core.alone() or core.room == 0
        oldest = core.monotonic() - _LONGEST_SECONDS
        self._give_back([runner for runner, since in self._since.items() if everyone or since < oldest])

    def give_back_all(self) -> None:
        """Give all of them back: somebody needs their places, or must not find them here."""
        self._give_back(list(self._since))

    def _give_back(self, runners: list[Runner]) -> None:
        self._core.leaving.give_back(*(runner for runner in runners if runner.is_idle))

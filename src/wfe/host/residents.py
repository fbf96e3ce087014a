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
    from wfe.engine.state import InstanceState
    from wfe.engine.transition import Transition
    from wfe.host.core import HostCore
    from wfe.host.runner import Runner
    from wfe.model.moment import Moment
    from wfe.ports.store import Changes

__all__ = ["Residents", "kept"]

_MOST = 256
_MOST_BYTES = 64 * 1024
"""Of the documents of one that is kept; a larger one is given back."""
_POINTER_BYTES = 1024
"""About what a pointer takes in memory, with its rows."""
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


def _is_small(state: InstanceState, changes: Changes) -> bool:
    data = state.data if changes.data is None else changes.data
    values = state.values if changes.values is None else changes.values
    items = sum(map(len, state.items.values())) if state.items else 0
    pointers = (len(state.pointers) + len(changes.pointers)) * _POINTER_BYTES
    return len(data) + len(values) + items + pointers <= _MOST_BYTES


class Residents:
    """Knows which held instances only wait."""

    def __init__(self, core: HostCore) -> None:
        self._core = core
        self._since: dict[Runner, float] = {}
        """In the order in which they began to wait, by the steady clock."""

    def __contains__(self, runner: object) -> bool:
        return runner in self._since

    def changes(self, transition: Transition, state: InstanceState) -> Changes:
        """Give what a transition from this state writes: one that leaves the instance waiting keeps it, if it may."""
        if transition.waits and self._has_place() and _is_small(state, transition.changes):
            return kept(transition, self._core.now())
        return transition.changes

    def _has_place(self) -> bool:
        core = self._core
        return len(self._since) < _MOST and core.alone() and not core.draining and core.taking.is_half_empty

    def keep(self, runner: Runner) -> None:
        """An instance waits and is still held. It is given back if its code was taken away, or replaced, meanwhile."""
        self._since[runner] = self._core.monotonic()
        if self._is_outdated(runner):
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
        """Give all of them back: somebody needs their places."""
        self._give_back(list(self._since))

    def code_changed(self) -> None:
        """Give back those whose code was taken away or replaced: they go on with what is registered then, if any."""
        self._give_back([runner for runner in self._since if self._is_outdated(runner)])

    def _is_outdated(self, runner: Runner) -> bool:
        return self._core.registry.to_run(runner.state.definition_key) is not runner.registration

    def _give_back(self, runners: list[Runner]) -> None:
        self._core.leaving.give_back(*(runner for runner in runners if runner.is_idle))

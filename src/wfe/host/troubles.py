"""What is done with an instance that cannot go on: it is tried again, suspended with the reason, or parked."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from wfe.host.trials import QUARANTINE_AFTER
from wfe.model.message import BodyStopped, Control, ControlVerb

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.host.runner import Runner

__all__ = ["Troubles"]

_log = logging.getLogger("wfe.host")

_LONGEST_PAUSE = 60
"""Seconds from one try to the next; the first is one second, and it doubles."""


class Troubles:
    """Counts how often each held instance could not go on since it went on last."""

    def __init__(self, core: HostCore) -> None:
        self._core = core
        self._counts: dict[str, int] = {}

    def __contains__(self, instance_id: object) -> bool:
        return instance_id in self._counts

    def are_over(self, instance_id: str) -> None:
        """It has committed: what was held against it before counts no more."""
        self._counts.pop(instance_id, None)

    def were_too_many(self, instance_id: str) -> bool:
        """Tell whether it was tried often enough: it is, or was, suspended or parked."""
        return self._counts.get(instance_id, 0) >= QUARANTINE_AFTER

    def broke(self, runner: Runner, error: Exception) -> None:
        """An instance could not be decided or written.

        If that is due to what a body answered, its step fails. Else try again a few times, then suspend it with the
        reason.
        """
        if runner.blame_answers(error):
            _log.warning("What a step of instance %s answered cannot be recorded: %s", runner.id, error)
            return
        count = self._count(runner.id)
        _log.error("Instance %s could not go on (attempt %s): %s", runner.id, count, error, exc_info=error)
        if not runner.held:
            return
        reason = f"it could not go on: {error}"
        if count < QUARANTINE_AFTER:
            self._core.loop.call_later(_pause(count), self._core.schedule, runner)
        elif runner.may_be_suspended and not runner.gives_up:
            runner.gives_up = True
            runner.put_back()
            runner.deliver(Control(ControlVerb.SUSPEND, f"quarantined: {reason}"))
            for number in sorted(runner.state.running.difference(runner.bodies, runner.awaited)):
                runner.deliver(BodyStopped(number))  # its answer is what could not be decided; resuming runs it again
        else:
            self._park(runner.id, runner.fence, reason, error)

    def stumbled(self, runner: Runner, error: Exception) -> None:
        """What follows a transition that is written could not be done: the instance is taken anew, a few times."""
        core, count = self._core, self._count(runner.id)
        if count >= QUARANTINE_AFTER:
            self._park(runner.id, runner.fence, f"it could not go on: {error}", error)
            return
        _log.error("Instance %s is taken anew (attempt %s): %s", runner.id, count, error, exc_info=error)
        core.forget(runner)
        core.loop.call_later(_pause(count), core.leaving.take_anew, runner.id, runner.fence)

    def is_damaged(self, instance_id: str, fence: int, reason: str, error: Exception) -> None:
        """The rows of an instance cannot be read: it is parked at once."""
        self._counts[instance_id] = max(self._counts.get(instance_id, 0), QUARANTINE_AFTER) + 1
        self._park(instance_id, fence, reason, error)

    def _count(self, instance_id: str) -> int:
        count = self._counts[instance_id] = self._counts.get(instance_id, 0) + 1
        return count

    def _park(self, instance_id: str, fence: int, reason: str, error: Exception) -> None:
        """Keep an instance that cannot even be suspended, without running it, so that nobody tries for ever."""
        core = self._core
        runner = core.runners.get(instance_id)
        if runner is not None:
            core.forget(runner)
        core.parked.park(instance_id, fence, reason, error)
        core.on_consumed.set()  # who waits for a request to be applied learns that it is not


def _pause(count: int) -> float:
    return min(2.0 ** (count - 1), _LONGEST_PAUSE)

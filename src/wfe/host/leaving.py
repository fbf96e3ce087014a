"""Giving instances back unchanged, and what comes for them while that is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.host.runner import Runner

__all__ = ["Leaving"]


class Leaving:
    """Knows which instances are being given back: what comes for one of them still finds it held."""

    def __init__(self, core: HostCore) -> None:
        self._core = core
        self._leaving: set[str] = set()
        self._called: set[str] = set()
        """Those of them for which something has come meanwhile."""

    def give_back(self, *runners: Runner) -> None:
        """Release instances unchanged."""
        core = self._core
        for runner in runners:
            core.forget(runner)
            wake = runner.state.timers.earliest()
            if wake is not None:
                core.wake_at(runner.id, wake)
        if runners:
            core.background(self._release_and_listen([(runner.id, runner.fence) for runner in runners]))

    async def _release_and_listen(self, holds: list[tuple[str, int]]) -> None:
        ids = {instance_id for instance_id, _ in holds}
        self._leaving |= ids
        try:
            await self.release(*holds)
        finally:
            self._leaving -= ids
            called = sorted(ids & self._called)
            self._called -= ids
        if called:
            self._core.taking.want(called)

    def note_call(self, instance_id: str) -> None:
        """Something has come for an instance: if it is leaving, it is taken again afterwards."""
        if instance_id in self._leaving:
            self._called.add(instance_id)

    def release_soon(self, instance_id: str, fence: int) -> None:
        """Give back what was taken and is not to run here."""
        self._core.background(self.release((instance_id, fence)))

    def take_anew(self, instance_id: str, fence: int) -> None:
        """Give an instance back and take it again: what is known of it here does not hold."""
        self._core.background(self._take_anew(instance_id, fence))

    async def _take_anew(self, instance_id: str, fence: int) -> None:
        await self.release((instance_id, fence))
        self._core.taking.want([instance_id])

    async def release(self, *holds: tuple[str, int]) -> None:
        """Give instances back: ids, with the fences that they were taken with."""
        with self._core.strays.request():
            await self._core.store.release(self._core.session_id, holds)

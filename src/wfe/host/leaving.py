"""Giving instances back unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.host.runner import Runner

__all__ = ["Leaving"]


class Leaving:
    """Releases what this host holds."""

    def __init__(self, core: HostCore) -> None:
        self._core = core

    def give_back(self, *runners: Runner) -> None:
        """Release instances unchanged."""
        core = self._core
        for runner in runners:
            core.forget(runner)
            wake = runner.state.timers.earliest()
            if wake is not None:
                core.wake_at(runner.id, wake)
        if runners:
            self.release_soon(*((runner.id, runner.fence) for runner in runners))

    def release_soon(self, *holds: tuple[str, int]) -> None:
        """Release instances; what comes for one of them meanwhile is seen to afterwards."""
        ids = [instance_id for instance_id, _ in holds]
        self._core.transit.begin(ids)
        self._core.background(self._release(ids, holds))

    async def _release(self, ids: list[str], holds: tuple[tuple[str, int], ...]) -> None:
        try:
            await self.release(*holds)
        finally:
            for instance_id, want in self._core.transit.end(ids):
                self._core.incoming.came(instance_id, want)

    def take_anew(self, instance_id: str, fence: int) -> None:
        """Give an instance back and take it again: what is known of it here does not hold."""
        self._core.background(self._take_anew(instance_id, fence))

    async def _take_anew(self, instance_id: str, fence: int) -> None:
        await self.release((instance_id, fence))
        self._core.taking.want(instance_id)

    async def release(self, *holds: tuple[str, int]) -> None:
        """Give instances back: ids, with the fences that they were taken with."""
        with self._core.strays.request():
            await self._core.store.release(self._core.session_id, holds)

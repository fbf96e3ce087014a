"""What a host does for its store now and then."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from wfe.model.errors import ProviderUnavailable
from wfe.model.repetition import Repetition

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.host.membership import Membership
    from wfe.host.settings import Settings

__all__ = ["Housekeeping"]

_log = logging.getLogger("wfe.host")

_PORTION = 1000
_FORGET_EVERY = 60
_SHORTEST = 1.0
_LONGEST = 60.0
"""Seconds between two rounds, however long sessions live."""


class Housekeeping:
    """Sees whether other sessions live, and forgets old events."""

    def __init__(self, core: HostCore, membership: Membership, settings: Settings) -> None:
        self._core = core
        self._membership = membership
        self._interval = max(_SHORTEST, min(settings.lease_ttl.total_seconds() / 3, _LONGEST))
        self._retention = settings.event_retention // timedelta(microseconds=1)
        self._task: asyncio.Task[None] | None = None
        self._rounds = 0
        self._trouble = Repetition()

    def start(self) -> None:
        """Begin to keep house."""
        self._task = self._core.loop.create_task(self._keep_on())

    async def stop(self) -> None:
        """Keep house no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _keep_on(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._keep()
                self._trouble.over()
            except ProviderUnavailable as error:
                if self._trouble.again():
                    _log.warning(
                        "Housekeeping could not reach the store (failure %d in a row): %s", self._trouble.count, error
                    )
            except Exception:  # noqa: BLE001 - it must not end with its first error: a host would think itself alone
                # Whatever was not done now is done in the next round.
                _log.exception("Housekeeping failed")

    async def _keep(self) -> None:
        await self._membership.look()
        if self._rounds % _FORGET_EVERY == 0:
            await self._forget_events()
        self._rounds += 1

    async def _forget_events(self) -> None:
        before = self._core.now() - self._retention
        dropped = _PORTION
        while dropped >= _PORTION:
            dropped = await self._core.store.drop_events(before, _PORTION)

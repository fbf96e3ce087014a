"""Parked instances: those that this host holds without running them, as they cannot even be suspended.

Nobody else may take them meanwhile, or every host would try for ever. They are tried again now and then, as what was in
the way may be gone: a row was mended, the store is in order. They are also tried, at once, for a request.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from wfe.engine.inbox import unpack
from wfe.model.message import Control

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.ports.store import InboxRow

__all__ = ["Parking", "requests_among"]

_log = logging.getLogger("wfe.host")

_FIRST_PAUSE = 60.0
_LONGEST_PAUSE = 3600.0
"""Seconds from one try to the next: the first doubles with each failure, up to the longest."""


class _Parked(NamedTuple):
    fence: int
    reason: str
    again_at: float
    """By the steady clock."""


class Parking:
    """Knows what is parked, and why."""

    def __init__(self, core: HostCore) -> None:
        self._core = core
        self._parked: dict[str, _Parked] = {}
        self._told: dict[str, str] = {}
        """Reasons that were logged as errors; told again of the same, it is no news."""
        self._tries: dict[str, int] = {}
        """How often each was parked since it went on last."""

    def __contains__(self, instance_id: object) -> bool:
        return instance_id in self._parked

    def park(self, instance_id: str, fence: int, reason: str, error: Exception) -> None:
        """Keep an instance without running it. Its rows stay as they are."""
        tries = self._tries[instance_id] = self._tries.get(instance_id, 0) + 1
        pause = min(_FIRST_PAUSE * 2.0 ** min(tries - 1, 20), _LONGEST_PAUSE)
        self._parked[instance_id] = _Parked(fence, reason, self._core.monotonic() + pause)
        is_news = self._told.get(instance_id) != reason
        self._told[instance_id] = reason
        _log.log(
            logging.ERROR if is_news else logging.INFO,
            "Instance %s does not go on (it is tried again in %.0f s): %s",
            instance_id,
            pause,
            reason,
            exc_info=error if is_news else None,
        )

    def reason(self, instance_id: str) -> str:
        """Say why an instance is parked; empty: it is not."""
        parked = self._parked.get(instance_id)
        return "" if parked is None else parked.reason

    def fence(self, instance_id: str) -> int:
        """Give the fence under which an instance is parked; 0: it is not."""
        parked = self._parked.get(instance_id)
        return 0 if parked is None else parked.fence

    def holds(self) -> list[tuple[str, int]]:
        """Give id and fence of what is parked."""
        return [(each, parked.fence) for each, parked in self._parked.items()]

    def clear(self) -> None:
        """Forget all of it: the session that held it is over."""
        self._parked.clear()
        self._told.clear()
        self._tries.clear()

    async def look(self) -> None:
        """Try those again whose time has come."""
        now = self._core.monotonic()
        for each in [each for each in self._told if each not in self._core.troubles]:
            del self._told[each], self._tries[each]  # it went on
        for each in [each for each, parked in self._parked.items() if parked.again_at <= now]:
            await self.try_now(each)

    async def look_for_request(self, instance_id: str) -> None:
        """Try an instance again if a request waits for it: another host has told that there is something."""
        if requests_among(await self._core.store.inbox([instance_id])):
            await self.try_now(instance_id)

    async def try_now(self, instance_id: str) -> None:
        """Take an instance anew, with or without its code."""
        core = self._core
        parked = self._parked.get(instance_id)
        if parked is None or core.draining:
            return
        await core.leaving.release((instance_id, parked.fence))  # it stays parked if the store is away
        if self._parked.get(instance_id) is not parked:
            return  # somebody else has tried it meanwhile, and perhaps parked it again
        del self._parked[instance_id]
        for loaded in (await core.taking.take(1, ids=[instance_id], any_definition=True)).instances:
            core.activate(loaded)


def requests_among(rows: Sequence[InboxRow]) -> list[InboxRow]:
    """Give the rows that are requests of callers, of those that can be read."""
    return [row for row in rows if row.message is not None and _is_request(row)]


def _is_request(row: InboxRow) -> bool:
    try:
        return isinstance(unpack(row), Control)
    except Exception:  # noqa: BLE001 - a corrupt row may make the decoder raise anything; who takes the instance tells
        return False

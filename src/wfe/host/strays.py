"""Instances that this host's session holds without the host knowing: the reply that would have told was lost.

Nobody else may take them while the session lives, so the host has to find them itself. It asks the store what its
session holds; what no runner knows was taken by a request whose reply never came, or by one whose reply is still on its
way. So only what was seen before every request that is still under way counts.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wfe.host.core import HostCore

__all__ = ["Strays"]

_log = logging.getLogger("wfe.host")

_LOOK_EVERY = 30.0
_DOUBT_LASTS = 60.0
"""Seconds for which every sweep looks after a request went wrong: it may reach the store late."""


class Strays:
    """Gives them back, so that somebody runs them."""

    def __init__(self, core: HostCore) -> None:
        self._core = core
        self._under_way: dict[object, float] = {}
        self._seen: dict[tuple[str, int], float] = {}
        self._doubt_until = 0.0
        self._look_at = core.monotonic() + _LOOK_EVERY

    def request(self) -> _Request:
        """Goes around every request by which the store may give this session an instance, or take one back."""
        return _Request(self)

    def began(self, request: _Request) -> None:
        """A request is sent."""
        self._under_way[request] = self._core.monotonic()

    def is_over(self, request: _Request, *, is_in_doubt: bool) -> None:
        """It is answered, or nobody knows what became of it."""
        if is_in_doubt:
            self._doubt_until = self._core.monotonic() + _DOUBT_LASTS
        del self._under_way[request]

    async def look(self) -> None:
        """Look for strays when that is due, and give back those that are certain."""
        core = self._core
        now = core.monotonic()
        if core.draining or (now > self._doubt_until and now < self._look_at):
            return
        self._look_at = now + _LOOK_EVERY
        session = core.session_id
        held = await core.store.held(session)
        if core.session_id != session or core.draining:
            self._seen.clear()
            return
        now = core.monotonic()
        oldest = min(self._under_way.values(), default=now)
        unknown = {hold: self._seen.get(hold, now) for hold in held if not self._is_known(*hold)}
        certain = [hold for hold, seen in unknown.items() if seen < oldest]
        self._seen = {hold: seen for hold, seen in unknown.items() if seen >= oldest}
        if self._seen:
            self._doubt_until = max(self._doubt_until, now + 1)
        if certain:
            _log.warning("Found instances that this host did not know it holds: %s", certain)
            with self.request():
                await core.store.release(session, certain)
            core.taking.want(*(instance_id for instance_id, _ in certain))

    def _is_known(self, instance_id: str, fence: int) -> bool:
        runner = self._core.runners.get(instance_id)
        return (runner is not None and runner.fence == fence) or self._core.parked.fence(instance_id) == fence


class _Request:
    """One request under way. A class, as there is one for every commit: a generator would cost three times as much."""

    __slots__ = ("_strays",)

    def __init__(self, strays: Strays) -> None:
        self._strays = strays

    def __enter__(self) -> None:
        self._strays.began(self)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._strays.is_over(self, is_in_doubt=kind is not None)

"""The time of the store, as a host knows it: from the replies, and its own steady clock between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wfe.model.moment import Moment
    from wfe.ports.clock import Clock

__all__ = ["StoreTime"]


class StoreTime:
    """Knows what time it is for the store. Until the first reply that is this machine's own time."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._offset = clock.now() - self._ticks()
        self._is_told = False
        self._last_commit = 0

    def now(self) -> Moment:
        """Give store time as this host knows it; never earlier than the last commit's."""
        return max(self._last_commit, self._ticks() + self._offset)

    def saw(self, now: Moment, sent: float) -> None:
        """Learn the store's time from the reply to a request that was sent at `sent` (by the steady clock)."""
        # It was that time somewhere between sending and now. The highest guess that is surely not ahead is kept, until
        # a reply shows that it is: this machine's clock runs fast, or the store's was set.
        earliest, latest = now - self._ticks(), now - int(sent * 1_000_000)
        if not self._is_told or not earliest <= self._offset <= latest:
            self._offset, self._is_told = earliest, True
        self._last_commit = max(self._last_commit, now)

    def _ticks(self) -> int:
        """Give this machine's steady clock in microseconds: its wall clock may be set at any moment."""
        return int(self._monotonic() * 1_000_000)

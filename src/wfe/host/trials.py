"""Suspects: instances that were taken more than once without a commit since. One of them may be what kills hosts.

Who is held when a host dies is not told apart from who killed it. So suspects are tried apart from each other, in
groups that become smaller with each activation that ended without a commit, in the end alone: an innocent one commits,
and is no suspect any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.ports.store import LoadedInstance, UnclaimedRow

__all__ = ["QUARANTINE_AFTER", "SUSPECT_FROM", "Trials", "pause_before"]

QUARANTINE_AFTER = 5
"""Activations without a commit after which an instance is suspended with its reason."""
SUSPECT_FROM = 2
"""Activations without a commit after which an instance is taken by a trial alone.

One happens to thousands whenever a host is killed; they go on together."""
_TOGETHER = {2: 256, 3: 16}
"""How many are tried at once, by their activations without a commit; one where nothing is said."""
_GROUP_LASTS = 5.0
"""Seconds after which a group does not keep the next one waiting. Who is tried alone has to commit first."""


def pause_before(activations: int) -> int:
    """Give the seconds to wait before an activation, by its number since the last commit."""
    return 0 if activations <= 1 else min(2 ** (activations - 2), 60)


class Trials:
    """Takes suspects, a group at a time."""

    def __init__(self, core: HostCore) -> None:
        self._core = core
        self._tried: set[str] = set()
        self._group = 0
        self.on_end: Callable[[], None] = lambda: None
        """Called when the next group can be tried."""

    def is_out_of_turn(self, loaded: LoadedInstance) -> bool:
        """Whether an instance that came otherwise (with an event) has to wait. One with a request need not."""
        return (
            SUSPECT_FROM < loaded.activations <= QUARANTINE_AFTER
            and loaded.id not in self._tried
            and all(row.message is None for row in loaded.inbox)
        )

    async def take_next(self, rows: Sequence[UnclaimedRow]) -> None:
        """Take the next group among instances that are due, if none is being tried; and those to be quarantined."""
        core = self._core
        suspects = [row for row in rows if row.activations >= SUSPECT_FROM and row.definition in core.registry.runnable]
        group = [] if self._tried else _first_group([row for row in suspects if row.activations < QUARANTINE_AFTER])
        condemned = [row.id for row in suspects if row.activations >= QUARANTINE_AFTER]  # nothing of them begins
        ids = [*(row.id for row in group), *condemned][: core.room]
        if not ids:
            return
        if group:
            self._begin(group)
        try:
            reply = await core.taking.claim(len(ids), ids=ids, suspects=True)
        except BaseException:
            self._tried.clear()  # none of them is tried: the next look begins anew
            raise
        # Only those that run here: one that is damaged, or has ended, is not tried.
        self._tried.intersection_update([loaded.id for loaded in reply.instances if loaded.id in core.runners])

    def _begin(self, group: list[UnclaimedRow]) -> None:
        self._tried.update(row.id for row in group)
        self._group += 1
        count = group[0].activations
        if count in _TOGETHER:
            self._core.loop.call_later(pause_before(count + 1) + _GROUP_LASTS, self._let_go, self._group)

    def passed(self, instance_id: str) -> None:
        """An instance has committed, or has gone."""
        if instance_id in self._tried:
            self._tried.discard(instance_id)
            if not self._tried:
                self.on_end()

    def _let_go(self, group: int) -> None:
        """A group has lived for a while."""
        if group == self._group and self._tried:
            self._tried.clear()
            self.on_end()


def _first_group(suspects: list[UnclaimedRow]) -> list[UnclaimedRow]:
    """Give the longest due suspect, and others that have as many activations behind them."""
    if not suspects:
        return []
    count = suspects[0].activations
    return [row for row in suspects if row.activations == count][: _TOGETHER.get(count, 1)]

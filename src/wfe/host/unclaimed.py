"""What is due and nobody takes: a page of it at each sweep, so that each gets its reason, however many there are.

What this host could run, had it been told of the plan, is not blocked: the plan is in the store.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from wfe.host.parking import requests_among
from wfe.host.trials import QUARANTINE_AFTER, SUSPECT_FROM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wfe.host.core import HostCore
    from wfe.host.recall import Recall
    from wfe.model.moment import Moment
    from wfe.ports.store import UnclaimedRow

__all__ = ["Unclaimed"]

_log = logging.getLogger("wfe.host")

_SUSPECTED = "suspected: "
_PAGE = 500
_SEEN_BEFORE = 2
"""Sweeps in which an instance is seen before it counts as blocked: somebody may just be about to take it."""


class Unclaimed:
    """Says of instances that stay unclaimed why they do."""

    def __init__(self, core: HostCore, recall: Recall) -> None:
        self._core = core
        self._recall = recall
        self._after: tuple[Moment, int] | None = None
        """Where the page ended that is done."""
        self._seen: dict[str, int] = {}

    async def look(self) -> bool:
        """Look at a page; go on to the next one, or to the first again, once nothing is left to be said of this.

        True: the plans of some were found, so that they can be taken now.
        """
        store = self._core.store
        rows = await store.unclaimed(_PAGE, after=self._after)
        if await self._recall.look({row.definition for row in rows}):
            return True
        self._seen = {row.id: self._seen.get(row.id, 0) + 1 for row in rows}
        found = {row.id: reason for row in rows if (reason := self._reason(row))}
        reasons = {each: reason for each, reason in found.items() if self._seen[each] >= _SEEN_BEFORE}
        if reasons:
            for each in await store.block(reasons):
                goes_on_by_itself = reasons[each].startswith(_SUSPECTED)
                level = logging.INFO if goes_on_by_itself else logging.WARNING
                _log.log(level, "Instance %s is blocked: %s", each, reasons[each])
        await self._core.trials.take_next(rows)
        are_all_applied = await self._apply_requests(rows)
        if len(reasons) == len(found) and are_all_applied:
            self._after = rows[-1].place if len(rows) == _PAGE else None
        return False

    async def _apply_requests(self, rows: Sequence[UnclaimedRow]) -> bool:
        """Apply requests that nobody applies for want of code: they need none, and nobody may be left to see to it.

        False: some are left for the next look.
        """
        core = self._core
        blocked = [row.id for row in rows if row.has_message and core.registry.why_not(row.definition)]
        left = [each for each in blocked if self._seen[each] >= _SEEN_BEFORE]
        if left:
            asked = requests_among(await core.store.inbox(left))
            await core.taking.apply_without_code(list(dict.fromkeys(row.instance_id for row in asked)))
        return len(left) == len(blocked)

    def _reason(self, row: UnclaimedRow) -> str:
        """Give a reason that is news."""
        reason = self._core.registry.why_not(row.definition)
        if row.activations >= QUARANTINE_AFTER:
            reason = f"quarantined: {row.activations} activations ended without a commit"
        elif row.activations >= SUSPECT_FROM and not reason:
            reason = f"{_SUSPECTED}{row.activations} activations ended without a commit; it is tried apart from others"
        return "" if reason == row.blocked_reason else reason

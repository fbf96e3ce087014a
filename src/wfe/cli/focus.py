"""A store seen through a keyhole: a host on it runs certain instances only.

Any host runs whatever it finds that it knows the definition of. That is right for workers. But who types `wfe run`
wants one run, and not the pipelines of others, or interrupted ones, to come alive in that terminal.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from wfe.model.definition import DefinitionKey
    from wfe.model.moment import Moment
    from wfe.ports.hints import Hints
    from wfe.ports.lease import Lease
    from wfe.ports.lifecycle import LifecyclePublisher
    from wfe.ports.provider import Provider
    from wfe.ports.store import ClaimReply, Store, UnclaimedRow

__all__ = ["FocusedProvider"]

_PAGE = 1000


class FocusedProvider:
    """A provider of which a host sees the instances in `ids` only, when it looks for work."""

    def __init__(self, inner: Provider) -> None:
        self.ids: set[str] = set()
        """May be added to while the host runs."""
        self.url = inner.url
        # All other methods are those of the store itself.
        self.store: Store = cast("Store", _FocusedStore(inner.store, self.ids))
        self.lease: Lease = inner.lease
        self.hints: Hints = inner.hints
        self.lifecycle: LifecyclePublisher = inner.lifecycle


@dataclass
class _FocusedStore:
    _inner: Store
    _ids: set[str] = field(default_factory=set)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def claim(
        self,
        session: str,
        runnable: Collection[DefinitionKey],
        limit: int,
        *,
        ids: Sequence[str] | None = None,
        any_definition: bool = False,
        activations_below: int | None = None,
    ) -> ClaimReply:
        chosen = sorted(self._ids) if ids is None else ids
        return await self._inner.claim(
            session,
            runnable,
            limit,
            ids=chosen,
            any_definition=any_definition,
            activations_below=activations_below,
        )

    async def unclaimed(self, limit: int, *, after: tuple[Moment, int] | None = None) -> Sequence[UnclaimedRow]:
        found: list[UnclaimedRow] = []
        while len(found) < limit:
            rows = await self._inner.unclaimed(_PAGE, after=after)
            found.extend(row for row in rows if row.id in self._ids)
            if len(rows) < _PAGE:
                break
            after = rows[-1].place
        return found[:limit]

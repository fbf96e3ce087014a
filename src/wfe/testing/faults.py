"""A store that fails on demand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from wfe.model.definition import DefinitionKey
from wfe.model.errors import ProviderUnavailable
from wfe.model.moment import Moment
from wfe.ports.inspection import InspectableStore, Inspector, not_inspectable
from wfe.ports.store import (
    Batch,
    ClaimReply,
    CommitReply,
    DefinitionRow,
    EndedRow,
    InboxRow,
    InstanceRow,
    ListFilter,
    LogCursorPage,
    LogRow,
    Store,
    UnclaimedRow,
)

__all__ = ["Fault", "FaultyStore", "When"]

T = TypeVar("T")


class When(Enum):
    """On which side of the real call a fault lies."""

    BEFORE = "before"
    """The call does not happen."""
    AFTER = "after"
    """The call happens, its answer is lost."""


def _unavailable() -> Exception:
    return ProviderUnavailable("The store did not answer, as planned by the test.")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with one call."""

    when: When = When.BEFORE
    error: Callable[[], Exception] | None = _unavailable
    """Makes the error to raise; None: only `hook` runs."""
    hook: Callable[[], Awaitable[object]] | None = None
    """Awaited first, on the same side of the call: to wait for a signal, to let something else happen in between."""

    async def strike(self) -> None:
        """Run the hook, then raise the error."""
        if self.hook is not None:
            await self.hook()
        if self.error is not None:
            raise self.error()


class FaultyStore:
    """Passes every call to another store, except that planned calls fail or are held up.

    `plan` maps (method name, number of the call) to what goes wrong; calls of one method are counted from 1. It may be
    changed while the store is used. `calls` tells how often each method was called.

        FaultyStore(store, {("commit", 2): Fault(when=When.AFTER)})

    writes the second batch and loses the answer.
    """

    def __init__(self, inner: Store, plan: Mapping[tuple[str, int], Fault] | None = None) -> None:
        self.inner = inner
        self.plan: dict[tuple[str, int], Fault] = dict(plan or {})
        self.calls: dict[str, int] = {}

    async def _pass(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        number = self.calls[method] = self.calls.get(method, 0) + 1
        fault = self.plan.get((method, number))
        if fault is not None and fault.when is When.BEFORE:
            await fault.strike()
        answer = await call()
        if fault is not None and fault.when is When.AFTER:
            await fault.strike()
        return answer

    async def open(self) -> None:
        await self._pass("open", self.inner.open)

    async def close(self) -> None:
        await self._pass("close", self.inner.close)

    async def commit(self, batch: Batch) -> CommitReply:
        return await self._pass("commit", lambda: self.inner.commit(batch))

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
        return await self._pass(
            "claim",
            lambda: self.inner.claim(
                session,
                runnable,
                limit,
                ids=ids,
                any_definition=any_definition,
                activations_below=activations_below,
            ),
        )

    async def release(self, session: str, holds: Sequence[tuple[str, int]]) -> None:
        await self._pass("release", lambda: self.inner.release(session, holds))

    async def held(self, session: str) -> Sequence[tuple[str, int]]:
        return await self._pass("held", lambda: self.inner.held(session))

    async def inbox(self, ids: Sequence[str]) -> Sequence[InboxRow]:
        return await self._pass("inbox", lambda: self.inner.inbox(ids))

    async def pending_control(self, request_ids: Sequence[str]) -> Collection[str]:
        return await self._pass("pending_control", lambda: self.inner.pending_control(request_ids))

    async def unclaimed(self, limit: int, *, after: tuple[Moment, int] | None = None) -> Sequence[UnclaimedRow]:
        return await self._pass("unclaimed", lambda: self.inner.unclaimed(limit, after=after))

    async def block(self, reasons: Mapping[str, str]) -> Collection[str]:
        return await self._pass("block", lambda: self.inner.block(reasons))

    async def get(self, id_or_name: str) -> InstanceRow | None:
        return await self._pass("get", lambda: self.inner.get(id_or_name))

    async def ended(self, ids: Sequence[str], *, until: Collection[str] = ()) -> Sequence[EndedRow]:
        return await self._pass("ended", lambda: self.inner.ended(ids, until=until))

    async def list_instances(
        self, where: ListFilter, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[InstanceRow], str | None]:
        return await self._pass("list_instances", lambda: self.inner.list_instances(where, limit, cursor))

    async def known(self, ids: Sequence[str]) -> Collection[str]:
        return await self._pass("known", lambda: self.inner.known(ids))

    async def history(self, instance_id: str, after: int = 0, limit: int = 1000) -> Sequence[LogRow]:
        return await self._pass("history", lambda: self.inner.history(instance_id, after, limit))

    async def errors(self, instance_id: str) -> Sequence[bytes]:
        return await self._pass("errors", lambda: self.inner.errors(instance_id))

    async def log_after(self, cursor: str | None, limit: int, *, instance_id: str | None = None) -> LogCursorPage:
        return await self._pass("log_after", lambda: self.inner.log_after(cursor, limit, instance_id=instance_id))

    async def save_definition(self, row: DefinitionRow) -> DefinitionKey | None:
        return await self._pass("save_definition", lambda: self.inner.save_definition(row))

    async def definitions(self) -> Sequence[DefinitionRow]:
        return await self._pass("definitions", self.inner.definitions)

    async def purge(
        self,
        *,
        ids: Sequence[str] | None = None,
        status: Sequence[str] = (),
        ended_before: Moment | None = None,
        limit: int = 100,
    ) -> int:
        return await self._pass(
            "purge", lambda: self.inner.purge(ids=ids, status=status, ended_before=ended_before, limit=limit)
        )

    async def inspect(self, inspector: Inspector) -> None:
        inner = self.inner
        if not isinstance(inner, InspectableStore):
            raise not_inspectable(inner)
        await self._pass("inspect", lambda: inner.inspect(inspector))

    async def drop_events(self, before: Moment, limit: int = 1000) -> int:
        return await self._pass("drop_events", lambda: self.inner.drop_events(before, limit))

"""The memory provider as hosts see it from across a network that is not reliable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from wfe.model.definition import DefinitionKey
from wfe.model.errors import ProviderUnavailable
from wfe.model.lifecycle import LifecycleEvent
from wfe.model.moment import Moment
from wfe.ports.hints import Hint, Hints
from wfe.ports.lease import Lease, Renewer
from wfe.ports.lifecycle import LifecyclePublisher
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
from wfe.providers.memory import MemoryProvider
from wfe.providers.memory.lifecycle import MemoryLifecycle
from wfe.testing.simulation.loop import PROCESS, Process
from wfe.testing.simulation.network import Fate, Network

__all__ = ["Exchange", "SimulatedProvider", "Watch"]


_POLL = 1.0
"""Virtual seconds after which a follower of announcements looks for those of other processes."""


class Watch(Protocol):
    """Sees each request at the moment in which the store executes it."""

    def before_commit(self, process: Process, batch: Batch) -> None:
        """Look at a batch that is about to be written."""
        ...

    def after_commit(self, process: Process, batch: Batch, reply: CommitReply) -> None:
        """Look at a batch that was written."""
        ...

    def renewed(self, process: Process, *, truly: bool = True) -> None:
        """A session lives for another TTL from now; or its host believes so, because it was lied to."""
        ...

    def session_begun(self, process: Process, session: str) -> None:
        """A session begins."""
        ...

    def not_renewed(self, process: Process) -> None:
        """A renewal was refused, or its reply lost."""
        ...

    def session_ends(self, session: str) -> None:
        """A host ends its session."""
        ...

    def before_claim(self, ids: Sequence[str] | None) -> None:
        """Look at what may be taken."""
        ...

    def after_claim(self, process: Process, session: str, reply: ClaimReply, *, even_idle: bool) -> None:
        """Look at what was taken."""
        ...

    def after_release(self, session: str, ids: Sequence[str]) -> None:
        """Instances were given back, unless they were another session's by then."""
        ...


class Exchange:
    """Who receives hints."""

    def __init__(self) -> None:
        self.receivers: dict[str, tuple[Process, Callable[[Hint], None]]] = {}


class SimulatedProvider:
    """One process's connection to the store that all share."""

    def __init__(
        self, inner: MemoryProvider, network: Network, exchange: Exchange, watch: Watch, *, url: str = "memory:"
    ) -> None:
        self.url = url
        self.store: Store = _Store(inner.store, network, watch)
        self.lease: Lease = _Lease(inner.lease, network, watch)
        self.hints: Hints = _Hints(network, exchange)
        self.lifecycle: LifecyclePublisher = _Lifecycle(inner.announcements, network)


class _Store:
    def __init__(self, inner: Store, network: Network, watch: Watch) -> None:
        self._inner = inner
        self._network = network
        self._watch = watch

    async def open(self) -> None:
        await self._network.call("open", self._inner.open)

    async def close(self) -> None:
        """Nothing to do: a connection ends by itself."""

    async def commit(self, batch: Batch) -> CommitReply:
        process = PROCESS.get()

        async def work() -> CommitReply:
            self._watch.before_commit(process, batch)
            reply = await self._inner.commit(batch)
            self._watch.after_commit(process, batch, reply)
            return reply

        return await self._network.call("commit", work, detail=_summary(batch))

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
        process = PROCESS.get()

        async def work() -> ClaimReply:
            self._watch.before_claim(ids)
            reply = await self._inner.claim(
                session,
                runnable,
                limit,
                ids=ids,
                any_definition=any_definition,
                activations_below=activations_below,
            )
            self._watch.after_claim(process, session, reply, even_idle=any_definition)
            return reply

        return await self._network.call("claim", work, detail=" ".join(ids or ()))

    async def release(self, session: str, holds: Sequence[tuple[str, int]]) -> None:
        async def work() -> None:
            await self._inner.release(session, holds)
            self._watch.after_release(session, [instance_id for instance_id, _ in holds])

        await self._network.call("release", work, detail=str(list(holds)))

    async def held(self, session: str) -> Sequence[tuple[str, int]]:
        return await self._network.call("held", lambda: self._inner.held(session))

    async def inbox(self, ids: Sequence[str]) -> Sequence[InboxRow]:
        return await self._network.call("inbox", lambda: self._inner.inbox(ids), detail=" ".join(ids))

    async def pending_control(self, request_ids: Sequence[str]) -> Collection[str]:
        return await self._network.call("pending_control", lambda: self._inner.pending_control(request_ids))

    async def unclaimed(self, limit: int, *, after: tuple[Moment, int] | None = None) -> Sequence[UnclaimedRow]:
        return await self._network.call("unclaimed", lambda: self._inner.unclaimed(limit, after=after))

    async def block(self, reasons: Mapping[str, str]) -> Collection[str]:
        return await self._network.call("block", lambda: self._inner.block(reasons), detail=str(dict(reasons)))

    async def get(self, id_or_name: str) -> InstanceRow | None:
        return await self._network.call("get", lambda: self._inner.get(id_or_name))

    async def ended(self, ids: Sequence[str], *, until: Collection[str] = ()) -> Sequence[EndedRow]:
        return await self._network.call("ended", lambda: self._inner.ended(ids, until=until))

    async def list_instances(
        self, where: ListFilter, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[InstanceRow], str | None]:
        return await self._network.call("list", lambda: self._inner.list_instances(where, limit, cursor))

    async def known(self, ids: Sequence[str]) -> Collection[str]:
        return await self._network.call("known", lambda: self._inner.known(ids))

    async def history(self, instance_id: str, after: int = 0, limit: int = 1000) -> Sequence[LogRow]:
        return await self._network.call("history", lambda: self._inner.history(instance_id, after, limit))

    async def errors(self, instance_id: str) -> Sequence[bytes]:
        return await self._network.call("errors", lambda: self._inner.errors(instance_id))

    async def log_after(self, cursor: str | None, limit: int, *, instance_id: str | None = None) -> LogCursorPage:
        return await self._network.call(
            "log_after", lambda: self._inner.log_after(cursor, limit, instance_id=instance_id)
        )

    async def save_definition(self, row: DefinitionRow) -> DefinitionKey | None:
        return await self._network.call("save_definition", lambda: self._inner.save_definition(row))

    async def definitions(self) -> Sequence[DefinitionRow]:
        return await self._network.call("definitions", self._inner.definitions)

    async def purge(
        self,
        *,
        ids: Sequence[str] | None = None,
        status: Sequence[str] = (),
        ended_before: Moment | None = None,
        limit: int = 100,
    ) -> int:
        return await self._network.call(
            "purge", lambda: self._inner.purge(ids=ids, status=status, ended_before=ended_before, limit=limit)
        )

    async def drop_events(self, before: Moment, limit: int = 1000) -> int:
        return await self._network.call("drop_events", lambda: self._inner.drop_events(before, limit))


def _summary(batch: Batch) -> str:
    parts = [f"{write.instance_id}@{write.revision}/{write.fence}" for write in batch.transitions]
    parts += [f"start {start.id}" for start in batch.starts]
    parts += [f"publish {publish.id}" for publish in batch.publishes]
    parts += [f"message to {insert.instance_id}" for insert in batch.inbox]
    return ", ".join(parts)


class _Lease:
    def __init__(self, inner: Lease, network: Network, watch: Watch) -> None:
        self._inner = inner
        self._network = network
        self._watch = watch

    async def begin(self, session: str, *, name: str, ttl: timedelta) -> None:
        process = PROCESS.get()

        async def work() -> None:
            await self._inner.begin(session, name=name, ttl=ttl)
            self._watch.session_begun(process, session)

        await self._network.call("begin", work, detail=session)

    async def end(self, session: str) -> None:
        async def work() -> None:
            self._watch.session_ends(session)
            await self._inner.end(session)

        await self._network.call("end", work, detail=session)

    async def alive(self) -> Collection[str]:
        return await self._network.call("alive", self._inner.alive)

    def renewer(self, session: str, ttl: timedelta) -> Renewer:
        return _Renewer(self._inner.renewer(session, ttl), self._network, self._watch)


class _Renewer:
    """Renews at once, without latency: it is called from code that cannot wait."""

    def __init__(self, inner: Renewer, network: Network, watch: Watch) -> None:
        self._inner = inner
        self._network = network
        self._watch = watch

    def renew(self) -> None:
        process = PROCESS.get()
        if process.name in self._network.lying:
            self._watch.renewed(process, truly=False)
            return
        fate = self._network.fate(process)
        if fate is not Fate.REFUSED:
            self._inner.renew()
            self._watch.renewed(process)
        if fate is not Fate.DONE:
            self._watch.not_renewed(process)
            raise ProviderUnavailable(f"The lease service did not answer, as planned ({fate.value}).")

    def close(self) -> None:
        self._inner.close()


class _Lifecycle:
    """Reads announcements across the network: now and then, and when something is committed in its own process.

    A request that fails ends the iterator, as a lost connection may: whoever follows asks again, from where it was.
    """

    def __init__(self, inner: MemoryLifecycle, network: Network) -> None:
        self._inner = inner
        self._network = network
        self._news = asyncio.Event()

    async def subscribe(
        self, *, workflow_id: str | None = None, since: str | None = None
    ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
        cursor = since if since is not None else await self.position()

        async def read() -> list[tuple[str, LifecycleEvent]]:
            return self._inner.announced(cursor, workflow_id=workflow_id)

        while True:
            self._news.clear()
            try:
                found = await self._network.call("announced", read, detail=cursor)
            except ProviderUnavailable:
                self._network.seen["follower cut off"] += 1
                raise
            for cursor, event in found:
                yield cursor, event
            if not found:
                await self._for_news()

    async def _for_news(self) -> None:
        try:
            async with asyncio.timeout(_POLL):
                await self._news.wait()
        except TimeoutError:
            pass

    async def position(self) -> str:
        return await self._network.call("position", self._inner.position)

    def wake(self) -> None:
        self._news.set()


class _Hints:
    def __init__(self, network: Network, exchange: Exchange) -> None:
        self._network = network
        self._exchange = exchange
        self._own: list[str] = []

    async def open(self, session: str, receive: Callable[[Hint], None]) -> None:
        self._exchange.receivers[session] = (PROCESS.get(), receive)
        self._own.append(session)

    async def send(self, session: str | None, hints: Collection[Hint]) -> None:
        for hint in hints:
            for receiver, (process, receive) in self._exchange.receivers.items():
                if receiver == session or (session is None and receiver not in self._own):
                    self._network.post(process, lambda receive=receive, hint=hint: receive(hint), f"{hint}")  # type: ignore[misc]

    async def close(self) -> None:
        for session in self._own:
            self._exchange.receivers.pop(session, None)
        self._own.clear()

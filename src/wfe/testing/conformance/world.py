"""The surroundings of one conformance test: an open provider, a living session, and short verbs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias, TypeVar
from unittest import SkipTest

from msgspec.structs import replace

from wfe.model.definition import DefinitionKey
from wfe.model.errors import ProviderUnavailable
from wfe.model.moment import Moment, microseconds
from wfe.ports.lease import Lease
from wfe.ports.provider import Provider
from wfe.ports.store import (
    Batch,
    ClaimReply,
    CommitReply,
    InboxInsert,
    InboxRow,
    InstanceRow,
    LoadedInstance,
    LogRow,
    Publish,
    Start,
    StartOutcome,
    Store,
    TransitionOutcome,
    TransitionWrite,
)
from wfe.testing.conformance.values import DEFINITION, HOUR, changes, fresh_id, start, transition

__all__ = ["PATIENCE", "Advance", "Disconnect", "Factory", "Held", "Surroundings", "Twin", "World"]

Factory: TypeAlias = Callable[[], AbstractAsyncContextManager[Provider]]
"""Makes an open provider on an empty storage; it is closed on leaving."""

Twin: TypeAlias = Callable[[Provider], AbstractAsyncContextManager[Provider]]
"""Makes another open provider on the storage of the given one, as a second process has it."""

Advance: TypeAlias = Callable[[Provider, timedelta], Awaitable[None]]
"""Lets store time and session time pass."""

Disconnect: TypeAlias = Callable[[Provider], Awaitable[None]]
"""Cuts the provider's connections to its backend, which stays up."""

Part: TypeAlias = TransitionWrite | Start | Publish | InboxInsert

PATIENCE = 10.0
"""Seconds until a test gives up on something that must happen soon."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the author of a provider has given to a suite."""

    factory: Factory
    twin: Twin | str | None = None
    """Text: why there can be none."""
    advance: Advance | None = None
    disconnect: Disconnect | str | None = None
    """As `twin`."""
    scale: int = 10_000
    """How many rows the heavy tests write at once."""

    @asynccontextmanager
    async def world(self) -> AsyncGenerator[World, None]:
        """Make the world of one test."""
        async with self.factory() as provider:
            yield await World.of(provider, self)


@dataclass(eq=False)
class Held:
    """An instance that a session holds, at the revision that the holder knows."""

    id: str
    revision: int
    fence: int

    def write(self, **fields: object) -> TransitionWrite:
        """Make its next transition; `fields` are those of its changes."""
        return transition(self.id, self.revision, self.fence, **fields)


@dataclass(eq=False)
class World:
    """One provider as one host sees it."""

    provider: Provider
    surroundings: Surroundings
    session: str = field(default_factory=lambda: fresh_id("session-"))

    @staticmethod
    async def of(provider: Provider, surroundings: Surroundings) -> World:
        """Make a world whose session lives."""
        world = World(provider, surroundings)
        await world.lease.begin(world.session, name="host", ttl=HOUR)
        return world

    @property
    def store(self) -> Store:
        """The store under test."""
        return self.provider.store

    @property
    def lease(self) -> Lease:
        """The lease port under test."""
        return self.provider.lease

    @property
    def scale(self) -> int:
        """How many rows a heavy test writes at once."""
        return self.surroundings.scale

    # Other hosts, time, faults

    async def other_session(self, *, ttl: timedelta = HOUR) -> str:
        """Begin the session of another host."""
        session = fresh_id("session-")
        await self.lease.begin(session, name="other", ttl=ttl)
        return session

    @asynccontextmanager
    async def twin(self) -> AsyncGenerator[World, None]:
        """Open the same storage a second time, as another process does."""
        twin = _given(self.surroundings.twin, "twin", "a second process on the same storage is not tested")
        async with twin(self.provider) as provider:
            yield await World.of(provider, self.surroundings)

    @asynccontextmanager
    async def restarted(self) -> AsyncGenerator[World, None]:
        """Close the provider and open its storage again."""
        _given(self.surroundings.twin, "twin", "opening a storage again is not tested")
        await self.store.close()
        async with self.twin() as again:
            yield again

    async def pass_time(self, duration: timedelta) -> None:
        """Let store time pass: by the clock in the test's hands, else by waiting for it."""
        if self.surroundings.advance is not None:
            await self.surroundings.advance(self.provider, duration)
        else:
            await asyncio.sleep(duration.total_seconds())

    async def disconnect(self) -> None:
        """Cut the connections to the backend."""
        disconnect = _given(self.surroundings.disconnect, "disconnect", "lost connections are not tested")
        await disconnect(self.provider)

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until the backend answers."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await call()
                except ProviderUnavailable:
                    await asyncio.sleep(0.05)

    async def now(self) -> Moment:
        """Give store time."""
        return (await self.store.claim(self.session, [], 0)).now

    async def after(self, duration: timedelta) -> Moment:
        """Give the store time that far ahead; a negative duration: ago."""
        return await self.now() + microseconds(duration)

    # Writing

    def batch(
        self,
        *parts: Part,
        batch_id: str | None = None,
        session: str | None = None,
        promote: int = 0,
        room: int = 0,
        runnable: Collection[DefinitionKey] = (DEFINITION,),
    ) -> Batch:
        """Make a batch of this session."""
        return Batch(
            id=batch_id or fresh_id("batch-"),
            session=session or self.session,
            transitions=[part for part in parts if isinstance(part, TransitionWrite)],
            starts=[part for part in parts if isinstance(part, Start)],
            publishes=[part for part in parts if isinstance(part, Publish)],
            inbox=[part for part in parts if isinstance(part, InboxInsert)],
            promote=promote,
            room=room,
            runnable=runnable,
        )

    async def commit(
        self,
        *parts: Part,
        session: str | None = None,
        promote: int = 0,
        room: int = 0,
        runnable: Collection[DefinitionKey] = (DEFINITION,),
    ) -> CommitReply:
        """Commit transitions, starts, events and messages as one batch."""
        return await self.store.commit(
            self.batch(*parts, session=session, promote=promote, room=room, runnable=runnable)
        )

    async def started(self, instance_id: str = "order-1", **fields: object) -> Held:
        """Start an instance that this session holds."""
        first = start(instance_id)
        await self.create(replace(first, changes=changes(**fields)))
        return Held(instance_id, 1, 1)

    async def create(self, *starts: Start) -> CommitReply:
        """Start instances that are not there yet."""
        reply = await self.commit(*starts)
        assert list(reply.starts) == [StartOutcome.CREATED] * len(starts), reply.starts
        return reply

    async def write(self, held: Held, **fields: object) -> CommitReply:
        """Commit the next transition of a held instance, which must be accepted."""
        reply = await self.commit(held.write(**fields))
        assert list(reply.transitions) == [TransitionOutcome.ACCEPTED], reply.transitions
        held.revision += 1
        return reply

    async def end(self, held: Held, **fields: object) -> CommitReply:
        """Commit the transition that ends a held instance."""
        return await self.write(held, **({"status": "complete", "ended": True, "hold": False} | fields))

    # Taking

    async def claim(
        self,
        limit: int = 100,
        *,
        ids: Sequence[str] | None = None,
        session: str | None = None,
        runnable: Collection[DefinitionKey] = (DEFINITION,),
        any_definition: bool = False,
        activations_below: int | None = None,
    ) -> ClaimReply:
        """Claim what there is to do."""
        return await self.store.claim(
            session or self.session,
            runnable,
            limit,
            ids=ids,
            any_definition=any_definition,
            activations_below=activations_below,
        )

    async def claimed_ids(self, limit: int = 100, *, ids: Sequence[str] | None = None) -> list[str]:
        """Claim, and give the ids of what was taken, in order."""
        return [taken.id for taken in (await self.claim(limit, ids=ids)).instances]

    async def take(self, instance_id: str = "order-1", *, session: str | None = None) -> LoadedInstance:
        """Take one instance that nobody holds, whether it has something to do or not."""
        reply = await self.claim(1, ids=[instance_id], session=session, any_definition=True)
        assert len(reply.instances) == 1, f"{instance_id} was not taken"
        return reply.instances[0]

    async def taken(self, instance_id: str = "order-1", *, session: str | None = None) -> Held:
        """Take one instance, to write to it."""
        loaded = await self.take(instance_id, session=session)
        return Held(loaded.id, loaded.revision, loaded.fence)

    # Reading

    async def row(self, instance_id: str = "order-1") -> InstanceRow:
        """Read an instance that exists."""
        row = await self.store.get(instance_id)
        assert row is not None, f"{instance_id} does not exist"
        return row

    async def inbox(self, *ids: str) -> list[InboxRow]:
        """Read the inbox of instances (of `order-1` unless told)."""
        return list(await self.store.inbox(ids or ["order-1"]))

    async def payloads(self, *ids: str) -> list[bytes]:
        """Read the payloads of the events that wait in inboxes."""
        return [row.payload for row in await self.inbox(*ids)]

    async def messages(self, *ids: str) -> list[bytes | None]:
        """Read the messages that wait in inboxes."""
        return [row.message for row in await self.inbox(*ids)]

    async def whole_log(self) -> list[LogRow]:
        """Read every log row, from the oldest on."""
        return list((await self.store.log_after(None, 1_000_000)).rows)


def _given(what: T | str | None, name: str, untested: str) -> T:
    """Give what the provider's author has supplied, or skip the test with the reason why it is not there."""
    if what is None:
        raise SkipTest(f"the suite was given no `{name}`, so {untested}")
    if isinstance(what, str):
        raise SkipTest(f"{untested}: {what}")
    return what

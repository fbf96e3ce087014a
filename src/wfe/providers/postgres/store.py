"""The store port on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from wfe.model.definition import DefinitionKey
from wfe.model.moment import Moment
from wfe.ports.inspection import Inspector
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
    UnclaimedRow,
)
from wfe.providers.postgres.claim import Claims
from wfe.providers.postgres.columns import known_plans, plans_of
from wfe.providers.postgres.commit import Commit
from wfe.providers.postgres.inspection import Inspection
from wfe.providers.postgres.lifecycle import PostgresLifecycle
from wfe.providers.postgres.plans import Plans
from wfe.providers.postgres.pool import Pool
from wfe.providers.postgres.reads import Reads
from wfe.providers.postgres.schema import is_up_to_date, migrate
from wfe.providers.postgres.upkeep import Upkeep

__all__ = ["PostgresStore"]

_READERS_PATIENCE = timedelta(seconds=5)
"""Somebody waits for the answer, and asks again if need be: a host would have to go on by itself."""
_LONGEST_MIGRATION = timedelta(hours=1)


class PostgresStore:
    """Keeps everything in the tables of one schema. Any number of hosts, processes and stores may share them."""

    def __init__(self, pool: Pool, lifecycle: PostgresLifecycle, *, durable: bool) -> None:
        self._pool = pool
        self._lifecycle = lifecycle
        self._plans = Plans(pool)
        self._commit = Commit(pool, durable=durable)
        self._claims = Claims(pool)
        self._reads = Reads(pool)
        self._upkeep = Upkeep(pool, self._plans)

    async def open(self) -> None:
        self._pool.open()
        place = self._pool.place
        try:
            is_new = await self._pool.run(
                "open the store",
                lambda connection, _: is_up_to_date(connection, place),
                within=_READERS_PATIENCE if place.mode == "read" else None,
            )
            if not is_new:
                await self._pool.run(
                    "bring the schema up to date",
                    lambda connection, _: migrate(connection, place),
                    at_once=_LONGEST_MIGRATION,
                )
        except BaseException:
            await self._pool.close()
            raise

    async def close(self) -> None:
        await self._pool.close()

    async def commit(self, batch: Batch) -> CommitReply:
        wanted = plans_of(batch)
        if batch.room:
            wanted.update(batch.runnable)
        plans = await self._plans.numbers(wanted)
        await self._lifecycle.began()
        reply = await self._commit(batch, plans)
        self._lifecycle.wake()
        return reply

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
        plans = None if any_definition else known_plans(runnable, await self._plans.numbers(runnable))
        even_idle = any_definition and ids is not None
        return await self._claims.claim(
            session, plans, limit, ids, even_idle=even_idle, activations_below=activations_below
        )

    async def release(self, session: str, holds: Sequence[tuple[str, int]]) -> None:
        if holds:
            await self._claims.release(session, holds)

    async def held(self, session: str) -> Sequence[tuple[str, int]]:
        return await self._claims.held(session)

    async def inbox(self, ids: Sequence[str]) -> Sequence[InboxRow]:
        return await self._reads.inbox(ids) if ids else ()

    async def pending_control(self, request_ids: Sequence[str]) -> Collection[str]:
        return await self._reads.pending_control(request_ids) if request_ids else ()

    async def unclaimed(self, limit: int, *, after: tuple[Moment, int] | None = None) -> Sequence[UnclaimedRow]:
        return await self._claims.unclaimed(limit, after)

    async def block(self, reasons: Mapping[str, str]) -> Collection[str]:
        return await self._claims.block(reasons) if reasons else ()

    async def get(self, id_or_name: str) -> InstanceRow | None:
        return await self._reads.get(id_or_name)

    async def ended(self, ids: Sequence[str], *, until: Collection[str] = ()) -> Sequence[EndedRow]:
        return await self._reads.ended(ids, until) if ids else ()

    async def list_instances(
        self, where: ListFilter, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[InstanceRow], str | None]:
        return await self._reads.list_instances(where, limit, cursor)

    async def known(self, ids: Sequence[str]) -> Collection[str]:
        return await self._reads.known(ids) if ids else ()

    async def history(self, instance_id: str, after: int = 0, limit: int = 1000) -> Sequence[LogRow]:
        return await self._reads.history(instance_id, after, limit)

    async def errors(self, instance_id: str) -> Sequence[bytes]:
        return await self._reads.errors(instance_id)

    async def log_after(self, cursor: str | None, limit: int, *, instance_id: str | None = None) -> LogCursorPage:
        return await self._reads.log_after(cursor, limit, instance_id)

    async def inspect(self, inspector: Inspector) -> None:
        await Inspection(self._pool.connector, inspector).run()

    async def save_definition(self, row: DefinitionRow) -> DefinitionKey | None:
        return await self._upkeep.save_definition(row)

    async def definitions(self) -> Sequence[DefinitionRow]:
        return await self._upkeep.definitions()

    async def purge(
        self,
        *,
        ids: Sequence[str] | None = None,
        status: Sequence[str] = (),
        ended_before: Moment | None = None,
        limit: int = 100,
    ) -> int:
        return await self._upkeep.purge(ids, status, ended_before, limit)

    async def drop_events(self, before: Moment, limit: int = 1000) -> int:
        return await self._upkeep.drop_events(before, limit)

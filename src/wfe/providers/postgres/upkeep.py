"""Definitions, and what is deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wfe.model.definition import DefinitionKey
from wfe.model.moment import Moment
from wfe.ports.store import DefinitionRow
from wfe.providers.postgres.plans import Plans
from wfe.providers.postgres.pool import Pool

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Upkeep"]

_DEFINITION_LOCK = 0x646566


class Upkeep:
    """Records definitions and deletes what is over."""

    def __init__(self, pool: Pool, plans: Plans) -> None:
        self._pool = pool
        self._plans = plans
        self._schema = pool.place.quoted_schema

    async def save_definition(self, row: DefinitionRow) -> DefinitionKey | None:
        """Record a definition, or give the key of the one in use."""
        numbers = await self._plans.numbers([row.key])
        return await self._pool.run(
            "record a definition", lambda connection, _: self._save(connection, row, numbers[row.key])
        )

    async def _save(self, connection: asyncpg.Connection, row: DefinitionRow, plan: int) -> DefinitionKey | None:
        schema = self._schema
        async with connection.transaction():
            await connection.execute(
                "SELECT pg_advisory_xact_lock($1, $2)", self._pool.place.lock_space, _DEFINITION_LOCK
            )
            there = await connection.fetchrow(
                f"SELECT p.*, d.body, d.source FROM {schema}.definition d JOIN {schema}.plan p ON p.n = d.plan "
                "WHERE d.id = $1 AND d.version = $2",
                row.key.id,
                row.key.version,
            )
            if there is not None and (there["n"], there["body"], there["source"]) == (plan, row.plan, row.source):
                return None
            if (
                there is not None
                and there["n"] != plan
                and await connection.fetchval(
                    f"SELECT EXISTS (SELECT 1 FROM {schema}.instance WHERE plan = $1 AND ended_at IS NULL)", there["n"]
                )
            ):
                return DefinitionKey(there["id"], there["version"], there["hash"])
            await connection.execute(
                f"""INSERT INTO {schema}.definition (plan, id, version, body, source) VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT (id, version) DO UPDATE
                SET plan = excluded.plan, body = excluded.body, source = excluded.source""",
                plan,
                row.key.id,
                row.key.version,
                row.plan,
                row.source,
            )
            return None

    async def definitions(self) -> Sequence[DefinitionRow]:
        """Read the recorded definitions."""
        rows = await self._pool.run(
            "read the definitions",
            lambda connection, _: connection.fetch(
                f"SELECT p.id, p.version, p.hash, d.body, d.source FROM {self._schema}.definition d "
                f"JOIN {self._schema}.plan p ON p.n = d.plan ORDER BY p.n"
            ),
        )
        return [
            DefinitionRow(DefinitionKey(row["id"], row["version"], row["hash"]), row["body"], row["source"])
            for row in rows
        ]

    async def purge(
        self, ids: Sequence[str] | None, status: Sequence[str], ended_before: Moment | None, limit: int
    ) -> int:
        """Delete ended instances with everything that hangs on them."""
        return await self._pool.run(
            "purge instances",
            lambda connection, _: self._purge(connection, ids, status, ended_before, limit),
        )

    async def _purge(
        self,
        connection: asyncpg.Connection,
        ids: Sequence[str] | None,
        status: Sequence[str],
        ended_before: Moment | None,
        limit: int,
    ) -> int:
        schema = self._schema
        tables = ("document", "pointer", "item", "error", "log", "position", "subscription", "inbox")
        deletes = ", ".join(
            f"{table}_gone AS (DELETE FROM {schema}.{table} r USING over WHERE r.n = over.n)" for table in tables
        )
        deleted = await connection.fetchval(
            f"""WITH over AS MATERIALIZED (
                SELECT i.n FROM {schema}.instance i
                WHERE i.ended_at IS NOT NULL
                    AND ($1::text[] IS NULL OR i.id = ANY ($1::text[]))
                    AND (cardinality($2::text[]) = 0 OR i.status = ANY ($2::text[]))
                    AND ($3::bigint IS NULL OR i.ended_at < $3::bigint)
                ORDER BY i.ended_at LIMIT $4 FOR UPDATE SKIP LOCKED),
            {deletes},
            gone AS (DELETE FROM {schema}.instance i USING over WHERE i.n = over.n RETURNING 1)
            SELECT count(*) FROM gone""",
            None if ids is None else list(ids),
            list(status),
            ended_before,
            limit,
        )
        return int(deleted)

    async def drop_events(self, before: Moment, limit: int) -> int:
        """Delete old events that no wait would match."""
        schema = self._schema
        deleted = await self._pool.run(
            "drop old events",
            lambda connection, _: connection.fetchval(
                f"""WITH old AS MATERIALIZED (
                    SELECT e.id FROM {schema}.event e
                    WHERE e.sequence IS NOT NULL AND e.time < $1 AND NOT EXISTS (
                        SELECT 1 FROM {schema}.subscription s
                        WHERE s.topic = e.topic AND e.sequence > s.after_sequence AND e.time >= s.from_time)
                    ORDER BY e.time LIMIT $2 FOR UPDATE SKIP LOCKED),
                gone AS (DELETE FROM {schema}.event e USING old WHERE e.id = old.id RETURNING 1)
                SELECT count(*) FROM gone""",
                before,
                limit,
            ),
        )
        return int(deleted)

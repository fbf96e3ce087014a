"""The numbers by which instances name the structure of their definition."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from wfe.model.definition import DefinitionKey
from wfe.providers.postgres.pool import Pool

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Plans"]


class Plans:
    """Keeps the numbers in memory: they never change and are never taken away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._numbers: dict[DefinitionKey, int] = {}
        table = f"{pool.place.quoted_schema}.plan"
        self._insert = (
            f"INSERT INTO {table} (id, version, hash) SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[]) "
            "ON CONFLICT DO NOTHING"
        )
        self._select = (
            f"SELECT p.n, p.id, p.version, p.hash FROM {table} p "
            "JOIN unnest($1::text[], $2::bigint[], $3::text[]) AS t(id, version, hash) USING (id, version, hash)"
        )

    async def numbers(self, keys: Collection[DefinitionKey]) -> Mapping[DefinitionKey, int]:
        """Give the numbers of definitions; those that have none yet get one. The mapping may hold more."""
        missing = sorted({key for key in keys if key not in self._numbers})
        if missing:
            await self._pool.run(
                "record definitions", lambda connection, _: self._fetch(connection, missing), first=True
            )
        return self._numbers

    async def _fetch(self, connection: asyncpg.Connection, keys: Collection[DefinitionKey]) -> None:
        columns = [key.id for key in keys], [key.version for key in keys], [key.hash for key in keys]
        rows = await connection.fetch(self._select, *columns)
        if len(rows) < len(keys):
            await connection.execute(self._insert, *columns)
            rows = await connection.fetch(self._select, *columns)
        self._numbers.update({DefinitionKey(row["id"], row["version"], row["hash"]): row["n"] for row in rows})

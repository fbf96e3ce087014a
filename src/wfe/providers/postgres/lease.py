"""Sessions of hosts, timed by the database's clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING

from wfe.model.errors import LeaseLost, ProviderUnavailable
from wfe.model.moment import microseconds
from wfe.providers.postgres.connector import Connector
from wfe.providers.postgres.faults import connection_errors, translate
from wfe.providers.postgres.pool import Pool

if TYPE_CHECKING:
    import asyncpg

__all__ = ["PostgresLease", "PostgresRenewer"]

_KEPT_AFTER_ITS_END = microseconds(timedelta(hours=1))


class PostgresLease:
    """Keeps sessions in a table. One that is over, or has no row, is dead."""

    def __init__(self, pool: Pool, connector: Connector) -> None:
        self._pool = pool
        self._connector = connector
        schema = pool.place.quoted_schema
        self._begin = f"""
            INSERT INTO {schema}.session AS s (id, name, began_at, expires_at)
            SELECT $1, $2, t.now, t.now + $3 FROM (SELECT {schema}.store_time() AS now) t
            ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at"""
        self._forget = f"""
            DELETE FROM {schema}.session WHERE id IN (
                SELECT id FROM {schema}.session WHERE expires_at < {schema}.store_time() - $1 FOR UPDATE SKIP LOCKED)"""
        self._end = f"DELETE FROM {schema}.session WHERE id = $1"
        self._alive = f"SELECT id FROM {schema}.session WHERE expires_at > {schema}.store_time()"

    async def begin(self, session: str, *, name: str, ttl: timedelta) -> None:
        async def work(connection: asyncpg.Connection, _attempt: int) -> None:
            await connection.execute(self._forget, _KEPT_AFTER_ITS_END)
            await connection.execute(self._begin, session, name, microseconds(ttl))

        await self._pool.run("begin a session", work)

    async def end(self, session: str) -> None:
        await self._pool.run("end a session", lambda connection, _: connection.execute(self._end, session))

    async def alive(self) -> Collection[str]:
        rows = await self._pool.run("list sessions", lambda connection, _: connection.fetch(self._alive))
        return [row["id"] for row in rows]

    def renewer(self, session: str, ttl: timedelta) -> PostgresRenewer:
        return PostgresRenewer(self._connector, session, ttl)


class PostgresRenewer:
    """Renews one session from whatever thread calls it, with an event loop and a connection of its own."""

    def __init__(self, connector: Connector, session: str, ttl: timedelta) -> None:
        self._connector = connector
        self._session = session
        self._ttl = ttl
        # Then there is time for another try on a new connection before the session ends.
        self._patience = ttl.total_seconds() / 3
        self._runner: asyncio.Runner | None = None
        self._connection: asyncpg.Connection | None = None
        schema = connector.place.quoted_schema
        self._renew = f"""
            UPDATE {schema}.session s SET expires_at = t.now + $2
            FROM (SELECT {schema}.store_time() AS now) t
            WHERE s.id = $1 AND s.expires_at > t.now"""

    def renew(self) -> None:
        if self._runner is None:
            self._runner = asyncio.Runner()
        errors = connection_errors()
        try:
            status = self._runner.run(self._send())
        except errors as error:
            self._runner.run(self._disconnect())
            failure = translate(error, self._connector.place, f"renew session {self._session!r}", within=self._patience)
            if isinstance(failure, ProviderUnavailable):
                raise failure from error
            raise ProviderUnavailable(str(failure)) from error
        if status != "UPDATE 1":
            raise LeaseLost(
                f"Session {self._session!r} has expired or was ended, so it cannot be renewed; another host may hold "
                "its instances now. If this repeats, find what stalls this process for longer than lease_ttl, or raise "
                "lease_ttl."
            )

    async def _send(self) -> str:
        async with asyncio.timeout(self._patience):
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._connector.connect("wfe lease", direct=True, prepares=False)
            return await self._connection.execute(self._renew, self._session, microseconds(self._ttl))

    async def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def close(self) -> None:
        if self._runner is None:
            return
        with contextlib.suppress(*connection_errors()):
            self._runner.run(self._disconnect())
        self._runner.close()
        self._runner = None

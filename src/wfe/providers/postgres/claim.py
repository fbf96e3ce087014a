"""How instances are taken and given back, and what is found of those that nobody takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

from wfe.model.moment import Moment, microseconds
from wfe.ports.store import ClaimReply, UnclaimedRow
from wfe.providers.postgres.answers import Answers, definition_key
from wfe.providers.postgres.pool import Pool

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Claims"]


_LAST: Moment = 2**62
"""Where instances that have messages alone stand among those that are due."""
_ANY_NUMBER = 2**31 - 1
_MARKERS_KEPT = microseconds(timedelta(days=1))
_SECONDS_BETWEEN_CLEARINGS = 600.0
_MARKERS_AT_ONCE = 10_000


class Claims:
    """Takes, gives back, marks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._cleared = monotonic()
        schema = pool.place.quoted_schema
        self._clear = f"""
            DELETE FROM {schema}.marker WHERE batch IN (
                SELECT m.batch FROM {schema}.marker m WHERE m.created_at < {schema}.store_time() - $1
                ORDER BY m.created_at LIMIT $2 FOR UPDATE SKIP LOCKED)"""
        self._claim = f"SELECT * FROM {schema}.claim_v1($1, $2, $3, $4, $5, $6, $7, $8)"
        # Sorted by id like every other lock of instances.
        self._release = f"""
            WITH held AS MATERIALIZED (
                SELECT i.n FROM {schema}.instance i
                JOIN unnest($2::text[], $3::bigint[]) AS t(id, fence) ON i.id = t.id AND i.fence = t.fence
                WHERE i.owner = $1 ORDER BY i.id FOR NO KEY UPDATE OF i)
            UPDATE {schema}.instance i SET owner = '', activations = greatest(i.activations - 1, 0)
            FROM held WHERE i.n = held.n"""
        # Owners that are nobody, or whose session is over, are found by one seek each; then a page of each plan's. The
        # plan that a damaged row names need not be there: those of what nobody holds are found by one seek each, too.
        self._unclaimed = f"""
            WITH RECURSIVE now AS MATERIALIZED (SELECT {schema}.store_time() AS now),
            owners(owner) AS (
                SELECT '' COLLATE "C"
                UNION ALL
                SELECT (SELECT i.owner FROM {schema}.instance i
                        WHERE i.owner > o.owner AND i.wake_at IS NOT NULL AND i.status <> 'suspended'
                        ORDER BY i.owner LIMIT 1)
                FROM owners o WHERE o.owner IS NOT NULL),
            due_plans(n) AS (
                SELECT (SELECT w.plan FROM {schema}.instance w
                        WHERE w.owner = '' AND w.wake_at IS NOT NULL AND w.status <> 'suspended'
                        ORDER BY w.plan LIMIT 1)
                UNION ALL
                SELECT (SELECT w.plan FROM {schema}.instance w
                        WHERE w.owner = '' AND w.plan > d.n AND w.wake_at IS NOT NULL AND w.status <> 'suspended'
                        ORDER BY w.plan LIMIT 1)
                FROM due_plans d WHERE d.n IS NOT NULL),
            plans AS MATERIALIZED (
                SELECT p.n FROM {schema}.plan p UNION SELECT d.n FROM due_plans d WHERE d.n IS NOT NULL),
            alive AS MATERIALIZED (SELECT s.id FROM {schema}.session s, now WHERE s.expires_at > now.now),
            page AS (
                SELECT d.* FROM owners o CROSS JOIN plans p CROSS JOIN now CROSS JOIN LATERAL (
                    SELECT w.wake_at AS due, w.n, w.id, w.plan, w.blocked_reason, w.activations
                    FROM {schema}.instance w
                    WHERE w.owner = o.owner AND w.plan = p.n AND w.wake_at IS NOT NULL AND w.status <> 'suspended'
                        AND w.wake_at >= $2 AND (w.wake_at, w.n) > ($2, $3) AND w.wake_at <= now.now
                    ORDER BY w.wake_at, w.n LIMIT $1) d
                WHERE o.owner IS NOT NULL AND o.owner NOT IN (SELECT alive.id FROM alive)
                UNION ALL
                (SELECT {_LAST}, w.n, w.id, w.plan, w.blocked_reason, w.activations FROM {schema}.instance w, now
                WHERE w.n IN (SELECT b.n FROM {schema}.inbox b WHERE b.n > $4) AND w.ended_at IS NULL
                    AND (w.wake_at IS NULL OR w.wake_at > now.now OR w.status = 'suspended')
                    AND w.owner NOT IN (SELECT alive.id FROM alive)
                ORDER BY w.n LIMIT $1))
            SELECT page.*, p.id AS definition_id, p.version, p.hash, EXISTS (
                SELECT 1 FROM {schema}.inbox b WHERE b.n = page.n AND b.message IS NOT NULL) AS has_message
            FROM page LEFT JOIN {schema}.plan p ON p.n = page.plan
            ORDER BY page.due, page.n
            LIMIT $1"""
        self._block = f"""
            WITH free AS MATERIALIZED (
                SELECT i.n, t.reason FROM {schema}.instance i
                JOIN unnest($1::text[], $2::text[]) AS t(id, reason) ON i.id = t.id
                WHERE i.ended_at IS NULL AND NOT EXISTS (
                    SELECT 1 FROM {schema}.session s WHERE s.id = i.owner AND s.expires_at > {schema}.store_time())
                FOR NO KEY UPDATE OF i SKIP LOCKED)
            UPDATE {schema}.instance i SET blocked_reason = free.reason FROM free WHERE i.n = free.n
            RETURNING i.id"""

    async def claim(
        self,
        session: str,
        plans: Sequence[int] | None,
        limit: int,
        ids: Sequence[str] | None,
        *,
        even_idle: bool,
        activations_below: int | None,
    ) -> ClaimReply:
        """Take instances; `plans` None: of any definition.

        What a claim took whose reply was lost is found again by the claim's own random id, so that no instance stays
        held by a session that does not know of it.
        """
        key = uuid4().bytes
        below = _ANY_NUMBER if activations_below is None else activations_below
        arguments = (key, session, plans, limit, None if ids is None else list(ids), even_idle, below)

        async def send(connection: asyncpg.Connection, attempt: int) -> Answers:
            return Answers(await connection.fetch(self._claim, *arguments, attempt > 0))

        answers = await self._pool.run("take instances", send, first=True)
        if monotonic() - self._cleared > _SECONDS_BETWEEN_CLEARINGS:
            await self.clear_markers()
        end = answers.one(Answers.END)
        assert end is not None, "claim_v1 ends with its summary"
        now, next_wake, next_event = end.i
        return ClaimReply(now, answers.loaded(), next_wake, next_event)

    async def clear_markers(self) -> None:
        """Delete the markers of batches and claims that nobody can send again any more."""
        self._cleared = monotonic()
        await self._pool.run(
            "delete old markers",
            lambda connection, _: connection.execute(self._clear, _MARKERS_KEPT, _MARKERS_AT_ONCE),
        )

    async def release(self, session: str, holds: Sequence[tuple[str, int]]) -> None:
        """Give instances back."""
        ids, fences = [hold[0] for hold in holds], [hold[1] for hold in holds]
        await self._pool.run(
            "give instances back", lambda connection, _: connection.execute(self._release, session, ids, fences)
        )

    async def held(self, session: str) -> Sequence[tuple[str, int]]:
        """List what a session holds."""
        statement = (
            f"SELECT id, fence FROM {self._pool.place.quoted_schema}.instance WHERE owner = $1 AND ended_at IS NULL"
        )
        rows = await self._pool.run("list what is held", lambda connection, _: connection.fetch(statement, session))
        return [(row["id"], row["fence"]) for row in rows]

    async def unclaimed(self, limit: int, after: tuple[Moment, int] | None) -> Sequence[UnclaimedRow]:
        """List a page of what is due and free."""
        since, number = after or (-1, 0)
        arguments = (limit, since, number, number if since == _LAST else 0)
        rows = await self._pool.run(
            "list what is due", lambda connection, _: connection.fetch(self._unclaimed, *arguments)
        )
        return [
            UnclaimedRow(
                row["id"],
                definition_key(row["definition_id"], row["version"], row["hash"]),
                row["blocked_reason"],
                row["activations"],
                (row["due"], row["n"]),
                row["has_message"],
            )
            for row in rows
        ]

    async def block(self, reasons: Mapping[str, str]) -> Collection[str]:
        """Mark free instances."""
        ids, texts = list(reasons), list(reasons.values())
        rows = await self._pool.run(
            "mark instances as blocked", lambda connection, _: connection.fetch(self._block, ids, texts)
        )
        return [row["id"] for row in rows]

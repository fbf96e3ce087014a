"""Providers on PostgreSQL, and batches of one session, for the tests of what is PostgreSQL's own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from wfe.ports.store import Batch
from wfe.providers.postgres import PostgresProvider
from wfe.testing.conformance.values import DEFINITION, fresh_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wfe.ports.store import CommitReply

__all__ = ["HERE", "batch", "commit", "opened"]

HERE = "session-here"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresProvider]:
    """Open a provider, and close it in the end."""
    provider = PostgresProvider(url)
    await provider.store.open()
    try:
        yield provider
    finally:
        await provider.hints.close()
        await provider.store.close()


def batch(**parts: object) -> Batch:
    """Make a batch of the session `HERE` with a fresh id, unless `parts` say otherwise."""
    return replace(Batch(id=fresh_id("batch-"), session=HERE, runnable=[DEFINITION]), **parts)


async def commit(provider: PostgresProvider, **parts: object) -> CommitReply:
    """Commit a batch with a fresh id."""
    return await provider.store.commit(batch(**parts))

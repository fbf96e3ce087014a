"""The PostgreSQL provider keeps every promise of the ports."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

from wfe.providers.postgres import PostgresProvider
from wfe.testing import lifecycle_suite, lock_suite, persistence_suite, queue_suite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import timedelta

    from tests.servers.postgres import DatabasePool
    from wfe.ports.provider import Provider

_database: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def _one_database(postgres_databases: DatabasePool) -> Iterator[None]:
    """One database for the module; each test has a schema of its own in it."""
    url = postgres_databases.take()
    _database.append(url)
    yield
    _database.clear()
    postgres_databases.give_back(url)


@pytest.fixture(autouse=True)
def _needs_postgres(postgres_server: object) -> None:
    """Ask for the server by name, so that every test here is marked as one that needs it."""


@asynccontextmanager
async def empty_schema() -> AsyncIterator[Provider]:
    schema = f"t_{uuid4().hex[:12]}"
    async with opened(f"{_database[0]}?schema={schema}") as provider:
        await set_clock(provider, "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        yield provider
    await admin(f'DROP SCHEMA "{schema}" CASCADE')


@asynccontextmanager
async def second_process(provider: Provider) -> AsyncIterator[Provider]:
    async with opened(provider.url) as other:
        yield other


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Provider]:
    provider = PostgresProvider(url)
    await provider.store.open()
    try:
        yield provider
    finally:
        await provider.hints.close()
        await provider.store.close()


async def advance(provider: Provider, duration: timedelta) -> None:
    await set_clock(provider, f"{{schema}}.store_time() + {int(duration.total_seconds() * 1_000_000)}")


async def set_clock(provider: Provider, time: str) -> None:
    """Stop the clock of a schema at a time, so that only tests move it."""
    schema = provider.url.partition("schema=")[2]
    connection = await asyncpg.connect(_database[0])
    try:
        now = await connection.fetchval(f"SELECT {time.format(schema=schema)}")
        await connection.execute(
            f"CREATE OR REPLACE FUNCTION {schema}.store_time() RETURNS bigint LANGUAGE sql RETURN {now}::bigint"
        )
    finally:
        await connection.close()


async def disconnect(_provider: Provider) -> None:
    """Cut every connection to the database."""
    await admin(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def admin(statement: str) -> None:
    connection = await asyncpg.connect(_database[0])
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


TestPersistence = persistence_suite(empty_schema, twin=second_process, advance=advance, disconnect=disconnect)
TestLease = lock_suite(empty_schema, twin=second_process, advance=advance, disconnect=disconnect)
TestHints = queue_suite(empty_schema, twin=second_process, disconnect=disconnect)
TestLifecycle = lifecycle_suite(empty_schema, twin=second_process, disconnect=disconnect)

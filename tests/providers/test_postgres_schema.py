"""How the PostgreSQL provider keeps its tables: migrations, namespaces, and what is cleared away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.providers.postgres_stores import HERE, commit, opened
from wfe.model.errors import ConfigurationError
from wfe.ports.store import Batch, StartOutcome
from wfe.providers.postgres import PostgresProvider
from wfe.providers.postgres.schema import migrations
from wfe.testing.conformance.values import DEFINITION, HOUR, due, event, message, start, transition, wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.servers.postgres import PostgresDatabases


@pytest.fixture
async def hand(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to look and change with, by hand."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def test_hosts_that_open_at_the_same_time(
    postgres_url: str, hand: asyncpg.Connection, crash_rounds: Callable[[int], int]
) -> None:
    """Any number of hosts may open an empty schema at once; each migration is applied once."""
    for number in range(crash_rounds(100)):
        providers = [PostgresProvider(f"{postgres_url}?schema=s{number}") for _ in range(8)]

        await asyncio.gather(*(provider.store.open() for provider in providers))

        await asyncio.gather(*(provider.store.close() for provider in providers))
        applied = await hand.fetch(f"SELECT number FROM s{number}.migration ORDER BY number")
        assert [row["number"] for row in applied] == [migration.number for migration in migrations()]


async def test_openers_that_die_at_once(
    postgres_url: str, postgres_server: PostgresDatabases, crash_rounds: Callable[[int], int]
) -> None:
    """When some of those that make a schema are cut off in the middle of it, the others make it."""
    for number in range(crash_rounds(100)):
        providers = [PostgresProvider(f"{postgres_url}?schema=s{number}") for _ in range(6)]
        opening = [asyncio.create_task(provider.store.open()) for provider in providers]
        for _ in range(number * 17 % 100):
            await asyncio.sleep(0)  # another moment in each round
        for task in opening[:3]:
            task.cancel()
        await asyncio.to_thread(postgres_server.terminate_backends, postgres_url)

        ends = await asyncio.gather(*opening, return_exceptions=True)

        assert ends[3:] == [None] * 3
        reply = await commit(providers[-1], starts=[start()])
        assert list(reply.starts) == [StartOutcome.CREATED]
        await asyncio.gather(*(provider.store.close() for provider in providers))


async def test_interrupted_migration_goes_on(
    postgres_url: str, hand: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When opening fails between two migrations, the next opening goes on with the one that is missing."""
    first = migrations()[:1]
    with monkeypatch.context() as patched:
        patched.setattr("wfe.providers.postgres.schema.migrations", lambda: first)
        async with opened(postgres_url):
            pass

    async with opened(postgres_url) as provider:
        reply = await commit(provider, starts=[start()])

    assert list(reply.starts) == [StartOutcome.CREATED]


async def test_newer_schema_is_refused(postgres_url: str, hand: asyncpg.Connection) -> None:
    """A schema that a newer program made is left alone, and the message says what to do."""
    async with opened(postgres_url):
        pass
    await hand.execute("INSERT INTO wfe.migration (number) VALUES (9999)")

    with pytest.raises(ConfigurationError, match="9999, made by a newer wfe"):
        await PostgresProvider(postgres_url).store.open()


async def test_schemas_know_nothing_of_each_other(postgres_url: str) -> None:
    """Two namespaces in one database share neither instances nor sessions nor hints."""
    async with opened(f"{postgres_url}?schema=one") as one, opened(f"{postgres_url}?schema=Two-2") as two:
        await one.lease.begin(HERE, name="here", ttl=HOUR)
        await commit(one, starts=[due("same")])

        reply = await commit(two, starts=[start("same", digest=b"other")])
        claimed = await two.store.claim(HERE, [DEFINITION], 10)

        assert list(reply.starts) == [StartOutcome.CREATED]
        assert list(claimed.instances) == []
        assert list(await two.lease.alive()) == []
        assert one.store._pool.place.lock_space != two.store._pool.place.lock_space


async def test_everything_lies_in_the_schema(postgres_url: str, hand: asyncpg.Connection) -> None:
    """Nothing is made outside of the schema, and dropping it leaves nothing."""
    listing = (
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    )
    before = await hand.fetchval(listing)
    async with opened(f"{postgres_url}?schema=apart") as provider:
        await commit(provider, starts=[start()])

    await hand.execute("DROP SCHEMA apart CASCADE")

    assert await hand.fetchval(listing) == before


async def test_process_durability_does_not_wait_for_the_disk(postgres_url: str, hand: asyncpg.Connection) -> None:
    """With `durability="process"` commits are asynchronous; by default they are not."""
    await hand.execute("CREATE TABLE seen (setting text)")
    for durability in ("power", "process"):
        provider = PostgresProvider(postgres_url, durability=durability)
        await provider.store.open()
        await hand.execute(
            "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO seen VALUES (current_setting(''synchronous_commit'')); RETURN NULL; END'"
        )
        await hand.execute("CREATE OR REPLACE TRIGGER note AFTER INSERT ON wfe.log EXECUTE FUNCTION note()")
        await commit(provider, starts=[start(durability)])
        await provider.store.close()
    answers = [row["setting"] for row in await hand.fetch("SELECT setting FROM seen")]

    assert answers == ["on", "off"]


async def test_old_markers_are_cleared(postgres_url: str, hand: asyncpg.Connection) -> None:
    """What tells a repeated batch from a new one is deleted after a day; younger ones stay."""
    async with opened(postgres_url) as provider:
        await commit(provider, starts=[start()])
        await commit(provider, inbox=[message(body=b"old")])
        await hand.execute("UPDATE wfe.marker SET created_at = created_at - 90000000000")
        young = Batch(id="young", session=HERE, inbox=[message(body=b"young")])
        await provider.store.commit(young)

        await provider.store._claims.clear_markers()
        await provider.store.commit(young)

        assert await hand.fetchval("SELECT count(*) FROM wfe.marker") == 1
        assert [row.message for row in await provider.store.inbox(["order-1"])] == [b"old", b"young"]


async def test_clock_that_is_set_back_hides_no_event(postgres_url: str, hand: asyncpg.Connection) -> None:
    """Waits match events published after the instance's start, also when the clock was set back in between."""
    async with opened(postgres_url) as provider:
        await commit(provider, starts=[start("waiting", subscribe=[wait(key="a")]), start("late", hold=True)])
        await hand.execute(
            "CREATE OR REPLACE FUNCTION wfe.store_time() RETURNS bigint LANGUAGE sql RETURN "
            "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint - 3600000000"
        )
        await commit(provider, publishes=[event(key="a"), event(key="b")])
        await commit(provider, transitions=[transition("late", 1, 1, subscribe=[wait(key="b")])])

        assert [row.key for row in await provider.store.inbox(["waiting", "late"])] == ["a", "b"]

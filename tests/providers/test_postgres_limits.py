"""How long the PostgreSQL provider waits: for locks, for connections, for a server that is silent or away."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.providers.postgres_proxy import proxied
from tests.providers.postgres_stores import HERE, commit, opened
from wfe import StepExecutionContext, WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.model.errors import ProviderUnavailable
from wfe.ports.store import StartOutcome
from wfe.providers.postgres import PostgresProvider
from wfe.providers.postgres.connector import Connector
from wfe.providers.postgres.place import Place
from wfe.testing.conformance.values import HOUR, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@asynccontextmanager
async def locked(url: str, table: str) -> AsyncIterator[asyncpg.Connection]:
    """Lock a whole table in another session; what that session is doing can be ended by its connection."""
    connection = await asyncpg.connect(url)
    locking = connection.transaction()
    await locking.start()
    await connection.execute(f"LOCK TABLE wfe.{table} IN ACCESS EXCLUSIVE MODE")
    try:
        yield connection
    finally:
        await connection.close()


async def waiting_backends(hand: asyncpg.Connection) -> list[int]:
    rows = await hand.fetch(
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return [row["pid"] for row in rows]


class Told(logging.Handler):
    """Lets a test wait for a line of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put_nowait(record.getMessage())


@pytest.fixture
def told() -> Iterator[Told]:
    handler = Told()
    logger = logging.getLogger("wfe.providers.postgres.pool")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_lock_of_another_session_is_waited_out(postgres_url: str, told: Told) -> None:
    """The server ends a statement that waits for a lock for too long; it is tried again, and happens once."""
    async with opened(f"{postgres_url}?statement_timeout=1") as provider:
        async with locked(postgres_url, "instance"):
            starting = asyncio.create_task(commit(provider, starts=[start()]))
            line = await asyncio.wait_for(told.lines.get(), 20)

        reply = await starting

    assert "canceling statement due to lock timeout" in line
    assert list(reply.starts) == [StartOutcome.CREATED]


async def test_lock_that_stays(postgres_url: str) -> None:
    """A call gives up after its limit, and what it leaves behind in the server does not wait on and on."""
    async with (
        opened(f"{postgres_url}?statement_timeout=1&unavailable_after=2") as provider,
        locked(postgres_url, "instance") as hand,
    ):
        with pytest.raises(ProviderUnavailable, match="did not commit a batch within 2 s"):
            await commit(provider, starts=[start()])

        async with asyncio.timeout(20):
            while await waiting_backends(hand):
                pass


async def test_no_connection_becomes_free(postgres_url: str) -> None:
    """A call that gets no connection in time says so, and that the server was asked nothing."""
    async with opened(f"{postgres_url}?pool_size=1&acquire_timeout=1&statement_timeout=30") as provider:
        async with locked(postgres_url, "instance"):
            first = asyncio.create_task(commit(provider, starts=[start("first")]))
            await asyncio.sleep(0)

            with pytest.raises(ProviderUnavailable, match=r"all 1 connections .* raise pool_size"):
                await commit(provider, starts=[start("second")])

        await first
        assert await provider.store.known(["first", "second"]) == ["first"]


async def test_renewals_have_a_connection_of_their_own(postgres_url: str) -> None:
    """While every connection of the pool waits, the session is renewed."""
    async with opened(f"{postgres_url}?pool_size=2") as provider:
        await provider.lease.begin(HERE, name="here", ttl=HOUR)
        renewer = provider.lease.renewer(HERE, HOUR)
        async with locked(postgres_url, "instance"):
            stuck = [asyncio.create_task(commit(provider, starts=[start(f"i{number}")])) for number in range(4)]
            await asyncio.sleep(0)

            await asyncio.to_thread(renewer.renew)
            still_stuck = [task.done() for task in stuck]

        await asyncio.gather(*stuck)
        await asyncio.to_thread(renewer.close)
    assert still_stuck == [False] * 4


async def test_server_is_told_its_limits(postgres_url: str) -> None:
    """Connections carry the limits of the URL to the server, and both sides look whether the other is there."""
    url = f"{postgres_url}?statement_timeout=7&idle_in_transaction_timeout=9&keepalive=12"
    names = [
        "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "tcp_keepalives_idle",
        "transaction_isolation",
    ]  # fmt: skip
    connection = await Connector(Place.of(url)).connect("wfe test")

    told = [await connection.fetchval("SELECT current_setting($1)", name) for name in names]
    transport: asyncio.Transport = getattr(connection, "_transport")  # noqa: B009 - not known to its types
    line = transport.get_extra_info("socket")
    idle = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    await connection.close()

    assert told == ["7s", "5600ms", "9s", "12", "read committed"]
    assert idle == 12


async def test_forgotten_transaction_is_ended(postgres_url: str) -> None:
    """A host that stands still within a transaction holds its locks for so long only."""
    async with opened(postgres_url):
        pass
    still = await Connector(Place.of(f"{postgres_url}?idle_in_transaction_timeout=1")).connect("wfe test")
    await still.execute("BEGIN; LOCK TABLE wfe.instance IN ACCESS EXCLUSIVE MODE")

    async with opened(postgres_url) as provider:
        reply = await asyncio.wait_for(commit(provider, starts=[start()]), 20)

    still.terminate()
    assert list(reply.starts) == [StartOutcome.CREATED]


@pytest.mark.parametrize("default", ["repeatable read", "serializable"])
async def test_isolation_of_the_server_is_overruled(postgres_url: str, default: str) -> None:
    """Hosts that open an empty database at once come up, and commit, whatever its transactions are by default."""
    name = postgres_url.rpartition("/")[2]
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{default}'")
    try:
        providers = [PostgresProvider(postgres_url) for _ in range(4)]
        await asyncio.gather(*(provider.store.open() for provider in providers))

        replies = await asyncio.gather(*(commit(provider, starts=[start()]) for provider in providers))

        await asyncio.gather(*(provider.store.close() for provider in providers))
    finally:
        await connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_isolation')
        await connection.close()
    outcomes = Counter(outcome for reply in replies for outcome in reply.starts)
    assert outcomes == {StartOutcome.CREATED: 1, StartOutcome.EXISTS: 3}


def _double(context: StepExecutionContext[dict[str, int]]) -> None:
    context.data["n"] *= 2


async def test_host_recovers_from_half_open_connections(postgres_url: str) -> None:
    """When all its connections lead nowhere and none says so, a host goes on with new ones; what was started ends."""
    definition = WorkflowBuilder().start_with(_double).delay(0.2).then(_double).build("double")
    async with proxied(postgres_url) as proxy:
        url = proxy.url(postgres_url, unavailable_after=20, statement_timeout=1)
        async with WorkflowHost(url, sweep_interval=0.2) as host:
            host.register(definition)
            before = [await host.start_workflow("double", {"n": number}) for number in range(5)]

            proxy.freeze()
            after = await asyncio.gather(*(host.start_workflow("double", {"n": number}) for number in range(5)))

            results = [await host.wait(each, timeout=40) for each in (*before, *after)]

    assert {result.status for result in results} == {WorkflowStatus.COMPLETE}
    assert [result.data["n"] for result in results] == [0, 4, 8, 12, 16] * 2


async def test_outage_does_not_flood_the_log(told: Told) -> None:
    """While the server is away, the 1st, 2nd, 4th, 8th … failure is told, however many calls meet it."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        provider = PostgresProvider(f"postgresql://x@127.0.0.1:{nobody.getsockname()[1]}/db?unavailable_after=1")

        await asyncio.gather(*(provider.store.get("order-1") for _ in range(12)), return_exceptions=True)

    lines = [told.lines.get_nowait() for _ in range(told.lines.qsize())]
    numbers = [int(line.partition("failure ")[2].partition(" ")[0]) for line in lines]
    assert len(numbers) >= 4
    assert numbers == [1 << place for place in range(len(numbers))]


async def test_connecting_leaves_no_noise() -> None:
    """Giving up on a connection at any moment leaves no error behind that nobody fetched."""
    noise: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: noise.append(context))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    place = Place.of(f"postgresql://x@127.0.0.1:{server.sockets[0].getsockname()[1]}/db")
    connector = Connector(place)
    for ticks in range(60):
        connecting = asyncio.create_task(connector.connect("wfe test"))
        for _ in range(ticks % 12):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
    await asyncio.gather(*connector._attempts, return_exceptions=True)
    server.close()
    gc.collect()

    assert noise == []


_SLOW_FOR_LARGE = """
CREATE FUNCTION wfe.slowly() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(5);
    RETURN NEW;
END $$;
CREATE TRIGGER slowly BEFORE UPDATE ON wfe.document FOR EACH ROW WHEN (octet_length(NEW.data) > 10000)
    EXECUTE FUNCTION wfe.slowly();
"""


async def test_document_that_always_takes_too_long(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance whose transition the server never ends in time is suspended with the reason; others go on."""
    monkeypatch.setattr("wfe.host.troubles.QUARANTINE_AFTER", 2)  # or the pauses between the attempts would be long

    async def write(context: StepExecutionContext[dict[str, Any]]) -> None:
        context.data["text"] = "x" * int(context.data["size"])

    definition = WorkflowBuilder().start_with(write).build("writes")
    async with WorkflowHost(f"{postgres_url}?statement_timeout=1&unavailable_after=3") as host:
        host.register(definition)
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(_SLOW_FOR_LARGE)
        await connection.close()
        large = await host.start_workflow("writes", {"size": 20_000})
        small = await host.start_workflow("writes", {"size": 10})

        ended = await host.wait(small, timeout=30)
        held = await host.wait(large, timeout=60, until=[WorkflowStatus.SUSPENDED])

        reason = (await host.get_workflow(large)).blocked_reason or ""
    assert (ended.status, held.status) == (WorkflowStatus.COMPLETE, WorkflowStatus.SUSPENDED)
    assert reason.startswith("quarantined: it could not go on: ")
    assert "canceling statement due to statement timeout" in reason

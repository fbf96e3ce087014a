"""What the PostgreSQL provider does when the server, the way to it or its settings fail."""

from __future__ import annotations

import asyncio
import builtins
import random
import socket
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.providers.postgres_proxy import proxied
from tests.providers.postgres_stores import HERE, commit, opened
from wfe.model.errors import ConfigurationError, DataError, ProviderUnavailable
from wfe.ports.hints import Hint, HintKind
from wfe.ports.store import ListFilter, PointerRow, TransitionOutcome
from wfe.providers.postgres import PostgresProvider
from wfe.providers.postgres.pool import Retry
from wfe.testing.conformance.values import (
    DEFINITION,
    HOUR,
    announcements,
    event,
    message,
    start,
    transition,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.servers.postgres import PostgresDatabases, PostgresServer
    from wfe.ports.store import LogRow
    from wfe.providers.postgres.cursor import LogCursor

INCOMPRESSIBLE = "".join(chr(0x4E00 + number * number % 20_011) for number in range(20_000))


@pytest.fixture
async def here(postgres_url: str) -> AsyncIterator[PostgresProvider]:
    async with opened(postgres_url) as provider:
        await provider.lease.begin(HERE, name="here", ttl=HOUR)
        yield provider


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Is set when the server has refused some work that is going to be tried again."""
    refused = asyncio.Event()
    pause = Retry.pause

    async def noted(retry: Retry) -> bool:
        refused.set()
        return await pause(retry)

    monkeypatch.setattr(Retry, "pause", noted)
    return refused


async def chain(
    provider: PostgresProvider, instance_id: str, steps: int, written: asyncio.Event | None = None
) -> list[TransitionOutcome]:
    """Write so many transitions one after the other, and set `written` after each."""
    outcomes: list[TransitionOutcome] = []
    for revision in range(1, steps + 1):
        reply = await commit(
            provider, transitions=[transition(instance_id, revision, 1, **announcements(1, first=revision))]
        )
        outcomes += reply.transitions
        if written is not None:
            written.set()
    return outcomes


class TestServerFaults:
    """The server goes and comes; everything goes on by itself."""

    async def test_immediate_restarts_under_load(self, crashable_postgres: PostgresServer) -> None:
        """Chains that are written while the server is restarted without warning are complete, each step once."""
        async with opened(crashable_postgres.create_database()) as provider:
            ids = [f"i{number}" for number in range(8)]
            await commit(provider, starts=[start(each, hold=True) for each in ids])
            written = asyncio.Event()
            chains = asyncio.gather(*(chain(provider, each, 60, written) for each in ids))
            for _ in range(2):
                await asyncio.wait_for(written.wait(), 20)  # so that commits are under way
                written.clear()
                await asyncio.to_thread(crashable_postgres.restart_immediate)

            outcomes = await chains

            rows, _ = await provider.store.list_instances(ListFilter(), 100)
            log = await provider.store.history("i0")
        assert outcomes == [[TransitionOutcome.ACCEPTED] * 60] * 8
        assert {row.revision for row in rows} == {61}
        assert [row.first_sequence for row in log] == list(range(1, 61))

    async def test_killed_server_keeps_what_was_acknowledged(self, crashable_postgres: PostgresServer) -> None:
        """After SIGKILL of the whole server, every commit that had returned is there."""
        url = crashable_postgres.create_database()
        async with opened(url) as provider:
            await commit(provider, starts=[start("i", hold=True)])
            acknowledged = len(await chain(provider, "i", 30))

            await asyncio.to_thread(crashable_postgres.crash)
            await asyncio.to_thread(crashable_postgres.restart)
            row = await provider.store.get("i")

        assert row is not None
        assert row.revision == 1 + acknowledged

    async def test_backends_killed_during_commits(
        self, postgres_url: str, postgres_server: PostgresDatabases, crash_rounds: Callable[[int], int]
    ) -> None:
        """However often backends are killed in the middle of commits, each transition is written once."""
        rounds = crash_rounds(200)
        async with opened(postgres_url) as provider:
            ids = [f"i{number}" for number in range(6)]
            await commit(provider, starts=[start(each, hold=True) for each in ids])
            chains = asyncio.gather(*(chain(provider, each, 40 + rounds) for each in ids))
            for _ in range(rounds):
                await asyncio.sleep(random.uniform(0, 0.02))  # another moment in each round
                await asyncio.to_thread(postgres_server.terminate_backends, postgres_url)

            outcomes = await chains

        assert outcomes == [[TransitionOutcome.ACCEPTED] * (40 + rounds)] * 6

    async def test_hints_come_back_after_a_restart(self, crashable_postgres: PostgresServer) -> None:
        """Receivers are told to look once the server is back, and hints arrive again."""
        url = crashable_postgres.create_database()
        async with opened(url) as one, opened(url) as two:
            heard: asyncio.Queue[object] = asyncio.Queue()
            await one.hints.open("one", heard.put_nowait)
            await two.hints.open("two", lambda _: None)

            await asyncio.to_thread(crashable_postgres.restart_immediate)
            told = await asyncio.wait_for(heard.get(), 20)

        assert str(getattr(told, "kind", "")) == "work"
        assert getattr(told, "ids", None) == ()

    async def test_renewer_survives_a_restart(self, crashable_postgres: PostgresServer) -> None:
        """A renewal that fails while the server is away works when it is back."""
        async with opened(crashable_postgres.create_database()) as provider:
            await provider.lease.begin(HERE, name="here", ttl=HOUR)
            renewer = provider.lease.renewer(HERE, HOUR)
            await asyncio.to_thread(renewer.renew)
            await asyncio.to_thread(crashable_postgres.restart_immediate)
            with pytest.raises(ProviderUnavailable, match="renew session"):
                await asyncio.to_thread(renewer.renew)

            await asyncio.to_thread(renewer.renew)

            await asyncio.to_thread(renewer.close)
            assert HERE in await provider.lease.alive()

    async def test_read_only_period_is_waited_out(
        self, here: PostgresProvider, postgres_url: str, refused: asyncio.Event
    ) -> None:
        """While the server refuses writes, a commit waits; when it accepts them again, it is written."""
        database = postgres_url.rpartition("/")[2]
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(f'ALTER DATABASE "{database}" SET default_transaction_read_only = on')
        try:
            here.store._pool._drop_idle()
            waiting = asyncio.create_task(commit(here, starts=[start()]))
            await asyncio.wait_for(refused.wait(), 20)
        finally:
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute(f'ALTER DATABASE "{database}" RESET default_transaction_read_only')
            await connection.close()

        await asyncio.wait_for(waiting, 20)

        assert list(await here.store.known(["order-1"])) == ["order-1"]


class TestLimits:
    """Nothing waits for ever, and the message says what to do."""

    async def test_server_that_cannot_be_reached(self) -> None:
        """Opening gives up after the limit, naming the place without its password."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            provider = PostgresProvider(f"postgresql://wfe:secret@127.0.0.1:{port}/db?unavailable_after=1")
            begun = monotonic()

            with pytest.raises(ProviderUnavailable, match=f"wfe@127.0.0.1:{port}") as caught:
                await provider.store.open()

        assert monotonic() - begun < 3
        assert "secret" not in str(caught.value)

    async def test_connections_refused_by_the_server_are_waited_for(
        self, postgres_url: str, refused: asyncio.Event
    ) -> None:
        """While the server has no connection to give, a call waits for one."""
        async with opened(postgres_url):
            database = postgres_url.rpartition("/")[2]
            connection = await asyncpg.connect(postgres_url)
            await connection.execute(f'ALTER DATABASE "{database}" CONNECTION LIMIT 0')
            try:
                await connection.execute("CREATE ROLE wfe_plain LOGIN")
                await connection.execute("GRANT ALL ON SCHEMA wfe TO wfe_plain")
                await connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA wfe TO wfe_plain")
                plain = postgres_url.replace("//test@", "//wfe_plain@")
                other = PostgresProvider(f"{plain}?unavailable_after=20")
                opening = asyncio.create_task(other.store.open())
                await asyncio.wait_for(refused.wait(), 20)
                await connection.execute(f'ALTER DATABASE "{database}" CONNECTION LIMIT -1')

                await asyncio.wait_for(opening, 20)

                known = await other.store.known(["order-1"])
                await other.store.close()
                assert list(known) == []
            finally:
                await connection.execute(f'ALTER DATABASE "{database}" CONNECTION LIMIT -1')
                await connection.execute("DROP OWNED BY wfe_plain; DROP ROLE wfe_plain")
                await connection.close()

    async def test_more_calls_than_connections(self, postgres_url: str) -> None:
        """A pool of one connection serves a crowd of readers and writers, in turn."""
        async with opened(f"{postgres_url}?pool_size=1") as provider:
            await commit(provider, starts=[start(f"i{number}", hold=True) for number in range(50)])

            replies = await asyncio.gather(
                *(commit(provider, transitions=[transition(f"i{number}", 1, 1)]) for number in range(50)),
                *(provider.store.get(f"i{number}") for number in range(50)),
            )

        assert len(replies) == 100

    async def test_reads_leave_a_connection_to_commits(self, here: PostgresProvider, postgres_url: str) -> None:
        """A commit goes on while more slow reads run than there are connections."""
        connection = await asyncpg.connect(postgres_url)
        locked = connection.transaction()
        await locked.start()
        await connection.execute("LOCK TABLE wfe.definition IN ACCESS EXCLUSIVE MODE")
        reads = [asyncio.create_task(here.store.definitions()) for _ in range(10)]
        await asyncio.sleep(0)

        reply = await asyncio.wait_for(commit(here, starts=[start()]), 5)

        await locked.rollback()
        await connection.close()
        await asyncio.gather(*reads)
        assert reply.starts

    async def test_closed_store_says_so(self, here: PostgresProvider) -> None:
        """A call to a closed store fails at once, and says that it is closed."""
        await here.store.close()

        with pytest.raises(ProviderUnavailable, match="closed"):
            await here.store.get("order-1")

        await here.store.open()

    async def test_cancelled_call_harms_no_other(self, here: PostgresProvider) -> None:
        """Calls that are cancelled at any point leave connections behind that others can use."""
        await commit(here, starts=[start(f"i{number}", hold=True) for number in range(20)])
        for number in range(20):
            call = asyncio.create_task(commit(here, transitions=[transition(f"i{number}", 1, 1)]))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

        replies = await asyncio.gather(*(here.store.get(f"i{number}") for number in range(20)))

        assert [row.id for row in replies if row is not None] == [f"i{number}" for number in range(20)]


class TestSettings:
    """What cannot work is refused with the reason."""

    @pytest.mark.parametrize(
        ("url", "complaint"),
        [
            ("mysql://host/db", "no PostgreSQL URL"),
            ("postgresql://h/db?pool_size=0", "pool_size='0'"),
            ("postgresql://h/db?pool_size=many", "pool_size='many'"),
            ("postgresql://h/db?schema=a%22b", "schema="),
            ("postgresql://h/db?schema=pg_mine", "pg_mine"),
            ("postgresql://h/db?schema=", "schema=''"),
            ("postgresql://h/db?unavailable_after=-1", "unavailable_after"),
            ("postgresql://h/db?statement_cache_size=x", "statement_cache_size"),
            ("postgresql://h/db?statement_timeout=15000", "statement_timeout='15000'.* 1 to 3600"),
            ("postgresql://h/db?direct=5432", "direct='5432'.*host:port"),
        ],
    )
    def test_impossible_url(self, url: str, complaint: str) -> None:
        """An option that has no possible value is named, with what was found."""
        with pytest.raises(ConfigurationError, match=complaint):
            PostgresProvider(url)

    def test_impossible_durability(self) -> None:
        """Only the two durabilities that exist are taken."""
        with pytest.raises(ConfigurationError, match="durability='none'"):
            PostgresProvider("postgresql://h/db", durability="none")  # type: ignore[arg-type]  # what a typo gives

    @pytest.mark.parametrize(
        "url",
        ["postgresql://me:secret@h/db", "postgresql://me@h/db?password=secret", "postgres://me:s%40secret@h:1/db"],
    )
    def test_url_for_messages_has_no_password(self, url: str) -> None:
        """`url` shows where the database is, and never the password."""
        shown = PostgresProvider(url).url

        assert "secret" not in shown
        assert "me@h" in shown

    def test_url_of_a_local_socket(self) -> None:
        """A URL without a host keeps its slashes."""
        assert PostgresProvider("postgresql:///db?host=/tmp").url.startswith("postgresql:///db?host=")

    async def test_missing_database(self, postgres_url: str) -> None:
        """A database that does not exist is a matter of configuration, and told at once."""
        provider = PostgresProvider(f"{postgres_url}_missing")

        with pytest.raises(ConfigurationError, match="does not exist"):
            await provider.store.open()

    async def test_missing_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without asyncpg, opening the store names the extra to install; importing the provider needs it not."""
        real_import: Any = builtins.__import__

        def without_asyncpg(name: str, *arguments: Any) -> Any:
            if name == "asyncpg":
                raise ImportError(name)
            return real_import(name, *arguments)

        monkeypatch.delitem(sys.modules, "asyncpg")
        monkeypatch.setattr(builtins, "__import__", without_asyncpg)

        with pytest.raises(ConfigurationError, match=r"pip install 'wfe\[postgres\]'"):
            await PostgresProvider("postgresql://h/db").store.open()

    async def test_store_that_was_never_opened(self, postgres_url: str) -> None:
        """Using a store whose tables were never made says that the schema is missing."""
        with pytest.raises(ConfigurationError, match="wfe"):
            await PostgresProvider(postgres_url).store.get("order-1")

    async def test_pooler_that_loses_prepared_statements(self, here: PostgresProvider, postgres_url: str) -> None:
        """When prepared statements are lost on the way, the store goes on without them."""
        await commit(here, starts=[start("i", hold=True)])
        (idle,) = here.store._pool._idle
        await idle.connection.execute("DEALLOCATE ALL")

        reply = await commit(here, starts=[start("j")])

        assert here.store._pool.place.statement_cache_size == 0
        assert len(reply.starts) == 1


class TestValues:
    """A value that cannot be stored is refused before anything of its batch is written."""

    @pytest.mark.parametrize("text", ["a\0b", "a\ud800b", INCOMPRESSIBLE])
    async def test_unstorable_id(self, here: PostgresProvider, text: str) -> None:
        """A NUL, a lone surrogate and an id too long for its index are data errors, and the store goes on."""
        with pytest.raises(DataError, match="cannot store"):
            await commit(here, starts=[start("good"), start(text)])

        assert await here.store.known(["good"]) == []


class TestRoundTrips:
    """What a call costs on the wire."""

    @pytest.mark.parametrize(
        "make",
        [
            lambda: {"transitions": [transition("i", 1, 1, data=b"{}", **announcements(1))]},
            lambda: {"starts": [start("alone", hold=True)]},
            lambda: {"publishes": [event(key="k")]},
            lambda: {"starts": [start("new", hold=True, subscribe=[wait()])], "publishes": [event(key="k")]},
            lambda: {"inbox": [message("i")], "promote": 5, "room": 3, "runnable": [DEFINITION]},
        ],
    )
    async def test_commit_is_one_round_trip(self, postgres_url: str, make: Callable[[], dict[str, object]]) -> None:
        """Whatever a batch holds, the client sends one request and gets one answer."""
        async with proxied(postgres_url) as proxy, opened(proxy.url(postgres_url)) as provider:
            await commit(provider, starts=[start("i", hold=True), start("j", hold=True)])
            # Afterwards all definitions are known, and the statement of each way to send a batch has been prepared.
            await commit(provider, starts=[start("k", hold=True)])
            await commit(provider, transitions=[transition("k", 1, 1, **announcements(1))])
            await commit(provider, publishes=[event(key="other")])
            before = proxy.requests

            await commit(provider, **make())

            assert proxy.requests - before == 1

    async def test_plain_steps_stay_in_their_pages(self, here: PostgresProvider, postgres_url: str) -> None:
        """The updates of plain steps touch no index: nearly all are HOT, and the data of others does not move."""
        ids = [f"i{number:03}" for number in range(100)]
        pointer = [PointerRow(1, b"p" * 60)]
        await commit(here, starts=[start(each, hold=True, wake_at=0, pointers=pointer, data=b"{}") for each in ids])
        for revision in range(1, 21):
            fields: dict[str, Any] = {"wake_at": 0, "pointers": pointer, "data": b'{"a":1}'}
            await commit(here, transitions=[transition(each, revision, 1, **fields) for each in ids])
        await here.store.close()  # backends report their figures when they end, at the latest

        connection = await asyncpg.connect(postgres_url)
        async with asyncio.timeout(10):
            while True:
                rows = await connection.fetch(
                    "SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables "
                    "WHERE relname IN ('instance', 'pointer', 'document')"
                )
                if len(rows) == 3 and all(row["n_tup_upd"] == 2_000 for row in rows):
                    break
                await asyncio.sleep(0.1)
        await connection.close()
        assert {row["relname"]: row["n_tup_hot_upd"] > 1_500 for row in rows} == dict.fromkeys(
            ["instance", "pointer", "document"], True
        )


async def test_subscriber_waits_for_the_server(here: PostgresProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows announcements is not sent away when the server has been out of reach for longer than the limit."""
    reads = here.lifecycle._reads
    read, refusals = reads.log_rows, [ProviderUnavailable("planted"), ProviderUnavailable("planted")]

    async def refuse_at_first(
        after: LogCursor, limit: int, instance_id: str | None
    ) -> Sequence[tuple[LogCursor, LogRow]]:
        if refusals:
            raise refusals.pop()
        return await read(after, limit, instance_id)

    monkeypatch.setattr(reads, "log_rows", refuse_at_first)
    news = here.lifecycle.subscribe(since="start")
    await commit(here, starts=[start("told", **announcements(1))])

    async with asyncio.timeout(10):
        _, told = await anext(news)

    assert (told.workflow_id, told.sequence, refusals) == ("told", 1, [])


async def test_what_is_no_hint_is_dropped(here: PostgresProvider, postgres_url: str) -> None:
    """Whoever may use the database may notify its hosts: what cannot be read is dropped, and the next hint arrives."""
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    await here.hints.open("one", heard.put_nowait)
    garbage = [
        "",
        "{}",
        "[]",
        '["",[["rest",["a"]]]]',
        '["",[["work",[7]]]]',
        '["",[["work",["\\ud800"]]]]',
        "echo x",
        "x" * 7_000,
    ]

    forger = await asyncpg.connect(postgres_url)
    for channel in (here.hints._channel("one"), here.hints._channel(None)):
        for payload in (*garbage, '["",[["work",["a"]]]]'):
            await forger.execute("SELECT pg_notify($1, $2)", channel, payload)
    await forger.close()
    hints = [await asyncio.wait_for(heard.get(), 20) for _ in range(2)]

    assert hints == [Hint(HintKind.WORK, ("a",))] * 2
    assert heard.empty()

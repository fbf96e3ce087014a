"""The PostgreSQL provider behind a pooler that lends its connections for a transaction at a time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.providers.postgres_pooler import Pooler, pooled
from tests.providers.postgres_stores import HERE, commit, opened
from wfe import StepExecutionContext, WorkflowBuilder, WorkflowHost
from wfe.model.errors import ConfigurationError
from wfe.ports.hints import Hint, HintKind
from wfe.ports.lease import Lease
from wfe.ports.store import DefinitionRow, ListFilter, Store
from wfe.testing.conformance.values import DEFINITION, HOUR, due, event, message, start, wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

LIFE = {"begin", "open", "close", "renewer"}
ENDED: dict[str, Any] = {"status": "complete", "ended": True, "wake_at": None}


async def done(call: Coroutine[object, object, None]) -> str:
    await call
    return "done"


@pytest.fixture
async def pooler(postgres_url: str) -> AsyncIterator[Pooler]:
    async with pooled(postgres_url) as running:
        yield running


async def test_every_call_works(pooler: Pooler, postgres_url: str) -> None:
    """Each call of the store and of the lease works without prepared statements, on ever other connections."""
    row = DefinitionRow(DEFINITION, "{}", "")
    async with opened(pooler.url(postgres_url, statement_cache_size=0)) as provider:
        store, lease = provider.store, provider.lease
        await lease.begin(HERE, name="here", ttl=HOUR)
        calls = {
            "save_definition": await store.save_definition(row),
            "commit": await commit(
                provider,
                starts=[due("a"), start("b", hold=True, subscribe=[wait()]), start("e", **ENDED)],
                publishes=[event()],
                inbox=[message("a", request="r")],
            ),
            "known": await store.known(["a", "x"]),
            "unclaimed": [each.id for each in await store.unclaimed(10)],
            "block": await store.block({"a": "why"}),
            "claim": [each.id for each in (await store.claim(HERE, [DEFINITION], 10)).instances],
            "held": sorted(each for each, _ in await store.held(HERE)),
            "inbox": len(await store.inbox(["a", "b"])),
            "pending_control": await store.pending_control(["r"]),
            "release": await done(store.release(HERE, [("a", 1)])),
            "get": (await store.get("a")) is not None,
            "ended": [each.id for each in await store.ended(["a", "e"])],
            "list_instances": len((await store.list_instances(ListFilter(), 10))[0]),
            "history": len(await store.history("a")),
            "errors": await store.errors("a"),
            "log_after": len((await store.log_after(None, 10)).rows),
            "definitions": await store.definitions(),
            "purge": await store.purge(ids=["e"]),
            "drop_events": await store.drop_events(0),
            "alive": await lease.alive(),
            "end": await done(lease.end(HERE)),
        }

    assert set(calls) == {name for port in (Store, Lease) for name in vars(port) if not name.startswith("_")} - LIFE
    assert calls | {"commit": None} == {
        "save_definition": None, "commit": None, "known": ["a"], "unclaimed": ["a"], "block": ["a"], "claim": ["a"],
        "held": ["a", "b"], "inbox": 2, "pending_control": ["r"], "release": "done", "get": True, "ended": ["e"],
        "list_instances": 3, "history": 0, "errors": [], "log_after": 3, "definitions": [row], "purge": 1,
        "drop_events": 0, "alive": [HERE], "end": "done",
    }  # fmt: skip


async def test_settings_that_do_not_pass(pooler: Pooler, postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A pooler that takes no settings is told of once, and the store goes on without them."""
    async with opened(pooler.url(postgres_url, statement_cache_size=0)) as provider:
        await asyncio.gather(*(commit(provider, starts=[start(f"i{number}")]) for number in range(5)))

        assert len(await provider.store.known([f"i{number}" for number in range(5)])) == 5
    assert "statement_timeout" in pooler.refused
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "pooler" in caplog.text


async def test_isolation_is_checked(pooler: Pooler, postgres_url: str) -> None:
    """Where the role's isolation is not what the functions rely on and cannot be set, opening is refused."""
    connection = await asyncpg.connect(postgres_url)
    name = urlsplit(postgres_url).path[1:]
    await connection.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'")
    try:
        with pytest.raises(ConfigurationError, match="'repeatable read' by default"):
            async with opened(pooler.url(postgres_url, statement_cache_size=0)):
                pass
    finally:
        await connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_isolation')
        await connection.close()


async def test_pooler_is_found_out(pooler: Pooler, postgres_url: str) -> None:
    """Without being told, the store notices that prepared statements are lost on the way, and does without."""
    async with opened(pooler.url(postgres_url)) as provider:
        for number in range(6):
            await commit(provider, starts=[start(f"i{number}")])

        assert len(await provider.store.known([f"i{number}" for number in range(6)])) == 6
        assert provider.store._pool.place.statement_cache_size == 0


async def test_renewals_go_on(pooler: Pooler, postgres_url: str) -> None:
    """A session is renewed again and again on one connection, whichever server that leads to."""
    async with opened(pooler.url(postgres_url)) as provider:
        await provider.lease.begin(HERE, name="here", ttl=HOUR)
        renewer = provider.lease.renewer(HERE, HOUR)

        for _ in range(4):
            await asyncio.to_thread(renewer.renew)

        await asyncio.to_thread(renewer.close)


async def test_hints_that_do_not_arrive(pooler: Pooler, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That notifications do not arrive is told, with what to do."""
    told: asyncio.Queue[str] = asyncio.Queue()
    monkeypatch.setattr("wfe.providers.postgres.hints._ECHO_SECONDS", 0.2)
    async with opened(pooler.url(postgres_url, statement_cache_size=0)) as provider:
        monkeypatch.setattr("wfe.providers.postgres.hints._log.warning", lambda text, *_: told.put_nowait(text))

        await provider.hints.open("one", lambda _: None)

        assert "direct=host:port" in await asyncio.wait_for(told.get(), 20)


async def test_direct_way_for_hints(pooler: Pooler, postgres_url: str) -> None:
    """With `direct=host:port` hints go past the pooler, and arrive."""
    parts = urlsplit(postgres_url)
    url = pooler.url(postgres_url, statement_cache_size=0, direct=f"{parts.hostname}:{parts.port}")
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    async with opened(url) as one, opened(url) as two:
        await one.hints.open("one", heard.put_nowait)
        await two.hints.open("two", lambda _: None)

        await two.hints.send("one", [Hint(HintKind.WORK, ("a",))])

        assert await asyncio.wait_for(heard.get(), 20) == Hint(HintKind.WORK, ("a",))


def _double(context: StepExecutionContext[dict[str, int]]) -> None:
    context.data["n"] *= 2


async def test_hosts_work_without_hints(pooler: Pooler, postgres_url: str) -> None:
    """Where hints do not arrive, the sweep finds what another host started."""
    definition = WorkflowBuilder().start_with(_double).build("double")
    url = pooler.url(postgres_url, statement_cache_size=0)
    async with WorkflowHost(url, sweep_interval=0.1) as starter, WorkflowHost(url, sweep_interval=0.1) as worker:
        starter.register(definition)
        worker.register(definition)
        starter._life.core().draining = True  # it takes nothing itself

        instance = await starter.start_workflow("double", {"n": 4})
        result = await starter.wait(instance, timeout=30)

    assert result.data == {"n": 8}

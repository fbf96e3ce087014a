"""Whole workflows on every store: each test that asks for a host runs on memory, SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.stage import Place, StartHost
from tests.servers.databases import fetch_value
from tests.soundness import check, kept_in_memory, left_behind, unsound_because
from wfe import MemoryProvider, WorkflowHost


@pytest.fixture(autouse=True)
def sound_stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Check every store that the test has used when all its hosts have stopped."""
    wanted = request.fixturenames
    # Asked for here, before the test does, so that they outlive its hosts and this check.
    place: Place | None = request.getfixturevalue("place") if "place" in wanted else None
    url: object = request.getfixturevalue("postgres_url") if "postgres_url" in wanted else None
    with kept_in_memory() as memories:
        yield
    if unsound_because(request) is not None:
        return
    stores = left_behind(tmp_path)
    target = None if place is None else place()
    if isinstance(target, str) and target.startswith("sqlite:"):
        assert target in stores, f"the test has used {target}, and left no store there that could be checked"
    check([*stores, *memories])
    if target is not None and not isinstance(target, str):
        check([target])
    # The URL of a place in PostgreSQL is that of `postgres_url`, too.
    url = url or (place() if place is not None else None)
    if isinstance(url, str) and not url.startswith("sqlite:") and _has_store(url):
        check([url])


def _has_store(url: str) -> bool:
    """Tell whether a test has made a store where it might have."""
    return bool(fetch_value(url, "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = 'wfe')"))


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A store that outlives its hosts: give `place()` to each of them."""
    if request.param == "memory":
        return MemoryProvider().share
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path / 'wfe.db'}"
    url = request.getfixturevalue("postgres_url")
    return lambda: url


@pytest.fixture
async def start_host(place: Place) -> AsyncIterator[StartHost]:
    """Starts hosts on `place`, with the definitions and settings given, and stops them after the test."""
    hosts: list[WorkflowHost] = []

    async def start(*definitions: object, **settings: Any) -> WorkflowHost:
        usual: dict[str, Any] = {"sweep_interval": 0.1, "cancel_grace": 1, "durability": "process"}
        host = WorkflowHost(place(), **(usual | settings))
        host.register(*definitions)
        await host.start()
        hosts.append(host)
        return host

    yield start
    for host in hosts:
        await host.stop(timeout=5)


@pytest.fixture
async def host(start_host: StartHost) -> WorkflowHost:
    """One host."""
    return await start_host()

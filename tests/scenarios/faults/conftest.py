"""Hosts on a SQLite file of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest

from wfe import WorkflowHost

StartHost: TypeAlias = Callable[..., Awaitable[WorkflowHost]]

_T = TypeVar("_T")


async def eventually(look: Callable[[], Awaitable[_T]], wanted: Callable[[_T], bool], seconds: float = 10) -> _T:
    """Look until what is seen is what is wanted, and give it; TimeoutError after a while."""
    async with asyncio.timeout(seconds):
        while not wanted(seen := await look()):  # noqa: ASYNC110 - what is waited for is in a store
            await asyncio.sleep(0.01)
    return seen


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a database file that does not exist yet."""
    return tmp_path / "wfe.db"


@pytest.fixture
async def start_host(database: Path) -> AsyncIterator[StartHost]:
    """Starts hosts on `database`, with the settings given, and stops them after the test."""
    hosts: list[WorkflowHost] = []

    async def start(*definitions: object, **settings: Any) -> WorkflowHost:
        host = WorkflowHost(f"sqlite:///{database}", **({"sweep_interval": 0.1, "cancel_grace": 0.5} | settings))
        host.register(*definitions)
        await host.start()
        hosts.append(host)
        return host

    yield start
    for host in hosts:
        await host.stop(timeout=5)

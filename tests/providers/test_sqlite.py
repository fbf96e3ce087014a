"""The SQLite provider keeps every promise of the ports, in a file and in memory."""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wfe.providers.sqlite import SQLiteProvider
from wfe.testing import TestClock, lifecycle_suite, lock_suite, persistence_suite, queue_suite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from wfe.ports.provider import Provider

_clocks: dict[str, TestClock] = {}


@asynccontextmanager
async def in_file() -> AsyncIterator[Provider]:
    with tempfile.TemporaryDirectory(prefix="wfe-") as folder:
        async with opened(Path(folder) / "wfe.db", TestClock()) as provider:
            yield provider


@asynccontextmanager
async def in_memory() -> AsyncIterator[Provider]:
    async with opened(":memory:", TestClock()) as provider:
        yield provider


@asynccontextmanager
async def second_process(provider: Provider) -> AsyncIterator[Provider]:
    async with opened(provider.url, _clocks[provider.url]) as other:
        yield other


@asynccontextmanager
async def opened(path: str | Path, clock: TestClock) -> AsyncIterator[Provider]:
    provider = SQLiteProvider(path, clock=clock)
    _clocks[provider.url] = clock
    await provider.store.open()
    yield provider
    await provider.hints.close()
    await provider.store.close()


async def advance(provider: Provider, duration: timedelta) -> None:
    _clocks[provider.url].advance(duration)


TestPersistence = persistence_suite(in_file, twin=second_process, advance=advance)
TestPersistenceInMemory = persistence_suite(in_memory, advance=advance)

"""The SQLite provider keeps every promise of the ports, in a file and in memory."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wfe.model.errors import ProviderUnavailable
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


async def disconnect(provider: Provider) -> None:
    """Let both connections meet an error of the disk; the store then opens new ones."""
    assert isinstance(provider, SQLiteProvider)
    for run in (provider.store.write, provider.store.read):
        with pytest.raises(ProviderUnavailable):
            await run(fail_to_read)


def fail_to_read(_: sqlite3.Connection) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    raise error


TestPersistence = persistence_suite(in_file, twin=second_process, advance=advance, disconnect=disconnect)
NO_TWIN = "a SQLite database in memory is seen by its own connection alone, and gone when that is closed"
TestPersistenceInMemory = persistence_suite(in_memory, twin=NO_TWIN, advance=advance, disconnect=NO_TWIN)
TestLock = lock_suite(in_file, twin=second_process, advance=advance, disconnect=disconnect)
TestLockInMemory = lock_suite(in_memory, twin=NO_TWIN, advance=advance, disconnect=NO_TWIN)
TestQueue = queue_suite(in_file, twin=second_process, disconnect="datagrams need no connection")
TestLifecycle = lifecycle_suite(in_file, twin=second_process, disconnect=disconnect)
TestLifecycleInMemory = lifecycle_suite(in_memory, twin=NO_TWIN, disconnect=NO_TWIN)

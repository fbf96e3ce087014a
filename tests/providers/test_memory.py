"""The memory provider keeps every promise of the ports."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from wfe.providers.memory import MemoryProvider
from wfe.testing import TestClock, lifecycle_suite, lock_suite, persistence_suite, queue_suite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from wfe.ports.provider import Provider


@asynccontextmanager
async def memory() -> AsyncIterator[Provider]:
    provider = MemoryProvider(clock=TestClock())
    await provider.store.open()
    yield provider
    await provider.store.close()


@asynccontextmanager
async def second_view(provider: Provider) -> AsyncIterator[Provider]:
    assert isinstance(provider, MemoryProvider)
    yield provider.share()


async def advance(provider: Provider, duration: timedelta) -> None:
    assert isinstance(provider, MemoryProvider)
    clock = provider.clock
    assert isinstance(clock, TestClock)
    clock.advance(duration)


TestPersistence = persistence_suite(memory, twin=second_view, advance=advance)
TestLock = lock_suite(memory, twin=second_view, advance=advance)
TestQueue = queue_suite(memory, twin=second_view)
TestLifecycle = lifecycle_suite(memory, twin=second_view)

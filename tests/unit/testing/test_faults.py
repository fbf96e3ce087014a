"""The store that fails on demand."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from wfe.model.definition import DefinitionKey
from wfe.model.errors import ProviderUnavailable
from wfe.ports.store import Batch, Changes, Start, StartOutcome, Store
from wfe.providers.memory import MemoryProvider
from wfe.testing import Fault, FaultyStore, When

START = Start(
    id="order-1",
    definition=DefinitionKey("order", 1, "hash"),
    digest=b"digest",
    changes=Changes(status="runnable", head=b"", wake_at=None, hold=False),
)
BATCH = Batch(id="batch-1", session="session-1", starts=[START])


def store_with(**faults: Fault) -> FaultyStore:
    """A memory store of which the first call of some methods goes wrong."""
    return FaultyStore(MemoryProvider().store, {(method, 1): fault for method, fault in faults.items()})


async def test_call_without_a_plan_passes() -> None:
    """What is not planned happens as in the inner store."""
    store = store_with()

    reply = await store.commit(BATCH)

    assert list(reply.starts) == [StartOutcome.CREATED]
    assert store.calls == {"commit": 1}


async def test_fault_before_the_call_prevents_it() -> None:
    """A fault BEFORE raises, and the inner store was not asked."""
    store = store_with(commit=Fault(when=When.BEFORE))

    with pytest.raises(ProviderUnavailable):
        await store.commit(BATCH)

    assert await store.get("order-1") is None


async def test_fault_after_the_call_loses_the_answer() -> None:
    """A fault AFTER raises, though the inner store did what it was asked; the same batch again gives the answer."""
    store = store_with(commit=Fault(when=When.AFTER))

    with pytest.raises(ProviderUnavailable):
        await store.commit(BATCH)

    assert await store.get("order-1") is not None
    assert list((await store.commit(BATCH)).starts) == [StartOutcome.CREATED]


async def test_fault_is_for_one_call() -> None:
    """Only the call of the planned number fails, counted per method."""
    store = FaultyStore(MemoryProvider().store, {("get", 2): Fault()})
    await store.known([])
    await store.get("nobody")

    with pytest.raises(ProviderUnavailable):
        await store.get("nobody")

    assert await store.get("nobody") is None


async def test_hook_holds_a_call_up() -> None:
    """A fault without an error delays the call until its hook has ended."""
    release = asyncio.Event()
    store = store_with(commit=Fault(error=None, hook=release.wait))
    commit = asyncio.ensure_future(store.commit(BATCH))
    await asyncio.sleep(0)
    before = await store.inner.get("order-1")

    release.set()
    reply = await commit

    assert (before, list(reply.starts)) == (None, [StartOutcome.CREATED])


async def test_error_is_chosen_by_the_test() -> None:
    """The plan says which error is raised."""
    store = store_with(get=Fault(error=lambda: OSError(28, "No space left on device")))

    with pytest.raises(OSError, match="No space left"):
        await store.get("order-1")


def test_every_call_of_the_port_can_fail() -> None:
    """Each method of the store port is passed on by a method with the same parameters."""
    methods = [name for name, member in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")]

    for name in methods:
        assert inspect.signature(getattr(FaultyStore, name)) == inspect.signature(getattr(Store, name)), name

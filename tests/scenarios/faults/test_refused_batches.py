"""Batches that a store refuses as a whole: the parts are written one by one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.scenarios.faults.conftest import StartHost
from wfe import (
    ConfigurationError,
    DataError,
    ProviderUnavailable,
    StepExecutionContext,
    WorkflowBuilder,
    WorkflowHost,
    WorkflowStatus,
)
from wfe.ports.store import Batch, CommitReply

Context = StepExecutionContext[dict[str, Any]]

_WAITING = WorkflowBuilder().wait_for("never", "k").build("waiting")


class _RefusesManyThenIsAway:
    """In front of a store's `commit`: refuses every batch of several parts, and is away for those of one."""

    def __init__(self, host: WorkflowHost, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self._is_back = False
        store = host._life.core().store
        self._commit = store.commit
        monkeypatch.setattr(store, "commit", self)

    async def __call__(self, batch: Batch) -> CommitReply:
        if self._is_back:
            return await self._commit(batch)
        size = len(batch.starts) + len(batch.transitions)
        self.sizes.append(size)
        if size > 1:
            raise DataError("one of these cannot be stored")
        raise ProviderUnavailable("the store has gone away")

    def comes_back(self) -> None:
        self._is_back = True


async def test_store_that_goes_away_between_the_parts(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the store is away for one part it is not asked for each of the others; all who wait for them are told."""
    host = await start_host(_WAITING)
    store = _RefusesManyThenIsAway(host, monkeypatch)

    starts = [host.start_workflow("waiting", id=f"one-{number}") for number in range(50)]
    told = await asyncio.gather(*starts, return_exceptions=True)
    store.comes_back()

    assert {type(each) for each in told} == {ProviderUnavailable}
    assert store.sizes == [50, 1]
    assert await host.start_workflow("waiting", id="one-7") == "one-7"


async def test_transitions_wait_together_for_the_store(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What bodies answered is kept meanwhile, and written when the store is back; nothing runs twice."""
    gate, all_run = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    async def body(context: Context) -> None:
        runs.append(context.workflow.id)
        if len(runs) == 20:
            all_run.set()
        await gate.wait()

    host = await start_host(WorkflowBuilder().start_with(body).build("held"))
    ids = [await host.start_workflow("held") for _ in range(20)]
    await asyncio.wait_for(all_run.wait(), 10)
    store = _RefusesManyThenIsAway(host, monkeypatch)

    gate.set()
    async with asyncio.timeout(10):
        while "not available" not in caplog.text:  # noqa: ASYNC110 - only the log tells
            await asyncio.sleep(0.001)
    store.comes_back()
    ends = [await host.wait(each, timeout=10) for each in ids]

    assert {end.status for end in ends} == {WorkflowStatus.COMPLETE}
    assert sorted(runs) == sorted(ids)


class _RefusesThisHost:
    """In front of a store's `commit`: refuses batches as a server does whose rights were changed, until it is told."""

    def __init__(self, host: WorkflowHost, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = asyncio.Event()
        self.refuses = True
        store = host._life.core().store
        self._commit = store.commit
        monkeypatch.setattr(store, "commit", self)

    async def __call__(self, batch: Batch) -> CommitReply:
        if self.refuses and batch.transitions:
            self.asked.set()
            raise ConfigurationError("permission denied")
        return await self._commit(batch)


async def test_a_host_that_is_refused_blames_no_instance(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store refuses the host itself, transitions wait as in an outage; afterwards all go on, once."""
    runs: list[str] = []

    async def body(context: Context) -> None:
        runs.append(context.workflow.id)

    host = await start_host(WorkflowBuilder().start_with(body).build("refused"))
    store = _RefusesThisHost(host, monkeypatch)
    ids = await host.start_workflows("refused", [{}] * 5)
    await asyncio.wait_for(store.asked.wait(), 10)

    blamed = [each for each in ids if each in host._life.core().troubles]
    store.refuses = False
    ended = [await host.wait(each, timeout=10) for each in ids]

    assert blamed == []
    assert [each.status for each in ended] == [WorkflowStatus.COMPLETE] * 5
    assert sorted(runs) == sorted(ids)

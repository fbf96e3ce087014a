"""Batches that the store gives up because they take too long: the one that is in the way is found, and told of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.scenarios.faults.conftest import StartHost, eventually
from wfe import ProviderUnavailable, StepExecutionContext, WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.ports.store import Batch, CommitReply

Context = StepExecutionContext[dict[str, Any]]


class _Slow:
    """In front of a store's `commit`: gives up batches that are too much for it."""

    def __init__(self, host: WorkflowHost, monkeypatch: pytest.MonkeyPatch) -> None:
        self.too_much = ""
        """The instance whose transitions with data are."""
        self.all_of_it = False
        self.refused = asyncio.Event()
        store = host._life.core().store
        self._commit = store.commit
        monkeypatch.setattr(store, "commit", self)
        monkeypatch.setattr("wfe.host.troubles.QUARANTINE_AFTER", 2)  # or the pauses between the attempts would be long

    async def __call__(self, batch: Batch) -> CommitReply:
        slow = any(write.instance_id == self.too_much and write.changes.data for write in batch.transitions)
        if slow or self.all_of_it:
            self.refused.set()
            raise ProviderUnavailable("canceling statement due to statement timeout", took_too_long=True)
        return await self._commit(batch)


async def test_what_always_takes_too_long_is_suspended(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few tries its instance shows the reason; others of the same batches go on, and it can be resumed."""
    gate = asyncio.Event()

    async def body(context: Context) -> None:
        await gate.wait()
        context.data["large"] = "x" * 1000

    host = await start_host(WorkflowBuilder().start_with(body).build("w"))
    slow = _Slow(host, monkeypatch)
    ids = await host.start_workflows("w", [{}] * 5)
    slow.too_much = ids[2]
    gate.set()

    others = [await host.wait(each, timeout=10) for each in ids if each != ids[2]]
    shown = await eventually(lambda: host.get_workflow(ids[2]), lambda it: it.status is WorkflowStatus.SUSPENDED)

    assert {each.status for each in others} == {WorkflowStatus.COMPLETE}
    assert shown.blocked_reason == "quarantined: it could not go on: canceling statement due to statement timeout"
    slow.too_much = ""
    assert await host.resume_workflow(ids[2])
    assert (await host.wait(ids[2], timeout=10)).status is WorkflowStatus.COMPLETE


async def test_a_store_that_is_slow_for_all_is_away(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it gives up whatever it is sent, no instance is blamed; afterwards all go on, and nothing runs twice."""
    gate = asyncio.Event()
    runs: list[str] = []

    async def body(context: Context) -> None:
        runs.append(context.workflow.id)
        await gate.wait()

    host = await start_host(WorkflowBuilder().start_with(body).build("w"))
    slow = _Slow(host, monkeypatch)
    ids = await host.start_workflows("w", [{}] * 3)
    await eventually(lambda: asyncio.sleep(0, len(runs)), lambda count: count == 3)
    slow.all_of_it = True
    gate.set()
    await asyncio.wait_for(slow.refused.wait(), 10)
    core = host._life.core()
    await eventually(lambda: asyncio.sleep(0, core.storage_trouble.count), lambda count: count >= 3)

    blamed = [each for each in ids if each in core.troubles]
    slow.all_of_it = False
    ended = [await host.wait(each, timeout=10) for each in ids]

    assert blamed == []
    assert {each.status for each in ended} == {WorkflowStatus.COMPLETE}
    assert sorted(runs) == sorted(ids)

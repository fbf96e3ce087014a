"""Commits that happened and whose replies were lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.scenarios.faults.conftest import StartHost
from wfe import ProviderUnavailable, StepExecutionContext, WorkflowBuilder, WorkflowHost
from wfe.ports.store import Batch, CommitReply

Context = StepExecutionContext[dict[str, Any]]


class _LosesReplies:
    """In front of a store's `commit`: writes the next batches with transitions and loses what it says of them."""

    def __init__(self, host: WorkflowHost, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        store = host._life.core().store
        self._commit = store.commit
        monkeypatch.setattr(store, "commit", self)

    async def __call__(self, batch: Batch) -> CommitReply:
        reply = await self._commit(batch)
        if self.left and batch.transitions:
            self.left -= 1
            raise ProviderUnavailable("the reply was lost, as planned")
        return reply


@pytest.mark.parametrize("lost", [1, 3])
async def test_lost_reply_repeats_no_body(start_host: StartHost, monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    """A body that runs while the reply to its sibling's transition is lost runs on, and is not begun again."""
    begun: Counter[str] = Counter()
    gate, told = asyncio.Event(), asyncio.Event()

    async def runs_on(context: Context) -> None:
        begun["runs on"] += 1
        await gate.wait()
        context.data["ran on"] = True

    async def ends(context: Context) -> None:
        begun["ends"] += 1
        store.left = lost
        context.data["ended"] = True

    async def follows(context: Context) -> None:
        begun["follows"] += 1
        told.set()

    definition = (
        WorkflowBuilder()
        .parallel(lambda one: one.then(runs_on), lambda two: two.then(ends).then(follows))
        .build("siblings")
    )
    host = await start_host(definition)
    store = _LosesReplies(host, monkeypatch)

    instance_id = await host.start_workflow(definition)
    await asyncio.wait_for(told.wait(), 10)
    gate.set()
    result = await host.wait(instance_id, timeout=10)

    assert result.data == {"ended": True, "ran on": True}
    assert begun == {"runs on": 1, "ends": 1, "follows": 1}
    assert [event.step for event in await host.history(instance_id) if event.kind == "step succeeded"].count(
        "ends"
    ) == 1


async def test_lost_reply_to_the_end(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits is told of an end whose reply was lost, and a child's end reaches its parent."""

    async def body(context: Context) -> None:
        context.data["done"] = True
        store.left = 1

    child = WorkflowBuilder().then(body).build("child")
    parent = WorkflowBuilder().sub_workflow("child").then(body).build("parent")
    host = await start_host(child, parent)
    store = _LosesReplies(host, monkeypatch)

    result = await host.run("parent", timeout=15)

    assert result.data == {"done": True}

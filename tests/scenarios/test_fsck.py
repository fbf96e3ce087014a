"""The check of a store while hosts are at work on it, and of more than it reads at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Context, Place, StartHost
from wfe import ConfigurationError, Continue, Fixed, RetryPolicy, WorkflowBuilder, WorkflowDefinition
from wfe.host.connect import connect
from wfe.host.fsck import check_store
from wfe.testing import FaultyStore, fsck


async def _count(context: Context) -> None:
    context.data["count"] = context.data.get("count", 0) + 1


async def _fail_now_and_then(context: Context) -> None:
    if context.attempt == 1 and context.data.get("count", 0) % 2:
        msg = "try again"
        raise ValueError(msg)


_SOON = RetryPolicy(max_attempts=2, backoff=Fixed(0.001))


def _busy() -> WorkflowDefinition[dict[str, Any]]:
    return (
        WorkflowBuilder()
        .while_do(
            lambda data: data.get("count", 0) < data["turns"],
            lambda turn: (
                turn.then(_count)
                .parallel(lambda one: one.then(_fail_now_and_then).retry(_SOON), lambda two: two.delay(0.002))
                .for_each("items", lambda each: each.wait_for("tick", "k", timeout=0.01).on_error(Continue()))
            ),
        )
        .then(_count)
        .build("busy")
    )


async def test_a_start_that_was_long_on_its_way_is_sound(
    start_host: StartHost, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store says later when it began than its host thought: nothing is wrong with its time limit."""
    definition = WorkflowBuilder().wait_for("go", "k").workflow_timeout(60).build("limited")
    host = await start_host(definition)
    core = host._life.core()
    now = core.now
    monkeypatch.setattr(core, "now", lambda: now() - 5_000_000)

    instance_id = await host.start_workflow(definition)

    assert await fsck(place()) == []
    monkeypatch.undo()
    await host.publish_event("go", "k")
    await host.wait(instance_id, timeout=SECONDS)


async def test_a_store_is_sound_at_every_moment(start_host: StartHost, place: Place) -> None:
    """Whenever it is looked at while two hosts run, nothing is found: each look sees whole transitions."""
    one = await start_host(_busy(), max_active=10)
    two = await start_host(_busy(), max_active=10)
    ids = [await one.start_workflow("busy", {"turns": 8, "items": [1, 2]}, id=f"b{n}") for n in range(16)]
    ends = asyncio.ensure_future(asyncio.gather(*(two.wait(each, timeout=60) for each in ids)))
    looks = 0

    while not ends.done():
        await one.publish_event("tick", "k", looks)
        assert await fsck(place()) == []
        looks += 1

    assert looks > 1
    assert {end.data["count"] for end in await ends} == {9}


async def test_more_than_is_read_at_a_time(start_host: StartHost, place: Place) -> None:
    """Many instances, and a history of thousands of rows, are looked at whole."""
    loop = (
        WorkflowBuilder()
        .while_do(lambda data: data.get("count", 0) < 1500, lambda turn: turn.then(_count))
        .build("loop")
    )
    chain = WorkflowBuilder().start_with(_count).build("chain")
    host = await start_host(loop, chain)
    long = [await host.start_workflow("loop") for _ in range(3)]
    ids = await asyncio.gather(*(host.start_workflow("chain") for _ in range(250)))
    for each in (*long, *ids):
        await host.wait(each, timeout=60)

    target = place()
    store = connect(target).store
    await store.open()
    try:
        report = await check_store(store)
    finally:
        if isinstance(target, str):
            await store.close()

    assert (report.instances, report.findings, report.more) == (253, [], 0)


async def test_a_store_that_cannot_be_checked_is_refused() -> None:
    """A store of somebody else's that does not show its rows is refused with the reason, not found to be sound."""
    foreign: Any = object()

    for store in (foreign, FaultyStore(foreign)):
        with pytest.raises(ConfigurationError, match="no `inspect`"):
            await fsck(store)

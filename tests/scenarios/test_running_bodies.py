"""What bodies say while they run: lines and heartbeats."""

from __future__ import annotations

import asyncio
import threading

from tests.scenarios.stage import SECONDS, Context
from wfe import (
    Cancelled,
    WorkflowBuilder,
    WorkflowHost,
    WorkflowStatus,
)


async def test_what_bodies_log_reaches_those_who_listen(host: WorkflowHost) -> None:
    """`context.log` reaches the listeners of the host, with its stream."""
    lines: list[tuple[str, str, str, str]] = []
    host.on_log(lambda *line: lines.append(line))

    async def body(context: Context) -> None:
        context.log("hello")
        context.log("oops", stream="stderr")

    result = await host.run(WorkflowBuilder().start_with(body).build("w"), timeout=SECONDS)

    assert lines == [(result.id, "body", "stdout", "hello"), (result.id, "body", "stderr", "oops")]


async def test_a_heartbeat_is_seen_while_its_body_runs(host: WorkflowHost) -> None:
    """The last heartbeat of a running body shows at its step, as a copy of what it said."""
    gate = asyncio.Event()
    beaten = asyncio.Event()

    async def body(context: Context) -> None:
        details = {"done": 1}
        context.heartbeat({"done": 0})
        context.heartbeat(details)
        details["done"] = 99
        beaten.set()
        await gate.wait()

    instance_id = await host.start_workflow(WorkflowBuilder().start_with(body).build("w"))
    await beaten.wait()

    (step,) = (await host.get_workflow(instance_id)).steps
    gate.set()

    assert step.heartbeat is not None
    assert step.heartbeat.details == {"done": 1}
    assert (await host.wait(instance_id, timeout=SECONDS)).status is WorkflowStatus.COMPLETE


async def test_a_heartbeat_tells_a_thread_that_it_shall_end(host: WorkflowHost) -> None:
    """In a body that was cancelled `heartbeat` raises, which ends a thread; that is no failure of its step."""
    begun, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def body(context: Context) -> None:
        loop.call_soon_threadsafe(begun.set)
        try:
            while not ended.wait(0.001):
                context.heartbeat()
        except Cancelled:
            ended.set()
            raise

    instance_id = await host.start_workflow(WorkflowBuilder().start_with(body).build("w"))
    await begun.wait()
    try:
        assert await host.cancel_workflow(instance_id)
        result = await host.wait(instance_id, timeout=SECONDS)
        assert ended.is_set()
    finally:
        ended.set()

    assert result.status is WorkflowStatus.CANCELLED
    assert await host.errors(instance_id) == []


async def test_a_heartbeat_that_is_no_json_fails_its_body(host: WorkflowHost) -> None:
    """Details that are no JSON value are refused where they are given."""

    async def body(context: Context) -> None:
        context.heartbeat(object())

    result = await host.run(WorkflowBuilder().start_with(body).build("w"), timeout=SECONDS)

    assert result.error is not None
    assert result.error.code == "data_error"

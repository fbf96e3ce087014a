"""Bodies that never end, or end too late: their time limit ends the step, and they use up nothing of the host."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from tests.scenarios.faults.conftest import StartHost, eventually
from wfe import Fixed, RetryPolicy, StepExecutionContext, WorkflowBuilder, WorkflowStatus

Context = StepExecutionContext[dict[str, Any]]


def _fine(context: Context) -> None:
    context.data["fine"] = True


async def _hang(context: Context) -> None:
    await asyncio.Event().wait()


async def test_hanging_coroutine(start_host: StartHost) -> None:
    """A coroutine that never ends is cancelled at its time limit: FAILED with the code `step_timeout`."""
    definition = WorkflowBuilder().start_with(_hang).id("hang").timeout(0.1).build("hang")
    host = await start_host(definition)

    result = await host.run(definition, timeout=10)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert (result.error.code, result.error.step) == ("step_timeout", "hang")


async def test_coroutine_that_refuses_to_end(start_host: StartHost) -> None:
    """A coroutine that swallows its cancellation is given up after the grace: its step fails all the same."""
    gate = asyncio.Event()

    async def stubborn(context: Context) -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    definition = WorkflowBuilder().start_with(stubborn).timeout(0.1).build("stubborn")
    host = await start_host(definition, cancel_grace=0.2)

    try:
        result = await host.run(definition, timeout=10)
    finally:
        gate.set()

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert result.error.code == "step_timeout"


async def test_hanging_threads_do_not_use_up_the_pool(start_host: StartHost) -> None:
    """Bodies that hang on threads fail at their limit; however many hang, others still get a thread."""
    gate = threading.Event()

    def hang(context: Context) -> None:
        gate.wait()

    hanging = WorkflowBuilder().start_with(hang).timeout(0.2).build("hang")
    fine = WorkflowBuilder().start_with(_fine).build("fine")
    host = await start_host(hanging, fine, max_threads=2)

    try:
        ids = await host.start_workflows(hanging, [{}] * 10)
        results = [await host.wait(each, timeout=20) for each in ids]
        after = await host.run(fine, timeout=10)
    finally:
        gate.set()

    assert [result.error.code for result in results if result.error is not None] == ["step_timeout"] * 10
    assert after.status is WorkflowStatus.COMPLETE


async def test_late_writes_of_a_stale_thread_are_dropped(start_host: StartHost) -> None:
    """A thread that goes on after its time limit changes nothing by its data or its answer.

    Only the attempt that took its place counts.
    """
    gate, late = threading.Event(), threading.Event()

    def body(context: Context) -> dict[str, Any] | None:
        if context.attempt > 1:
            context.data["by"] = "second attempt"
            return None
        gate.wait()
        context.data["by"] = context.data["late"] = "first attempt"
        late.set()
        return {"output": "late"}

    definition = (
        WorkflowBuilder()
        .start_with(body)
        .timeout(0.2)
        .retry(RetryPolicy(2, Fixed(0)))
        .then(_fine)
        .wait_for("never", "never")
        .build("late")
    )
    host = await start_host(definition)
    instance_id = await host.start_workflow(definition)
    await eventually(lambda: host.get_workflow(instance_id), lambda instance: "fine" in instance.data)

    gate.set()
    await asyncio.to_thread(late.wait, 10)
    await host.publish_event("never", "never")
    result = await host.wait(instance_id, timeout=10)

    assert result.data == {"by": "second attempt", "fine": True}
    assert [error.code for error in await host.errors(instance_id)] == ["step_timeout"]


async def test_blocked_loop_is_named_and_survived(start_host: StartHost, caplog: pytest.LogCaptureFixture) -> None:
    """A coroutine that blocks the event loop is named in a warning while it does.

    The lease is renewed meanwhile, so that nothing is lost or repeated, and the others go on afterwards.
    """
    begins: list[str] = []

    async def blocks_the_loop(context: Context) -> None:
        begins.append(context.workflow.id)
        time.sleep(3.5)  # noqa: ASYNC251 - the fault

    blocking = WorkflowBuilder().start_with(blocks_the_loop).id("culprit").build("blocking")
    chain = WorkflowBuilder().delay(0.1).then(_fine).then(_fine).build("chain")
    host = await start_host(blocking, chain, lease_ttl=1.5)
    caplog.set_level(logging.WARNING, "wfe.host")

    others = await host.start_workflows(chain, [{}] * 20)
    result = await host.run(blocking, timeout=20)
    ends = [await host.wait(each, timeout=20) for each in others]

    assert result.status is WorkflowStatus.COMPLETE
    assert len(begins) == 1
    assert {end.status for end in ends} == {WorkflowStatus.COMPLETE}
    warnings = [record.getMessage() for record in caplog.records]
    assert any("stood still" in text and "blocks_the_loop" in text for text in warnings), warnings
    assert not [text for text in warnings if "lost its session" in text]


async def test_cancel_reaches_a_thread_that_looks(start_host: StartHost) -> None:
    """A body on a thread sees `cancelled` when its instance is cancelled, and what it does then is not a failure."""
    begun, seen = threading.Event(), threading.Event()

    def body(context: Context) -> None:
        begun.set()
        if context.cancelled.wait(20):
            seen.set()

    definition = WorkflowBuilder().start_with(body).then(_fine).build("looks")
    host = await start_host(definition, cancel_grace=5)
    instance_id = await host.start_workflow(definition)
    await asyncio.to_thread(begun.wait, 10)

    assert await host.cancel_workflow(instance_id)

    result = await host.wait(instance_id, timeout=10)
    assert result.status is WorkflowStatus.CANCELLED
    assert seen.is_set()
    assert "fine" not in result.data


async def test_cancel_does_not_wait_for_ever(start_host: StartHost) -> None:
    """Cancelling an instance whose bodies ignore it ends it after the grace; what they answer later is dropped."""
    begun, gate = threading.Event(), threading.Event()

    def deaf(context: Context) -> dict[str, Any]:
        begun.set()
        gate.wait()
        return {"late": True}

    definition = WorkflowBuilder().start_with(deaf).build("deaf")
    host = await start_host(definition, cancel_grace=0.3)
    instance_id = await host.start_workflow(definition)
    await asyncio.to_thread(begun.wait, 10)

    try:
        assert await host.cancel_workflow(instance_id)
        result = await host.wait(instance_id, timeout=10)
    finally:
        gate.set()

    assert result.status is WorkflowStatus.CANCELLED
    assert (await host.get_workflow(instance_id)).data == {}

"""What people read of failures and waits: the class of an error, which event, how long."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Context, Gate, put, stands, waits
from wfe import (
    EventTimeout,
    ExecutionResult,
    LifecycleKind,
    MemoryProvider,
    StepFailed,
    Suspend,
    WorkflowBuilder,
    WorkflowHost,
    WorkflowStatus,
)
from wfe.testing import TestClock


async def broken(context: Context) -> None:
    raise ValueError("amount must be positive")


async def test_the_class_of_an_error_is_told(host: WorkflowHost) -> None:
    """Where wfe speaks of a failed step, the exception's class stands before its message, as Python shows it."""
    result = await host.run(WorkflowBuilder().start_with(broken).build("w"), {}, timeout=SECONDS)

    assert result.error is not None
    assert result.error.message == "amount must be positive"
    assert result.error.summary == "ValueError: amount must be positive"
    with pytest.raises(StepFailed, match="step 'broken': ValueError: amount must be positive"):
        result.raise_for_status()
    told = [event.error for event in await host.history(result.id) if event.kind is LifecycleKind.STEP_FAILED]
    assert told == ["ValueError: amount must be positive"]


async def test_a_suspension_tells_the_class(host: WorkflowHost) -> None:
    """The reason of an instance that a failure has suspended names the class too."""
    definition = WorkflowBuilder().start_with(broken).on_error(Suspend()).build("w")
    instance_id = await host.start_workflow(definition)

    await stands(host, instance_id, WorkflowStatus.SUSPENDED)

    reason = (await host.get_workflow(instance_id)).blocked_reason
    assert reason == "step 'broken' failed: ValueError: amount must be positive"


async def test_a_parent_tells_the_class_of_its_childs_error(host: WorkflowHost) -> None:
    """The failure of a child names step and class of what went wrong there."""
    host.register(WorkflowBuilder().start_with(broken).build("child"))

    result = await host.run(WorkflowBuilder().sub_workflow("child").build("w"), {}, timeout=SECONDS)

    assert "ValueError: amount must be positive" in str(result.error)


async def test_a_missing_key_is_no_message(host: WorkflowHost) -> None:
    """The text of a KeyError is the key alone, so its class is part of the message."""

    async def body(context: Context) -> None:
        raise KeyError("receipt")

    result = await host.run(WorkflowBuilder().start_with(body).build("w"), {}, timeout=SECONDS)

    assert result.error is not None
    assert str(result.error) == result.error.summary == "KeyError: 'receipt'"


async def asking(context: Context) -> ExecutionResult:
    return ExecutionResult.wait_for_event("approved", "o-1", timeout=0.01)


@pytest.mark.parametrize(
    "builder",
    [
        WorkflowBuilder().wait_for("approved", lambda data: "o-1", timeout=0.01).id("waiting"),
        WorkflowBuilder().start_with(asking).id("waiting"),
    ],
    ids=["wait_for", "answer"],
)
async def test_a_timeout_names_the_event(host: WorkflowHost, builder: Any) -> None:
    """Who reads that an event did not come learns which one: its name and its key."""
    result = await host.run(builder.build("w"), {}, timeout=SECONDS)

    expected = "Step 'waiting' waited for event 'approved' with key 'o-1', which did not come in time."
    assert str(result.error) == expected
    with pytest.raises(EventTimeout):
        result.raise_for_status()


async def test_a_waiting_step_says_what_it_waits_for(host: WorkflowHost) -> None:
    """An event by name and key, a child by its id; once it has come, nothing."""
    gate = Gate()
    child = WorkflowBuilder().wait_for("never", "k").build("child")
    definition = (
        WorkflowBuilder()
        .parallel(
            lambda b: b.wait_for("approved", "o-1").id("event").then(gate.body),
            lambda b: b.sub_workflow("child").id("sub"),
        )
        .build("w")
    )
    host.register(child)
    instance_id = await host.start_workflow(definition)
    await waits(host, instance_id, "event", "sub")

    before = {step.id: step.waiting_for for step in (await host.get_workflow(instance_id)).steps}
    await host.publish_event("approved", "o-1")
    await gate.entered()
    after = {step.id: step.waiting_for for step in (await host.get_workflow(instance_id)).steps}

    assert before["event"] == "event 'approved' with key 'o-1'"
    assert before["sub"] is not None
    assert before["sub"].startswith(f"child '{instance_id}~")
    assert after["gate"] is None
    await host.cancel_workflow(instance_id)


async def test_the_time_of_a_step_leaves_out_when_nobody_ran_it() -> None:
    """A body that is cut off and begins again an hour later, on another host, did not take an hour."""
    clock = TestClock()
    place, gate = MemoryProvider(clock=clock), Gate()
    definition = WorkflowBuilder().start_with(gate.body).then(put("after", after=True)).build("w")
    async with WorkflowHost(place.share(), sweep_interval=0.05) as first:
        first.register(definition)
        instance_id = await first.start_workflow(definition)
        await gate.entered()
        await first.stop(force=True)
    clock.advance(timedelta(hours=1))

    async with WorkflowHost(place.share(), sweep_interval=0.05) as second:
        second.register(definition)
        gate.open()
        await second.wait(instance_id, timeout=SECONDS)
        history = await second.history(instance_id)

    (took,) = [e.duration for e in history if e.kind is LifecycleKind.STEP_SUCCEEDED and e.step == "gate"]
    assert took is not None
    assert took < timedelta(minutes=5)

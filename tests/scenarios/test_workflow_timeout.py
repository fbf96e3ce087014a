"""The time limit of a whole run."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.scenarios.stage import StartHost
from wfe import StepExecutionContext, WorkflowBuilder, WorkflowHost, WorkflowStatus, WorkflowTimeout


async def _never_ends(context: StepExecutionContext) -> None:
    await asyncio.Event().wait()


_WAYS_TO_STAND_STILL = {
    "running": WorkflowBuilder().start_with(_never_ends).workflow_timeout(0.2).build("running"),
    "sleeping": WorkflowBuilder().delay("1d").workflow_timeout(0.2).build("sleeping"),
    "waiting": WorkflowBuilder().wait_for("never", "k").workflow_timeout(0.2).build("waiting"),
    "in a branch": WorkflowBuilder()
    .parallel(_never_ends, lambda b: b.delay("1d"))
    .workflow_timeout(0.2)
    .build("in-a-branch"),
}


@pytest.mark.parametrize("way", _WAYS_TO_STAND_STILL)
async def test_a_run_that_takes_too_long_fails(host: WorkflowHost, way: str) -> None:
    """When the workflow timeout has passed the instance is FAILED with WorkflowTimeout, whatever it was doing."""
    result = await host.run(_WAYS_TO_STAND_STILL[way], timeout=10)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert result.error.code == "workflow_timeout"
    with pytest.raises(WorkflowTimeout, match="timed out after"):
        result.raise_for_status()


async def test_the_limit_counts_from_the_start_also_after_a_restart(start_host: StartHost) -> None:
    """A host that takes an instance over keeps its absolute limit."""
    definition = WorkflowBuilder().wait_for("never", "k").workflow_timeout(0.5).build("over")
    first = await start_host(definition)
    instance_id = await first.start_workflow(definition)
    await first.stop()
    second = await start_host(definition)

    result = await second.wait(instance_id, timeout=10)

    assert result.status is WorkflowStatus.FAILED
    instance = await second.get_workflow(instance_id)
    assert instance.duration is not None
    assert instance.duration.total_seconds() >= 0.5


async def test_the_limit_of_a_run_that_is_put_off_counts_from_its_start(host: WorkflowHost) -> None:
    """Not from the call that put it off: one that is put off for longer than its limit has all of its time."""
    quick = WorkflowBuilder().delay(0.01).workflow_timeout(0.4).build("quick")
    late = WorkflowBuilder().delay(0.01).wait_for("never", "k").workflow_timeout(0.4).build("late")
    host.register(quick, late)
    start_at = datetime.now(UTC) + timedelta(seconds=0.6)

    ids = [await host.start_workflow(name, start_at=start_at) for name in ("quick", "late")]
    ends = [await host.wait(each, timeout=10) for each in ids]

    assert [end.status for end in ends] == [WorkflowStatus.COMPLETE, WorkflowStatus.FAILED]
    ended_at = (await host.get_workflow(ids[1])).ended_at
    assert ended_at is not None
    assert ended_at >= start_at + timedelta(seconds=0.4)


async def test_the_limit_outlives_requests_to_hosts_without_the_code(start_host: StartHost) -> None:
    """A request that a host without the code applies, as a command does, takes nothing away from the limit."""
    definition = WorkflowBuilder().wait_for("never", "k").workflow_timeout(0.5).build("asked")
    first = await start_host(definition)
    instance_id = await first.start_workflow(definition)
    await first.stop()
    command = await start_host()
    await command.suspend_workflow(instance_id)
    await command.resume_workflow(instance_id)
    await command.stop()
    second = await start_host(definition)

    result = await second.wait(instance_id, timeout=10)

    assert result.error is not None
    assert result.error.code == "workflow_timeout"


async def test_a_run_in_time_is_not_touched(host: WorkflowHost) -> None:
    """A run that ends before its limit completes."""
    definition = WorkflowBuilder().delay(0.01).workflow_timeout("1h").build("quick")

    result = await host.run(definition, timeout=10)

    assert result.status is WorkflowStatus.COMPLETE


async def test_a_subscription_goes_on_after_the_event_it_handled_last(host: WorkflowHost) -> None:
    """`subscribe(since=event.cursor)` gives everything after that event, and nothing before it."""
    definition = WorkflowBuilder().delay(0.01).delay(0.01).build("two-steps")
    instance_id = (await host.run(definition, timeout=10)).id
    told = [event async for event in _until_completed(host, instance_id, "start")]

    rest = [event async for event in _until_completed(host, instance_id, told[1].cursor)]

    assert [event.sequence for event in rest] == [event.sequence for event in told[2:]]


async def _until_completed(host: WorkflowHost, instance_id: str, since: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a generator of events
    async with asyncio.timeout(10):
        async for event in host.subscribe(workflow_id=instance_id, since=since):
            yield event
            if event.kind == "workflow completed":
                return

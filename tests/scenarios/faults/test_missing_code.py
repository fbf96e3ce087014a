"""Instances whose code is missing: blocked with the reason, and going on by themselves when it is there."""

from __future__ import annotations

from typing import Any

from tests.scenarios.faults.conftest import StartHost, eventually
from wfe import (
    StepExecutionContext,
    WorkflowBuilder,
    WorkflowDefinition,
    WorkflowHost,
    WorkflowInstance,
    WorkflowStatus,
    step,
)

Context = StepExecutionContext[dict[str, Any]]


@step("count up")
async def _count(context: Context) -> None:
    context.data["count"] = context.data.get("count", 0) + 1


def _serialised() -> WorkflowDefinition[dict[str, Any]]:
    """A definition that names its step types and has no code: what a store or a file gives."""
    whole = WorkflowBuilder().start_with(_count).delay(0.05).then(_count).id("second").build("named")
    return WorkflowDefinition.from_json(whole.to_json())


async def _look_until(host: WorkflowHost, instance_id: str, *, blocked: bool) -> WorkflowInstance[Any]:
    return await eventually(
        lambda: host.get_workflow(instance_id), lambda instance: bool(instance.blocked_reason) == blocked
    )


async def test_unregistered_step(start_host: StartHost) -> None:
    """A step type that nobody registered blocks the instance, with the name of type and step; it is not failed.

    It goes on by itself as soon as the type is registered; other instances are not disturbed.
    """
    other = WorkflowBuilder().start_with(_count).build("other")
    host = await start_host(_serialised(), other)
    instance_id = await host.start_workflow("named")

    blocked = await _look_until(host, instance_id, blocked=True)
    meanwhile = await host.run(other, timeout=5)
    host.register_step("count up", _count)
    result = await host.wait(instance_id, timeout=5)

    assert blocked.status is WorkflowStatus.RUNNABLE
    assert "'count up'" in (blocked.blocked_reason or "")
    assert meanwhile.status is WorkflowStatus.COMPLETE
    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"count": 2})
    assert (await host.get_workflow(instance_id)).blocked_reason is None
    assert await host.errors(instance_id) == []


async def test_missing_definition(start_host: StartHost) -> None:
    """An instance whose definition is not registered after a restart is blocked, with its name and version.

    It goes on when the definition is registered. A request reaches it all the same.
    """
    definition = WorkflowBuilder().delay(0.05).then(_count).build("later")
    first = await start_host(definition)
    ids = [await first.start_workflow("later") for _ in range(2)]
    await first.stop()

    second = await start_host()
    blocked = await _look_until(second, ids[0], blocked=True)
    cancelled = await second.cancel_workflow(ids[1])
    second.register(definition)
    result = await second.wait(ids[0], timeout=5)

    assert "'later' version 1" in (blocked.blocked_reason or "")
    assert cancelled
    assert (await second.get_workflow(ids[1])).status is WorkflowStatus.CANCELLED
    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"count": 1})


async def test_deregistered_while_it_waits(start_host: StartHost) -> None:
    """Taking a definition away blocks what becomes due; registering it again lets that go on."""
    definition = WorkflowBuilder().wait_for("go", "now").then(_count).build("waits")
    host = await start_host(definition)
    instance_id = await host.start_workflow(definition)
    assert host.deregister("waits", 1)
    await host.publish_event("go", "now")

    blocked = await _look_until(host, instance_id, blocked=True)
    host.register(definition)
    result = await host.wait(instance_id, timeout=5)

    assert "'waits'" in (blocked.blocked_reason or "")
    assert result.data == {"count": 1}

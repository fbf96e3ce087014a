"""Instances whose definition nobody has registered on the host that finds them: their plan is in the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Context, Place, StartHost, eventually, waits
from wfe import (
    DefinitionNotFound,
    ExecutionResult,
    Fixed,
    RetryPolicy,
    WorkflowBuilder,
    WorkflowDefinition,
    WorkflowHost,
    WorkflowStatus,
    load_workflow,
    ref,
)
from wfe.executors.shell import ShellStepExecutor
from wfe.host.connect import connect

_PIPELINE = """
workflow:
  id: pipeline
  version: 1
  steps:
    - name: first
      config: {run: "echo '##wfe[output first=1]'"}
    - name: hold
      type: hold
      config: {key: k}
    - name: last
      config: {run: "echo '##wfe[output last=((first))2]'"}
"""


async def _hold(context: Context) -> ExecutionResult | None:
    """Wait for an event."""
    if context.event_data is None:
        return ExecutionResult.wait_for_event("go", context.step.config["key"])
    return None


async def _count(context: Context) -> None:
    """Count by what the config says."""
    context.data["n"] = context.data.get("n", 0) + context.step.config.get("by", 1)


def _equip(host: WorkflowHost) -> None:
    host.register_executor(ShellStepExecutor())
    host.register_step("hold", _hold)
    host.register_step("count", _count)


async def _left_behind(
    start_host: StartHost, first: WorkflowDefinition[Any], *others: object, step: str, key: str = "k"
) -> str:
    """Start an instance of the first definition on a host that stops when it waits at a step; give its id."""
    host = await start_host()
    _equip(host)
    host.register(first, *others)
    instance_id: str = await host.start_workflow(first, {"key": key} if first.data_type is dict else None)
    await waits(host, instance_id, step)
    await host.stop()
    return instance_id


async def _reason(host: WorkflowHost, instance_id: str) -> str:
    """Wait until the instance is blocked, and give the reason."""

    async def so() -> bool:
        return (await host.get_workflow(instance_id)).blocked_reason is not None

    await eventually(so)
    return (await host.get_workflow(instance_id)).blocked_reason or ""


def _counting(by: int = 1) -> WorkflowBuilder[dict[str, Any]]:
    return WorkflowBuilder().wait_for("go", ref(".key")).id("wait").then("count").config(by=by)


async def test_a_pipeline_goes_on_without_registration(start_host: StartHost) -> None:
    """A YAML workflow that one host started ends on another one, which has nothing but what runs its steps."""
    instance_id = await _left_behind(start_host, load_workflow(_PIPELINE).definition, step="hold")

    host = await start_host()
    _equip(host)
    await host.publish_event("go", "k", {})
    result = await host.wait(instance_id, timeout=SECONDS)

    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"first": 1, "last": 12})


async def test_a_timer_goes_on_without_registration(start_host: StartHost) -> None:
    """So does one that only time wakes, with a plan of the builder that holds no code."""
    definition = WorkflowBuilder().delay(0.3).id("pause").then("count").build("timed")
    instance_id = await _left_behind(start_host, definition, step="pause")

    host = await start_host()
    _equip(host)

    assert (await host.wait(instance_id, timeout=SECONDS)).data["n"] == 1


async def test_what_it_needs_is_named(start_host: StartHost) -> None:
    """Without what runs its steps it is blocked with the reason, and goes on when that is registered."""
    instance_id = await _left_behind(start_host, load_workflow(_PIPELINE).definition, step="hold")
    host = await start_host()
    host.register_step("hold", _hold)
    await host.publish_event("go", "k", {})

    reason = await _reason(host, instance_id)
    host.register_executor(ShellStepExecutor())
    result = await host.wait(instance_id, timeout=SECONDS)

    assert "definition 'pipeline' version 1 is not registered on any running host" in reason
    assert "step type 'shell' of step 'first'" in reason
    assert result.status is WorkflowStatus.COMPLETE


@dataclass
class _Typed:
    n: int = 0


async def test_what_is_not_in_the_plan_is_named(start_host: StartHost) -> None:
    """A definition with a data class or a callable of its own is not run from its plan, which has lost them."""
    typed = WorkflowBuilder(_Typed).wait_for("go", "k").id("wait").then("count").build("typed")
    picky = _counting().retry(RetryPolicy(3, Fixed(0), retryable=lambda error: True)).build("picky")
    ids = [await _left_behind(start_host, each, step="wait") for each in (typed, picky)]
    host = await start_host()
    _equip(host)
    await host.publish_event("go", "k", {})

    reasons = [await _reason(host, each) for each in ids]

    assert "its data class _Typed" in reasons[0]
    assert "`retryable` of step 'count'" in reasons[1]


async def test_children_are_found_with_their_parent(start_host: StartHost) -> None:
    """A plan from the store starts the children that it names, whose plans are there too."""
    child = WorkflowBuilder().then("count").build("child")
    parent = _counting().sub_workflow("child").build("parent")
    instance_id = await _left_behind(start_host, parent, child, step="wait")

    host = await start_host()
    _equip(host)
    await host.publish_event("go", "k", {})
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    assert [each.status for each in await host.list_workflows(definition_id="child")] == [WorkflowStatus.COMPLETE]


async def test_the_latest_plan_is_used(start_host: StartHost) -> None:
    """A setting that was mended without a change of structure holds for instances that were begun before."""
    instance_id = await _left_behind(start_host, _counting().build("w"), step="wait")
    await (await start_host(_counting(by=5).build("w"))).stop()

    host = await start_host()
    _equip(host)
    await host.publish_event("go", "k", {})

    assert (await host.wait(instance_id, timeout=SECONDS)).data["n"] == 5


async def test_what_was_taken_away_is_not_brought_back(start_host: StartHost) -> None:
    """`deregister` holds, also for a definition that the store has whole."""
    definition = _counting().build("w")
    host = await start_host()
    _equip(host)
    instance_id = await host.start_workflow(definition, {"key": "k"})
    await waits(host, instance_id, "wait")
    host.deregister("w", 1)
    await host.publish_event("go", "k", {})

    reason = await _reason(host, instance_id)
    host.register(definition)

    assert "'w' version 1 is not registered on any running host" in reason
    assert (await host.wait(instance_id, timeout=SECONDS)).data["n"] == 1


async def test_a_plan_from_the_store_is_not_registered(start_host: StartHost) -> None:
    """It runs what was begun with it. It is not listed or started by id, and registering it is possible as ever."""
    definition = _counting().build("w")
    instance_id = await _left_behind(start_host, definition, step="wait")
    host = await start_host()
    _equip(host)
    await host.publish_event("go", "k", {})
    await host.wait(instance_id, timeout=SECONDS)

    assert host.definitions() == []
    with pytest.raises(DefinitionNotFound):
        await host.start_workflow("w")
    again = await host.start_workflow(definition, {"key": "k"})

    await host.publish_event("go", "k", {})
    assert (await host.wait(again, timeout=SECONDS)).data["n"] == 1
    assert [each.key for each in host.definitions()] == [definition.key]


async def test_a_restarted_host_reads_plans_anew(place: Place, start_host: StartHost) -> None:
    """A host object that is started again uses what is recorded by then, and records nothing old over it."""
    ids = [await _left_behind(start_host, _counting().build("w"), step="wait", key=key) for key in ("a", "b")]
    host = WorkflowHost(connect(place()), sweep_interval=0.1)
    _equip(host)
    async with host:
        await host.publish_event("go", "a", {})
        first = await host.wait(ids[0], timeout=SECONDS)
    await (await start_host(_counting(by=5).build("w"))).stop()

    async with host:
        await host.publish_event("go", "b", {})
        second = await host.wait(ids[1], timeout=SECONDS)

    assert [first.data["n"], second.data["n"]] == [1, 5]


async def test_a_damaged_plan_blocks_visibly(start_host: StartHost, place: Place) -> None:
    """A recorded plan that cannot be read, or is another one, is no plan: its instances are blocked."""
    definition = _counting().build("w")
    instance_id = await _left_behind(start_host, definition, step="wait")
    host = await start_host()
    _equip(host)
    other = WorkflowDefinition.from_json(WorkflowBuilder().then("count").build("w").to_json())
    row = (await _store_of(host).definitions())[0]
    await _store_of(host).save_definition(type(row)(row.key, other.to_json(), row.source))
    await host.publish_event("go", "k", {})

    assert "'w' version 1 is not registered" in await _reason(host, instance_id)


def _store_of(host: WorkflowHost) -> Any:
    return host._running().store

"""What users write with a host: accepted by mypy --strict and by pyright."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, assert_type

from wfe import (
    LifecycleEvent,
    Page,
    StepError,
    StepExecutionContext,
    WorkflowBuilder,
    WorkflowDefinition,
    WorkflowHost,
    WorkflowInstance,
    WorkflowResult,
    WorkflowStatus,
    run_workflow_sync,
)


@dataclass
class Order:
    amount: float = 0.0


async def charge(context: StepExecutionContext[Order]) -> None: ...


definition = WorkflowBuilder(Order).then(charge).build("orders")
host = WorkflowHost("memory:", max_threads=4)


async def awaits() -> None:
    async with host:
        assert_type(await host.start_workflow(definition, Order(1.0), id="a"), str)
        assert_type(await host.start_workflow("orders", {"amount": 1}, reference="r"), str)
        assert_type(await host.run(definition, Order(), timeout="1m"), WorkflowResult[Order])
        assert_type(await host.wait("a", 5, of=definition), WorkflowResult[Order])
        assert_type(await host.wait("a", until=WorkflowStatus.SUSPENDED), WorkflowResult[Any])
        assert_type(await host.history("a"), list[LifecycleEvent])


with host.sync as blocking:
    assert_type(blocking.start_workflow(definition, Order(1.0), id="a"), str)
    assert_type(blocking.start_workflow("orders", {"amount": 1}, reference="r"), str)
    assert_type(blocking.start_workflows(definition, [Order(), {"amount": 2}]), list[str])
    assert_type(blocking.run(definition, Order(), timeout="1m"), WorkflowResult[Order])
    assert_type(blocking.run("orders"), WorkflowResult[Any])
    assert_type(blocking.wait("a", 5, of=definition).data, Order)
    assert_type(blocking.wait("a", until=WorkflowStatus.SUSPENDED), WorkflowResult[Any])
    assert_type(blocking.get_workflow("a"), WorkflowInstance[Any])
    assert_type(blocking.list_workflows(status="failed", limit=5), Page[WorkflowInstance[Any]])
    assert_type(blocking.history("a"), list[LifecycleEvent])
    assert_type(blocking.errors("a"), list[StepError])
    assert_type(blocking.publish_event("paid", "a", {"by": "card"}, id="e"), str)
    assert_type(blocking.suspend_workflow("a", reason="lunch"), bool)
    assert_type(blocking.cancel_workflow("a"), bool)
    assert_type(blocking.definitions(), list[WorkflowDefinition[Any]])
    assert_type(blocking.deregister("orders", 1), bool)
    assert_type(blocking.subscribe(since="start"), Iterator[LifecycleEvent])
    blocking.register(definition)
    blocking.stop(timeout="5s")

assert_type(run_workflow_sync("memory:", definition, Order(), timeout=5), WorkflowResult[Order])
assert_type(run_workflow_sync(host, "orders", {"amount": 1}), WorkflowResult[Any])

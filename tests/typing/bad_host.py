"""Planted mistakes with a host. Each line that a checker must refuse ends with a mark; the others must be accepted."""

from __future__ import annotations

from dataclasses import dataclass

from wfe import StepExecutionContext, WorkflowBuilder, WorkflowHost, run_workflow_sync


@dataclass
class Order:
    amount: float = 0.0


class Other: ...


async def charge(context: StepExecutionContext[Order]) -> None: ...


definition = WorkflowBuilder(Order).then(charge).build("orders")
host = WorkflowHost("memory:")


async def awaits() -> None:
    await host.start_workflow(definition, Other())  # error: other data
    (await host.run(definition)).data.amuont  # error: no such field


blocking = host.sync
blocking.strat()  # error: no such verb
blocking.start_workflow(definition, Other())  # error: other data
blocking.start_workflow("orders", reference=3)  # error: no text
blocking.run(definition).data.amuont  # error: no such field
blocking.run("orders", timeout=[])  # error: no duration
blocking.wait("a", of=definition).data.amuont  # error: no such field
blocking.get_workflow(3)  # error: no id
blocking.get_workflow("a").stauts  # error: no such field
blocking.list_workflows("failed")  # error: by name only
blocking.suspend_workflow()  # error: which one
for event in blocking.subscribe():
    event.knid  # error: no such field
run_workflow_sync("memory:", definition).data.amuont  # error: no such field
run_workflow_sync("memory:", definition, Other())  # error: other data

"""A store with instances in many states, at rest."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from wfe import Retry, StepExecutionContext, WorkflowBuilder, WorkflowHost
from wfe.ports.provider import Provider

__all__ = ["populate"]

Context = StepExecutionContext[dict[str, Any]]


async def _count(context: Context) -> None:
    context.data["count"] = context.data.get("count", 0) + 1


async def _fail(context: Context) -> None:
    msg = "not today"
    raise ValueError(msg)


_CHAIN = WorkflowBuilder().start_with(_count).then(_count).build("chain")
_LOOP = WorkflowBuilder().for_each("items", lambda each: each.wait_for("go", "now")).then(_count).build("loop")
_SLEEPER = WorkflowBuilder().start_with(_count).delay("30d").build("sleeper")
_PARENT = WorkflowBuilder().sub_workflow("sleeper").build("parent")
_RETRYING = WorkflowBuilder().start_with(_fail).on_error(Retry(interval="30d", max_retries=2)).build("retrying")
_FAILING = WorkflowBuilder().start_with(_fail).build("failing")
_TOLD = WorkflowBuilder().wait_for("told", "k").then(_count).build("told")
_LIMITED = WorkflowBuilder().wait_for("never", "k").workflow_timeout("30d").build("limited")


async def populate(place: str | Provider) -> None:
    """Leave an instance of each kind, named for what it does, and some events. Nobody holds any of them."""
    host = WorkflowHost(place, durability="process")
    host.register(_CHAIN, _LOOP, _SLEEPER, _PARENT, _RETRYING, _FAILING, _TOLD, _LIMITED)
    later = datetime.now(UTC) + timedelta(days=30)
    async with host:
        await host.wait(await host.start_workflow("chain", id="done"))
        await host.wait(await host.start_workflow("failing", id="failed"))
        for definition in ("loop", "sleeper", "parent", "retrying", "told", "limited"):
            await host.start_workflow(definition, {"items": [1, 2, 3]}, id=definition)
        await host.start_workflow("sleeper", id="suspended")
        await host.start_workflow("chain", id="later", start_at=later)
        for number in range(3):
            await host.publish_event("news", "k", number)
        await host.publish_event("news", "k", 4, effective_at=later)
        for instance_id in ("loop", "sleeper", "retrying", "told", "limited", "suspended"):
            await _rests(host, instance_id)
        await _rests(host, next(each.id for each in await host.list_workflows() if each.parent_id is not None))
        await host.suspend_workflow("suspended")
    async with WorkflowHost(place, durability="process") as without_code:
        await without_code.publish_event("told", "k", 1)
        await without_code.publish_event("news", "k", 5)


async def _rests(host: WorkflowHost, instance_id: str) -> None:
    async with asyncio.timeout(20):
        while not any(  # noqa: ASYNC110 - what is waited for is in a store
            step.status in {"sleeping", "waiting_for_event"} for step in (await host.get_workflow(instance_id)).steps
        ):
            await asyncio.sleep(0.005)

"""A client that wants a plan carried out, and notes every answer that it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.crash.flows import EVENTS, Planned, initial

if TYPE_CHECKING:
    from tests.crash.ledger import Ledger
    from wfe import WorkflowHost

__all__ = ["carry_out"]


async def carry_out(host: WorkflowHost, plan: Sequence[Planned], ledger: Ledger, *, at_once: bool, limit: float) -> None:
    """Ask for everything in a plan and wait for the ends. Safe to repeat after a crash: all that has an id is idempotent.

    Args:
        at_once: Do not keep to the times of the plan.
        limit: Seconds that each end may take.
    """
    async with asyncio.TaskGroup() as group:
        for planned in plan:
            group.create_task(_drive(host, planned, ledger, 0 if at_once else planned.wait_before, limit))


async def _drive(host: WorkflowHost, planned: Planned, ledger: Ledger, pause: float, limit: float) -> None:
    await asyncio.sleep(pause)
    kind = planned.definition
    instance_id = await host.start_workflow(kind, initial(kind, planned.id or ""), id=planned.id)
    ledger.write("start", instance_id, detail=kind)
    await _ask(host, planned.control, instance_id, ledger)
    if kind == "events":
        for number in range(EVENTS):
            await host.publish_event("news", instance_id, {"number": number}, id=f"{instance_id}:{number}")
            ledger.write("publish", instance_id, detail=number)
    result = await host.wait(instance_id, timeout=limit)
    ledger.write("result", instance_id, detail=[result.status, result.data])


async def _ask(host: WorkflowHost, control: str, instance_id: str, ledger: Ledger) -> None:
    match control:
        case "hold":
            await host.suspend_workflow(instance_id)
            ledger.write("control", instance_id, detail="suspend")
            await host.resume_workflow(instance_id)
            ledger.write("control", instance_id, detail="resume")
        case "cancel":
            await host.cancel_workflow(instance_id)
            ledger.write("control", instance_id, detail="cancel")
        case "terminate":
            await host.terminate_workflow(instance_id)
            ledger.write("control", instance_id, detail="terminate")
        case _:
            return

"""A client that wants a plan carried out, and notes every answer that it was given."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tests.crash.flows import EVENTS, Planned, initial
from wfe import ProviderUnavailable

if TYPE_CHECKING:
    from tests.crash.ledger import Ledger
    from wfe import WorkflowHost

__all__ = ["carry_out"]

_T = TypeVar("_T")
_OUTAGE_SECONDS = 30.0


async def carry_out(
    host: WorkflowHost, plan: Sequence[Planned], ledger: Ledger, *, at_once: bool, limit: float
) -> None:
    """Ask for everything in a plan and wait for the ends. Safe to repeat after a crash: what has an id is idempotent.

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
    data = initial(kind, planned.id or "")
    if planned.id is None:
        # Not asked for again: whether it exists after an answer that was lost, nobody can say.
        with contextlib.suppress(ProviderUnavailable):
            await _await_end(host, await host.start_workflow(kind, data), kind, ledger, limit)
        return
    instance_id = await _persistently(lambda: host.start_workflow(kind, data, id=planned.id))
    ledger.write("start", instance_id, detail=kind)
    for verb in _VERBS[planned.control]:
        await _persistently(partial(getattr(host, f"{verb}_workflow"), instance_id))
        ledger.write("control", instance_id, detail=verb)
    if kind == "events":
        await _publish(host, instance_id, ledger)
    await _await_end(host, instance_id, kind, ledger, limit)


_VERBS = {"": (), "hold": ("suspend", "resume"), "cancel": ("cancel",), "terminate": ("terminate",)}


async def _publish(host: WorkflowHost, instance_id: str, ledger: Ledger) -> None:
    for number in range(EVENTS):
        await _persistently(
            partial(host.publish_event, "news", instance_id, {"number": number}, id=f"{instance_id}:{number}")
        )
        ledger.write("publish", instance_id, detail=number)


async def _await_end(host: WorkflowHost, instance_id: str, kind: str, ledger: Ledger, limit: float) -> None:
    ledger.write("start", instance_id, detail=kind)
    result = await _persistently(lambda: host.wait(instance_id, timeout=limit))
    ledger.write("result", instance_id, detail=[result.status, result.data])


async def _persistently(call: Callable[[], Awaitable[_T]]) -> _T:
    """Ask until there is an answer; what was asked for is idempotent."""
    deadline = time.monotonic() + _OUTAGE_SECONDS
    while True:
        try:
            return await call()
        except ProviderUnavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)

"""Runs CPU-bound bodies in a pool of processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from wfe.model.context import UNTOUCHED, LoopFrame, StepExecutionContext, StepInfo, WorkflowInfo

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from wfe.host.registry import Body

__all__ = ["call_in_process"]


async def call_in_process(
    pool: ProcessPoolExecutor,
    target: Any,  # noqa: ANN401 - a function or an object with `run`
    body: Body,
    context: StepExecutionContext[Any],
    arguments: Mapping[str, object],
) -> object:
    """Call a body in another process, on copies, and bring back its answer and what it changed.

    The body, its data and its answer cross the border between processes, so the body must be importable there.
    """
    function = target.run if body.is_class else target
    frames = [(frame.item, frame.index) for frame in _frames(context)]
    packed = (
        context.data,
        context.workflow,
        (context.step.id, context.step.name, dict(context.step.config)),
        context.pointer_id,
        context.attempt,
        dict(context.values),
        frames,
        context.persistence_data,
        context.event_data,
    )
    loop = asyncio.get_running_loop()
    answer, data, values = await loop.run_in_executor(pool, _call, function, packed, dict(arguments))
    context.data = data
    context.values.clear()
    context.values.update(values)
    return answer


def _frames(context: StepExecutionContext[Any]) -> list[Any]:
    if context.index < 0:
        return []
    import json

    return [LoopFrame(json.dumps(context.item).encode(), context.index), *context.parents]


def _call(
    function: Callable[..., object], packed: tuple[Any, ...], arguments: dict[str, object]
) -> tuple[Any, Any, Any]:
    import json

    data, workflow, step, pointer_id, attempt, values, frames, persisted, event = packed
    info: WorkflowInfo = workflow
    context: StepExecutionContext[Any] = StepExecutionContext(
        load_data=lambda: data,
        load_workflow=lambda: info,
        step=StepInfo(*step),
        pointer_id=pointer_id,
        attempt=attempt,
        persisted=b"" if persisted is None else json.dumps(persisted).encode(),
        event=b"" if event is None else json.dumps(event).encode(),
        load_values=lambda: values,
        load_loops=lambda: [LoopFrame(json.dumps(item).encode(), index) for item, index in frames],
    )
    answer = function(context, **arguments)
    taken = context.taken_data
    return answer, data if taken is UNTOUCHED else taken, values

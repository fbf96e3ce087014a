"""Runs CPU-bound bodies in a pool of processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from wfe.model.context import UNTOUCHED, LoopFrame, StepExecutionContext, StepInfo, WorkflowInfo

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from wfe.host.registry import Body

__all__ = ["Processes", "call_in_process"]

_PR_SET_PDEATHSIG = 1


class Processes:
    """At most so many processes, each with one body at a time: what a body does to its process harms no other body."""

    def __init__(self, limit: int | None) -> None:
        self._room = asyncio.Semaphore(limit or os.cpu_count() or 1)
        self._idle: list[ProcessPoolExecutor] = []
        self._all: set[ProcessPoolExecutor] = set()

    async def call(self, function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - what it gives
        """Call a function in a process that nobody else uses meanwhile.

        One whose body died or was cut off is ended, and another takes its place.
        """
        async with self._room:
            process = self._idle.pop() if self._idle else self._start()
            try:
                answer = await asyncio.get_running_loop().run_in_executor(process, function, *arguments)
            except BaseException:
                # Also after a plain exception: whether the process is still good, only a new one says for certain.
                self._end(process)
                raise
            self._idle.append(process)
            return answer

    def _start(self) -> ProcessPoolExecutor:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        spawn = multiprocessing.get_context("spawn")
        process = ProcessPoolExecutor(1, mp_context=spawn, initializer=_end_with_parent)
        self._all.add(process)
        return process

    def _end(self, process: ProcessPoolExecutor) -> None:
        self._all.discard(process)
        # There is no public way to end one that hangs before Python 3.14.
        workers = list((process._processes or {}).values())  # noqa: SLF001 - as said
        process.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.kill()

    def close(self) -> None:
        """End all processes, whatever they do."""
        for process in list(self._all):
            self._end(process)
        self._idle.clear()


def _end_with_parent() -> None:
    """Let the kernel end this process when its host dies, whichever way."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def call_in_process(
    pool: Processes,
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
    answer, data, values = await pool.call(_call, function, packed, dict(arguments))
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

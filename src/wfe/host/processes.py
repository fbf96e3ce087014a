"""Runs CPU-bound bodies in a pool of processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from wfe.model.context import UNTOUCHED, LoopFrame, StepExecutionContext, StepInfo, WorkflowInfo

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from wfe.host.time_limit import TimeLimit

__all__ = ["Processes", "call_in_process"]

_PR_SET_PDEATHSIG = 1
_LINES = "_wfe_lines"
"""Attribute of an exception that carries what the body had logged."""
_MAX_LINES = 10_000
"""So many lines of a body cross the border, the last ones."""


class Processes:
    """At most so many processes, each with one body at a time: what a body does to its process harms no other body."""

    def __init__(self, limit: int | None) -> None:
        self._room = asyncio.Semaphore(limit or os.cpu_count() or 1)
        self._idle: list[ProcessPoolExecutor] = []
        self._all: set[ProcessPoolExecutor] = set()

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[ProcessPoolExecutor]:
        """Wait for a process that nobody else uses meanwhile.

        One whose body died, raised or was cut off is ended, and another takes its place.
        """
        async with self._room:
            process = self._idle.pop() if self._idle else self._start()
            try:
                yield process
            except BaseException:
                # Also after a plain exception: whether the process is still good, only a new one says for certain.
                self._end(process)
                raise
            self._idle.append(process)

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
    function: Callable[..., object],
    context: StepExecutionContext[Any],
    arguments: Mapping[str, object],
    limit: TimeLimit | None,
) -> object:
    """Call a body in another process, on copies, and bring back its answer, what it changed and what it logged.

    The body, its data and its answer cross the border between processes, so the body must be importable there.
    """
    async with pool.place() as process:
        if limit is not None:
            limit.begin()
        packed = _pack(context)
        loop = asyncio.get_running_loop()
        try:
            answer, data, values, lines = await loop.run_in_executor(process, _call, function, packed, dict(arguments))
        except BaseException as error:
            _log_lines(context, vars(error).pop(_LINES, ()))
            raise
    _log_lines(context, lines)
    context.data = data
    context.values.clear()
    context.values.update(values)
    return answer


def _log_lines(context: StepExecutionContext[Any], lines: Iterable[tuple[str, str]]) -> None:
    for stream, text in lines:
        context.log(text, stream)


def _pack(context: StepExecutionContext[Any]) -> tuple[object, ...]:
    return (
        context.data,
        context.workflow,
        (context.step.id, context.step.name, dict(context.step.config)),
        context.pointer_id,
        context.attempt,
        context.deadline,
        dict(context.values),
        [(frame.item, frame.index) for frame in _frames(context)],
        context.persistence_data,
        context.event_data,
    )


def _frames(context: StepExecutionContext[Any]) -> list[Any]:
    if context.index < 0:
        return []
    return [LoopFrame(json.dumps(context.item).encode(), context.index), *context.parents]


def _call(
    function: Callable[..., object], packed: tuple[Any, ...], arguments: dict[str, object]
) -> tuple[object, object, dict[str, Any], list[tuple[str, str]]]:
    """Call the body, in the process."""
    lines: deque[tuple[str, str]] = deque(maxlen=_MAX_LINES)
    context, data = _unpack(packed, lines)
    try:
        answer = function(context, **arguments)
    except BaseException as error:
        vars(error)[_LINES] = list(lines)
        raise
    taken = context.taken_data
    return answer, data if taken is UNTOUCHED else taken, context.values, list(lines)


def _unpack(packed: tuple[Any, ...], lines: deque[tuple[str, str]]) -> tuple[StepExecutionContext[Any], object]:
    data, workflow, step, pointer_id, attempt, deadline, values, frames, persisted, event = packed
    context: StepExecutionContext[Any] = StepExecutionContext(
        _Sent(data, workflow, values, frames, lines),
        step=StepInfo(*step),
        pointer_id=pointer_id,
        attempt=attempt,
        deadline=deadline,
        persisted=b"" if persisted is None else json.dumps(persisted).encode(),
        event=b"" if event is None else json.dumps(event).encode(),
    )
    return context, data


class _Sent:
    """What was sent into this process with the body."""

    def __init__(
        self,
        data: object,
        workflow: WorkflowInfo,
        values: dict[str, Any],
        frames: list[tuple[object, int]],
        lines: deque[tuple[str, str]],
    ) -> None:
        self._data = data
        self._workflow = workflow
        self._values = values
        self._frames = frames
        self._lines = lines

    def load_data(self) -> object:
        return self._data

    def load_workflow(self) -> WorkflowInfo:
        return self._workflow

    def load_values(self) -> dict[str, Any]:
        return self._values

    def load_loops(self) -> list[LoopFrame]:
        return [LoopFrame(json.dumps(item).encode(), index) for item, index in self._frames]

    def write_log(self, stream: str, text: str) -> None:
        self._lines.append((stream, text))

    def beat(self, details: object) -> None:
        """It is not passed on: who runs the body sees whether its process lives."""

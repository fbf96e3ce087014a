"""The time limit of an attempt: when its clock begins, what its end is called, and that hooks have one too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.faults import process_bodies
from tests.scenarios.faults.conftest import StartHost
from wfe import StepBody, StepExecutionContext, WorkflowBuilder, WorkflowDefinition, WorkflowHost, WorkflowStatus
from wfe.executors.shell import ShellStepExecutor
from wfe.ports.executor import StepRequest

Context = StepExecutionContext[dict[str, Any]]

_LIMIT = 1
_LONGER = WorkflowBuilder().delay(2 * _LIMIT).build("longer")


async def _queue_behind(
    host: WorkflowHost,
    first: WorkflowDefinition[Any],
    begun: Callable[[], Awaitable[object]],
    go_on: Callable[[], object],
) -> list[WorkflowStatus]:
    """Let the steps of `queued` wait for longer than their limit behind the one of `first`."""
    ids = [await host.start_workflow(first)]
    await begun()
    ids.append(await host.start_workflow("queued"))
    await host.run(_LONGER, timeout=20)
    go_on()
    return [(await host.wait(each, timeout=20)).status for each in ids]


async def test_waiting_for_a_thread_does_not_count(start_host: StartHost) -> None:
    """A body that waited for a thread for longer than its time limit has all of its time then."""
    begun, gate = threading.Event(), threading.Event()
    deadlines: list[datetime] = []

    def hold(context: Context) -> None:
        begun.set()
        gate.wait()

    def quick(context: Context) -> None:
        assert context.deadline is not None
        deadlines.append(context.deadline)

    first = WorkflowBuilder().start_with(hold).build("first")
    host = await start_host(
        first, WorkflowBuilder().start_with(quick).timeout(_LIMIT).build("queued"), _LONGER, max_threads=1
    )

    try:
        statuses = await _queue_behind(host, first, lambda: asyncio.to_thread(begun.wait, 10), gate.set)
    finally:
        gate.set()

    assert statuses == [WorkflowStatus.COMPLETE] * 2
    (longer,) = await host.list_workflows(definition_id=_LONGER.id)
    assert longer.ended_at is not None
    assert deadlines[0] > longer.ended_at


async def test_waiting_for_the_turn_of_a_command_does_not_count(start_host: StartHost, tmp_path: Path) -> None:
    """A shell step that waited for its turn for longer than its time limit has all of its time then."""
    begun, go = tmp_path / "begun", tmp_path / "go"
    hold = f"touch {begun}; until [ -e {go} ]; do sleep 0.05; done"
    first = WorkflowBuilder().then("shell").config(run=hold).build("first")
    queued = WorkflowBuilder().then("shell").config(run="true").timeout(_LIMIT).build("queued")
    host = await start_host(cancel_grace=0.1)
    host.register_executor(ShellStepExecutor(max_running=1))
    host.register(first, queued, _LONGER)

    async def has_begun() -> None:
        while not begun.exists():  # noqa: ASYNC110 - what is waited for is a file
            await asyncio.sleep(0.01)

    try:
        statuses = await _queue_behind(host, first, has_begun, go.touch)
    finally:
        go.touch()

    assert statuses == [WorkflowStatus.COMPLETE] * 2


async def test_commands_beyond_the_limit_wait_for_their_turn(start_host: StartHost, tmp_path: Path) -> None:
    """No more commands run at once than the executor allows, and all of them come to run."""
    alone = f"mkdir {tmp_path}/lock && sleep 0.05 && rmdir {tmp_path}/lock"
    definition = WorkflowBuilder().then("shell").config(run=alone).build("alone")
    host = await start_host()
    host.register_executor(ShellStepExecutor(max_running=1))
    host.register(definition)

    ids = await host.start_workflows(definition, [{}] * 5)

    assert {(await host.wait(each, timeout=20)).status for each in ids} == {WorkflowStatus.COMPLETE}


@pytest.mark.slow
async def test_waiting_for_a_process_does_not_count(start_host: StartHost, tmp_path: Path) -> None:
    """A body that waited for a process for longer than its time limit has all of its time then."""
    begun, go = tmp_path / "begun", tmp_path / "go"
    first = WorkflowBuilder().start_with(process_bodies.holds).config(begun=str(begun), go=str(go)).build("first")
    queued = WorkflowBuilder().start_with(process_bodies.fine).timeout(2).build("queued")
    longer = WorkflowBuilder().delay(3).build(_LONGER.id)
    host = await start_host(first, queued, longer, max_processes=1)

    async def has_begun() -> None:
        while not begun.exists():  # noqa: ASYNC110 - what is waited for is a file
            await asyncio.sleep(0.01)

    try:
        ids = [await host.start_workflow(first)]
        await has_begun()
        ids.append(await host.start_workflow(queued))
        await host.run(longer, timeout=20)
    finally:
        go.touch()
    results = [await host.wait(each, timeout=20) for each in ids]

    assert [result.status for result in results] == [WorkflowStatus.COMPLETE] * 2


class _Endless:
    """An executor that does not know of time limits."""

    step_type = "endless"
    max_running = None

    def __init__(self, *, stubborn: bool) -> None:
        self._stubborn = stubborn
        self.gate = asyncio.Event()
        self.was_told = False

    async def execute(self, request: StepRequest) -> Mapping[str, object]:
        while True:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.was_told = request.cancelled.is_set()
                if not self._stubborn:
                    raise
            else:
                return {}


@pytest.mark.parametrize("stubborn", [False, True])
async def test_executor_that_overruns(start_host: StartHost, *, stubborn: bool) -> None:
    """An executor that ignores the time limit is ended a grace later: a StepTimeout with step and limit."""
    executor = _Endless(stubborn=stubborn)
    definition = WorkflowBuilder().then("endless").name("The endless").timeout(0.1).build("w")
    host = await start_host(cancel_grace=0.1)
    host.register_executor(executor)
    host.register(definition)

    try:
        result = await host.run(definition, timeout=10)
    finally:
        executor.gate.set()

    assert result.error is not None
    assert (result.error.code, str(result.error)) == ("step_timeout", "Step 'The endless' timed out after 100ms.")
    assert executor.was_told


async def test_time_out_of_an_executors_own(start_host: StartHost) -> None:
    """A TimeoutError that the executor raises before the limit is a failure like any other."""

    class Impatient:
        step_type = "impatient"
        max_running = None

        async def execute(self, request: StepRequest) -> Mapping[str, object]:
            raise TimeoutError("the printer does not answer")

    definition = WorkflowBuilder().then("impatient").timeout(5).build("w")
    host = await start_host()
    host.register_executor(Impatient())

    result = await host.run(definition, timeout=10)

    assert result.error is not None
    assert (result.error.code, str(result.error)) == ("step_failed", "the printer does not answer")


async def test_messages_of_time_limits_are_readable(start_host: StartHost) -> None:
    """The limits of steps and workflows are told as people write them."""

    async def hang(context: Context) -> None:
        await asyncio.Event().wait()

    step = WorkflowBuilder().start_with(hang).name("Wait").timeout(0.1).build("step")
    whole = WorkflowBuilder().start_with(hang).workflow_timeout(0.2).build("whole")
    host = await start_host(step, whole)

    errors = [(await host.run(each, timeout=10)).error for each in (step, whole)]

    assert list(map(str, errors)) == ["Step 'Wait' timed out after 100ms.", "The workflow timed out after 200ms."]


class _Hooked(StepBody[dict[str, Any]]):
    """A body whose hooks tell on which thread they run."""

    def run(self, context: Context) -> None:
        if context.step.config.get("fails"):
            raise ValueError("broken")

    def on_success(self, context: Context) -> None:
        context.data["thread"] = threading.current_thread().name

    def on_failure(self, context: Context, error: BaseException) -> None:
        raise KeyError(threading.current_thread().name)


async def test_plain_hooks_run_on_threads(start_host: StartHost) -> None:
    """`on_success` and `on_failure` that are no coroutine functions run on a thread of the pool, as plain bodies do."""
    good = WorkflowBuilder().start_with(_Hooked).build("good")
    bad = WorkflowBuilder().start_with(_Hooked).config(fails=True).build("bad")
    host = await start_host(good, bad)

    results = [await host.run(each, timeout=10) for each in (good, bad)]

    assert results[0].data == {"thread": "wfe-body"}
    assert str(results[1].error) == "broken (and on_failure failed: KeyError: 'wfe-body')"


class _HangingHooks(StepBody[dict[str, Any]]):
    gate = threading.Event()

    def run(self, context: Context) -> None:
        if context.step.config.get("fails"):
            raise ValueError("broken")

    def on_success(self, context: Context) -> None:
        self.gate.wait()

    def on_failure(self, context: Context, error: BaseException) -> None:
        if context.step.config.get("fails"):
            self.gate.wait()


async def test_hanging_hooks_end_at_the_time_limit(start_host: StartHost) -> None:
    """A hook has as long as an attempt. One of success that takes longer fails it, one of failure is told beside."""
    good = WorkflowBuilder().start_with(_HangingHooks).name("A").timeout(0.2).build("good")
    bad = WorkflowBuilder().start_with(_HangingHooks).name("A").timeout(0.2).config(fails=True).build("bad")
    host = await start_host(good, bad)

    try:
        errors = [(await host.run(each, timeout=10)).error for each in (good, bad)]
    finally:
        _HangingHooks.gate.set()

    late = "step 'A' timed out after 200ms."
    assert list(map(str, errors)) == [
        f"on_success of {late}",
        f"broken (and on_failure failed: StepTimeout: on_failure of {late})",
    ]


async def test_cancel_reaches_a_hanging_hook(start_host: StartHost) -> None:
    """An instance that is cancelled while a hook hangs ends after the grace."""
    begun, gate = threading.Event(), threading.Event()

    class Hangs(StepBody[dict[str, Any]]):
        def run(self, context: Context) -> None:
            raise ValueError("broken")

        def on_failure(self, context: Context, error: BaseException) -> None:
            begun.set()
            gate.wait()

    definition = WorkflowBuilder().start_with(Hangs).build("w")
    host = await start_host(definition, cancel_grace=0.1)
    instance_id = await host.start_workflow(definition)
    await asyncio.to_thread(begun.wait, 10)

    try:
        assert await host.cancel_workflow(instance_id)
        result = await host.wait(instance_id, timeout=10)
    finally:
        gate.set()

    assert result.status is WorkflowStatus.CANCELLED

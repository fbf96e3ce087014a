"""Bodies that write without end: bounded memory, and nobody else waits."""

from __future__ import annotations

import resource
import threading
import tracemalloc
from typing import Any

from tests.scenarios.faults.conftest import StartHost
from wfe import StepExecutionContext, WorkflowBuilder, WorkflowStatus

Context = StepExecutionContext[dict[str, Any]]

_LINES = 300_000
_LINE = "x" * 200
_ALLOWED_BYTES = 20_000_000
"""A third of what the lines take, so that keeping them would show."""


async def _fine(context: Context) -> None:
    context.data["fine"] = True


async def test_output_in_a_tight_loop(start_host: StartHost) -> None:
    """A body that logs in a tight loop does not make its host keep the lines.

    Other instances go on meanwhile, and each line has reached those who listen.
    """
    heard = 0
    others_done = threading.Event()

    def listen(workflow_id: str, step: str, stream: str, text: str) -> None:
        nonlocal heard
        heard += 1

    def flood(context: Context) -> None:
        for _ in range(_LINES):
            context.log(_LINE)
        others_done.wait(20)

    flooding = WorkflowBuilder().start_with(flood).build("flood")
    fine = WorkflowBuilder().start_with(_fine).build("fine")
    host = await start_host(flooding, fine)
    host.on_log(listen)
    tracemalloc.start()

    instance_id = await host.start_workflow(flooding)
    others = [await host.run(fine, timeout=20) for _ in range(20)]
    others_done.set()
    result = await host.wait(instance_id, timeout=60)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert result.status is WorkflowStatus.COMPLETE
    assert {other.status for other in others} == {WorkflowStatus.COMPLETE}
    assert heard == _LINES
    assert kept < _ALLOWED_BYTES


async def test_one_huge_line(start_host: StartHost) -> None:
    """A line of a hundred megabytes, and text that is none, do not stop the host."""

    def body(context: Context) -> None:
        context.log("y" * 100_000_000)
        context.log("\x00\ud800\x1b[31m")
        context.log(12345)  # type: ignore[arg-type]  # the fault

    definition = WorkflowBuilder().start_with(body).build("huge")
    host = await start_host(definition)

    result = await host.run(definition, timeout=30)

    assert result.status is WorkflowStatus.COMPLETE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4_000_000  # KiB


async def test_listener_that_raises(start_host: StartHost) -> None:
    """A log listener that raises fails nothing: what a body writes is beside what it does."""

    def listen(workflow_id: str, step: str, stream: str, text: str) -> None:
        msg = "the listener is broken"
        raise RuntimeError(msg)

    def body(context: Context) -> None:
        context.log("hello")
        context.data["fine"] = True

    definition = WorkflowBuilder().start_with(body).build("listened")
    host = await start_host(definition)
    host.on_log(listen)

    assert (await host.run(definition, timeout=5)).data == {"fine": True}


async def test_flood_of_error_messages(start_host: StartHost) -> None:
    """A step that fails with megabytes of text a hundred times keeps each record small."""

    async def body(context: Context) -> None:
        raise RuntimeError("z" * 5_000_000)

    definition = WorkflowBuilder().start_with(body).build("loud")
    host = await start_host(definition)

    ids = await host.start_workflows(definition, [{}] * 20)
    ends = [await host.wait(each, timeout=30) for each in ids]

    assert {end.status for end in ends} == {WorkflowStatus.FAILED}
    assert all(len(str(end.error)) < 10_000 for end in ends)
    history = await host.history(ids[0])
    assert sum(len(event.error or "") for event in history) < 50_000

"""Stopping a host: what runs may end and is recorded; what does not end in time is repeated by the next host."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.faults.conftest import StartHost
from wfe import ShuttingDown, StepExecutionContext, WorkflowBuilder, WorkflowStatus, step

Context = StepExecutionContext[dict[str, Any]]

_ROOT = Path(__file__).parents[3]


class _Chain:
    """A definition of three steps whose first one waits for a gate; its begins are counted."""

    def __init__(self) -> None:
        self.begins: list[str] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.definition = (
            WorkflowBuilder().start_with(self._first).id("first").then(self._then).id("then").build("chain")
        )

    async def _first(self, context: Context) -> None:
        self.begins.append("first")
        self.begun.set()
        await self.gate.wait()
        context.data["first"] = len(self.begins)

    async def _then(self, context: Context) -> None:
        self.begins.append("then")
        context.data["then"] = True


async def test_stop_lets_bodies_end(start_host: StartHost) -> None:
    """`stop` waits for running bodies and records what they answered; nothing further begins.

    The next host goes on after them without repeating any.
    """
    chain = _Chain()
    host = await start_host(chain.definition)
    instance_id = await host.start_workflow(chain.definition)
    await chain.begun.wait()

    stopping = asyncio.ensure_future(host.stop(timeout=10))
    await asyncio.sleep(0)
    assert not stopping.done()
    chain.gate.set()
    await asyncio.wait_for(stopping, 10)

    assert chain.begins == ["first"]
    following = await start_host(chain.definition)
    result = await following.wait(instance_id, timeout=10)
    assert result.data == {"first": 1, "then": True}
    assert chain.begins == ["first", "then"]


async def test_stop_cancels_what_does_not_end_in_time(start_host: StartHost) -> None:
    """Bodies that still run at the end of the time are cancelled and not recorded; the next host begins them again."""
    chain = _Chain()
    host = await start_host(chain.definition)
    instance_id = await host.start_workflow(chain.definition)
    await chain.begun.wait()

    await asyncio.wait_for(host.stop(timeout=0.2), 10)

    following = await start_host(chain.definition)
    assert (await following.errors(instance_id)) == []
    chain.gate.set()
    result = await following.wait(instance_id, timeout=10)
    assert (result.status, chain.begins) == (WorkflowStatus.COMPLETE, ["first", "first", "then"])
    assert result.data == {"first": 2, "then": True}


async def test_stop_by_force(start_host: StartHost) -> None:
    """`stop(force=True)` waits for no body; another host repeats them at once."""
    chain = _Chain()
    host = await start_host(chain.definition)
    instance_id = await host.start_workflow(chain.definition)
    await chain.begun.wait()

    await asyncio.wait_for(host.stop(force=True), 5)

    chain.gate.set()
    following = await start_host(chain.definition)
    assert (await following.wait(instance_id, timeout=5)).status is WorkflowStatus.COMPLETE


async def test_stop_does_not_wait_for_deaf_threads(start_host: StartHost) -> None:
    """A body on a thread that does not look at `cancelled` does not keep `stop` beyond its time and the grace."""
    begun, gate = threading.Event(), threading.Event()

    def deaf(context: Context) -> None:
        begun.set()
        gate.wait()

    definition = WorkflowBuilder().start_with(deaf).build("deaf")
    host = await start_host(definition, cancel_grace=0.3)
    await host.start_workflow(definition)
    await asyncio.to_thread(begun.wait, 10)

    try:
        await asyncio.wait_for(host.stop(timeout=0.2), 8)
    finally:
        gate.set()


async def test_waiting_ends_with_the_host(start_host: StartHost) -> None:
    """Who waits for an instance when the host is stopped is told by ShuttingDown instead of waiting for ever."""
    chain = _Chain()
    host = await start_host(chain.definition)
    instance_id = await host.start_workflow(chain.definition)
    await chain.begun.wait()
    waiting = asyncio.ensure_future(host.wait(instance_id))
    await asyncio.sleep(0)

    await host.stop(force=True)

    with pytest.raises(ShuttingDown):
        await asyncio.wait_for(waiting, 5)


async def test_verbs_of_a_stopped_host(start_host: StartHost) -> None:
    """A stopped host refuses everything with ShuttingDown; stopping again does nothing; it can start again."""
    chain = _Chain()
    chain.gate.set()
    host = await start_host(chain.definition)
    await host.stop()
    await host.stop()

    with pytest.raises(ShuttingDown):
        await host.start_workflow(chain.definition)
    await host.start()

    assert (await host.run(chain.definition, timeout=5)).status is WorkflowStatus.COMPLETE


async def test_suspended_and_waiting_survive_a_stop(start_host: StartHost) -> None:
    """What is suspended stays so over a stop, and what waits for an event gets it from the next host."""
    waits = WorkflowBuilder().wait_for("go", "now", output="heard").build("waits")
    host = await start_host(waits)
    waiting = await host.start_workflow(waits)
    suspended = await host.start_workflow(waits)
    assert await host.suspend_workflow(suspended)
    await host.stop()

    following = await start_host(waits)
    await following.publish_event("go", "now", 7)
    assert (await following.wait(waiting, timeout=5)).data == {"heard": 7}
    assert (await following.get_workflow(suspended)).status is WorkflowStatus.SUSPENDED
    assert await following.resume_workflow(suspended)

    assert (await following.wait(suspended, timeout=5)).data == {"heard": 7}


_PROGRAM = """
import asyncio, sys
from wfe import WorkflowBuilder, WorkflowHost, step

@step("long body")
async def body(context):
    print("begun", flush=True)
    await asyncio.sleep(60)

async def main():
    async with WorkflowHost(sys.argv[1]) as host:
        definition = WorkflowBuilder().start_with(body).build("long")
        instance_id = await host.start_workflow(definition, id="long-1")
        await host.wait(instance_id)

asyncio.run(main())
"""


async def test_keyboard_interrupt(start_host: StartHost, database: Path, tmp_path: Path) -> None:
    """Ctrl-C ends a program soon; its instance is not failed, and the next host begins the interrupted body again."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, f"sqlite:///{database}",
        cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 20) == b"begun\n"

    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 10)

    assert process.returncode not in {0, None}
    assert errors.rstrip().endswith(b"KeyboardInterrupt")
    again = asyncio.Event()

    @step("long body")
    async def body(context: Context) -> None:
        again.set()

    definition = WorkflowBuilder().start_with(body).build("long")
    host = await start_host(definition)
    result = await host.wait("long-1", timeout=10)
    assert (result.status, again.is_set()) == (WorkflowStatus.COMPLETE, True)
    assert await host.errors("long-1") == []


_STOPPING = """
import asyncio, sys
from wfe import WorkflowBuilder, WorkflowHost

begun = asyncio.Event()

async def body(context):
    begun.set()
    await asyncio.sleep(60)

async def main():
    async with WorkflowHost(sys.argv[1]) as host:
        await host.start_workflow(WorkflowBuilder().start_with(body).build("long"))
        await begun.wait()
        print("stops", flush=True)

asyncio.run(main())
"""


async def test_keyboard_interrupt_of_a_program_that_stops(database: Path) -> None:
    """Ctrl-C while a host waits for its bodies ends the program soon, and in good order: no session is left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _STOPPING, f"sqlite:///{database}",
        cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 20) == b"stops\n"

    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 10)

    assert errors.rstrip().endswith(b"KeyboardInterrupt")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT id FROM session").fetchall() == []
        assert connection.execute("SELECT id FROM instance WHERE owner IS NOT NULL").fetchall() == []


async def test_what_runs_beside_is_ended_in_order(start_host: StartHost) -> None:
    """A host that stops cancels what it has begun beside its bodies in the order of its beginnings.

    Two runs of one simulated seed end alike only then.
    """
    host = await start_host()
    core = host._life.core()
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    for number in range(50):
        core.background(work(number))
    await asyncio.sleep(0)

    await host.stop(force=True)

    assert ended == list(range(50))

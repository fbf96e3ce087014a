"""Instances whose hosts die again and again before anything is recorded: a growing pause, then quarantine."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.faults.conftest import StartHost, eventually
from wfe import LifecycleEvent, StepExecutionContext, WorkflowBuilder, WorkflowStatus
from wfe.engine.inbox import pack
from wfe.host.trials import QUARANTINE_AFTER
from wfe.model.message import Control, ControlVerb
from wfe.model.status import LifecycleKind
from wfe.ports.store import Batch, InboxInsert, InboxRow
from wfe.providers.sqlite import SQLiteProvider

Context = StepExecutionContext[dict[str, Any]]


def _count_activations(database: Path, instance_id: str, count: int) -> None:
    """Make the store say that so many activations of an instance have ended without a commit."""
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("UPDATE instance SET activations = ? WHERE id = ?", (count, instance_id))
    connection.close()


async def test_message_during_the_pause_runs_nothing_twice(start_host: StartHost, database: Path) -> None:
    """A message that is read while a host pauses before an activation lets the instance go on at once.

    The end of the pause does not begin its bodies a second time.
    """
    begins: asyncio.Queue[str] = asyncio.Queue()
    gate = asyncio.Event()

    async def body(context: Context) -> None:
        begins.put_nowait(context.pointer_id)
        await gate.wait()

    definition = WorkflowBuilder().wait_for("go", "now").then(body).build("waiter")
    first = await start_host(definition)
    instance_id = await first.start_workflow("waiter")
    await first.stop()
    publisher = await start_host()  # has no code for it, so it leaves the event unread
    await publisher.publish_event("go", "now")
    await publisher.stop()
    _count_activations(database, instance_id, 1)

    second = await start_host(definition, sweep_interval=0.05)
    await asyncio.wait_for(begins.get(), 10)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(begins.get(), 1.5)  # longer than the pause before a second activation
    gate.set()
    result = await second.wait(instance_id, timeout=10)
    assert result.status is WorkflowStatus.COMPLETE


async def test_quarantined_instance_begins_nothing(start_host: StartHost, database: Path) -> None:
    """An instance that has ended five activations without a commit is suspended with its reason.

    None of its bodies begins first: that body is what killed its hosts. Resumed, it runs.
    """
    begins: list[str] = []
    begun, gate = asyncio.Event(), asyncio.Event()

    async def body(context: Context) -> None:
        begins.append(context.pointer_id)
        begun.set()
        await gate.wait()

    definition = WorkflowBuilder().start_with(body).build("poison")
    first = await start_host(definition)
    instance_id = await first.start_workflow("poison")
    await asyncio.wait_for(begun.wait(), 10)
    await first.stop(force=True)
    _count_activations(database, instance_id, QUARANTINE_AFTER)

    second = await start_host(definition)
    result = await second.wait(instance_id, timeout=10, until=[WorkflowStatus.SUSPENDED])

    assert result.status is WorkflowStatus.SUSPENDED
    assert len(begins) == 1
    reason = (await second.get_workflow(instance_id)).blocked_reason
    assert reason is not None
    assert "quarantined" in reason
    gate.set()
    assert await second.resume_workflow(instance_id)
    assert (await second.wait(instance_id, timeout=10)).status is WorkflowStatus.COMPLETE


class _Held:
    """An instance whose only body waits for a gate."""

    def __init__(self) -> None:
        self.begun, self.gate = asyncio.Event(), asyncio.Event()
        self.definition = WorkflowBuilder().start_with(self._body).build("held")

    async def _body(self, context: Context) -> None:
        self.begun.set()
        await self.gate.wait()


async def _send(database: Path, instance_id: str, message: Control) -> None:
    """Put a message into an inbox as a host does whose death follows."""
    store = SQLiteProvider(str(database)).store
    await store.open()
    batch = Batch(id="planted", session="dead", inbox=[InboxInsert(instance_id, pack(message))])
    assert (await store.commit(batch)).inbox == [True]
    await store.close()


async def test_message_that_waited_for_the_pause_is_applied_once(start_host: StartHost, database: Path) -> None:
    """A request that was there when a host took the instance is not applied again at the end of its pause."""
    held = _Held()
    first = await start_host(held.definition)
    instance_id = await first.start_workflow(held.definition)
    await asyncio.wait_for(held.begun.wait(), 10)
    await first.stop(force=True)
    await _send(database, instance_id, Control(ControlVerb.SUSPEND, "once"))
    _count_activations(database, instance_id, 1)
    held.gate.set()

    second = await start_host(held.definition, sweep_interval=0.02)
    await eventually(lambda: second.get_workflow(instance_id), lambda one: one.status is WorkflowStatus.SUSPENDED)
    assert await second.resume_workflow(instance_id)

    result = await second.wait(instance_id, timeout=5)
    assert result.status is WorkflowStatus.COMPLETE
    assert _suspensions(await second.history(instance_id)) == 1


async def test_message_read_twice_is_applied_once(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that was read before it was consumed, and comes to hand only afterwards, changes nothing."""
    held = _Held()
    host = await start_host(held.definition)
    instance_id = await host.start_workflow(held.definition)
    await asyncio.wait_for(held.begun.wait(), 10)
    core = host._life.core()
    read = core.store.inbox
    rows: list[InboxRow] = []

    async def remember(ids: Sequence[str]) -> Sequence[InboxRow]:
        found = await read(ids)
        rows.extend(found)
        return found

    monkeypatch.setattr(core.store, "inbox", remember)
    assert await host.suspend_workflow(instance_id)
    assert await host.resume_workflow(instance_id)

    for row in rows:
        core.runners[instance_id].receive(row)
    held.gate.set()

    assert (await host.wait(instance_id, timeout=5)).status is WorkflowStatus.COMPLETE
    assert rows
    assert _suspensions(await host.history(instance_id)) == 1


def _suspensions(history: Sequence[LifecycleEvent]) -> int:
    return sum(event.kind is LifecycleKind.WORKFLOW_SUSPENDED for event in history)

"""What a host does when it has lost its session."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from tests.scenarios.stage import Place, StartHost
from wfe import StepExecutionContext, WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.host.connect import connect
from wfe.host.session import Session


def _fine(context: StepExecutionContext[dict[str, object]]) -> None:
    context.data["fine"] = True


def _lose_session(host: WorkflowHost) -> None:
    membership = host._life._membership
    assert membership is not None
    membership.lost("the test says so")


async def test_work_goes_on_at_once_in_a_new_session(start_host: StartHost) -> None:
    """A host that gave up its session goes on with the same instances in a new one, without waiting for the TTL."""
    begun: asyncio.Queue[str] = asyncio.Queue()
    gate = asyncio.Event()

    async def body(context: StepExecutionContext[dict[str, object]]) -> None:
        begun.put_nowait(context.workflow.id)
        await gate.wait()

    definition = WorkflowBuilder().start_with(body).build("waits")
    host = await start_host(definition, lease_ttl=3600)
    instance = await host.start_workflow(definition)
    first = await asyncio.wait_for(begun.get(), 20)

    _lose_session(host)
    again = await asyncio.wait_for(begun.get(), 20)
    gate.set()
    result = await host.wait(instance, timeout=20)

    assert result.status is WorkflowStatus.COMPLETE
    assert first == again == instance
    assert len(await host._life._lease.alive()) == 1


async def test_session_that_is_lost_while_it_begins(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new session that is lost before the host could use it is replaced by another one; the host does not hang."""
    definition = WorkflowBuilder().start_with(_fine).build("fine")
    host = await start_host(definition)
    lease, look, second = host._life._lease, Session._look_at_time, asyncio.Event()
    begin, begun = lease.begin, 0

    async def begin_and_lose(session: str, *, name: str, ttl: timedelta) -> None:
        nonlocal begun
        begun += 1
        await begin(session, name=name, ttl=ttl)
        if begun == 1:
            # As if the store had taken longer than the TTL to answer.
            monkeypatch.setattr(Session, "_look_at_time", lambda self: self._give_up("the test says so"))
        else:
            monkeypatch.setattr(Session, "_look_at_time", look)
            second.set()

    monkeypatch.setattr(lease, "begin", begin_and_lose)
    _lose_session(host)
    await asyncio.wait_for(second.wait(), 20)
    result = await host.run(definition, timeout=20)

    assert result.status is WorkflowStatus.COMPLETE


async def test_a_start_that_is_cancelled_leaves_no_session(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives up starting a host leaves no session behind that its thread would renew for ever."""
    provider, entered = connect(place()), asyncio.Event()

    async def never_opens(*_: object) -> None:
        entered.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(provider.hints, "open", never_opens)
    before = set(threading.enumerate())
    starting = asyncio.create_task(WorkflowHost(provider).start())
    await asyncio.wait_for(entered.wait(), 20)

    starting.cancel()
    await asyncio.wait([starting])

    left = [each.name for each in set(threading.enumerate()) - before if each.name == "wfe-lease"]
    assert starting.cancelled()
    assert left == []

"""Suspend, resume, cancel and terminate, in every state."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.scenarios.stage import (
    SECONDS,
    Context,
    Gate,
    StartHost,
    ThreadGate,
    eventually,
    failing,
    note,
    put,
    stands,
    steps,
    waits,
)
from wfe import (
    Cancelled,
    Retry,
    Suspend,
    WorkflowBuilder,
    WorkflowHost,
    WorkflowNotFound,
    WorkflowStatus,
)

STATES = ["running", "on a thread", "sleeping", "waiting", "retrying", "suspended", "failed into suspension", "put off"]


class Stand:
    """An instance brought into a state."""

    def __init__(self, host: WorkflowHost, state: str) -> None:
        self.host = host
        self.state = state
        self.gate = Gate(first=True)
        self.thread = ThreadGate("gate", first=True)
        self.trace: list[str] = []
        self.id = ""

    def definition(self) -> Any:
        builder = WorkflowBuilder()
        match self.state:
            case "running" | "suspended":
                builder = builder.start_with(self.gate.body)
            case "on a thread":
                builder = builder.start_with(self.thread.body)
            case "sleeping":
                builder = builder.delay("1h")
            case "waiting":
                builder = builder.wait_for("go", "k")
            case "retrying":
                builder = builder.start_with(failing("broken")).on_error(Retry(interval=3600))
            case "failed into suspension":
                builder = builder.start_with(failing("broken")).on_error(Suspend())
            case _:
                builder = builder.start_with(note("first", self.trace))
        return builder.then(note("after", self.trace)).build("w")

    async def arrive(self) -> None:
        when = datetime.now(UTC) + timedelta(hours=1) if self.state == "put off" else None
        self.id = await self.host.start_workflow(self.definition(), start_at=when)
        if self.state in {"running", "suspended"}:
            await self.gate.entered()
        elif self.state == "on a thread":
            await self.thread.entered()
        elif self.state in {"sleeping", "waiting", "retrying"}:
            await waits(self.host, self.id)
        elif self.state == "failed into suspension":
            await stands(self.host, self.id, WorkflowStatus.SUSPENDED)
        if self.state == "suspended":
            assert await self.host.suspend_workflow(self.id)


@pytest.fixture(params=STATES)
async def stand(request: pytest.FixtureRequest, host: WorkflowHost) -> Stand:
    """An instance in each of the states."""
    found = Stand(host, request.param)
    await found.arrive()
    return found


async def test_cancel_in_every_state(stand: Stand) -> None:
    """Bodies are cancelled, nothing further starts, one end is announced; a second request is False."""
    assert await stand.host.cancel_workflow(stand.id, "enough")

    result = await stand.host.wait(stand.id, timeout=SECONDS)
    history = await stand.host.history(stand.id)

    assert result.status is WorkflowStatus.CANCELLED
    assert stand.trace == []
    assert [str(event.kind) for event in history if "cancelled" in str(event.kind)][-1] == "workflow cancelled"
    assert sum(str(event.kind) in ENDS for event in history) == 1
    assert not await stand.host.cancel_workflow(stand.id)
    assert not await stand.host.terminate_workflow(stand.id)
    assert not await stand.host.suspend_workflow(stand.id)
    assert not await stand.host.resume_workflow(stand.id)
    with pytest.raises(Cancelled):
        result.raise_for_status()
    if stand.state in {"running", "suspended"}:
        assert stand.gate.cancelled == 1
    if stand.state == "on a thread":
        assert await asyncio.to_thread(stand.thread.saw_cancel.wait, SECONDS)


ENDS = {"workflow completed", "workflow failed", "workflow cancelled", "workflow terminated", "workflow compensated"}


async def test_terminate_in_every_state(stand: Stand) -> None:
    """At once; bodies are cancelled, late answers dropped."""
    assert await stand.host.terminate_workflow(stand.id, "now")

    result = await stand.host.wait(stand.id, timeout=SECONDS)
    stand.gate.open()
    stand.thread.open()
    history = await stand.host.history(stand.id)

    assert result.status is WorkflowStatus.TERMINATED
    assert (result.data, stand.trace) == ({}, [])
    assert sum(str(event.kind) in ENDS for event in history) == 1
    assert not await stand.host.terminate_workflow(stand.id)


async def test_suspend_and_resume_in_every_state(stand: Stand) -> None:
    """Nothing begins while suspended; resumed, it goes on where it stood."""
    was_suspended = stand.state in {"suspended", "failed into suspension"}

    assert await stand.host.suspend_workflow(stand.id, "for a while") is not was_suspended
    instance = await stand.host.get_workflow(stand.id)
    assert instance.status is WorkflowStatus.SUSPENDED
    assert not await stand.host.suspend_workflow(stand.id)

    stand.gate.open()
    stand.thread.open()
    await stand.host.publish_event("go", "k")
    assert stand.trace == []
    assert (await stand.host.get_workflow(stand.id)).status is WorkflowStatus.SUSPENDED
    assert await stand.host.resume_workflow(stand.id)
    assert not await stand.host.resume_workflow(stand.id) or stand.state == "failed into suspension"
    if stand.state in {"running", "suspended", "on a thread", "waiting"}:
        result = await stand.host.wait(stand.id, timeout=SECONDS)
        assert result.status is WorkflowStatus.COMPLETE
        assert stand.trace == ["after"]


async def test_suspend_lets_the_running_body_finish_and_be_recorded(host: WorkflowHost) -> None:
    """Its data are there; what follows waits for the resuming, the end too."""
    gate = Gate(first=True)
    trace: list[str] = []
    instance_id = await host.start_workflow(
        WorkflowBuilder().start_with(gate.body).then(note("after", trace)).build("w")
    )
    await gate.entered()
    await host.suspend_workflow(instance_id)
    gate.open()

    async def recorded() -> bool:
        return bool((await host.get_workflow(instance_id)).data == {"first": True})

    await eventually(recorded)
    assert (await host.get_workflow(instance_id)).status is WorkflowStatus.SUSPENDED
    assert trace == []
    await host.resume_workflow(instance_id)
    result = await host.wait(instance_id, timeout=SECONDS)

    assert (result.status, trace) == (WorkflowStatus.COMPLETE, ["after"])


async def test_a_suspended_instance_does_not_end_before_it_is_resumed(host: WorkflowHost) -> None:
    """Its last body is recorded; suspended means suspended."""
    gate = Gate(done=True)
    instance_id = await host.start_workflow(WorkflowBuilder().start_with(gate.body).build("w"))
    await gate.entered()
    await host.suspend_workflow(instance_id)
    gate.open()

    async def recorded() -> bool:
        return bool((await host.get_workflow(instance_id)).data == {"done": True})

    await eventually(recorded)
    assert (await host.get_workflow(instance_id)).status is WorkflowStatus.SUSPENDED
    assert await host.resume_workflow(instance_id)

    assert (await host.wait(instance_id, timeout=SECONDS)).status is WorkflowStatus.COMPLETE


async def test_cancel_gives_bodies_their_grace(start_host: StartHost) -> None:
    """A body that cleans up has `cancel_grace` for it; what it answers in time is recorded."""
    host = await start_host(cancel_grace=SECONDS)
    entered = asyncio.Event()

    async def body(context: Context) -> dict[str, bool]:
        entered.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)
            assert context.cancelled.is_set()
        return {"cleaned": True}

    instance_id = await host.start_workflow(WorkflowBuilder().start_with(body).then(put("never", x=1)).build("w"))
    await entered.wait()
    await host.cancel_workflow(instance_id)
    result = await host.wait(instance_id, timeout=SECONDS)

    assert (result.status, result.data) == (WorkflowStatus.CANCELLED, {"cleaned": True})


async def test_a_body_that_ignores_the_cancel_is_given_up(start_host: StartHost) -> None:
    """After the grace the instance ends without it."""
    host = await start_host(cancel_grace=0.05)
    entered, release = asyncio.Event(), asyncio.Event()

    async def stubborn(context: Context) -> dict[str, bool]:
        entered.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return {"late": True}

    instance_id = await host.start_workflow(WorkflowBuilder().start_with(stubborn).build("w"))
    await entered.wait()
    assert await host.cancel_workflow(instance_id)
    result = await host.wait(instance_id, timeout=SECONDS)
    release.set()

    assert (result.status, result.data) == (WorkflowStatus.CANCELLED, {})


async def test_what_cannot_be_found(host: WorkflowHost) -> None:
    """Every verb names the id."""
    for verb in (host.suspend_workflow, host.resume_workflow, host.cancel_workflow, host.terminate_workflow):
        with pytest.raises(WorkflowNotFound, match="nobody"):
            await verb("nobody")
    for read in (host.get_workflow, host.history, host.errors):
        with pytest.raises(WorkflowNotFound, match="nobody"):
            await read("nobody")
    with pytest.raises(WorkflowNotFound, match="nobody"):
        await host.wait("nobody", timeout=SECONDS)


async def test_requests_reach_an_instance_of_another_host(start_host: StartHost, place: Any) -> None:
    """A held instance is told through its inbox; the call returns when it is applied."""
    gate = Gate()
    definition = WorkflowBuilder().start_with(gate.body).build("w")
    first = await start_host(definition)
    second = await start_host(definition)
    instance_id = await first.start_workflow(definition)
    await gate.entered()

    assert await second.suspend_workflow(instance_id)
    assert (await first.get_workflow(instance_id)).status is WorkflowStatus.SUSPENDED
    assert await second.cancel_workflow(instance_id)

    assert (await first.wait(instance_id, timeout=SECONDS)).status is WorkflowStatus.CANCELLED


async def test_a_request_is_applied_without_the_code(start_host: StartHost) -> None:
    """A host that does not know the definition can suspend, resume and cancel."""
    definition = WorkflowBuilder().wait_for("go", "k").then(note("needs code", [])).build("w")
    first = await start_host(definition)
    instance_id = await first.start_workflow(definition)
    await waits(first, instance_id)
    await first.stop()
    other = await start_host()

    assert await other.suspend_workflow(instance_id)
    assert (await other.get_workflow(instance_id)).status is WorkflowStatus.SUSPENDED
    assert await other.resume_workflow(instance_id)
    assert (await other.get_workflow(instance_id)).status is WorkflowStatus.RUNNABLE
    assert await other.cancel_workflow(instance_id)
    assert (await other.get_workflow(instance_id)).status is WorkflowStatus.CANCELLED


@dataclass(frozen=True)
class _Unread:
    """A request of another host that stands in the inbox of an instance, whose holder does not read it."""

    gate: Gate
    """The body in which the instance is."""
    holder: WorkflowHost
    other: WorkflowHost
    id: str
    asking: asyncio.Task[bool]

    @staticmethod
    async def ask(start_host: StartHost, monkeypatch: pytest.MonkeyPatch, verb: str) -> _Unread:
        gate = Gate()
        definition = WorkflowBuilder().start_with(gate.body).build("w")
        holder, other = await start_host(definition), await start_host()
        instance_id = await holder.start_workflow(definition)
        await gate.entered()
        monkeypatch.setattr(holder._life.core().incoming, "read", lambda _: None)
        store = other._life.core().store

        async def is_asked() -> bool:
            return bool(await store.inbox([instance_id]))

        asking = asyncio.create_task(getattr(other, verb)(instance_id))
        await eventually(is_asked)
        return _Unread(gate, holder, other, instance_id, asking)


async def test_a_request_outlives_the_holder_that_did_not_apply_it(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has asked applies it when the holder has gone, even without the code."""
    unread = await _Unread.ask(start_host, monkeypatch, "terminate_workflow")

    await unread.holder.stop(force=True)

    assert await asyncio.wait_for(unread.asking, SECONDS)
    assert (await unread.other.get_workflow(unread.id)).status is WorkflowStatus.TERMINATED


@pytest.mark.parametrize("verb", ["cancel_workflow", "terminate_workflow"])
async def test_a_request_that_the_end_has_overtaken_says_so(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Who asks for an end while another one is on its way is told that it was that."""
    unread = await _Unread.ask(start_host, monkeypatch, verb)

    unread.gate.open()

    assert await asyncio.wait_for(unread.asking, SECONDS) is False
    assert (await unread.other.wait(unread.id, timeout=SECONDS)).status is WorkflowStatus.COMPLETE


async def test_what_has_ended_is_given_back_as_it_is(host: WorkflowHost) -> None:
    """A request may take an instance that ended while it was on its way: nothing begins, and no end comes again."""
    instance_id = await host.start_workflow(WorkflowBuilder().build("empty"))
    before = await host.history(instance_id)
    core = host._life.core()
    taken = await core.taking.take(1, ids=[instance_id], any_definition=True)

    for loaded in taken.instances:
        core.activate(loaded)

    async def is_free() -> bool:
        row = await core.store.get(instance_id)
        return row is not None and row.owner is None

    await eventually(is_free)
    assert len(taken.instances) == 1
    assert await host.history(instance_id) == before


async def test_the_lifecycle_of_control_is_announced(host: WorkflowHost) -> None:
    """In order, with the reason."""
    definition = WorkflowBuilder().delay("1h").build("w")
    instance_id = await host.start_workflow(definition)
    await host.suspend_workflow(instance_id, "lunch")
    await host.resume_workflow(instance_id)
    await host.cancel_workflow(instance_id, "enough")

    history = await host.history(instance_id)

    assert [str(event.kind) for event in history] == [
        "workflow started",
        "step sleeping",
        "workflow suspended",
        "workflow resumed",
        "step cancelled",
        "workflow cancelled",
    ]
    assert [event.detail for event in history if event.detail] == ["lunch", "enough"]
    assert steps(history, "cancelled") == ["delay"]


async def test_requests_and_answers_racing_end_once(host: WorkflowHost) -> None:
    """50 instances cancelled while they run: each ends once, COMPLETE or CANCELLED."""
    definition = WorkflowBuilder()
    for number in range(10):
        definition = definition.then(put(f"s{number}", **{f"f{number}": 1}))
    plan = definition.build("w")
    ids = await host.start_workflows(plan, [{} for _ in range(50)])

    answers = await asyncio.gather(*(host.cancel_workflow(each) for each in ids))
    results = [await host.wait(each, timeout=SECONDS) for each in ids]

    for answer, result in zip(answers, results, strict=True):
        assert result.status is (WorkflowStatus.CANCELLED if answer else WorkflowStatus.COMPLETE)
        history = await host.history(result.id)
        assert sum(str(event.kind) in ENDS for event in history) == 1

"""Sub-workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Context, Gate, StartHost, eventually, failing, note, put, stands, waits
from wfe import ChildWorkflowFailed, Continue, Retry, WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.engine.inbox import pack
from wfe.model.errors import ProviderUnavailable
from wfe.model.message import Control, ControlVerb
from wfe.ports.store import Batch, InboxInsert


async def children(host: WorkflowHost, parent: str) -> list[Any]:
    return [each for each in await host.list_workflows() if each.parent_id == parent]


async def test_a_parent_waits_for_its_child(host: WorkflowHost) -> None:
    """Inputs by mapping; outputs merge into the parent's data."""

    async def double(context: Context) -> None:
        context.data["result"] = context.data["n"] * 2

    child = WorkflowBuilder().start_with(double).delay(0.01).build("child")
    parent = (
        WorkflowBuilder()
        .sub_workflow("child", inputs={"n": lambda data: data["x"] + 1}, outputs={"y": "result"})
        .then(put("after", after=True))
        .build("parent")
    )
    host.register(child, parent)

    result = await host.run("parent", {"x": 4}, timeout=SECONDS)

    assert result.data == {"x": 4, "y": 10, "after": True}
    (found,) = await children(host, result.id)
    assert (found.definition_id, found.status, found.data) == ("child", WorkflowStatus.COMPLETE, {"n": 5, "result": 10})
    assert found.id.startswith(result.id)


async def test_without_inputs_the_child_gets_a_copy(host: WorkflowHost) -> None:
    """Of the parent's data; what the child changes stays its own."""
    child = WorkflowBuilder().start_with(put("change", x="child's")).build("child")
    parent = WorkflowBuilder().sub_workflow(child, outputs=lambda data: {"seen": data["x"]}).build("parent")
    host.register(child, parent)

    result = await host.run("parent", {"x": "parent's"}, timeout=SECONDS)

    assert result.data == {"x": "parent's", "seen": "child's"}


async def test_a_failed_child_fails_the_step(host: WorkflowHost) -> None:
    """`ChildWorkflowFailed` goes to the step's rule; one error in the parent, the child's own in the child."""
    child = WorkflowBuilder().start_with(failing("broken")).build("child")
    parent = WorkflowBuilder().sub_workflow("child").build("parent")
    host.register(child, parent)

    result = await host.run("parent", timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    with pytest.raises(ChildWorkflowFailed, match="broken 1"):
        result.raise_for_status()
    assert len(await host.errors(result.id)) == 1
    (found,) = await children(host, result.id)
    assert len(await host.errors(found.id)) == 1


@pytest.mark.parametrize("verb", ["cancel_workflow", "terminate_workflow"])
async def test_a_child_that_is_ended_fails_the_step(host: WorkflowHost, verb: str) -> None:
    """Cancelled or terminated by somebody: as failed."""
    child = WorkflowBuilder().wait_for("never", "k").build("child")
    parent = WorkflowBuilder().sub_workflow("child").on_error(Continue()).then(put("after", after=True)).build("parent")
    host.register(child, parent)
    instance_id = await host.start_workflow("parent")

    async def begun() -> bool:
        return bool(await children(host, instance_id))

    await eventually(begun)
    await getattr(host, verb)((await children(host, instance_id))[0].id)
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.data == {"after": True}


async def test_a_retried_step_starts_another_child(host: WorkflowHost) -> None:
    """The second attempt has a child of its own."""
    attempts: list[str] = []

    async def flaky(context: Context) -> None:
        attempts.append(context.workflow.id)
        if len(attempts) == 1:
            raise ValueError("broken")

    child = WorkflowBuilder().start_with(flaky).build("child")
    parent = WorkflowBuilder().sub_workflow("child").on_error(Retry(interval=0.01)).build("parent")
    host.register(child, parent)

    result = await host.run("parent", timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    assert len(set(attempts)) == 2


@pytest.mark.parametrize("verb", ["cancel_workflow", "terminate_workflow"])
async def test_ending_the_parent_cancels_its_children(host: WorkflowHost, verb: str) -> None:
    """Those with `cancel`, their children too; one that was to be left alone goes on."""
    gate = Gate()
    grandchild = WorkflowBuilder().start_with(gate.body).build("grandchild")
    child = WorkflowBuilder().sub_workflow("grandchild").build("child")
    other = WorkflowBuilder().wait_for("go", "k").build("other")
    parent = (
        WorkflowBuilder()
        .parallel(lambda b: b.sub_workflow("child"), lambda b: b.sub_workflow("other", on_parent_end="abandon"))
        .build("parent")
    )
    host.register(grandchild, child, other, parent)
    instance_id = await host.start_workflow("parent")
    await gate.entered()
    found = {each.definition_id: each.id for each in await host.list_workflows()}
    await waits(host, found["other"])

    assert await getattr(host, verb)(instance_id)

    for name in ("child", "grandchild"):
        assert (await host.wait(found[name], timeout=SECONDS)).status is WorkflowStatus.CANCELLED
    assert gate.cancelled == 1
    assert (await host.get_workflow(found["other"])).status is WorkflowStatus.RUNNABLE
    await host.publish_event("go", "k")
    assert (await host.wait(found["other"], timeout=SECONDS)).status is WorkflowStatus.COMPLETE


async def test_a_child_that_ends_while_its_parent_is_suspended(host: WorkflowHost) -> None:
    """Its end is kept; the parent goes on with it when it is resumed, without another child."""
    child = WorkflowBuilder().wait_for("go", "k").then(put("c", result=5)).build("child")
    parent = WorkflowBuilder().sub_workflow("child", outputs={"got": "result"}).build("parent")
    host.register(child, parent)
    instance_id = await host.start_workflow("parent")
    await waits(host, instance_id)
    assert await host.suspend_workflow(instance_id)

    async def child_waits() -> bool:
        found = await children(host, instance_id)
        return bool(found) and any(
            str(s.status) == "waiting_for_event" for s in (await host.get_workflow(found[0].id)).steps
        )

    await eventually(child_waits)
    await host.publish_event("go", "k")
    await host.wait((await children(host, instance_id))[0].id, timeout=SECONDS)
    assert (await host.get_workflow(instance_id)).status is WorkflowStatus.SUSPENDED
    assert await host.resume_workflow(instance_id)
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.data == {"got": 5}
    assert len(await children(host, instance_id)) == 1


async def test_a_child_that_takes_too_long(host: WorkflowHost) -> None:
    """The step's timeout fails it, and the child is cancelled."""
    child = WorkflowBuilder().wait_for("never", "k").build("child")
    parent = (
        WorkflowBuilder()
        .sub_workflow("child")
        .timeout(0.1)
        .on_error(Continue())
        .then(put("after", x=1))
        .build("parent")
    )
    host.register(child, parent)

    result = await host.run("parent", timeout=SECONDS)

    assert result.data == {"x": 1}
    assert [error.code for error in await host.errors(result.id)] == ["step_timeout"]
    (found,) = await children(host, result.id)
    assert (await host.wait(found.id, timeout=SECONDS)).status is WorkflowStatus.CANCELLED


async def blocked_by(host: WorkflowHost, instance_id: str, cause: str) -> None:
    """Wait until the instance shows that it is blocked by something."""

    async def so() -> bool:
        instance = await host.get_workflow(instance_id)
        assert instance.status is WorkflowStatus.RUNNABLE
        return cause in (instance.blocked_reason or "")

    await eventually(so)


@pytest.mark.parametrize("version", [None, 2])
async def test_a_child_of_an_unknown_definition_blocks_visibly(host: WorkflowHost, version: int | None) -> None:
    """The parent waits with its reason, and goes on when the child's definition is registered, in the right version."""
    parent = WorkflowBuilder().sub_workflow("late", version=version, outputs={"got": "result"}).build("parent")
    if version is not None:
        host.register(WorkflowBuilder().start_with(put("old", result="old")).build("late"))
    instance_id = await host.start_workflow(parent)

    await blocked_by(host, instance_id, "definition 'late'" if version is None else "definition 'late' version 2")
    host.register(WorkflowBuilder().start_with(put("new", result="new")).build("late", version=2))
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.data == {"got": "new"}


async def test_a_child_that_is_deregistered_blocks_the_parent_that_reaches_it(host: WorkflowHost) -> None:
    """What ran before it is recorded and not repeated; `when` is asked once."""
    asked: list[bool] = []
    gate = Gate(before=True)

    def wanted(data: dict[str, bool]) -> bool:
        asked.append(data["before"])
        return True

    child = WorkflowBuilder().start_with(put("c", result=5)).build("child")
    parent = (
        WorkflowBuilder()
        .start_with(gate.body)
        .sub_workflow("child", outputs={"got": "result"})
        .when(wanted)
        .build("parent")
    )
    host.register(child, parent)
    instance_id = await host.start_workflow("parent")
    await gate.entered()
    host.deregister("child", 1)
    gate.open()

    await blocked_by(host, instance_id, "definition 'child'")
    host.register(child)
    result = await host.wait(instance_id, timeout=SECONDS)

    assert (result.data, gate.runs, asked) == ({"before": True, "got": 5}, 1, [True])


async def test_a_branch_goes_on_when_its_child_is_registered_while_others_run(host: WorkflowHost) -> None:
    """Also where the parent is held all the time."""
    running, before = Gate("running"), Gate("before")
    child = WorkflowBuilder().start_with(put("c", result=5)).build("child")
    parent = (
        WorkflowBuilder()
        .parallel(running.body, lambda b: b.start_with(before.body).sub_workflow("child", outputs={"got": "result"}))
        .build("parent")
    )
    host.register(child, parent)
    instance_id = await host.start_workflow("parent")
    await running.entered()
    await before.entered()
    host.deregister("child", 1)
    before.open()

    async def pending() -> bool:
        return any(str(each.status) == "pending" for each in (await host.get_workflow(instance_id)).steps)

    async def has_ended() -> bool:
        return [each.status for each in await children(host, instance_id)] == [WorkflowStatus.COMPLETE]

    await eventually(pending)
    host.register(child)
    await eventually(has_ended)
    running.open()

    assert (await host.wait(instance_id, timeout=SECONDS)).data == {"got": 5}


async def test_inputs_that_do_not_fit_fail_the_step(host: WorkflowHost) -> None:
    """Checked against the child's data class."""
    from dataclasses import dataclass

    @dataclass
    class Data:
        n: int = 0

    child = WorkflowBuilder(Data).start_with(note("never", [])).build("child")
    parent = WorkflowBuilder().sub_workflow("child", inputs={"n": "text"}).build("parent")
    host.register(child, parent)

    result = await host.run("parent", timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert result.error.code == "data_error"


async def test_many_children(host: WorkflowHost) -> None:
    """One per item of a loop, each with its own id and data."""

    async def double(context: Context) -> None:
        context.data["result"] = context.data["n"] * 2

    async def keep(context: Context) -> None:
        context.data[f"r{context.index}"] = True

    child = WorkflowBuilder().start_with(double).build("child")
    parent = (
        WorkflowBuilder()
        .for_each(
            list(range(50)),
            lambda b: b.sub_workflow(
                "child",
                inputs=lambda data, context: {"n": context.item},
                outputs=lambda data: {f"y{data['n']}": data["result"]},
            ),
        )
        .build("parent")
    )
    host.register(child, parent)

    result = await host.run("parent", timeout=SECONDS)

    assert result.data == {f"y{n}": n * 2 for n in range(50)}


async def test_a_child_survives_a_restart(start_host: StartHost) -> None:
    """Parent and child go on on the next host; the child is started once."""
    child = WorkflowBuilder().wait_for("go", "k").then(put("c", result=5)).build("child")
    parent = WorkflowBuilder().sub_workflow("child", outputs={"got": "result"}).build("parent")
    first = await start_host(child, parent)
    instance_id = await first.start_workflow("parent")
    await waits(first, instance_id)
    await first.stop()

    second = await start_host(child, parent)
    await second.publish_event("go", "k")
    result = await second.wait(instance_id, timeout=SECONDS)

    assert result.data == {"got": 5}
    assert len(await children(second, instance_id)) == 1


async def test_a_cancelled_parent_whose_child_has_not_begun(host: WorkflowHost) -> None:
    """A child that nobody can run yet is cancelled all the same."""
    child = WorkflowBuilder().start_with("missing-type").build("child")
    parent = WorkflowBuilder().sub_workflow("child").build("parent")
    host.register(child, parent)
    instance_id = await host.start_workflow("parent")
    await waits(host, instance_id)

    assert await host.cancel_workflow(instance_id)
    (found,) = await children(host, instance_id)

    async with asyncio.timeout(2):
        await stands(host, found.id, WorkflowStatus.CANCELLED)


class _Orphans:
    """A child that waits, and whose definition is taken away before its parent is cancelled."""

    def __init__(self, host: WorkflowHost) -> None:
        self.host = host
        self.child = WorkflowBuilder().wait_for("go", "k").then(put("after", after=True)).build("child")
        parent = WorkflowBuilder().parallel(
            lambda b: b.sub_workflow("child"), lambda b: b.start_with(Gate().body).id("stays held")
        )
        host.register(self.child, parent.build("parent"))

    async def start(self) -> tuple[str, str]:
        parent_id = await self.host.start_workflow("parent")

        async def has_child() -> bool:
            return bool(await children(self.host, parent_id))

        await eventually(has_child)
        (child,) = await children(self.host, parent_id)
        await waits(self.host, child.id)
        return parent_id, child.id

    async def lose_code(self) -> None:
        """Take the definition of the child away."""
        assert self.host.deregister("child", 1)

    async def is_cancelled(self, child_id: str) -> None:
        async def look() -> bool:
            return (await self.host.get_workflow(child_id)).status is WorkflowStatus.CANCELLED

        await eventually(look)


async def test_a_cancel_without_code_outlives_a_failing_store(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is away for the moment in which a child, whose code is gone, was to be taken for its cancel."""
    host = await start_host()
    orphans = _Orphans(host)
    parent_id, child_id = await orphans.start()
    await orphans.lose_code()
    store, failed = host._life.core().store, list[str]()
    claim = store.claim

    async def fails_once(*args: Any, **named: Any) -> Any:
        if named.get("any_definition") and child_id in named["ids"] and not failed:
            failed.append(child_id)
            raise ProviderUnavailable("away for a moment")
        return await claim(*args, **named)

    monkeypatch.setattr(store, "claim", fails_once)
    await host.cancel_workflow(parent_id)

    await orphans.is_cancelled(child_id)
    assert failed


async def test_a_cancel_meets_a_child_that_is_being_given_back(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is applied when the child, whose code is gone, has been given back."""
    host = await start_host(sweep_interval=3600)
    orphans = _Orphans(host)
    parent_id, child_id = await orphans.start()
    core = host._life.core()
    release, gate = core.store.release, asyncio.Event()

    async def slow(session: str, holds: Sequence[tuple[str, int]]) -> None:
        if any(instance_id == child_id for instance_id, _ in holds):
            await gate.wait()
        await release(session, holds)

    monkeypatch.setattr(core.store, "release", slow)
    await orphans.lose_code()
    await host.cancel_workflow(parent_id)
    gate.set()

    await orphans.is_cancelled(child_id)


async def test_a_cancel_that_nobody_was_told_of_is_found(start_host: StartHost) -> None:
    """The host that has cancelled the parent died before it could see to the child: a sweep does, without the code."""
    first = await start_host()
    orphans = _Orphans(first)
    _, child_id = await orphans.start()
    orphans.host = blind = await start_host()
    await first.stop(timeout=0)
    core = blind._life.core()
    cancel = InboxInsert(child_id, pack(Control(ControlVerb.CANCEL, "its parent was cancelled")))

    await core.store.commit(Batch(id="of the dead", session=core.session_id, inbox=[cancel]))

    await orphans.is_cancelled(child_id)

"""Steps that count crashes: the death of the host in the middle of an attempt is a failure of the attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Context, Gate, StartHost, eventually
from wfe import (
    Fixed,
    HostDied,
    RetryPolicy,
    StepBody,
    WorkflowBuilder,
    WorkflowDefinition,
    WorkflowHost,
    WorkflowStatus,
    step,
)
from wfe.model.message import Control, ControlVerb
from wfe.ports.store import Batch, CommitReply


def _flow(
    body: Callable[[Context], Any], *, attempts: int = 3, retryable: Callable[[BaseException], bool] | None = None
) -> WorkflowDefinition[Any]:
    policy = RetryPolicy(attempts, Fixed(0), retryable=retryable)
    return WorkflowBuilder().then(body).id("pay").retry(policy).count_crashes().build("flow")


class _Attempts:
    """A body whose first attempt waits to be cut off; it notes its attempts."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.begun: list[tuple[int, str]] = []

    async def body(self, context: Context) -> None:
        self.begun.append((context.attempt, context.idempotency_key))
        if len(self.begun) == 1:
            await self.gate.body(context)


async def _die(host: WorkflowHost) -> None:
    """End a host as its death would: it writes nothing more of what it was at."""
    await host.stop(force=True)


async def _die_in(gate: Gate, start_host: StartHost, definition: WorkflowDefinition[Any]) -> tuple[WorkflowHost, str]:
    """Start an instance, and end its host when its body has come to the gate; give a second host, and its id."""
    first = await start_host(definition)
    instance_id = await first.start_workflow("flow", {})
    await gate.entered()
    await _die(first)
    return await start_host(definition), instance_id


async def test_a_crash_is_a_failed_attempt(start_host: StartHost) -> None:
    """The next attempt has the next number and the same key; the errors tell of the host that died."""
    attempts = _Attempts()
    definition = _flow(attempts.body)

    second, instance_id = await _die_in(attempts.gate, start_host, definition)

    result = await second.wait(instance_id, timeout=20)
    assert result.status is WorkflowStatus.COMPLETE
    assert [number for number, _ in attempts.begun] == [1, 2]
    assert len({key for _, key in attempts.begun}) == 1
    (error,) = await second.errors(instance_id)
    assert (error.code, error.attempt, error.step) == ("host_died", 1, "pay")
    assert "its host died" in error.message


async def test_crashes_use_the_attempts_up(start_host: StartHost) -> None:
    """When no attempt is left, the step has failed; the body does not begin again."""
    attempts = _Attempts()
    definition = _flow(attempts.body, attempts=1)

    second, instance_id = await _die_in(attempts.gate, start_host, definition)

    result = await second.wait(instance_id, timeout=20)
    assert (result.status, len(attempts.begun)) == (WorkflowStatus.FAILED, 1)
    with pytest.raises(HostDied):
        result.raise_for_status()


async def test_other_steps_are_repeated(start_host: StartHost) -> None:
    """Where crashes are not counted, the attempt that was cut off is begun again, as the same one."""
    attempts = _Attempts()
    definition = WorkflowBuilder().then(attempts.body).retry(RetryPolicy(1)).build("flow")

    second, instance_id = await _die_in(attempts.gate, start_host, definition)

    result = await second.wait(instance_id, timeout=20)
    assert result.status is WorkflowStatus.COMPLETE
    assert [number for number, _ in attempts.begun] == [1, 1]


async def test_an_orderly_stop_is_no_crash(start_host: StartHost) -> None:
    """A body that did not end in the time of a stop is cut off, and begun again as the same attempt."""
    attempts = _Attempts()
    definition = _flow(attempts.body, attempts=1)
    first = await start_host(definition)
    instance_id = await first.start_workflow("flow", {})
    await attempts.gate.entered()

    await first.stop(timeout=0)

    result = await (await start_host(definition)).wait(instance_id, timeout=20)
    assert result.status is WorkflowStatus.COMPLETE
    assert [number for number, _ in attempts.begun] == [1, 1]


async def test_what_waits_for_room_has_not_begun(start_host: StartHost) -> None:
    """A crash counts for the bodies that had begun, not for those that waited until there was room."""
    gate = Gate()
    attempts: list[tuple[int, int]] = []

    async def body(context: Context) -> None:
        attempts.append((context.index, context.attempt))
        if len(attempts) == 1:
            await gate.body(context)

    definition = (
        WorkflowBuilder()
        .for_each("items", lambda each: each.then(body).retry(RetryPolicy(2, Fixed(0))).count_crashes())
        .build("flow")
    )
    first = await start_host(definition, max_concurrency=1)
    instance_id = await first.start_workflow("flow", {"items": [1, 2]})
    await gate.entered()
    begun = attempts[0][0]

    await _die(first)

    await (await start_host(definition)).wait(instance_id, timeout=20)
    assert sorted(attempts[1:]) == sorted([(begun, 2), (1 - begun, 1)])


async def test_the_rule_is_asked_about_crashes(start_host: StartHost) -> None:
    """`retryable` of the policy decides whether the death of a host is worth another attempt."""
    asked: list[BaseException] = []

    def retryable(error: BaseException) -> bool:
        asked.append(error)
        return False

    attempts = _Attempts()
    definition = _flow(attempts.body, retryable=retryable)

    second, instance_id = await _die_in(attempts.gate, start_host, definition)

    result = await second.wait(instance_id, timeout=20)
    assert (result.status, len(attempts.begun)) == (WorkflowStatus.FAILED, 1)
    assert [type(error) for error in asked] == [HostDied]


async def test_hooks_of_a_body_learn_of_crashes(start_host: StartHost) -> None:
    """`on_failure` and `is_retryable` of a body class are called as for any other failure."""
    gate = Gate()
    told: list[tuple[str, int]] = []

    @step("pay", count_crashes=True)
    class _Pay(StepBody[dict[str, Any]]):
        async def run(self, context: Context) -> None:
            await gate.body(context)

        async def on_failure(self, context: Context, error: BaseException) -> None:
            told.append((type(error).__name__, context.attempt))

        def is_retryable(self, error: BaseException) -> bool:
            return not isinstance(error, HostDied)

    definition = WorkflowBuilder().then(_Pay).retry(RetryPolicy(3, Fixed(0))).build("flow")

    second, instance_id = await _die_in(gate, start_host, definition)

    result = await second.wait(instance_id, timeout=20)
    assert (result.status, gate.runs) == (WorkflowStatus.FAILED, 1)
    assert told == [("HostDied", 1)]


async def test_a_crash_while_suspended_counts_when_resumed(start_host: StartHost) -> None:
    """The host of a suspended instance dies in the middle of a body: that counts once it is resumed."""
    attempts = _Attempts()
    definition = _flow(attempts.body)
    first = await start_host(definition)
    instance_id = await first.start_workflow("flow", {})
    await attempts.gate.entered()
    assert await first.suspend_workflow(instance_id)
    await _die(first)

    second = await start_host(definition)
    assert await second.resume_workflow(instance_id)

    result = await second.wait(instance_id, timeout=20)
    assert result.status is WorkflowStatus.COMPLETE
    assert [number for number, _ in attempts.begun] == [1, 2]


async def test_a_result_is_no_crash(start_host: StartHost) -> None:
    """A body that answered before its host died has its result: the step is done, and fails nothing."""
    gate = Gate()
    seen: list[int] = []

    async def pay(context: Context) -> None:
        seen.append(context.attempt)

    definition = WorkflowBuilder().then(pay).id("pay").count_crashes().then(gate.body).id("gate").build("flow")

    second, instance_id = await _die_in(gate, start_host, definition)

    gate.open()
    result = await second.wait(instance_id, timeout=20)
    assert (result.status, seen) == (WorkflowStatus.COMPLETE, [1])
    assert await second.errors(instance_id) == []


async def test_only_steps_that_ask_for_it_cost_a_commit(start_host: StartHost) -> None:
    """Recording a beginning is one batch more for the step that counts crashes, and none for others."""

    async def work(context: Context) -> None:
        pass

    def flow(name: str, *, counts: bool) -> WorkflowDefinition[Any]:
        builder = WorkflowBuilder().then(work).id("one").then(work).id("two")
        return (builder.count_crashes() if counts else builder).build(name)

    plain, counted = flow("plain", counts=False), flow("counted", counts=True)
    host = await start_host(plain, counted)
    core = host._running()
    used: list[int] = []
    for definition in (plain, counted):
        before = core.committer.batches
        await host.run(definition, {}, timeout=20)
        used.append(core.committer.batches - before)

    assert used[1] == used[0] + 1


async def test_a_suspension_that_is_over_holds_no_beginning_back(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that asks to begin between a suspend and a resume, all read by one decision, begins after them."""
    attempts, other = _Attempts(), Gate()
    attempts.gate.open()
    host = await start_host(max_concurrency=1)
    await host.start_workflow(WorkflowBuilder().then(other.body).build("other"))
    await other.entered()
    instance_id = await host.start_workflow(_flow(attempts.body))  # it waits for room
    core, gate = host._life.core(), asyncio.Event()
    runner, commit = core.runners[instance_id], core.store.commit

    async def slow(batch: Batch) -> CommitReply:
        await gate.wait()
        return await commit(batch)

    monkeypatch.setattr(core.store, "commit", slow)
    runner.prove_harmless()  # a transition is under way while the three messages gather
    await eventually(_is(lambda: runner.committing))
    runner.deliver(Control(ControlVerb.SUSPEND, "for a moment"))
    other.open()
    await eventually(_is(lambda: bool(runner.beginning)))
    runner.deliver(Control(ControlVerb.RESUME, ""))
    gate.set()

    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    assert [number for number, _ in attempts.begun] == [1]


def _is(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return condition()

    return look

"""Timers and events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Context, Gate, StartHost, eventually, note, put, steps, waits
from wfe import (
    Continue,
    DataError,
    EventTimeout,
    ExecutionResult,
    Limits,
    Retry,
    StartConflict,
    WorkflowBuilder,
    WorkflowHost,
    WorkflowStatus,
    ref,
)


@pytest.mark.parametrize("duration", [0.05, timedelta(milliseconds=50), "50ms", lambda data: 0.05, 0])
async def test_a_delay_pauses(host: WorkflowHost, duration: Any) -> None:
    """Not shorter than asked for."""
    definition = WorkflowBuilder().delay(duration).then(put("after", after=True)).build("w")

    before = datetime.now(UTC)
    result = await host.run(definition, timeout=SECONDS)

    assert result.data == {"after": True}
    if duration:
        assert datetime.now(UTC) - before >= timedelta(milliseconds=50)


async def test_a_delay_until(host: WorkflowHost) -> None:
    """An aware datetime, from a callable; one that has passed is over at once."""
    definition = (
        WorkflowBuilder()
        .delay(datetime(2001, 1, 1, tzinfo=UTC))
        .delay(lambda data: datetime.now(UTC) + timedelta(milliseconds=30))
        .then(put("after", after=True))
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)

    assert result.data == {"after": True}


async def test_a_sleeping_instance_shows_its_wake_time(host: WorkflowHost) -> None:
    """It is a row: RUNNABLE, with the time at which it goes on."""
    definition = WorkflowBuilder().delay("1h").build("w")
    instance_id = await host.start_workflow(definition)

    instance = await host.get_workflow(instance_id)

    assert instance.status is WorkflowStatus.RUNNABLE
    assert instance.next_wake is not None
    assert timedelta(minutes=59) < instance.next_wake - datetime.now(UTC) <= timedelta(hours=1)
    assert [str(state.status) for state in instance.steps] == ["sleeping"]


async def test_sleep_persist_and_sleep_until_run_the_body_again(host: WorkflowHost) -> None:
    """With what it persisted; data that it changed are merged each time; the attempt stays."""
    seen: list[Any] = []

    async def body(context: Context) -> ExecutionResult:
        stage = context.persistence_data or 0
        seen.append((stage, context.attempt, context.idempotency_key))
        context.data[f"stage{stage}"] = True
        if stage == 0:
            return ExecutionResult.sleep(0.01, 1)
        if stage == 1:
            return ExecutionResult.persist(2, poll=0.01)
        if stage == 2:
            return ExecutionResult.sleep_until(datetime.now(UTC) + timedelta(milliseconds=10), 3)
        return ExecutionResult.next()

    result = await host.run(WorkflowBuilder().start_with(body).build("w"), timeout=SECONDS)

    assert [(stage, attempt) for stage, attempt, _ in seen] == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert len({key for _, _, key in seen}) == 1
    assert result.data == {f"stage{n}": True for n in range(4)}


async def test_an_event_ends_a_wait(host: WorkflowHost) -> None:
    """The payload goes to the field; the key may come from the data."""
    definition = (
        WorkflowBuilder()
        .wait_for("paid", lambda data: data["order"], output="payment")
        .then(put("after", after=True))
        .build("w")
    )
    instance_id = await host.start_workflow(definition, {"order": 7})
    await waits(host, instance_id, "wait-for")

    await host.publish_event("paid", "other", {"amount": 1})
    await host.publish_event("received", "7", {"amount": 2})
    await host.publish_event("paid", "7", {"amount": 3})
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.data == {"order": 7, "payment": {"amount": 3}, "after": True}


async def test_an_event_reaches_every_matching_wait_once(host: WorkflowHost) -> None:
    """Several instances, and two waits of one instance."""
    definition = (
        WorkflowBuilder()
        .parallel(
            lambda b: b.wait_for("go", ref(".key"), output="a"), lambda b: b.wait_for("go", ref(".key"), output="b")
        )
        .build("w")
    )
    ids = await host.start_workflows(definition, [{"key": "x"}, {"key": "x"}, {"key": "y"}])

    await host.publish_event("go", "x", 1)
    await host.publish_event("go", "y", 2)
    results = [await host.wait(each, timeout=SECONDS) for each in ids]

    assert [(result.data["a"], result.data["b"]) for result in results] == [(1, 1), (1, 1), (2, 2)]


async def test_an_event_before_the_wait_but_after_the_start_ends_it(host: WorkflowHost) -> None:
    """Matched by position: nothing is lost between the steps."""
    gate = Gate()
    definition = WorkflowBuilder().start_with(gate.body).wait_for("go", "k", output="got").build("w")
    instance_id = await host.start_workflow(definition)
    await gate.entered()

    await host.publish_event("go", "k", "early")
    gate.open()
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.data == {"got": "early"}


async def test_an_event_before_the_instance_does_not_end_its_wait(host: WorkflowHost) -> None:
    """Unless the wait asks for `any`, or names a time before it."""
    before = datetime.now(UTC) - timedelta(minutes=1)
    await host.publish_event("go", "k", "old")

    async def run(name: str, as_of: Any) -> str:
        definition = WorkflowBuilder().wait_for("go", "k", as_of=as_of, output="got").build(name)
        return await host.start_workflow(definition)

    by_position, by_any, by_time = await run("position", None), await run("any", "any"), await run("time", before)
    by_callable = await run("callable", lambda data: before)

    for instance_id in (by_any, by_time, by_callable):
        assert (await host.wait(instance_id, timeout=SECONDS)).data == {"got": "old"}
    await waits(host, by_position, "wait-for")
    await host.publish_event("go", "k", "new")
    assert (await host.wait(by_position, timeout=SECONDS)).data == {"got": "new"}


async def test_a_burst_reaches_a_looping_waiter_in_order(host: WorkflowHost) -> None:
    """Every event of the burst once, in the order of publishing, though the waits began later."""

    async def keep(context: Context) -> None:
        context.data["all"] = [*context.data["all"], context.data["got"]]

    definition = (
        WorkflowBuilder()
        .while_do(
            lambda data: len(data["all"]) < 20,
            lambda b: b.wait_for("tick", "k", output="got").then(keep),
        )
        .build("w")
    )
    instance_id = await host.start_workflow(definition, {"all": [], "got": None})

    for number in range(20):
        await host.publish_event("tick", "k", number)
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.data["all"] == list(range(20))


async def test_a_body_waits_for_an_event(host: WorkflowHost) -> None:
    """It runs again with `event_data`, and its persisted data."""
    seen: list[Any] = []

    async def body(context: Context) -> ExecutionResult:
        seen.append((context.event_data, context.persistence_data))
        if context.event_data is None:
            return ExecutionResult.wait_for_event("go", "k", data={"stage": 1})
        return ExecutionResult.next({"got": context.event_data})

    instance_id = await host.start_workflow(WorkflowBuilder().start_with(body).build("w"))
    await waits(host, instance_id)
    await host.publish_event("go", "k", {"amount": 5})

    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.data == {"got": {"amount": 5}}
    assert seen == [(None, None), ({"amount": 5}, {"stage": 1})]


async def test_a_failed_attempt_is_repeated_for_the_same_event(host: WorkflowHost) -> None:
    """The event was consumed; the next attempt has it still."""

    async def body(context: Context) -> ExecutionResult:
        if context.event_data is None:
            return ExecutionResult.wait_for_event("go", "k")
        if context.attempt == 1:
            raise ValueError("broken")
        return ExecutionResult.next({"got": context.event_data})

    definition = WorkflowBuilder().start_with(body).on_error(Retry(interval=0.01)).build("w")
    instance_id = await host.start_workflow(definition)
    await host.publish_event("go", "k", 5)

    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.data == {"got": 5}


async def test_a_wait_that_times_out_fails_its_step(host: WorkflowHost) -> None:
    """`EventTimeout` goes to the error rule, of a wait and of a body."""
    trace: list[str] = []

    async def body(context: Context) -> ExecutionResult:
        return ExecutionResult.wait_for_event("never", "k", timeout=0.02)

    definition = (
        WorkflowBuilder()
        .wait_for("never", "k", timeout=0.02)
        .on_error(Continue())
        .then(note("first", trace))
        .then(body)
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)

    assert trace == ["first"]
    assert result.status is WorkflowStatus.FAILED
    assert [error.code for error in await host.errors(result.id)] == ["event_timeout", "event_timeout"]
    with pytest.raises(EventTimeout):
        result.raise_for_status()


async def test_an_event_in_time_beats_the_timeout(host: WorkflowHost) -> None:
    """Exactly one of the two happens, and the timer is gone with the wait."""
    definition = WorkflowBuilder().wait_for("go", "k", timeout=10, output="got").delay(0.05).build("w")
    instance_id = await host.start_workflow(definition)
    await host.publish_event("go", "k", 1)

    result = await host.wait(instance_id, timeout=SECONDS)

    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"got": 1})
    assert await host.errors(instance_id) == []


async def test_events_and_timeouts_racing_end_each_wait_once(host: WorkflowHost) -> None:
    """200 waits whose timeout and event come at the same moment: each ends once, by one of them."""
    definition = (
        WorkflowBuilder().wait_for("go", ref(".key"), timeout=0.1, output="got").on_error(Continue()).build("w")
    )
    ids = await host.start_workflows(definition, [{"key": str(number), "got": None} for number in range(200)])

    await asyncio.sleep(0.09)  # the moment of the race, not a wait for something
    await asyncio.gather(*(host.publish_event("go", str(number), "event") for number in range(200)))
    results = [await host.wait(each, timeout=SECONDS) for each in ids]

    for result in results:
        errors = await host.errors(result.id)
        assert (result.data["got"] == "event") == (not errors)
        history = await host.history(result.id)
        assert len(steps(history, "succeeded", "skipped")) == 1


async def test_publishing_with_an_id_is_idempotent(host: WorkflowHost) -> None:
    """The same id publishes once; with other content it is a conflict."""
    gate = Gate()
    definition = (
        WorkflowBuilder()
        .wait_for("go", "k", output="first")
        .wait_for("go", "k", output="second", timeout=0.1)
        .on_error(Continue())
        .then(gate.body)
        .build("w")
    )
    instance_id = await host.start_workflow(definition)

    assert await host.publish_event("go", "k", 1, id="e-1") == "e-1"
    assert await host.publish_event("go", "k", 1, id="e-1") == "e-1"
    with pytest.raises(StartConflict):
        await host.publish_event("go", "k", 2, id="e-1")
    await gate.entered()
    gate.open()
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.data == {"first": 1}


async def test_an_event_in_the_future_is_delivered_then(host: WorkflowHost) -> None:
    """Not before its time; after events that were published earlier for an earlier time."""
    definition = WorkflowBuilder().wait_for("go", "k", output="a").wait_for("go", "k", output="b").build("w")
    instance_id = await host.start_workflow(definition)
    due = datetime.now(UTC) + timedelta(milliseconds=150)

    await host.publish_event("go", "k", "later", effective_at=due)
    await host.publish_event("go", "k", "now")
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.data == {"a": "now", "b": "later"}
    assert datetime.now(UTC) >= due


async def test_payloads_are_checked(start_host: StartHost) -> None:
    """What cannot be stored, and what is too large, is refused; nothing is published."""
    host = await start_host(limits=Limits(max_event_bytes=100))

    with pytest.raises(DataError, match=r"\$event"):
        await host.publish_event("go", "k", {"x": float("nan")})
    with pytest.raises(DataError, match="100"):
        await host.publish_event("go", "k", "x" * 200)
    with pytest.raises(DataError):
        await host.publish_event("", "k")


async def test_an_event_for_a_typed_field_must_fit(host: WorkflowHost) -> None:
    """A payload of the wrong type fails the wait, not the next step."""
    from dataclasses import dataclass

    @dataclass
    class Data:
        count: int = 0

    definition = WorkflowBuilder(Data).wait_for("go", "k", output="count").build("w")
    instance_id = await host.start_workflow(definition)
    await host.publish_event("go", "k", "no number")

    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert result.error.code == "data_error"
    assert result.data == Data()


async def test_a_wait_for_an_empty_key_fails_instead_of_waiting_for_ever(host: WorkflowHost) -> None:
    """No event can have it."""
    definition = WorkflowBuilder().wait_for("go", lambda data: None).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED


async def test_start_at_begins_later(host: WorkflowHost) -> None:
    """Nothing before its time; then as any other."""
    due = datetime.now(UTC) + timedelta(milliseconds=200)
    began: list[datetime] = []

    async def body(context: Context) -> None:
        began.append(datetime.now(UTC))

    instance_id = await host.start_workflow(WorkflowBuilder().start_with(body).build("w"), start_at=due)
    assert (await host.get_workflow(instance_id)).next_wake == due
    await host.wait(instance_id, timeout=SECONDS)

    assert began[0] >= due


async def test_an_instance_put_off_can_be_suspended_and_resumed(host: WorkflowHost) -> None:
    """It still begins at its time, not at the request, and not never."""
    due = datetime.now(UTC) + timedelta(milliseconds=300)
    began: list[datetime] = []

    async def body(context: Context) -> None:
        began.append(datetime.now(UTC))

    instance_id = await host.start_workflow(WorkflowBuilder().start_with(body).build("w"), start_at=due)
    assert await host.suspend_workflow(instance_id)
    assert await host.resume_workflow(instance_id)
    await host.wait(instance_id, timeout=SECONDS)

    assert began[0] >= due


async def test_timers_of_a_held_instance_fire(host: WorkflowHost) -> None:
    """One branch runs a long body; the timer of the other fires in time all the same."""
    gate = Gate()
    definition = (
        WorkflowBuilder().parallel(gate.body, lambda b: b.delay(0.05).then(put("after", after=True))).build("w")
    )
    instance_id = await host.start_workflow(definition)
    await gate.entered()

    async def fired() -> bool:
        return bool((await host.get_workflow(instance_id)).data == {"after": True})

    await eventually(fired)
    gate.open()
    await host.wait(instance_id, timeout=SECONDS)


async def test_many_sleepers_wake_together(host: WorkflowHost) -> None:
    """500 instances, one moment."""
    definition = WorkflowBuilder().delay(0.2).then(put("after", after=True)).build("w")
    ids = await host.start_workflows(definition, [{} for _ in range(500)])

    results = [await host.wait(each, timeout=SECONDS) for each in ids]

    assert all(result.data == {"after": True} for result in results)

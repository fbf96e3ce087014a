"""Error rules, retries and time limits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Context, StartHost, ThreadGate, failing, note, put, stands, steps
from wfe import (
    Continue,
    Exponential,
    Fail,
    Fixed,
    Linear,
    Retry,
    RetryPolicy,
    StepTimeout,
    Suspend,
    Terminate,
    WorkflowBuilder,
    WorkflowHost,
    WorkflowStatus,
    step,
)
from wfe.model.policies import ErrorBehavior


async def test_retry_tries_again(host: WorkflowHost) -> None:
    """Attempts = 1 + retries; what failed attempts wrote is dropped; each is recorded."""
    trace: list[Any] = []
    definition = (
        WorkflowBuilder()
        .start_with(failing("flaky", 2, trace=trace))
        .on_error(Retry(interval=0.01, max_retries=2))
        .then(put("after", after=True))
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)
    errors = await host.errors(result.id)

    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"after": True})
    assert trace == [("flaky", 1), ("flaky", 2), ("flaky", 3)]
    assert [(error.message, error.attempt, error.step) for error in errors] == [
        ("flaky 1", 1, "flaky"),
        ("flaky 2", 2, "flaky"),
    ]
    assert steps(await host.history(result.id), "retrying") == ["flaky", "flaky"]


async def test_retries_are_used_up(host: WorkflowHost) -> None:
    """Then the workflow fails, with the last error."""
    definition = WorkflowBuilder().start_with(failing("broken")).on_error(Retry(interval=0, max_retries=2)).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert (result.error.message, result.error.attempt) == ("broken 3", 3)
    assert result.failed_steps[0].attempt == 3


@pytest.mark.parametrize("backoff", [Fixed(0.001), Exponential(0.001, 0.002), Linear(0.001, 0.002)])
async def test_a_policy_counts_attempts(host: WorkflowHost, backoff: Any) -> None:
    """With any backoff; before `on_error`."""
    trace: list[Any] = []
    definition = (
        WorkflowBuilder()
        .start_with(failing("broken", trace=trace))
        .retry(RetryPolicy(3, backoff))
        .on_error(Continue())
        .then(note("after", trace))
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    assert trace == [("broken", 1), ("broken", 2), ("broken", 3), "after"]


async def test_retryable_chooses_what_is_tried_again(host: WorkflowHost) -> None:
    """A callable of the policy; `on` and `not_on` of the rule, by class or name."""
    rules: list[tuple[Retry | RetryPolicy, int]] = [
        (RetryPolicy(3, Fixed(0), retryable=lambda error: "broken 1" in str(error)), 2),
        (Retry(interval=0, max_retries=2, on=(ValueError,)), 3),
        (Retry(interval=0, max_retries=2, on=(KeyError,)), 1),
        (Retry(interval=0, max_retries=2, not_on=("ValueError",)), 1),
        (Retry(interval=0, max_retries=2, not_on=(LookupError,)), 3),
        (Retry(policy=RetryPolicy(3, Fixed(0), retryable=lambda error: False)), 1),
    ]
    for number, (rule, attempts) in enumerate(rules):
        trace: list[Any] = []
        builder = WorkflowBuilder().start_with(failing("broken", trace=trace))
        builder = builder.retry(rule) if isinstance(rule, RetryPolicy) else builder.on_error(rule)
        result = await host.run(builder.build(f"w{number}"), timeout=SECONDS)

        assert result.status is WorkflowStatus.FAILED
        assert len(trace) == attempts, rule


async def test_retryable_is_asked_of_the_rule_that_decides(host: WorkflowHost) -> None:
    """Where the step has a rule of its own, the workflow's policy has no say; where it has none, it has."""
    asked: list[str] = []

    def refuse(error: BaseException) -> bool:
        asked.append(str(error))
        return False

    own, default = Retry(interval=0, max_retries=1), RetryPolicy(5, Fixed(0), retryable=refuse)
    with_own = WorkflowBuilder().default_retry(default).then(failing("a")).on_error(own).build("own")
    without = WorkflowBuilder().default_retry(default).then(failing("b")).build("without")

    results = [await host.run(each, timeout=SECONDS) for each in (with_own, without)]

    assert [len(await host.errors(result.id)) for result in results] == [2, 1]
    assert asked == ["b 1"]


async def test_fail_continue_and_terminate(host: WorkflowHost) -> None:
    """What a final failure means."""
    cases: list[tuple[ErrorBehavior, WorkflowStatus, list[str]]] = [
        (Fail(), WorkflowStatus.FAILED, []),
        (Continue(), WorkflowStatus.COMPLETE, ["after"]),
        (Terminate(), WorkflowStatus.TERMINATED, []),
        (Retry(interval=0, max_retries=1, then=Continue()), WorkflowStatus.COMPLETE, ["after"]),
        (Retry(interval=0, max_retries=1, then=Terminate()), WorkflowStatus.TERMINATED, []),
    ]
    for rule, status, after in cases:
        trace: list[Any] = []
        definition = (
            WorkflowBuilder()
            .start_with(failing("broken"))
            .on_error(rule)
            .then(note("after", trace))
            .build(f"w-{type(rule).__name__}-{status}")
        )
        result = await host.run(definition, timeout=SECONDS)

        assert (result.status, trace) == (status, after)
        assert result.data == {}
        assert (await host.errors(result.id))[0].message == "broken 1"


async def test_suspend_and_resume_give_a_fresh_budget(host: WorkflowHost) -> None:
    """The instance stands still with its reason; resuming tries again; it never turns a failure into success."""
    trace: list[Any] = []
    definition = (
        WorkflowBuilder()
        .start_with(failing("flaky", 4, trace=trace))
        .on_error(Retry(interval=0, max_retries=1, then=Suspend()))
        .build("w")
    )
    instance_id = await host.start_workflow(definition)
    await stands(host, instance_id, WorkflowStatus.SUSPENDED)
    assert len(trace) == 2
    assert "flaky 2" in ((await host.get_workflow(instance_id)).blocked_reason or "")

    assert await host.resume_workflow(instance_id)
    await stands(host, instance_id, WorkflowStatus.SUSPENDED)
    assert len(trace) == 4
    assert await host.resume_workflow(instance_id)
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    assert [attempt for _, attempt in trace] == [1, 2, 3, 4, 5]


async def test_wait_may_end_at_a_suspension(host: WorkflowHost) -> None:
    """With `until`; and the result says how the instance stands."""
    definition = WorkflowBuilder().start_with(failing("broken")).on_error(Suspend()).build("w")
    instance_id = await host.start_workflow(definition)

    result = await host.wait(instance_id, timeout=SECONDS, until=[WorkflowStatus.SUSPENDED])

    assert result.status is WorkflowStatus.SUSPENDED


async def test_wait_until_suspended_does_not_wait_for_bodies_that_run(host: WorkflowHost) -> None:
    """Suspended by one branch while another one still runs."""
    from tests.scenarios.stage import Gate

    gate = Gate()

    async def broken(context: Context) -> None:
        await gate.entered()
        raise ValueError("broken")

    definition = WorkflowBuilder().parallel(gate.body, lambda b: b.then(broken).on_error(Suspend())).build("w")
    instance_id = await host.start_workflow(definition)

    result = await host.wait(instance_id, timeout=SECONDS, until=[WorkflowStatus.SUSPENDED])

    assert result.status is WorkflowStatus.SUSPENDED
    gate.open()


async def test_defaults_hold_for_the_whole_workflow(host: WorkflowHost) -> None:
    """Step before workflow before `Fail`."""
    trace: list[Any] = []
    definition = (
        WorkflowBuilder()
        .default_retry(RetryPolicy(2, Fixed(0)))
        .default_on_error(Continue())
        .start_with(failing("a", trace=trace))
        .then(failing("b", trace=trace))
        .retry(RetryPolicy(1))
        .then(failing("c", trace=trace))
        .on_error(Fail())
        .then(note("never", trace))
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert trace == [("a", 1), ("a", 2), ("b", 1), ("c", 1), ("c", 2)]


async def test_a_time_limit_cancels_an_async_body(host: WorkflowHost) -> None:
    """Per attempt; it counts as a failure; what the attempt wrote is dropped."""
    cancelled: list[int] = []
    deadlines: list[Any] = []

    async def slow(context: Context) -> None:
        context.data["dirty"] = True
        deadlines.append(context.deadline)
        if context.attempt == 3:
            context.data["dirty"] = False
            return
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(context.attempt)
            raise

    definition = WorkflowBuilder().start_with(slow).timeout(0.03).on_error(Retry(interval=0, max_retries=2)).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"dirty": False})
    assert cancelled == [1, 2]
    assert all(deadline is not None for deadline in deadlines)
    assert [error.code for error in await host.errors(result.id)] == ["step_timeout", "step_timeout"]


async def test_a_time_limit_abandons_a_thread(host: WorkflowHost) -> None:
    """The thread sees the flag; its late answer is dropped; the thread pool stays usable."""
    gate = ThreadGate(late=True)
    definition = WorkflowBuilder().start_with(gate.body).timeout(0.03).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert await asyncio.to_thread(gate.saw_cancel.wait, SECONDS)
    assert (await host.get_workflow(result.id)).data == {}
    with pytest.raises(StepTimeout):
        result.raise_for_status()


async def test_the_default_time_limit(host: WorkflowHost) -> None:
    """For bodies that have none; `@step` may bring one."""

    async def slow(context: Context) -> None:
        await asyncio.sleep(3600)

    @step(timeout=0.02, retry=RetryPolicy(2, Fixed(0)))
    async def marked(context: Context) -> None:
        await asyncio.sleep(3600)

    default = await host.run(WorkflowBuilder().default_timeout(0.02).start_with(slow).build("default"), timeout=SECONDS)
    by_step = await host.run(WorkflowBuilder().start_with(marked).build("marked"), timeout=SECONDS)

    assert [error.code for error in await host.errors(default.id)] == ["step_timeout"]
    assert [error.code for error in await host.errors(by_step.id)] == ["step_timeout"] * 2


async def test_fail_as_an_answer(host: WorkflowHost) -> None:
    """Same as raising; `retryable=False` goes straight to the rule's end."""
    from wfe import ExecutionResult

    attempts: list[int] = []

    async def body(context: Context) -> ExecutionResult:
        attempts.append(context.attempt)
        if context.attempt == 1:
            return ExecutionResult.fail(ValueError("first"))
        return ExecutionResult.fail("second", retryable=False)

    definition = WorkflowBuilder().start_with(body).on_error(Retry(interval=0, max_retries=5)).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert attempts == [1, 2]
    assert [error.message for error in await host.errors(result.id)] == ["first", "second"]


async def test_a_body_cancelled_from_within_fails(host: WorkflowHost) -> None:
    """`CancelledError` that nobody asked for is a failure, not a hang."""

    async def body(context: Context) -> None:
        raise asyncio.CancelledError

    result = await host.run(WorkflowBuilder().start_with(body).build("w"), timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED


async def test_a_selector_that_gives_something_impossible_fails_its_step(start_host: StartHost) -> None:
    """The engine is not stopped by it, and other instances go on."""

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("odd")

        __hash__ = object.__hash__

        def __bool__(self) -> bool:
            raise RuntimeError("odd")

    def broken_items(data: Any) -> Any:
        yield 1
        raise RuntimeError("odd")

    host = await start_host()
    builders = [
        WorkflowBuilder().decide(lambda data: Odd(), {1: lambda b: b.then(put("a"))}),
        WorkflowBuilder().if_do(lambda data: Odd(), lambda b: b.then(put("a"))),  # type: ignore[arg-type,return-value]
        WorkflowBuilder().while_do(lambda data: Odd(), lambda b: b.then(put("a"))),  # type: ignore[arg-type,return-value]
        WorkflowBuilder().for_each(broken_items, lambda b: b.then(put("a"))),
        WorkflowBuilder().delay(lambda data: Odd()),  # type: ignore[arg-type,return-value]
        WorkflowBuilder().wait_for("e", lambda data: ""),
    ]
    for number, builder in enumerate(builders):
        result = await host.run(builder.build(f"w{number}"), timeout=SECONDS)

        assert result.status is WorkflowStatus.FAILED, number
        assert result.error is not None
        assert result.error.step

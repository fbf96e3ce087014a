"""Error rules: attempts, pauses, and what a final failure means."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.engine.harness import SECOND, T0, World, block, body, plan, terminal
from wfe.engine.advance import advance
from wfe.model.definition import Code, Literal, Policies, Step, StepKind, Value
from wfe.model.errors import EventTimeout
from wfe.model.message import ControlVerb, Failed
from wfe.model.pointer import ErrorRecord
from wfe.model.policies import (
    Continue,
    ErrorBehavior,
    Exponential,
    Fail,
    Fixed,
    Retry,
    RetryPolicy,
    Suspend,
    Terminate,
)
from wfe.model.result import Sleep, WaitForEvent
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus


def test_without_a_rule_the_workflow_fails_at_the_first_failure() -> None:
    """Default everywhere: no retry, the workflow fails."""
    world = World(plan(body("a"), body("b")))

    world.fail("a")

    assert world.stands(WorkflowStatus.FAILED)
    assert len(world.errors) == 1


def test_retry_waits_and_tries_again() -> None:
    """Attempts = 1 + retries; between them the instance is a row with a wake time."""
    world = World(plan(body("a"), error={"a": Retry(interval=10, max_retries=2)}))

    transition = world.fail("a", "first")
    assert (transition.changes.wake_at, transition.changes.hold) == (T0 + 10 * SECOND, False)
    world.pass_time(9.999)
    assert world.runs == []
    world.pass_time(0.001)
    assert world.runs == ["a"]
    world.fail("a", "second")
    world.pass_time()
    world.fail("a", "third")

    assert world.stands(WorkflowStatus.FAILED)
    assert [(error.message, error.attempt) for error in world.errors] == [("first", 1), ("second", 2), ("third", 3)]
    assert world.kinds("a") == ["started", "retrying", "started", "retrying", "started", "failed"]


def test_a_retry_without_pause_begins_in_the_same_transition() -> None:
    """No timer is needed for a pause of nothing."""
    world = World(plan(body("a"), error={"a": Retry(interval=0)}))

    world.fail("a")

    assert world.runs == ["a"]
    assert world.pointer("a").attempt == 2


@pytest.mark.parametrize(
    ("policy", "pauses"),
    [
        (RetryPolicy(4, Fixed(5)), [5, 5, 5]),
        (RetryPolicy(4, Exponential(1, 3)), [1, 2, 3]),
        (RetryPolicy(1), []),
    ],
)
def test_a_retry_policy_counts_attempts(policy: RetryPolicy, pauses: list[int]) -> None:
    """`max_attempts` attempts, with the pauses of the backoff between."""
    world = World(plan(body("a"), retry={"a": policy}))
    seen = []

    while not world.ended:
        before = world.now
        world.fail("a")
        if not world.ended:
            world.pass_time()
            seen.append((world.now - before) / SECOND)

    assert seen == pauses


def test_a_policy_is_used_up_before_the_rule() -> None:
    """`retry(policy)` first, then `on_error`."""
    world = World(plan(body("a"), body("b"), retry={"a": RetryPolicy(2, Fixed(1))}, error={"a": Continue()}))

    world.fail("a")
    world.pass_time()
    world.fail("a")

    assert world.runs == ["b"]


def test_jitter_only_shortens() -> None:
    """A pause is shortened by up to the share of jitter, never lengthened."""
    definition = plan(body("a"), retry={"a": RetryPolicy(2, Fixed(10), jitter=0.5)})
    world = World(definition)
    pointer = world.pointer("a")

    transition = advance(
        definition,
        world.state,
        [Failed(pointer.id, 1, ErrorRecord("step_failed", "no"))],
        now=world.now,
        asker=world.asker,
        random=lambda: 0.5,
    )

    assert transition.changes.wake_at == T0 + int(7.5 * SECOND)


@pytest.mark.parametrize(
    ("rule", "classes", "retried"),
    [
        (Retry(1, on=(ValueError,)), ("builtins.ValueError", "builtins.Exception"), True),
        (Retry(1, on=(KeyError,)), ("builtins.ValueError", "builtins.Exception"), False),
        (Retry(1, on=(Exception,)), ("builtins.ValueError", "builtins.Exception"), True),
        (Retry(1, not_on=(ValueError,)), ("builtins.ValueError", "builtins.Exception"), False),
        (Retry(1, not_on=("ValueError",)), ("builtins.ValueError", "builtins.Exception"), False),
        (Retry(1, on=("app.Broken",)), ("app.Broken", "builtins.Exception"), True),
    ],
)
def test_on_and_not_on_choose_by_class(rule: ErrorBehavior, classes: tuple[str, ...], retried: bool) -> None:
    """Classes, their bases, or their names say what is worth another attempt."""
    world = World(plan(body("a"), error={"a": rule}))

    world.fail("a", classes=classes)

    assert (world.kinds("a")[-1] == "retrying") is retried


def test_what_is_not_retryable_goes_straight_to_then() -> None:
    """No further attempt; the rule for the final failure holds."""
    world = World(plan(body("a"), body("b"), error={"a": Retry(1, then=Continue())}))

    world.fail("a", retryable=False)

    assert world.runs == ["b"]


def test_continue_records_the_error_and_skips_the_step() -> None:
    """The error is kept, the step counts as skipped, the chain goes on."""
    world = World(plan(body("a"), body("b"), error={"a": Continue()}))

    world.fail("a", "broken")

    assert world.runs == ["b"]
    skipped = next(record for record in world.log if record.kind is LifecycleKind.STEP_SKIPPED)
    assert skipped.error is not None
    assert skipped.error.message == "broken"
    assert [error.message for error in world.errors] == ["broken"]


def test_terminate_ends_the_instance_at_once() -> None:
    """Running branches are stopped; the error is the instance's."""
    branches = Step(id="p", kind=StepKind.PARALLEL, blocks=(block(body("a")), block(body("b"))))
    world = World(plan(branches, error={"a": Terminate()}))

    transition = world.fail("a", "broken")

    assert world.stands(WorkflowStatus.TERMINATED)
    assert transition.stop
    assert world.state.head.error is not None
    assert terminal(world.log) == [LifecycleKind.WORKFLOW_TERMINATED]


def test_suspend_holds_the_instance_and_resume_tries_again_with_a_fresh_budget() -> None:
    """Resuming re-arms the failed step: attempts go on counting, the budget begins anew."""
    world = World(plan(body("a"), body("b"), error={"a": Retry(1, max_retries=1, then=Suspend())}))
    for _ in range(2):
        world.fail("a")
        if world.stands(WorkflowStatus.RUNNABLE):
            world.pass_time()
    assert world.stands(WorkflowStatus.SUSPENDED)
    assert world.last is not None
    assert (world.last.changes.hold, world.last.changes.wake_at) == (False, None)

    world.reload()
    world.control(ControlVerb.RESUME)
    assert world.runs == ["a"]
    assert world.pointer("a").attempt == 3
    world.fail("a")
    assert world.stands(WorkflowStatus.RUNNABLE)
    world.pass_time()
    world.answer("a")

    assert world.runs == ["b"]


def test_suspend_in_one_branch_leaves_the_others_running_to_their_end() -> None:
    """Running bodies finish and are recorded, nothing begins."""
    branches = Step(id="p", kind=StepKind.PARALLEL, blocks=(block(body("a")), block(body("b"), body("b2"))))
    world = World(plan(branches, error={"a": Suspend()}))

    world.fail("a")
    world.answer("b", x=1)

    assert world.stands(WorkflowStatus.SUSPENDED)
    assert (world.runs, world.data) == ([], {"x": 1})
    world.control(ControlVerb.RESUME)
    assert sorted(world.runs) == ["a", "b2"]


@pytest.mark.parametrize("rule", [Suspend(), Retry(0, max_retries=1, then=Fail())])
def test_a_failed_when_is_asked_again(rule: ErrorBehavior) -> None:
    """A step whose `when` raised has not been entered: the next attempt asks again, and does not run it unasked."""
    answers = iter([None, False])

    def when(data: dict[str, Any], path: tuple[int, ...]) -> bool:
        answer = next(answers)
        if answer is None:
            raise ValueError("broken")
        return answer

    world = World(plan(body("a", values={"when": Code()}), body("b"), error={"a": rule}), {("a", "when"): when})
    if world.status is WorkflowStatus.SUSPENDED:
        world.control(ControlVerb.RESUME)

    assert world.runs == ["b"]
    assert world.kinds("a")[-1] == "skipped"


def test_the_workflows_default_holds_for_steps_that_say_nothing() -> None:
    """Step, then workflow default, then Fail; a step's own rule takes the default's place."""
    default = Policies(error=Continue())
    world = World(plan(body("a"), body("b"), body("c"), default=default, error={"b": Fail()}))

    world.fail("a")
    assert world.runs == ["b"]
    world.fail("b")

    assert world.stands(WorkflowStatus.FAILED)


def test_the_default_retry_holds_beside_a_steps_own_rule() -> None:
    """`default_retry` is for steps without a policy of their own; `on_error` follows when it is used up."""
    world = World(plan(body("a"), body("b"), default=Policies(retry=RetryPolicy(2, Fixed(1))), error={"a": Continue()}))

    world.fail("a")
    assert world.kinds("a")[-1] == "retrying"
    world.pass_time()
    world.fail("a")

    assert world.runs == ["b"]


def test_a_default_retry_rule_brings_its_then() -> None:
    """`default_on_error(Retry(then=Continue()))` retries, then goes on."""
    default = Policies(error=Retry(1, max_retries=1, then=Continue()))
    world = World(plan(body("a"), body("b"), default=default))

    world.fail("a")
    world.pass_time()
    world.fail("a")

    assert world.runs == ["b"]


def test_the_default_does_not_apply_again_to_containers() -> None:
    """A failure that the default has let through is not caught by it once more on its way up."""
    branches = Step(id="p", kind=StepKind.PARALLEL, blocks=(block(body("a")),))
    default = Policies(error=Retry(1, max_retries=1))
    world = World(plan(branches, default=default))

    world.fail("a")
    world.pass_time()
    world.fail("a")

    assert world.stands(WorkflowStatus.FAILED)


@pytest.mark.parametrize("kind", [StepKind.PARALLEL, StepKind.SEQUENCE, StepKind.WHILE, StepKind.FOR_EACH])
def test_a_container_has_a_rule_of_its_own(kind: StepKind) -> None:
    """`on_error(Continue())` on a container goes on after it; nothing of it lives on."""
    values: dict[str, Value] = {"condition": Literal(True), "collection": Literal([1, 2])}
    step = Step(id="c", kind=kind, blocks=(block(body("a")),), values=values)
    world = World(plan(step, body("b"), error={"c": Continue()}))

    while "a" in world.runs:
        world.fail("a")

    assert world.live == ["b"]
    assert world.items == {}


def test_a_container_is_tried_again_as_a_whole() -> None:
    """`on_error(Retry)` on a container: all its branches begin anew, after the pause."""
    branches = Step(id="p", kind=StepKind.PARALLEL, blocks=(block(body("a")), block(body("b"))))
    world = World(plan(branches, body("c"), error={"p": Retry(5, max_retries=1)}))
    world.fail("a")
    world.answer("b")
    assert world.live == ["p"]

    world.pass_time()
    assert world.runs == ["a", "b"]
    world.answer("a")
    world.answer("b")

    assert world.runs == ["c"]


def test_a_delay_that_was_asked_twice_ends() -> None:
    """A delay whose duration raised at first sleeps once when it has one."""
    answers = iter([None, 30])

    def duration(data: dict[str, Any], path: tuple[int, ...]) -> object:
        answer = next(answers)
        if answer is None:
            raise ValueError("broken")
        return answer

    step = Step(id="d", kind=StepKind.DELAY, values={"duration": Code()})
    world = World(plan(step, body("b"), error={"d": Retry(1)}), {("d", "duration"): duration})

    world.pass_time(1)
    world.pass_time(30)

    assert world.runs == ["b"]


def test_a_failed_attempt_keeps_the_event_that_woke_it() -> None:
    """The next attempt is for the same event: it has been consumed and would not come again."""
    world = World(plan(body("a"), error={"a": Retry(1, then=Suspend())}))
    world.answer("a", WaitForEvent("paid", "7", data={"stage": 1}))
    world.event({"amount": 5})

    for _ in range(3):
        world.fail("a")
        world.pass_time()
        assert world.pointer("a").event == b'{"amount": 5}'
    world.fail("a")
    world.control(ControlVerb.RESUME)

    assert world.pointer("a").event == b'{"amount": 5}'
    assert world.pointer("a").persisted == b'{"stage": 1}'


def test_a_timeout_of_a_wait_goes_to_the_rule() -> None:
    """`EventTimeout` is an error like any other: here the step waits again, then the workflow fails."""
    step = Step(
        id="w",
        kind=StepKind.WAIT_FOR,
        values={"event_name": Literal("e"), "event_key": Literal("k")},
        options={"timeout_us": 10 * SECOND},
    )
    world = World(plan(step, error={"w": Retry(0, max_retries=1, on=(EventTimeout,))}))

    world.pass_time()
    assert len(world.subscriptions) == 1
    assert world.pointer("w").waits == 2
    world.pass_time()

    assert world.stands(WorkflowStatus.FAILED)
    assert [error.code for error in world.errors] == ["event_timeout"] * 2


def test_errors_of_the_engine_have_their_bases() -> None:
    """`on=Exception` means a timeout of a wait, too."""
    world = World(plan(body("a"), error={"a": Retry(1, on=(Exception,))}))
    world.answer("a", WaitForEvent("e", "k", timeout=timedelta(seconds=1)))

    world.pass_time()

    assert world.kinds("a")[-1] == "retrying"


def test_a_late_answer_of_an_earlier_attempt_is_dropped() -> None:
    """The next attempt runs: what the one before answers after all changes nothing."""
    world = World(plan(body("a"), retry={"a": RetryPolicy(2, Fixed(0))}))
    late = world.answering("a", field=1)
    world.fail("a")

    transition = world.advance(late)

    assert transition.changed == transition.gone == []
    assert world.pointer("a").status is PointerStatus.RUNNING
    assert world.data == {}


def test_a_late_failure_is_dropped() -> None:
    """A failure of an attempt that is over changes nothing."""
    world = World(plan(body("a"), error={"a": Retry(1)}))
    late = Failed(world.pointer("a").id, 1, ErrorRecord("step_failed", "late"))
    world.answer("a", Sleep(timedelta(seconds=5)))

    assert world.advance(late).notes == []


def test_failed_pointers_keep_their_error_for_people() -> None:
    """After the end, what failed can be seen, the leaf and the containers around it."""
    branches = Step(id="p", kind=StepKind.PARALLEL, blocks=(block(body("a")), block(body("b"))))
    world = World(plan(branches))

    world.fail("a", "broken")
    world.answer("b")

    found = {pointer.step: pointer for pointer in world.state.pointers.values()}
    assert set(found) == {"a", "p"}
    assert all(pointer.status is PointerStatus.FAILED for pointer in found.values())
    assert all(pointer.error is not None and pointer.error.message == "broken" for pointer in found.values())

"""Control requests in every state."""

from __future__ import annotations

import pytest

from tests.unit.engine.harness import World, block, body, plan, terminal
from wfe.model.definition import Literal, Step, StepKind
from wfe.model.instance import Head
from wfe.model.message import BodyStopped, Control, ControlVerb, Started
from wfe.model.policies import Fail, Suspend
from wfe.model.result import End, Outcome
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus


def everything() -> World:
    """An instance with a running body, a sleeping one, a waiting one, and a failed one."""
    return World(
        plan(
            Step(
                id="p",
                kind=StepKind.PARALLEL,
                blocks=(
                    block(body("running"), body("after")),
                    block(Step(id="sleeping", kind=StepKind.DELAY, values={"duration": Literal(60)})),
                    block(
                        Step(
                            id="waiting",
                            kind=StepKind.WAIT_FOR,
                            values={"event_name": Literal("e"), "event_key": Literal("k")},
                        )
                    ),
                    block(body("failed")),
                ),
            )
        )
    )


def test_suspend_lets_bodies_finish_and_nothing_begin() -> None:
    """What runs is recorded; what follows is put off until it is resumed."""
    world = everything()

    transition = world.control(ControlVerb.SUSPEND, "for a while")
    assert transition.changes.hold
    world.answer("running", x=1)

    assert world.stands(WorkflowStatus.SUSPENDED)
    assert world.data == {"x": 1}
    assert world.runs == ["failed"]
    world.control(ControlVerb.RESUME)
    assert sorted(world.runs) == ["after", "failed"]


def test_a_suspended_instance_does_not_end() -> None:
    """The last body is recorded; the end comes with resuming, once."""
    world = World(plan(body("a")))
    world.control(ControlVerb.SUSPEND)
    world.answer("a", x=1)
    assert (world.status, world.ended) == (WorkflowStatus.SUSPENDED, False)

    world.reload()
    world.control(ControlVerb.RESUME)

    assert world.stands(WorkflowStatus.COMPLETE)
    assert terminal(world.log) == [LifecycleKind.WORKFLOW_COMPLETED]


def test_a_suspended_instance_does_not_fail_before_it_is_resumed() -> None:
    """A final failure is recorded, and ends the instance when it goes on."""
    world = World(plan(body("a"), error={"a": Fail()}))
    world.control(ControlVerb.SUSPEND)
    world.fail("a")
    assert world.stands(WorkflowStatus.SUSPENDED)

    world.control(ControlVerb.RESUME)

    assert world.stands(WorkflowStatus.FAILED)


def test_an_end_answered_while_suspended_is_held() -> None:
    """`end()` ends the instance when it is resumed."""
    world = World(plan(body("a"), body("b")))
    world.control(ControlVerb.SUSPEND)
    world.answer("a", End())
    assert world.stands(WorkflowStatus.SUSPENDED)

    world.reload()
    world.control(ControlVerb.RESUME)

    assert world.stands(WorkflowStatus.COMPLETE)


@pytest.mark.parametrize("verb", [ControlVerb.SUSPEND, ControlVerb.RESUME])
def test_asking_for_what_is_so_changes_nothing(verb: ControlVerb) -> None:
    """A second request of the same kind announces nothing."""
    world = World(plan(body("a")))
    if verb is ControlVerb.SUSPEND:
        world.control(verb)

    transition = world.control(verb)

    assert transition.notes == []


def test_bodies_of_a_suspended_instance_run_again_only_when_it_is_resumed() -> None:
    """After a crash during suspension nothing begins; resuming runs them."""
    world = World(plan(body("a")))
    world.control(ControlVerb.SUSPEND)

    world.reload()
    assert world.runs == []
    assert world.pointer("a").status is PointerStatus.PENDING
    world.control(ControlVerb.RESUME)

    assert world.runs == ["a"]


def test_a_body_that_was_held_back_too_late_runs() -> None:
    """Resumed before it was read that a body had not begun because of the suspension: it runs all the same."""
    world = World(plan(body("a")))
    number = world.body("a").id
    world.control(ControlVerb.SUSPEND)

    transition = world.advance(Control(ControlVerb.RESUME), BodyStopped(number))

    assert transition.run == [number]
    assert world.status is WorkflowStatus.RUNNABLE


def test_a_stop_and_a_resume_in_one_transition_run_the_body_again() -> None:
    """Activated by the request to resume: first what stopped, then the request."""
    world = World(plan(body("a")))
    world.control(ControlVerb.SUSPEND)
    number = world.pointer("a").id

    world.advance(BodyStopped(number), Control(ControlVerb.RESUME))

    assert world.runs == ["a"]


def test_cancel_waits_for_running_bodies() -> None:
    """Bodies are asked to stop; what waits is dropped at once; the end comes when the last body has stopped."""
    world = everything()
    world.fail("failed")
    running = world.pointer("running").id

    transition = world.control(ControlVerb.CANCEL, "enough")
    assert transition.stop == [running]
    assert transition.changes.hold
    assert len(transition.changes.unsubscribe) == 1
    assert not world.ended
    world.advance(BodyStopped(running))

    assert world.stands(WorkflowStatus.CANCELLED)
    assert world.state.head.reason == "enough"
    for step in ("running", "sleeping", "waiting"):
        assert world.kinds(step)[-1] == "cancelled"
    assert world.kinds("failed")[-1] == "failed"
    assert terminal(world.log) == [LifecycleKind.WORKFLOW_CANCELLED]


def test_what_a_body_answers_while_it_is_cancelled_is_recorded() -> None:
    """Its result counts; nothing follows it."""
    world = World(plan(body("a"), body("b")))
    world.control(ControlVerb.CANCEL)

    world.answer("a", x=1)

    assert (world.status, world.data) == (WorkflowStatus.CANCELLED, {"x": 1})
    assert world.kinds("a") == ["started", "succeeded"]
    assert world.kinds("b") == []


def test_a_body_that_fails_while_it_is_cancelled_is_cancelled() -> None:
    """Its failure is no failure of the workflow."""
    world = World(plan(body("a")))
    world.control(ControlVerb.CANCEL)

    world.fail("a")

    assert world.stands(WorkflowStatus.CANCELLED)


def test_cancel_survives_a_crash() -> None:
    """A cancel that was recorded goes on on the next host: bodies do not run again."""
    world = World(plan(body("a"), body("b")))
    world.control(ControlVerb.CANCEL)
    world.state = world.loaded(world.head_bytes)

    world.advance(*(BodyStopped(number) for number in world.state.running))

    assert world.stands(WorkflowStatus.CANCELLED)


def test_cancel_of_what_only_waits_ends_at_once() -> None:
    """One transition."""
    step = Step(id="d", kind=StepKind.DELAY, values={"duration": Literal(60)})
    world = World(plan(step))

    transition = world.control(ControlVerb.CANCEL)

    assert transition.changes.ended
    assert world.stands(WorkflowStatus.CANCELLED)


def test_terminate_ends_at_once_and_drops_late_answers() -> None:
    """Recorded at once, bodies cancelled; nothing is waited for."""
    world = everything()
    running = world.pointer("running").id

    transition = world.control(ControlVerb.TERMINATE, "now")

    assert transition.changes.ended
    assert running in transition.stop
    assert terminal(world.log) == [LifecycleKind.WORKFLOW_TERMINATED]


@pytest.mark.parametrize("verb", [ControlVerb.CANCEL, ControlVerb.TERMINATE])
def test_a_suspended_instance_can_be_ended(verb: ControlVerb) -> None:
    """Also one that was suspended by a failure."""
    world = World(plan(body("a"), error={"a": Suspend()}))
    world.fail("a")

    world.control(verb)

    assert world.status in {WorkflowStatus.CANCELLED, WorkflowStatus.TERMINATED}
    assert len(terminal(world.log)) == 1


def test_messages_after_the_end_are_dropped() -> None:
    """In one transition: terminate, then a suspend that comes too late."""
    world = World(plan(body("a")))

    world.advance(Control(ControlVerb.TERMINATE), Control(ControlVerb.SUSPEND), Control(ControlVerb.CANCEL))

    assert world.stands(WorkflowStatus.TERMINATED)
    assert len(terminal(world.log)) == 1


@pytest.mark.parametrize("verb", [ControlVerb.CANCEL, ControlVerb.TERMINATE])
def test_an_instance_that_has_not_begun_can_be_ended(verb: ControlVerb) -> None:
    """No body begins."""
    world = World(plan(body("a")), start=False)

    world.advance(Control(verb), Started())

    assert world.ended
    assert world.count(LifecycleKind.STEP_STARTED) == 0


def test_an_instance_suspended_before_it_began_begins_when_it_is_resumed() -> None:
    """Even when the request was applied where its code is missing; and not before its time."""
    world = World(plan(body("a")), start=False, head=Head(start_at=1_700_000_060_000_000))
    definition, world.definition = world.definition, None
    world.control(ControlVerb.SUSPEND)
    transition = world.control(ControlVerb.RESUME)
    assert transition.changes.wake_at == 1_700_000_060_000_000
    world.definition = definition

    world.state = world.loaded(world.head_bytes)
    world.now += 60_000_000
    world.advance(Started())

    assert world.runs == ["a"]


def test_requests_are_applied_without_the_code() -> None:
    """Suspend, resume and cancel need the state only; what is to go on is left to a host that has the code."""
    world = World(plan(body("a"), body("b"), error={"a": Suspend()}))
    world.fail("a")
    world.definition = None

    transition = world.control(ControlVerb.RESUME)
    assert (transition.changes.hold, transition.changes.wake_at) == (False, 0)
    assert world.runs == []
    world.control(ControlVerb.CANCEL)

    assert world.stands(WorkflowStatus.CANCELLED)


def test_the_block_of_an_outcome_is_put_off_too() -> None:
    """An outcome answered while suspended leads to its block when it is resumed."""
    world = World(plan(body("a", blocks=(block(body("x"), label="x"),))))
    world.control(ControlVerb.SUSPEND)
    world.answer("a", Outcome("x"))

    world.control(ControlVerb.RESUME)

    assert world.runs == ["x"]

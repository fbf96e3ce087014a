"""Steps that count crashes: an attempt recorded as begun, whose host died, is a failed attempt."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.engine.harness import World, block, body, plan
from wfe.model.definition import Step, StepKind
from wfe.model.message import Begun, BodyStopped, Control, ControlVerb, Failed, TimePassed
from wfe.model.pointer import ErrorRecord
from wfe.model.policies import Fixed, RetryPolicy
from wfe.model.result import NEXT, AnyResult, Branch, Outcome, Sleep, WaitForEvent
from wfe.model.status import PointerStatus, WorkflowStatus


def _begun(world: World, step: str = "a") -> Begun:
    pointer = world.body(step)
    return Begun(pointer.id, pointer.attempt)


def test_a_beginning_is_recorded_and_nothing_else() -> None:
    """The record is one changed pointer: no announcement, no data, and no body is made ready again."""
    world = World(plan(body("a")))
    announced = len(world.log)

    transition = world.advance(_begun(world))

    assert world.pointer("a").begun
    assert [pointer.step for pointer in transition.changed] == ["a"]
    assert (transition.run, transition.stop, len(world.log)) == ([], [], announced)
    assert transition.changes.hold
    assert transition.changes.data is None


def test_a_record_can_be_taken_back() -> None:
    """A body that did not begin after all leaves its attempt as it was."""
    world = World(plan(body("a")))
    before = world.pointer("a")
    world.advance(_begun(world))

    world.advance(Begun(before.id, 1, counts=False))

    assert world.pointer("a") == before


def test_a_record_of_another_attempt_is_dropped() -> None:
    """A request to record that comes late, for an attempt that is over, changes nothing."""
    world = World(plan(body("a"), retry={"a": RetryPolicy(3, Fixed(0))}))
    late = _begun(world)
    world.fail("a")

    world.advance(late)

    assert (world.pointer("a").attempt, world.pointer("a").begun) == (2, False)


@pytest.mark.parametrize("verb", [ControlVerb.SUSPEND, ControlVerb.CANCEL])
def test_nothing_is_recorded_as_begun_when_nothing_may_begin(verb: ControlVerb) -> None:
    """A request that is read before the record keeps the body from beginning."""
    world = World(plan(body("a")))
    begun = _begun(world)

    world.advance(Control(verb), begun)

    assert not world.pointer("a").begun


@pytest.mark.parametrize(
    "answer",
    [Sleep(timedelta(seconds=1)), WaitForEvent("news", "k"), Outcome("x"), Branch((1,))],
    ids=lambda answer: type(answer).__name__,
)
def test_an_answer_ends_what_was_begun(answer: AnyResult) -> None:
    """Each answer is a result: what its step does next was not begun when it was recorded."""
    step = body("a", blocks=(block(body("b"), label="x"),), children=block(body("c")))
    world = World(plan(step))
    world.advance(_begun(world))

    world.answer("a", answer)

    assert not world.pointer("a").begun


def test_a_failure_ends_what_was_begun() -> None:
    """The next attempt has not begun when it is made ready, and not when its step failed for good."""
    world = World(plan(body("a"), retry={"a": RetryPolicy(2, Fixed(0))}))
    world.advance(_begun(world))

    world.fail("a")
    assert not world.pointer("a").begun
    world.advance(_begun(world))
    world.fail("a")

    assert not world.pointer("a").begun
    assert world.stands(WorkflowStatus.FAILED)


def test_what_died_while_suspended_counts_when_it_goes_on() -> None:
    """A suspended instance is told of the death of its host, and keeps it until it is resumed."""
    world = World(plan(body("a"), retry={"a": RetryPolicy(2, Fixed(0))}))
    world.advance(_begun(world))
    world.control(ControlVerb.SUSPEND)

    world.advance(BodyStopped(world.pointer("a").id, host_died=True))
    assert (world.pointer("a").status, world.pointer("a").begun) == (PointerStatus.PENDING, True)
    world.advance(Control(ControlVerb.RESUME), TimePassed())

    assert world.body("a").begun
    world.advance(Failed(world.body("a").id, 1, ErrorRecord("host_died", "it died")))
    assert (world.body("a").attempt, world.body("a").begun) == (2, False)


def test_a_body_held_back_by_a_suspension_has_not_begun() -> None:
    """Recorded in the very transition that suspends, the body does not begin, and nothing counts."""
    world = World(plan(body("a")))
    world.advance(_begun(world), Control(ControlVerb.SUSPEND))

    world.advance(BodyStopped(world.pointer("a").id))

    assert (world.pointer("a").status, world.pointer("a").begun) == (PointerStatus.PENDING, False)


def test_other_steps_store_nothing_of_it() -> None:
    """The pointer of a step that does not ask for it is stored as before."""
    world = World(plan(body("a"), Step(id="b", kind=StepKind.BODY, step_type="test")))

    world.answer("a", NEXT)

    assert all(b"\xa1m" not in row for row in world.rows.values())

"""Chains: bodies one after the other, outcomes, skips, jumps, the end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.engine.harness import World, block, body, plan, terminal
from wfe.model.definition import Code, Step, StepKind
from wfe.model.document import Patch
from wfe.model.instance import Head
from wfe.model.message import Started
from wfe.model.policies import Continue, Fail, Retry
from wfe.model.result import End, Next, Outcome, Skip
from wfe.model.status import LifecycleKind, WorkflowStatus


def test_an_empty_workflow_completes_at_once() -> None:
    """A plan without steps is complete in its first transition."""
    world = World(plan())

    assert world.ended
    assert world.status is WorkflowStatus.COMPLETE
    assert terminal(world.log) == [LifecycleKind.WORKFLOW_COMPLETED]


def test_bodies_of_a_chain_run_one_after_the_other() -> None:
    """The next step begins in the transition that records the one before, and takes over its row."""
    world = World(plan(body("a"), body("b")))
    assert world.runs == ["a"]

    transition = world.answer("a", x=1)

    assert world.runs == ["b"]
    assert [row.slot for row in transition.changes.pointers] == [1]
    assert transition.changes.pointers_gone == []
    assert world.data == {"x": 1}


def test_the_last_answer_ends_the_instance_in_the_same_transition() -> None:
    """No further transition is needed to end; nothing lives on."""
    world = World(plan(body("a")))

    transition = world.answer("a")

    assert transition.changes.ended
    assert transition.changes.pointers_gone == [1]
    assert world.state.pointers == {}
    assert world.kinds() == ["workflow started", "started", "succeeded", "workflow completed"]


def test_a_late_answer_is_dropped_with_what_it_changed() -> None:
    """An answer of an attempt that is over changes nothing (T5)."""
    world = World(plan(body("a"), body("b")))
    late = world.answering("a", x=1)
    world.answer("a", x=2)

    transition = world.advance(late)

    assert world.data == {"x": 2}
    assert transition.notes == []


@pytest.mark.parametrize(("wanted", "runs"), [(True, ["a"]), (False, ["b"])])
def test_when_runs_or_skips_a_step(wanted: bool, runs: list[str]) -> None:
    """`when` is asked once, when the step is reached."""
    world = World(plan(body("a", values={"when": Code()}), body("b")), {("a", "when"): lambda data, path: wanted})

    assert world.runs == runs
    assert world.asker.asked == [("a", "when")]


def test_when_is_not_asked_again_for_a_further_attempt() -> None:
    """A retry runs the body again without asking whether."""
    answers = iter([True])
    world = World(
        plan(body("a", values={"when": Code()}), error={"a": Retry(interval=1)}),
        {("a", "when"): lambda data, path: next(answers)},
    )

    world.fail("a")
    world.pass_time()

    assert world.runs == ["a"]


def test_when_that_raises_fails_its_step() -> None:
    """A condition that raises is a failure of its step, and obeys its rule."""
    step = body("a", values={"when": Code()})
    world = World(plan(step, body("b"), error={"a": Continue()}), {("a", "when"): _raises})

    assert world.runs == ["b"]
    assert [error.message for error in world.errors] == ["broken"]


def _raises(data: dict[str, Any], path: tuple[int, ...]) -> object:
    del data, path
    raise ValueError("broken")


@pytest.mark.parametrize(
    ("value", "runs"),
    [("x", ["in-x"]), (5, ["in-5"]), (5.0, ["in-5"]), ("none of them", ["otherwise"]), (True, ["otherwise"])],
)
def test_an_outcome_leads_to_its_block(value: object, runs: list[str]) -> None:
    """The block whose label equals the value is taken, else the default one. True is not 1, 5 is 5.0."""
    blocks = (
        block(body("in-x"), label="x"),
        block(body("in-5"), label=5),
        block(body("in-1"), label=1),
        block(body("otherwise"), default=True),
    )
    world = World(plan(body("a", blocks=blocks), body("b")))

    world.answer("a", Outcome(value))

    assert world.runs == runs


def test_an_outcome_without_a_block_goes_on() -> None:
    """Without a matching block and without a default the chain goes on."""
    world = World(plan(body("a", blocks=(block(body("in-x"), label="x"),)), body("b")))

    world.answer("a", Outcome("y"))

    assert world.runs == ["b"]


def test_outcomes_join_before_the_next_step() -> None:
    """After the block of an outcome the chain goes on, and the step counts as succeeded then."""
    world = World(plan(body("a", blocks=(block(body("in-x"), label="x"),)), body("b")))
    world.answer("a", Outcome("x"))

    world.answer("in-x")

    assert world.runs == ["b"]
    assert world.kinds("a") == ["started", "succeeded"]


def test_a_plain_answer_takes_the_default_outcome() -> None:
    """`next()` follows the default outcome: the next step."""
    world = World(plan(body("a", blocks=(block(body("in-x"), label="x"),)), body("b")))

    world.answer("a")

    assert world.runs == ["b"]


def test_a_body_may_skip_itself() -> None:
    """`skip(reason)` goes on, and says why."""
    world = World(plan(body("a"), body("b")))

    world.answer("a", Skip("not today"))

    assert world.runs == ["b"]
    assert [(str(each.kind), each.detail) for each in world.log if each.step == "a"][-1] == (
        "step skipped",
        "not today",
    )


def test_output_merges_after_what_the_body_changed() -> None:
    """The output of an answer wins over the copy."""
    world = World(plan(body("a"), body("b")))
    message = world.answering("a", Next({"x": 2}), x=1, y=1)

    world.advance(msgspec.structs.replace(message, output=Patch({"x": b"2"})))

    assert world.data == {"x": 2, "y": 1}


def test_go_to_makes_a_loop() -> None:
    """A step that is reached again gets a new pointer in the same row."""
    jump = Step(id="jump", kind=StepKind.SEQUENCE, go_to="a")
    again = Step(id="again", kind=StepKind.IF, blocks=(block(jump),), values={"condition": Code()})
    world = World(plan(body("a"), again, body("b")), {("again", "condition"): lambda data, path: data["n"] < 3})

    for n in range(1, 4):
        pointer = world.pointer("a")
        assert (pointer.id, pointer.slot) == (world.state.head.next_pointer - 1, pointer.slot)
        world.answer("a", n=n)

    assert world.runs == ["b"]
    assert len(world.rows) == 1


def test_go_to_out_of_nested_blocks_ends_them_without_an_outcome() -> None:
    """The blocks between a jump and its target are left; nothing of them lives on."""
    jump = body("jump", go_to="target")
    inner = Step(id="inner", kind=StepKind.SEQUENCE, blocks=(block(jump, body("after")),))
    outer = Step(id="outer", kind=StepKind.SEQUENCE, blocks=(block(inner, body("after2")),))
    world = World(plan(outer, body("between"), body("target")))

    world.answer("jump")

    assert world.live == ["target"]
    assert world.kinds("outer") == []
    world.answer("target")
    assert world.status is WorkflowStatus.COMPLETE


def test_go_to_within_a_turn_of_a_loop_keeps_the_loop() -> None:
    """A jump to a step of an enclosing block inside a loop stays in the same turn."""
    jump = Step(id="leave", kind=StepKind.SEQUENCE, blocks=(block(body("jump", go_to="end of turn")),))
    loop = Step(
        id="loop",
        kind=StepKind.WHILE,
        values={"condition": Code()},
        blocks=(block(jump, body("never"), body("end of turn")),),
    )
    world = World(plan(loop), {("loop", "condition"): lambda data, path: data.get("n", 0) < 2})

    for n in (1, 2):
        world.answer("jump")
        world.answer("end of turn", n=n)

    assert world.status is WorkflowStatus.COMPLETE
    assert world.kinds("never") == []


def test_a_step_that_is_not_wanted_does_not_jump() -> None:
    """`when` false passes over the whole step, its `go_to` too; so `when` can end a loop made by `go_to`."""
    again = body("again", go_to="a", values={"when": Code()})
    world = World(plan(body("a"), again, body("b")), {("again", "when"): lambda data, path: data["n"] < 2})

    world.answer("a", n=1)
    world.answer("again")
    world.answer("a", n=2)

    assert world.runs == ["b"]


def test_end_workflow_in_a_block_cancels_what_else_runs() -> None:
    """`end_workflow` ends the instance COMPLETE: other branches are cancelled, nothing further starts."""
    branches = Step(
        id="p",
        kind=StepKind.PARALLEL,
        blocks=(block(body("a"), Step(id="end", kind=StepKind.END), body("never")), block(body("b"), body("never2"))),
    )
    world = World(plan(branches, body("after")))

    transition = world.answer("a")

    assert world.status is WorkflowStatus.COMPLETE
    assert transition.stop
    assert world.kinds("b") == ["started", "cancelled"]
    assert world.kinds("end") == ["succeeded"]
    assert terminal(world.log) == [LifecycleKind.WORKFLOW_COMPLETED]


def test_an_answer_may_end_the_workflow() -> None:
    """`end()` is as `end_workflow`."""
    world = World(plan(body("a"), body("b")))

    world.answer("a", End(), x=1)

    assert world.status is WorkflowStatus.COMPLETE
    assert world.data == {"x": 1}


def test_a_failed_chain_goes_no_further() -> None:
    """A step that fails for good fails the workflow; its error is the workflow's."""
    world = World(plan(body("a"), body("b"), error={"a": Fail()}))

    world.fail("a", "broken")

    assert world.status is WorkflowStatus.FAILED
    assert world.state.head.error is not None
    assert world.state.head.error.message == "broken"
    assert world.live == ["a"]


def test_a_start_that_is_put_off_does_not_begin_early() -> None:
    """Whatever reaches an instance before its time, it begins at its time, once."""
    world = World(plan(body("a")), start=False, head=Head(start_at=1_700_000_060_000_000))

    early = world.decide(Started())
    assert early.changes.wake_at == 1_700_000_060_000_000
    assert early.notes == []

    world.now += 60_000_000
    world.advance(Started())
    assert world.runs == ["a"]
    assert world.decide(Started()).notes == []

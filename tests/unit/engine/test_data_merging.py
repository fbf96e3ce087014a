"""What answers do to the data."""

from __future__ import annotations

import pytest

from tests.unit.engine.harness import World, block, body, plan
from wfe.model.definition import Code, Step, StepKind
from wfe.model.document import Limits, Patch
from wfe.model.message import Answered
from wfe.model.policies import Retry
from wfe.model.result import NEXT, Branch, Next
from wfe.model.status import LifecycleKind, WorkflowStatus


def two_branches(*, strict: bool = False) -> World:
    branches = Step(id="p", kind=StepKind.PARALLEL, blocks=(block(body("a")), block(body("b"))))
    return World(plan(branches, body("c"), strict_data=strict))


def test_branches_merge_field_by_field() -> None:
    """Parallel branches do not overwrite each other's fields."""
    world = two_branches()
    late = world.answering("b", b=2)
    world.answer("a", a=1)

    world.advance(late)

    assert world.data == {"a": 1, "b": 2}
    assert world.count(LifecycleKind.DATA_OVERWRITTEN) == 0


@pytest.mark.parametrize("together", [True, False])
def test_the_later_commit_wins_and_a_warning_names_both(together: bool) -> None:
    """Whether the answers are recorded together or one after the other."""
    world = two_branches()
    first, second = world.answering("a", x=1), world.answering("b", x=2)

    if together:
        world.advance(first, second)
    else:
        world.advance(first)
        world.advance(second)

    assert world.data == {"x": 2}
    (warning,) = [record for record in world.log if record.kind is LifecycleKind.DATA_OVERWRITTEN]
    assert "'a'" in warning.detail
    assert "'b'" in warning.detail
    assert "'x'" in warning.detail


def test_strict_data_makes_it_an_error() -> None:
    """The later attempt fails, and what it changed is dropped as a whole."""
    world = two_branches(strict=True)
    first, second = world.answering("a", x=1), world.answering("b", x=2, y=2)

    world.advance(first, second)

    assert world.status is WorkflowStatus.FAILED
    assert world.data == {"x": 1}
    assert world.errors[0].code == "data_error"
    assert "'x'" in world.errors[0].message


def test_steps_of_one_chain_do_not_overwrite_each_other() -> None:
    """A body that has seen the value may change it without a warning."""
    world = World(plan(body("a"), body("b"), strict_data=True))

    world.answer("a", x=1)
    world.answer("b", x=2)

    assert world.status is WorkflowStatus.COMPLETE
    assert world.count(LifecycleKind.DATA_OVERWRITTEN) == 0


def test_removing_a_field_counts_as_writing_it() -> None:
    """A field that one branch removes and the other writes is a clash."""
    world = two_branches()
    first = world.answering("a", x=1)
    second = world.answering("b")

    world.advance(first, _with(second, Patch({}, ("x",))))

    assert world.data == {}
    assert world.count(LifecycleKind.DATA_OVERWRITTEN) == 1


def _with(message: Answered, patch: Patch) -> Answered:
    return Answered(message.pointer, message.attempt, NEXT, patch, message.base)


def test_data_beyond_the_limit_fail_the_step() -> None:
    """The error names the limit; the data are as before; a further attempt does not help."""
    world = World(plan(body("a"), error={"a": Retry(1)}), data={"x": 1}, limits=Limits(max_data_bytes=100))

    world.answer("a", text="x" * 200)

    assert world.status is WorkflowStatus.FAILED
    assert world.data == {"x": 1}
    assert "100" in world.errors[0].message


@pytest.mark.parametrize(
    "message",
    [
        Answered(1, 1, Next(), Patch({"x": b"1"}), 1, Patch({"big": b'"' + b"x" * 200 + b'"'})),
        Answered(1, 1, NEXT, Patch({"x": b"1"}), 1, values=Patch({"big": b'"' + b"x" * 200 + b'"'})),
        Answered(1, 1, Branch((1,)), Patch({"x": b"1"}), 1, values=Patch({"v": b"1"})),
    ],
    ids=["output", "values", "branch"],
)
def test_what_a_failed_attempt_wrote_is_dropped_as_a_whole(message: Answered) -> None:
    """Also what could be merged before the rest of the answer turned out impossible."""
    world = World(plan(body("a"), body("b")), limits=Limits(max_data_bytes=100))

    world.advance(message)

    assert world.status is WorkflowStatus.FAILED
    assert world.data == {}
    assert world.state.values == b"{}"


def test_values_are_kept_beside_the_data() -> None:
    """Context values are merged key by key."""
    world = World(plan(body("a"), body("b")))

    world.advance(Answered(1, 1, NEXT, None, 1, values=Patch({"v": b"1"})))

    assert world.state.values == b'{"v":1}'
    assert world.data == {}


def test_a_transition_that_changes_no_data_writes_none() -> None:
    """Nor values."""
    world = World(plan(body("a"), body("b")))

    transition = world.answer("a")

    assert transition.changes.data is None
    assert transition.changes.values is None


@pytest.mark.parametrize("outputs", [5, {"_wfe_x": 1}, {"x": float("nan")}, {"x": object()}])
def test_outputs_of_a_child_that_cannot_be_stored_fail_the_step(outputs: object) -> None:
    """No mapping, a reserved name, no JSON value."""
    step = Step(id="c", kind=StepKind.SUB_WORKFLOW, options={"definition_id": "x"}, values={"outputs": Code()})
    world = World(plan(step), {("c", "outputs"): lambda data, path: outputs})

    world.child_ended("i~1.1.0")

    assert world.status is WorkflowStatus.FAILED
    assert world.data == {}

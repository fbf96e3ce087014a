"""Containers: branches that overlap, loops, choices, joins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.engine.harness import World, block, body, plan
from wfe.model.definition import Block, Code, Field, Literal, Step, StepKind
from wfe.model.document import Limits
from wfe.model.message import ControlVerb, TimePassed
from wfe.model.policies import Continue, Retry
from wfe.model.result import Branch
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus


def parallel(step_id: str, *blocks: Block, **options: object) -> Step:
    return Step(id=step_id, kind=StepKind.PARALLEL, blocks=blocks, options=options)


def each(step_id: str, items: object, inner: Block, **options: object) -> Step:
    return Step(
        id=step_id, kind=StepKind.FOR_EACH, blocks=(inner,), values={"collection": Literal(items)}, options=options
    )


def test_branches_of_a_parallel_run_at_the_same_time_and_join() -> None:
    """All begin in one transition; what follows begins when the last has ended, once."""
    world = World(plan(parallel("p", block(body("a")), block(body("b"))), body("c")))
    assert world.runs == ["a", "b"]

    world.answer("a")
    assert world.runs == ["b"]
    world.answer("b")

    assert world.runs == ["c"]
    assert world.live == ["c"]


def test_answers_of_several_branches_make_one_transition() -> None:
    """Answers that are ready together are recorded together, each with its data."""
    world = World(plan(parallel("p", block(body("a")), block(body("b"))), body("c")))

    transition = world.advance(world.answering("a", a=1), world.answering("b", b=2))

    assert world.runs == ["c"]
    assert world.data == {"a": 1, "b": 2}
    assert world.state.revision == 2
    assert len(transition.changes.pointers) == 1


def test_a_parallel_without_steps_is_passed() -> None:
    """Empty branches end at once."""
    world = World(plan(parallel("p"), parallel("q", block(), block()), body("c")))

    assert world.runs == ["c"]


def test_siblings_of_a_failed_branch_run_on_and_are_awaited() -> None:
    """The container fails when its last branch has ended; it adds no error of its own."""
    world = World(plan(parallel("p", block(body("a")), block(body("b"), body("b2"))), body("never")))

    world.fail("a", "broken")
    assert world.stands(WorkflowStatus.RUNNABLE)
    world.answer("b")
    world.answer("b2", late=1)

    assert world.stands(WorkflowStatus.FAILED)
    assert world.data == {"late": 1}
    assert [error.message for error in world.errors] == ["broken"]
    assert world.kinds("never") == []


def test_fail_fast_cancels_the_siblings() -> None:
    """With `fail_fast` the others are stopped at once and announced as cancelled."""
    world = World(plan(parallel("p", block(body("a")), block(body("b")), fail_fast=True)))
    running = world.pointer("b").id

    transition = world.fail("a")

    assert world.stands(WorkflowStatus.FAILED)
    assert transition.stop == [running]
    assert world.kinds("b") == ["started", "cancelled"]


def test_fail_fast_takes_back_branches_that_were_about_to_begin() -> None:
    """A branch that fails as it begins stops those that would have begun in the same transition, and their children."""
    broken = Step(id="broken", kind=StepKind.IF, values={"condition": Code()}, blocks=(block(),))
    child = Step(id="child", kind=StepKind.SUB_WORKFLOW, options={"definition_id": "other"})

    world = World(
        plan(
            parallel("p", block(child), block(broken), block(body("a")), fail_fast=True),
            body("after"),
            error={"p": Continue()},
        ),
        {("broken", "condition"): _raises},
    )

    assert world.runs == ["after"]
    assert world.live == ["after"]
    assert world.children == []


def test_a_container_that_is_tried_again_has_only_its_new_branches() -> None:
    """`on_error(Retry)` on a container with `fail_fast`: moves of the failed attempt do not reach into the next one."""
    answers = iter([True, False])
    flaky = Step(id="flaky", kind=StepKind.IF, values={"condition": Code()}, blocks=(block(),))

    def once_broken(data: dict[str, Any], path: tuple[int, ...]) -> bool:
        if next(answers):
            raise ValueError("broken")
        return True

    world = World(
        plan(
            parallel("p", block(flaky), block(body("a")), block(body("b")), fail_fast=True),
            body("after"),
            error={"p": Retry(interval=0, max_retries=1)},
        ),
        {("flaky", "condition"): once_broken},
    )

    assert world.runs == ["a", "b"]
    world.answer("a")
    world.answer("b")
    assert world.runs == ["after"]


def _raises(data: dict[str, Any], path: tuple[int, ...]) -> object:
    del data, path
    raise ValueError("broken")


def test_failures_in_a_branch_that_is_cut_short_stay_to_be_seen() -> None:
    """A sibling that holds a failed step when it is cut short counts as failed; nothing loses its container."""
    inner = parallel("inner", block(body("x")), block(body("y")))
    wrapped = Step(id="wrapped", kind=StepKind.SEQUENCE, blocks=(block(inner),))
    world = World(plan(parallel("p", block(wrapped), block(body("a")), fail_fast=True)))
    world.fail("x", "first")

    world.fail("a", "second")

    assert world.stands(WorkflowStatus.FAILED)
    assert sorted(world.live) == ["a", "inner", "p", "wrapped", "x"]
    assert {p.status for p in world.state.pointers.values()} == {PointerStatus.FAILED}


@pytest.mark.parametrize(("wanted", "runs"), [(True, ["yes"]), (False, ["no"])])
def test_if_takes_one_of_its_blocks(wanted: bool, runs: list[str]) -> None:
    """The condition chooses between the block and `else`."""
    step = Step(id="if", kind=StepKind.IF, values={"condition": Code()}, blocks=(block(body("yes")), block(body("no"))))
    world = World(plan(step), {("if", "condition"): lambda data, path: wanted})

    assert world.runs == runs


def test_if_without_else_goes_on() -> None:
    """Nothing to do is done at once."""
    step = Step(id="if", kind=StepKind.IF, values={"condition": Code()}, blocks=(block(body("yes")),))
    world = World(plan(step, body("b")), {("if", "condition"): lambda data, path: False})

    assert world.runs == ["b"]


def test_a_condition_that_is_neither_true_nor_false_fails_its_step() -> None:
    """An answer whose truth cannot be told (a condition object, an array) fails the step, not the engine."""

    class Undecided:
        def __bool__(self) -> bool:
            raise TypeError("neither")

    step = Step(id="if", kind=StepKind.IF, values={"condition": Code()}, blocks=(block(body("yes")),))
    world = World(plan(step), {("if", "condition"): lambda data, path: Undecided()})

    assert world.stands(WorkflowStatus.FAILED)
    assert "neither" in world.errors[0].message


def test_while_reads_its_condition_before_each_turn() -> None:
    """No turn without it; each finished turn leaves nothing behind."""
    step = Step(id="w", kind=StepKind.WHILE, values={"condition": Code()}, blocks=(block(body("a")),))
    world = World(plan(step, body("b")), {("w", "condition"): lambda data, path: data.get("n", 0) < 3})

    for n in (1, 2, 3):
        assert world.runs == ["a"]
        assert len(world.rows) == 2
        world.answer("a", n=n)

    assert world.runs == ["b"]
    assert world.asker.asked == [("w", "condition")] * 4


def test_a_loop_whose_turns_run_nothing_does_not_hold_up_the_host() -> None:
    """A decision ends after a bounded number of turns and asks to be made again."""
    turns = iter(range(5000))
    step = Step(id="w", kind=StepKind.WHILE, values={"condition": Code()}, blocks=(block(),))
    world = World(plan(step, body("b")), {("w", "condition"): lambda data, path: next(turns) < 4500})

    assert world.runs == ["b"]
    assert world.state.revision >= 3


def test_a_loop_of_a_suspended_instance_reads_its_condition_when_resumed() -> None:
    """Nothing begins while suspended, no turn either."""
    step = Step(id="w", kind=StepKind.WHILE, values={"condition": Code()}, blocks=(block(body("a")),))
    world = World(plan(step), {("w", "condition"): lambda data, path: data.get("n", 0) < 2})
    world.control(ControlVerb.SUSPEND)

    world.answer("a", n=1)
    assert world.asker.asked == [("w", "condition")]
    world.reload()
    world.control(ControlVerb.RESUME)

    assert world.runs == ["a"]


def test_for_each_runs_its_block_once_per_item() -> None:
    """In parallel by default; the item and its index are at hand by the pointer's place."""
    world = World(plan(each("f", ["x", "y", "z"], block(body("a"))), body("b")))

    assert world.runs == ["a"] * 3
    pointers = [world.state.pointers[number] for number in sorted(world.running)]
    assert [world.path(pointer) for pointer in pointers] == [(0,), (1,), (2,)]
    assert [world.state.item(pointer.scope, pointer.index) for pointer in pointers] == [b'"x"', b'"y"', b'"z"']
    for pointer in pointers:
        world.answer(pointer.id)
    assert world.runs == ["b"]
    assert world.items == {}


def test_an_empty_for_each_goes_on() -> None:
    """No item, no branch."""
    world = World(plan(each("f", [], block(body("a"))), body("b")))

    assert world.runs == ["b"]


def test_for_each_in_order_runs_one_item_after_the_other() -> None:
    """The next item begins when the one before has ended, in its row."""
    world = World(plan(each("f", [1, 2, 3], block(body("a")), parallel=False), body("b")))

    for index in range(3):
        assert [world.path(world.pointer("a")), world.runs] == [(index,), ["a"]]
        assert len(world.rows) == 2
        world.answer("a")

    assert world.runs == ["b"]


def test_for_each_in_order_stops_at_a_failure() -> None:
    """Items after the failed one do not begin."""
    world = World(plan(each("f", [1, 2, 3], block(body("a")), parallel=False)))

    world.answer("a")
    world.fail("a")

    assert world.stands(WorkflowStatus.FAILED)
    assert world.kinds("a").count("started") == 2


def test_max_parallel_bounds_the_items_at_a_time() -> None:
    """At most so many branches are open; the next begins as one ends. A failure does not stop the others."""
    world = World(plan(each("f", list(range(5)), block(body("a")), max_parallel=2)))

    seen = []
    world.fail("a")
    while not world.ended:
        seen.append(len(world.runs))
        world.answer("a")

    assert max(seen) == 2
    assert world.kinds("a").count("started") == 5
    assert world.stands(WorkflowStatus.FAILED)


def test_the_collection_is_read_once() -> None:
    """Changing the data later does not change what the loop walks."""
    step = Step(id="f", kind=StepKind.FOR_EACH, blocks=(block(body("a")),), values={"collection": Field("items")},
                options={"parallel": False})  # fmt: skip
    world = World(plan(step), data={"items": [1, 2]})

    world.answer("a", items=[])
    world.answer("a")

    assert world.kinds("a").count("started") == 2
    assert world.stands(WorkflowStatus.COMPLETE)


@pytest.mark.parametrize("collection", ["text", {"a": 1}, 5, None])
def test_what_is_no_collection_fails_the_step(collection: object) -> None:
    """Text, a mapping, a number: a failure that names what was found."""
    world = World(plan(each("f", collection, block(body("a")))))

    assert world.stands(WorkflowStatus.FAILED)
    assert type(collection).__name__ in world.errors[0].message


def test_a_generator_that_raises_fails_the_step() -> None:
    """Items are made by user code; what it raises is a failure of the step."""

    def items(data: dict[str, Any], path: tuple[int, ...]) -> Any:
        yield 1
        raise ValueError("broken")

    step = Step(id="f", kind=StepKind.FOR_EACH, blocks=(block(body("a")),), values={"collection": Code()})
    world = World(plan(step), {("f", "collection"): items})

    assert world.stands(WorkflowStatus.FAILED)
    assert "broken" in world.errors[0].message


def test_conditions_inside_loops_see_the_item() -> None:
    """A question carries the loops around it, nearest first, also in the transition that began the loop."""
    inner = each("inner", [5, 6], block(body("a", values={"when": Code()})))
    seen: list[tuple[int, ...]] = []

    def when(data: dict[str, Any], path: tuple[int, ...]) -> bool:
        seen.append(path)
        return False

    World(plan(each("outer", [1, 2], block(inner))), {("a", "when"): when})

    assert sorted(seen) == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("value", "runs"),
    [(5, ["five"]), (5.0, ["five"]), ("x", ["text"]), (None, ["other"]), (False, ["other"]), (0, ["zero"])],
)
def test_decide_takes_the_first_equal_label(value: object, runs: list[str]) -> None:
    """Equality by value; true is not 1; else the default."""
    blocks = (
        block(body("five"), label=5),
        block(body("again"), label=5.0),
        block(body("text"), label="x"),
        block(body("zero"), label=0),
        block(body("other"), default=True),
    )
    world = World(plan(Step(id="d", kind=StepKind.DECIDE, blocks=blocks, values={"selector": Literal(value)})))

    assert world.runs == runs


def test_decide_without_match_goes_on() -> None:
    """No match and no default: on with the chain."""
    step = Step(id="d", kind=StepKind.DECIDE, blocks=(block(body("x"), label=1),), values={"selector": Literal(2)})
    world = World(plan(step, body("b")))

    assert world.runs == ["b"]


def test_a_selector_that_cannot_be_compared_fails_the_step() -> None:
    """What its comparison raises is a failure of the step."""

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("odd")

        __hash__ = object.__hash__

    step = Step(id="d", kind=StepKind.DECIDE, blocks=(block(body("x"), label=1),), values={"selector": Code()})
    world = World(plan(step), {("d", "selector"): lambda data, path: Odd()})

    assert world.stands(WorkflowStatus.FAILED)


def test_blocks_nest_without_limit() -> None:
    """500 levels of containers join one after the other, without deep calls."""
    inner = block(body("a"))
    for level in range(500):
        inner = block(Step(id=f"s{level}", kind=StepKind.SEQUENCE, blocks=(inner,)))
    world = World(plan(*inner.steps, body("b")))

    world.answer("a")

    assert world.live == ["b"]


def test_a_body_runs_its_children_once_per_value_and_then_again() -> None:
    """`branch(values, data)`: the children run, then the body runs again with what it persisted."""
    world = World(plan(body("a", children=block(body("c"))), body("b")))

    world.answer("a", Branch((10, 20), {"stage": 1}))
    assert world.runs == ["c", "c"]
    assert [world.path(world.state.pointers[number]) for number in sorted(world.running)] == [(0,), (1,)]
    world.answer("c")
    world.answer("c")

    assert world.runs == ["a"]
    assert json.loads(world.pointer("a").persisted) == {"stage": 1}
    world.answer("a")
    assert world.runs == ["b"]


def test_a_body_that_branches_twice_has_the_values_of_the_second_time() -> None:
    """The values of an earlier branching are not mixed with those of a later one."""
    world = World(plan(body("a", children=block(body("c")))))
    world.answer("a", Branch((10, 20)))
    assert world.state.item(world.pointer("a").id, 1) == b"20"
    world.answer("c")
    world.answer("c")

    world.answer("a", Branch((30, 40)))

    assert world.state.item(world.pointer("a").id, 1) == b"40"


def test_branch_without_children_fails_the_step_and_drops_its_data() -> None:
    """The answer cannot be carried out: the attempt failed, and what it changed does not count."""
    world = World(plan(body("a")))

    world.answer("a", Branch((1,)), x=1)

    assert world.stands(WorkflowStatus.FAILED)
    assert world.data == {}


def test_children_that_fail_fail_the_attempt_of_their_body() -> None:
    """The body's own rule decides: here it runs again and branches anew."""
    world = World(plan(body("a", children=block(body("c"))), error={"a": Retry(interval=1, max_retries=1)}))
    world.answer("a", Branch((1, 2)))
    world.fail("c")
    world.answer("c")

    world.pass_time()
    assert world.runs == ["a"]
    world.answer("a", Branch((1,)))
    world.answer("c")
    world.answer("a")

    assert world.stands(WorkflowStatus.COMPLETE)


def test_a_wide_loop_begins_in_portions_that_survive_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop wider than one transition may be goes on in the next, also when its host dies in between."""
    monkeypatch.setattr("wfe.engine.transition.MAX_DECISIONS", 10)
    world = World(plan(each("f", list(range(25)), block(body("a"))), body("b")), start=False)
    from wfe.model.message import Started

    first = world.once(Started())
    assert first.again
    assert 0 < len(world.runs) < 25
    world.state = world.loaded(world.head_bytes)
    world.advance(TimePassed())

    assert len(world.runs) == 25
    while world.runs[0] == "a":
        world.answer("a")
    assert world.runs == ["b"]


def test_an_instance_stays_below_its_limit_of_live_pointers() -> None:
    """A loop opens only as many branches as there may be pointers, and goes on as they end."""
    world = World(plan(each("f", list(range(100)), block(body("a")))), limits=Limits(max_live_pointers=20))
    most = 0

    while not world.ended:
        most = max(most, len(world.state.pointers))
        world.answer("a")

    assert most <= 20
    assert world.kinds("a").count("started") == 100


def test_a_loop_that_cannot_begin_for_the_limit_fails_with_a_reason() -> None:
    """Where nothing can end to make room, the step fails and names the limit."""
    deep = each("inner", [1, 2, 3], block(body("a")))
    world = World(plan(each("f", [1, 2, 3, 4, 5], block(deep))), limits=Limits(max_live_pointers=6))

    while not world.ended:
        world.answer("a")

    assert world.stands(WorkflowStatus.FAILED)
    assert "6 live pointers" in world.errors[0].message


def test_end_is_announced_once_for_every_step_that_began() -> None:
    """A body whose outcome's block is cut short is announced as cancelled."""
    a = body("a", blocks=(block(body("x")), block(body("in"), label="in")))
    world = World(plan(parallel("p", block(a), block(body("b")), fail_fast=True)))
    from wfe.model.result import Outcome

    world.answer("a", Outcome("in"))
    world.fail("b")

    assert world.kinds("a") == ["started", "cancelled"]
    assert world.count(LifecycleKind.WORKFLOW_FAILED) == 1

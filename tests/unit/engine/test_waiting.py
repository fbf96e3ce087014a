"""Waits: timers, events, children."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.engine.harness import SECOND, T0, World, block, body, plan
from wfe.engine.inbox import pack, unpack
from wfe.model.definition import Code, Literal, Step, StepKind
from wfe.model.message import ChildEnded, Control, ControlVerb, EventMatched, TimePassed
from wfe.model.policies import Continue, Retry, Suspend
from wfe.model.result import Persist, Sleep, SleepUntil, WaitForEvent
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus
from wfe.ports.store import InboxRow, ParentLink, Subscribe


def delay(value: object) -> Step:
    return Step(id="d", kind=StepKind.DELAY, values={"duration": Code()})


def wait(step_id: str = "w", *, timeout: float | None = None, **values: object) -> Step:
    slots = {"event_name": "paid", "event_key": "7", **values}
    return Step(
        id=step_id,
        kind=StepKind.WAIT_FOR,
        values={name: Literal(value) for name, value in slots.items()},
        options={} if timeout is None else {"timeout_us": int(timeout * SECOND)},
    )


def child(**options: object) -> Step:
    return Step(id="c", kind=StepKind.SUB_WORKFLOW, options={"definition_id": "other", **options})


@pytest.mark.parametrize("value", [90, 90.0, "1m30s", timedelta(seconds=90)])
def test_a_delay_sleeps_as_a_row_with_a_wake_time(value: object) -> None:
    """Nothing is held in memory for it; it ends at its time, not before."""
    world = World(plan(delay(value), body("b")), {("d", "duration"): lambda data, path: value})
    assert world.last is not None
    assert (world.last.changes.hold, world.last.changes.wake_at) == (False, T0 + 90 * SECOND)

    world.pass_time(89.999999)
    assert world.runs == []
    world.pass_time(0.000001)

    assert world.runs == ["b"]


def test_a_delay_until_a_past_time_is_over_at_once() -> None:
    """So is one of nothing."""
    past = datetime(2000, 1, 1, tzinfo=UTC)
    world = World(plan(delay(past), body("b")), {("d", "duration"): lambda data, path: past})

    assert world.runs == ["b"]


@pytest.mark.parametrize("value", ["soon", None, True, float("nan"), datetime(2030, 1, 1), [1]])  # noqa: DTZ001
def test_what_is_no_duration_fails_the_step(value: object) -> None:
    """A naive datetime too."""
    world = World(plan(delay(value)), {("d", "duration"): lambda data, path: value})

    assert world.status is WorkflowStatus.FAILED
    assert world.errors[0].code == "data_error"


def test_a_sleep_longer_than_time_is_cut() -> None:
    """The wake time stays one that every store and datetime can hold."""
    world = World(plan(body("a")))

    transition = world.answer("a", Sleep(timedelta.max))

    assert transition.changes.wake_at is not None
    assert transition.changes.wake_at < 2**63


@pytest.mark.parametrize("when", [datetime(1970, 1, 1, tzinfo=UTC), datetime(1950, 1, 1, tzinfo=UTC)])
def test_a_sleep_until_long_ago_is_due_at_once(when: datetime) -> None:
    """Also the very beginning of time, which is no "never"."""
    world = World(plan(body("a")))
    world.answer("a", SleepUntil(when))

    world.pass_time(0)

    assert world.runs == ["a"]


def test_sleep_runs_the_body_again_with_what_it_kept() -> None:
    """The same pointer and attempt, its data persisted."""
    world = World(plan(body("a")))
    before = world.pointer("a")

    world.answer("a", Sleep(timedelta(seconds=1), {"stage": 1}), x=1)
    world.pass_time()

    after = world.pointer("a")
    assert (after.id, after.attempt, after.persisted) == (before.id, 1, b'{"stage": 1}')
    assert world.data == {"x": 1}


def test_persist_polls_ever_more_seldom() -> None:
    """Without children: after the first pause, doubling to a minute; a wait or another answer begins anew."""
    world = World(plan(body("a")))
    pauses = []
    for _ in range(8):
        before = world.now
        world.answer("a", Persist({"n": 1}))
        world.pass_time()
        pauses.append((world.now - before) // SECOND)

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    world.answer("a", WaitForEvent("e", "k"))
    world.event()
    before = world.now
    world.answer("a", Persist({"n": 1}))
    world.pass_time()
    assert world.now - before == SECOND


def test_timers_fire_in_due_order() -> None:
    """Those that came due together act earliest first, whatever their pointers."""
    steps = [Step(id=f"d{n}", kind=StepKind.DELAY, values={"duration": Literal(n)}) for n in (3, 1, 2)]
    branches = Step(
        id="p", kind=StepKind.PARALLEL, blocks=tuple(block(each, body(f"after-{each.id}")) for each in steps)
    )
    world = World(plan(branches))

    world.pass_time(10)

    started = [record.step for record in world.log if record.kind is LifecycleKind.STEP_STARTED]
    assert started == ["after-d1", "after-d2", "after-d3"]


def test_a_wait_subscribes_and_goes_on_with_its_event() -> None:
    """Position by default; the payload goes into the field named."""
    step = Step(
        id="w",
        kind=StepKind.WAIT_FOR,
        values={"event_name": Literal("paid"), "event_key": Code()},
        options={"output": "payment"},
    )
    world = World(plan(step, body("b")), {("w", "event_key"): lambda data, path: 7})
    (subscription,) = world.subscriptions.values()
    assert (subscription.name, subscription.key, subscription.as_of) == ("paid", "7", None)

    transition = world.event({"amount": 5})

    assert world.data == {"payment": {"amount": 5}}
    assert world.runs == ["b"]
    assert transition.changes.positions == [("paid", "7", 1)]


def test_as_of_is_a_time_or_any() -> None:
    """`any` is the beginning of time."""
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    world = World(
        plan(
            Step(
                id="p",
                kind=StepKind.PARALLEL,
                blocks=(block(wait("w1", as_of="any")), block(wait("w2", as_of={"at": moment.isoformat()}))),
            )
        )
    )

    assert [each.as_of for each in world.subscriptions.values()] == [0, int(moment.timestamp()) * SECOND]


@pytest.mark.parametrize(
    ("slot", "value"),
    [
        ("event_name", None),
        ("event_key", ""),
        ("event_key", None),
        ("event_key", "a\x00b"),
        ("event_key", "\ud800"),
        ("as_of", "yesterday"),
        ("as_of", datetime(2024, 1, 1)),  # noqa: DTZ001
    ],
)
def test_a_wait_that_no_event_could_end_fails(slot: str, value: object) -> None:
    """An empty or impossible name or key, or a time that is none, is a failure, not a wait for ever."""
    step = Step(
        id="w",
        kind=StepKind.WAIT_FOR,
        values={"event_name": Literal("e"), "event_key": Literal("k"), slot: Code()},
    )
    world = World(plan(step), {("w", slot): lambda data, path: value})

    assert world.status is WorkflowStatus.FAILED
    assert world.subscriptions == {}


def test_an_event_for_an_earlier_wait_is_dropped() -> None:
    """A wait has a number; an event that was matched for another one changes nothing."""
    world = World(plan(wait(timeout=1), body("b"), error={"w": Retry(0)}))
    early = world.matching()
    world.subscriptions[early.pointer, early.wait] = Subscribe(early.pointer, early.wait, early.name, early.key)
    world.pass_time()

    transition = world.advance(early)

    assert transition.notes == []
    assert world.runs == []


def test_a_wait_whose_event_could_not_be_stored_waits_for_another_one() -> None:
    """Resumed, it does not fail with the same event again."""
    step = Step(
        id="w",
        kind=StepKind.WAIT_FOR,
        values={"event_name": Literal("paid"), "event_key": Literal("7")},
        options={"output": "_wfe_reserved"},
    )
    world = World(plan(step, error={"w": Suspend()}))
    world.event({"amount": 5})
    assert world.stands(WorkflowStatus.SUSPENDED)

    world.control(ControlVerb.RESUME)

    assert len(world.subscriptions) == 1
    assert len(world.errors) == 1


def test_an_event_beside_its_timeout_wins_when_it_is_here() -> None:
    """Messages come before time: what has happened was before a timeout that is not recorded."""
    world = World(plan(wait(timeout=1), body("b")))
    event = world.matching()
    world.now += 5 * SECOND

    world.advance(event, TimePassed())

    assert world.runs == ["b"]
    assert world.errors == []


def test_a_timeout_requires_its_subscription() -> None:
    """The store refuses the transition when the event was first."""
    world = World(plan(wait(timeout=1)))

    transition = world.pass_time()

    assert [(each.required, each.pointer) for each in transition.changes.unsubscribe] == [(True, 1)]
    assert world.status is WorkflowStatus.FAILED


def test_a_body_that_waited_has_the_payload() -> None:
    """It runs again with `event_data`; a later run without event has none."""
    world = World(plan(body("a")))

    world.answer("a", WaitForEvent("paid", "7"))
    world.event({"amount": 5})
    assert world.pointer("a").event == b'{"amount": 5}'
    world.answer("a", Sleep(timedelta(seconds=1)))
    world.pass_time()

    assert world.pointer("a").event == b""


def test_an_event_during_suspension_is_kept() -> None:
    """Events accumulate; the step goes on when the instance does, also after a crash."""
    world = World(plan(wait(), body("b")))
    world.control(ControlVerb.SUSPEND)

    world.event({"amount": 5})
    assert world.pointer("w").status is PointerStatus.PENDING
    world.reload()
    world.control(ControlVerb.RESUME)

    assert world.runs == ["b"]


def test_a_timer_during_suspension_fires_when_resumed() -> None:
    """Timers are kept; those that came due act at once."""
    world = World(plan(Step(id="d", kind=StepKind.DELAY, values={"duration": Literal(1)}), body("b")))
    world.control(ControlVerb.SUSPEND)
    world.pass_time(5)
    assert world.runs == []

    world.control(ControlVerb.RESUME)

    assert world.runs == ["b"]


def test_a_child_is_started_with_an_id_derived_from_its_pointer() -> None:
    """The same decision starts the same child: a repeat starts none."""
    world = World(plan(child(), body("b")))

    (start,) = world.children
    assert start.id == "i~1.1.0"
    assert start.parent == ParentLink("i", 1, "cancel")
    assert world.pointer("c").status is PointerStatus.WAITING_FOR_EVENT


def test_a_child_that_completes_gives_its_outputs() -> None:
    """The parent's step ends as the child ends."""
    step = child()
    step = Step(id="c", kind=StepKind.SUB_WORKFLOW, options=step.options, values={"outputs": Code()})
    world = World(plan(step, body("b")), {("c", "outputs"): lambda data, path: {"result": data["n"]}})

    world.child_ended("i~1.1.0", n=5)

    assert world.data == {"result": 5}
    assert world.runs == ["b"]


@pytest.mark.parametrize(
    "status",
    [WorkflowStatus.FAILED, WorkflowStatus.CANCELLED, WorkflowStatus.TERMINATED, WorkflowStatus.COMPENSATED],
)
def test_a_child_that_ends_otherwise_fails_the_step(status: WorkflowStatus) -> None:
    """`ChildWorkflowFailed` goes to the step's rule; one error in the parent."""
    world = World(plan(child(), body("b"), error={"c": Continue()}))

    world.child_ended("i~1.1.0", status, error="broken")

    assert world.runs == ["b"]
    assert [error.code for error in world.errors] == ["child_workflow_failed"]
    assert "broken" in world.errors[0].message


def test_a_further_attempt_starts_another_child() -> None:
    """The child that failed is not the child of the next attempt."""
    world = World(plan(child(), error={"c": Retry(1)}))
    world.child_ended("i~1.1.0", WorkflowStatus.FAILED)

    world.pass_time()

    assert [start.id for start in world.children] == ["i~1.1.0", "i~1.1.1"]


def test_a_child_that_ends_during_suspension_is_not_started_again() -> None:
    """Its end is kept with the pointer, and taken up when the instance goes on, also after a crash."""
    step = Step(id="c", kind=StepKind.SUB_WORKFLOW, options={"definition_id": "other"}, values={"outputs": Code()})
    world = World(plan(step, body("b")), {("c", "outputs"): lambda data, path: {"result": data["n"]}})
    world.control(ControlVerb.SUSPEND)
    world.child_ended("i~1.1.0", n=5)
    world.reload()

    world.control(ControlVerb.RESUME)

    assert len(world.children) == 1
    assert (world.data, world.runs) == ({"result": 5}, ["b"])


def test_a_child_that_takes_too_long_fails_the_step_and_is_cancelled() -> None:
    """A step's timeout limits a child too."""
    world = World(plan(child(), body("b"), timeout={"c": timedelta(seconds=5)}, error={"c": Continue()}))

    transition = world.pass_time()

    assert transition.changes.wake_at == 0
    assert world.errors[0].code == "step_timeout"
    assert world.runs == ["b"]
    assert [(target, _unpacked(message).verb) for target, message in world.messages] == [
        ("i~1.1.0", ControlVerb.CANCEL)
    ]


def _unpacked(message: bytes) -> Control:
    found = unpack(InboxRow(1, "x", message))
    assert isinstance(found, Control)
    return found


def test_a_child_of_a_branch_that_is_cut_short_is_cancelled() -> None:
    """Nobody waits for it any more; with `abandon` it is left alone."""
    other = Step(id="c2", kind=StepKind.SUB_WORKFLOW, options={"definition_id": "x", "on_parent_end": "abandon"})
    branches = Step(
        id="p",
        kind=StepKind.PARALLEL,
        blocks=(block(child()), block(other), block(body("a"))),
        options={"fail_fast": True},
    )
    world = World(plan(branches, body("b"), error={"p": Continue()}))
    first = world.children[0].id

    world.fail("a")

    assert [target for target, _ in world.messages] == [first]


def test_the_end_tells_the_parent_and_the_children() -> None:
    """One message to the parent with status, data and error; the children are cancelled."""
    world = World(plan(body("a"), child()))
    world.state.parent = ParentLink("parent", 3)

    transition = world.fail("a", "broken")

    ((target, message),) = world.messages
    told = unpack(InboxRow(1, "x", message))
    assert target == "parent"
    assert isinstance(told, ChildEnded)
    assert (told.pointer, told.child_id, told.status) == (3, "i", WorkflowStatus.FAILED)
    assert told.error is not None
    assert transition.changes.cancel_children is not None


def test_the_end_tells_nobody_where_there_can_be_no_children() -> None:
    """A definition without sub-workflows costs its end no look for children."""
    world = World(plan(body("a")))

    transition = world.fail("a", "broken")

    assert transition.changes.ended
    assert transition.changes.cancel_children is None


def test_messages_are_packed_and_unpacked() -> None:
    """What is stored in an inbox comes out as it went in."""
    for message in (Control(ControlVerb.CANCEL, "why"), ChildEnded(3, "c", WorkflowStatus.FAILED, b'{"a":1}')):
        assert unpack(InboxRow(1, "x", pack(message))) == message
    row = InboxRow(1, "x", None, pointer=1, wait=2, sequence=3, name="n", key="k", payload=b"5")
    assert unpack(row) == EventMatched(1, 2, 3, b"5", "n", "k")

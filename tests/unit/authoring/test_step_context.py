from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import pytest

from wfe.model.context import UNTOUCHED, LoopFrame, StepExecutionContext, StepInfo, WorkflowInfo
from wfe.model.errors import Cancelled, ContextValueNotFound, DataError
from wfe.model.status import WorkflowStatus

INFO = WorkflowInfo("i-1", None, "orders", 1, None, WorkflowStatus.RUNNABLE, datetime(2030, 1, 1, tzinfo=UTC), 1)


@dataclass
class Order:
    amount: int = 0


@dataclass
class Source:
    """Gives what each test says."""

    load_data: Callable[[], Order] = Order
    load_workflow: Callable[[], WorkflowInfo] = lambda: INFO
    load_values: Callable[[], dict[str, Any]] = dict
    load_loops: Callable[[], list[LoopFrame]] = list
    write_log: Callable[[str, str], None] = lambda _stream, _text: None
    beat: Callable[[object], None] = lambda _details: None


def make(**given: Any) -> StepExecutionContext[Order]:
    asked = {field.name for field in fields(Source)}
    source = Source(**{name: value for name, value in given.items() if name in asked})
    rest = {name: value for name, value in given.items() if name not in asked}
    settings: dict[str, Any] = {"step": StepInfo("pay", "Payment", {"currency": "EUR"}), "pointer_id": "7"}
    return StepExecutionContext(source, **settings | rest)


def refuse() -> Any:
    raise AssertionError("nothing is decoded before the body looks at it")


def test_nothing_is_loaded_by_making_a_context() -> None:
    """Making a context decodes nothing, and what a body never looked at is untouched."""
    context = make(
        load_data=refuse, load_workflow=refuse, load_values=refuse, load_loops=refuse, persisted=b"bad", event=b"bad"
    )

    assert context.taken_data is UNTOUCHED
    assert context.taken_values is UNTOUCHED


def test_data_is_one_copy() -> None:
    """Every look at the data gives the same copy, which the host reads back."""
    context = make()

    context.data.amount = 5

    assert context.taken_data == Order(5)
    assert context.data is context.taken_data


def test_assigning_data_replaces_it() -> None:
    """An assigned object is what the host reads back; the stored data is not even decoded."""
    context = make(load_data=refuse)

    context.data = Order(9)

    assert context.taken_data == Order(9)


def test_values_are_one_copy() -> None:
    """Values changed by the body are what the host reads back."""
    context = make(load_values=lambda: {"a": 1})

    context.values["b"] = 2

    assert context.taken_values == {"a": 1, "b": 2}


def test_a_value_is_given_as_the_type_asked_for() -> None:
    """`value` converts, names a value that nobody set, and says where one has another type."""
    context = make(load_values=lambda: {"limits": {"max": 3}, "bad": {"max": "x"}})

    assert context.value("limits", dict[str, int]) == {"max": 3}
    with pytest.raises(ContextValueNotFound, match=r"'missing'.*bad, limits"):
        context.value("missing", int)
    with pytest.raises(DataError, match="bad") as caught:
        context.value("bad", dict[str, int])
    assert caught.value.path == "$.bad"


def test_the_idempotency_key_names_instance_and_pointer() -> None:
    """Attempts of one pointer share the key; another pointer or instance has another one."""
    first, again, other = make(attempt=1), make(attempt=2), make(pointer_id="8")

    assert first.idempotency_key == again.idempotency_key
    assert first.idempotency_key != other.idempotency_key


def test_outside_of_loops_there_is_no_item() -> None:
    """Without a loop the item is None, the index -1, and there are no parents."""
    context = make()

    assert (context.item, context.index, context.parents) == (None, -1, ())


def test_loops_nest_nearest_first() -> None:
    """`item` and `index` are of the nearest loop, `parents` has the others outward."""
    context = make(load_loops=lambda: [LoopFrame(b'{"a":1}', 2), LoopFrame(b'"outer"', 0)])

    assert (context.item, context.index) == ({"a": 1}, 2)
    assert [(frame.item, frame.index) for frame in context.parents] == [("outer", 0)]


def test_what_was_persisted_and_what_woke_it_are_decoded() -> None:
    """`persistence_data` and `event_data` are JSON values, None where there is none; a change lasts for this run."""
    context = make(persisted=b'{"page":3}', event=b"[1]")

    context.persistence_data["page"] = 4

    assert (context.persistence_data, context.event_data) == ({"page": 4}, [1])
    assert (make().persistence_data, make().event_data) == (None, None)


def test_log_and_heartbeat_reach_the_host() -> None:
    """Text goes to the host with its stream, details of a heartbeat as they are."""
    seen: list[Any] = []
    context = make(write_log=lambda stream, text: seen.append((stream, text)), beat=seen.append)

    context.log("hello")
    context.log("oh", stream="stderr")
    context.heartbeat({"done": 3})

    assert seen == [("stdout", "hello"), ("stderr", "oh"), {"done": 3}]


def test_a_heartbeat_tells_that_the_body_shall_end() -> None:
    """Once the body shall end, `heartbeat` raises, after the host has been given the details."""
    seen: list[Any] = []
    context = make(beat=seen.append)
    context.cancelled.set()

    with pytest.raises(Cancelled, match="shall end"):
        context.heartbeat(7)

    assert seen == [7]


def test_cancelled_wakes_a_waiting_thread() -> None:
    """A body that waits on a thread is woken when it shall end; all looks see the same flag."""
    context = make()
    woken: list[bool] = []
    waiting = threading.Event()

    def body() -> None:
        waiting.set()
        woken.append(context.cancelled.wait(60))

    thread = threading.Thread(target=body)
    thread.start()
    waiting.wait(60)
    before = context.cancelled.is_set()
    context.cancelled.set()
    thread.join(60)

    assert before is False
    assert woken == [True]
    assert context.cancelled.wait("1h") is True


def test_waiting_for_cancellation_ends_by_time() -> None:
    """A wait that is not cancelled gives False when its time is over."""
    assert make().cancelled.wait("1us") is False


def test_infos_name_instance_and_step() -> None:
    """A body sees its instance and its step."""
    context = make()

    assert context.workflow is INFO
    assert (context.step.id, context.step.name, context.step.config) == ("pay", "Payment", {"currency": "EUR"})

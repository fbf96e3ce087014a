"""Execution results, instances and lifecycle events as values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
import pytest

from wfe.model.errors import Cancelled, ChildWorkflowFailed, EventTimeout, StepFailed, StepTimeout, WfeError
from wfe.model.instance import Head, StepError, WorkflowResult
from wfe.model.lifecycle import LifecycleEvent, LogRecord, decode_records, encode_records
from wfe.model.moment import from_datetime, microseconds, to_datetime
from wfe.model.pointer import ErrorRecord
from wfe.model.result import AnyResult, ExecutionResult, Sleep
from wfe.model.status import LifecycleKind, WorkflowStatus


def test_every_constructor_makes_a_case_of_the_union() -> None:
    """And every case has its constructor."""
    made: list[Any] = [
        ExecutionResult.next(),
        ExecutionResult.next({"x": 1}),
        ExecutionResult.outcome("a"),
        ExecutionResult.persist({}),
        ExecutionResult.sleep(1),
        ExecutionResult.sleep_until(datetime.now(UTC)),
        ExecutionResult.branch([1]),
        ExecutionResult.wait_for_event("n", "k"),
        ExecutionResult.fail("no"),
        ExecutionResult.skip(),
        ExecutionResult.end(),
    ]

    assert {type(each) for each in made} == set(get_args(AnyResult))
    assert all(isinstance(each, ExecutionResult) for each in made)


def test_results_are_frozen() -> None:
    """They are values."""
    with pytest.raises(AttributeError):
        ExecutionResult.sleep(1).duration = timedelta(0)  # type: ignore[misc]  # the fault


def test_durations_of_results_are_checked_when_made() -> None:
    """In the body, where the mistake is."""
    assert ExecutionResult.sleep("1m30s") == Sleep(timedelta(seconds=90))
    for make in (
        lambda: ExecutionResult.sleep(-1),
        lambda: ExecutionResult.persist({}, poll=-1),
        lambda: ExecutionResult.wait_for_event("n", "k", timeout="soon"),
        lambda: ExecutionResult.sleep_until(datetime(2030, 1, 1)),  # noqa: DTZ001 - the fault
    ):
        with pytest.raises(ValueError, match=r"."):
            make()


def result(status: WorkflowStatus, error: StepError | None = None) -> WorkflowResult[dict[str, Any]]:
    return WorkflowResult("i-1", status, {}, error)


def test_raise_for_status_raises_the_cause() -> None:
    """Self when complete; else the error that tells what happened."""
    assert result(WorkflowStatus.COMPLETE).raise_for_status().id == "i-1"
    for status in (WorkflowStatus.CANCELLED, WorkflowStatus.TERMINATED):
        with pytest.raises(Cancelled, match="i-1"):
            result(status).raise_for_status()
    with pytest.raises(WfeError, match="suspended"):
        result(WorkflowStatus.SUSPENDED).raise_for_status()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("step_failed", StepFailed),
        ("step_timeout", StepTimeout),
        ("event_timeout", EventTimeout),
        ("child_workflow_failed", ChildWorkflowFailed),
        ("data_error", StepFailed),
    ],
)
def test_the_cause_decides_the_class(code: str, kind: type[StepFailed]) -> None:
    """With the record of the last attempt."""
    error = StepError.from_record(ErrorRecord(code, "broken", "pay", 3, 2, 1_000_000))

    with pytest.raises(kind, match=r"pay.*broken") as caught:
        result(WorkflowStatus.FAILED, error).raise_for_status()

    assert type(caught.value) is kind
    assert caught.value.error is error
    assert str(error) == "broken"


def test_terminal_statuses() -> None:
    """RUNNABLE and SUSPENDED are not."""
    assert {status for status in WorkflowStatus if not status.is_terminal} == {
        WorkflowStatus.RUNNABLE,
        WorkflowStatus.SUSPENDED,
    }


def test_log_records_come_back_as_they_went_in() -> None:
    """Packed with those of their transition, and given to people with time and number."""
    records = [
        LogRecord(LifecycleKind.WORKFLOW_STARTED),
        LogRecord(LifecycleKind.STEP_FAILED, "pay", 3, 2, 1_500, ErrorRecord("step_failed", "broken"), "why"),
    ]

    assert decode_records(encode_records(records)) == records
    event = LifecycleEvent.from_record(
        records[1], sequence=5, time=0, workflow_id="i", definition_id="d", version=1, run=1
    )
    assert (event.sequence, event.step, event.pointer_id, event.attempt) == (5, "pay", "3", 2)
    assert (event.error, event.detail, event.duration) == ("broken", "why", timedelta(microseconds=1_500))


def test_a_head_comes_back_as_it_went_in() -> None:
    """Defaults take no room."""
    head = Head(WorkflowStatus.SUSPENDED, 5, 4, 9, 2, 1, 1, 3, 2, WorkflowStatus.CANCELLED, "why", None, 77)

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(head), type=Head) == head
    assert len(msgspec.msgpack.encode(Head())) == 1


def test_moments_are_whole_microseconds() -> None:
    """To the last one, and never naive."""
    when = datetime(2024, 2, 29, 12, 0, 0, 123_457, tzinfo=UTC)

    assert to_datetime(from_datetime(when)) == when
    assert microseconds(timedelta(days=1, microseconds=1)) == 86_400_000_001
    with pytest.raises(ValueError, match="aware"):
        from_datetime(datetime(2024, 1, 1))  # noqa: DTZ001 - the fault

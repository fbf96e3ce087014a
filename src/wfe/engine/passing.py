"""What time, events and children bring: timers that come due, waits that end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wfe.engine import flow
from wfe.engine.asking import AskFailed
from wfe.engine.failing import fail
from wfe.engine.transition import Draft
from wfe.model.definition import StepKind
from wfe.model.errors import DataError
from wfe.model.message import ChildEnded, EventMatched
from wfe.model.pointer import ErrorRecord, Pointer
from wfe.model.status import PointerStatus, WorkflowStatus
from wfe.ports.store import Unsubscribe

if TYPE_CHECKING:
    from wfe.model.definition import Step

__all__ = ["child_ended", "event_matched", "go_on", "time_passed", "wake_up"]

_replace = msgspec.structs.replace


def time_passed(draft: Draft) -> None:
    """Let the timers that are due act, in due order, and pointers that were put off go on."""
    if draft.halted:
        return
    for number in draft.state.timers.due(draft.now):
        pointer = draft.find(number)
        if pointer is None or not pointer.wake or pointer.wake > draft.now:
            continue
        if pointer.status is PointerStatus.SLEEPING:
            wake_up(draft, pointer)
        elif pointer.status is PointerStatus.WAITING_FOR_EVENT:
            _wait_timed_out(draft, pointer)
        flow.settle(draft)


def go_on(draft: Draft) -> None:
    """Let every pending pointer go on: after a resume, or when a decision was cut short."""
    if draft.halted:
        return
    for pointer in sorted(draft.live(), key=lambda each: each.id):
        if pointer.status is PointerStatus.PENDING:
            _continue(draft, pointer)
            flow.settle(draft)


def wake_up(draft: Draft, pointer: Pointer) -> None:
    """The pause of a pointer is over."""
    step = draft.step_of(pointer)
    if step.kind is StepKind.BODY and pointer.phase != "enter":
        flow.begin(draft, pointer)
    elif step.kind is StepKind.DELAY and pointer.error is None:
        flow.complete(draft, pointer)
    else:
        flow.enter(draft, pointer.step, pointer.scope, pointer.index, pointer.slot, pointer)


def _wait_timed_out(draft: Draft, pointer: Pointer) -> None:
    draft.unsubscribe.append(Unsubscribe(pointer.id, pointer.waits, required=True))
    message = f"Step {pointer.step!r} waited for an event that did not come in time."
    fail(draft, pointer, ErrorRecord("event_timeout", message, type="wfe.model.errors.EventTimeout"),
         classes=("wfe.model.errors.EventTimeout", "wfe.model.errors.StepFailed", "wfe.model.errors.WfeError"))  # fmt: skip


def _continue(draft: Draft, pointer: Pointer) -> None:
    step = draft.step_of(pointer)
    if pointer.phase == "enter":
        flow.enter(draft, pointer.step, pointer.scope, pointer.index, pointer.slot, pointer)
    elif step.kind is StepKind.BODY:
        flow.begin(draft, pointer)
    elif step.kind is StepKind.WAIT_FOR and pointer.event:
        _wait_is_over(draft, step, pointer)
    else:
        flow.enter(draft, pointer.step, pointer.scope, pointer.index, pointer.slot, pointer)


def event_matched(draft: Draft, message: EventMatched) -> None:
    """An event has come for a wait. One for a wait that is over is dropped."""
    pointer = draft.find(message.pointer)
    if pointer is None or pointer.waits != message.wait or pointer.status is not PointerStatus.WAITING_FOR_EVENT:
        return
    draft.positions.append((message.name, message.key, message.sequence))
    received = pointer.received(message.payload, message.sequence)
    draft.put(received)
    if not draft.halted:
        _continue(draft, received)


def _wait_is_over(draft: Draft, step: Step, pointer: Pointer) -> None:
    field = step.option("output")
    if isinstance(field, str) and field:
        try:
            flow.store_output(draft, pointer, field, pointer.event)
        except DataError as error:
            fail(draft, pointer, ErrorRecord(error.code, str(error)), retryable=False)
            return
    flow.complete(draft, pointer)


def child_ended(draft: Draft, message: ChildEnded) -> None:
    """A child has ended: the step that waited for it ends as it did."""
    pointer = draft.find(message.pointer)
    if pointer is None or pointer.child != message.child_id or pointer.status is not PointerStatus.WAITING_FOR_EVENT:
        return
    if draft.halted:
        # Kept as the pointer's event: the step goes on when the instance does.
        draft.put(_replace(pointer, status=PointerStatus.PENDING, event=_encoder.encode(message)))
        return
    _child_is_over(draft, pointer, message)


_encoder = msgspec.msgpack.Encoder()


def _child_is_over(draft: Draft, pointer: Pointer, message: ChildEnded) -> None:
    step = draft.step_of(pointer)
    if message.status is not WorkflowStatus.COMPLETE:
        cause = f": {message.error.message}" if message.error is not None else ""
        text = f"Child workflow {message.child_id!r} of step {step.id!r} ended {message.status}{cause}"
        error = ErrorRecord("child_workflow_failed", text, type="wfe.model.errors.ChildWorkflowFailed")
        fail(draft, pointer, error, classes=("wfe.model.errors.ChildWorkflowFailed", "wfe.model.errors.StepFailed"))
        return
    if "outputs" in step.values:
        try:
            outputs = flow.ask(draft, step, "outputs", pointer.scope, pointer.index, extra=message.data)
            draft.merge_data(flow.output_of(draft, outputs, step), base=draft.state.revision, pointer=pointer)
        except AskFailed as failure:
            flow.fail_asking(draft, pointer, failure)
            return
        except DataError as error:
            fail(draft, pointer, ErrorRecord(error.code, str(error)), retryable=False)
            return
    flow.complete(draft, pointer)

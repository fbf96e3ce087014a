"""What time, events and children bring: timers that come due, waits that end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from wfe.engine import flow, structures
from wfe.engine.asking import AskFailed
from wfe.engine.failing import fail_by
from wfe.engine.transition import Draft
from wfe.model.definition import StepKind
from wfe.model.durations import format_duration
from wfe.model.errors import ChildWorkflowFailed, DataError, EventTimeout, StepTimeout
from wfe.model.message import ChildEnded, EventMatched
from wfe.model.pointer import ErrorRecord, Pointer
from wfe.model.status import PointerStatus, WorkflowStatus
from wfe.ports.store import Unsubscribe

if TYPE_CHECKING:
    from wfe.model.definition import Step

__all__ = ["child_ended", "event_matched", "go_on", "time_passed", "wake_up"]


def time_passed(draft: Draft) -> None:
    """Let the timers that are due act, in due order, and pointers that were put off go on."""
    if draft.halted:
        return
    if draft.state.head.time_limit and draft.state.deadline <= draft.now:
        _took_too_long(draft)
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


def _took_too_long(draft: Draft) -> None:
    limit = timedelta(microseconds=draft.time_limit)
    message = f"The workflow timed out after {format_duration(limit)}."
    error = ErrorRecord("workflow_timeout", message, time=draft.now, type="wfe.model.errors.WorkflowTimeout")
    flow.finish(draft, WorkflowStatus.FAILED, error=error)


def go_on(draft: Draft) -> None:
    """Let every pending pointer go on: after a resume, or when a decision was cut short."""
    if draft.halted:
        return
    put_off = draft.state.pending.union(draft.changed)
    for number in sorted(put_off):
        pointer = draft.find(number)
        if pointer is None or pointer.status is not PointerStatus.PENDING or draft.halted:
            continue
        if draft.budget <= 0:
            draft.again = True
            return
        _continue(draft, pointer)
        flow.settle(draft)


def wake_up(draft: Draft, pointer: Pointer) -> None:
    """The pause of a pointer is over."""
    step = draft.step_of(pointer)
    if step.kind is StepKind.BODY and pointer.phase != flow.ENTERING:
        flow.begin(draft, pointer)
    elif step.kind is StepKind.DELAY and pointer.error is None:  # an error says that it sleeps before a further attempt
        flow.complete(draft, pointer)
    else:
        flow.enter(draft, pointer.step, pointer.scope, pointer.index, pointer.slot, pointer)


def _wait_timed_out(draft: Draft, pointer: Pointer) -> None:
    if pointer.child:
        flow.cancel_child(draft, pointer)
        fail_by(draft, pointer, StepTimeout(f"Step {pointer.step!r} waited for child {pointer.child!r} for too long."))
        return
    draft.unsubscribe.append(Unsubscribe(pointer.id, pointer.waits, required=True))
    message = f"Step {pointer.step!r} waited for {pointer.awaits}, which did not come in time."
    fail_by(draft, pointer, EventTimeout(message))


def _continue(draft: Draft, pointer: Pointer) -> None:
    try:
        _take_up(draft, pointer)
    except AskFailed as failure:
        flow.fail_asking(draft, pointer, failure)


def _take_up(draft: Draft, pointer: Pointer) -> None:
    step = draft.step_of(pointer)
    if pointer.phase == flow.ENDING:
        flow.end_now(draft, pointer)
    elif structures.is_spreading(pointer):
        structures.spread_on(draft, step, pointer)
    elif pointer.phase == structures.TURNING:
        structures.turn(draft, step, pointer, 0)
    elif step.kind is StepKind.BODY and pointer.phase != flow.ENTERING:
        flow.begin(draft, pointer)
    elif step.kind is StepKind.WAIT_FOR and pointer.event:
        _wait_is_over(draft, step, pointer)
    elif step.kind is StepKind.SUB_WORKFLOW and pointer.event:
        _child_is_over(draft, pointer, _decoder.decode(pointer.event))
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
            fail_by(draft, pointer, error)
            return
    flow.complete(draft, pointer)


def child_ended(draft: Draft, message: ChildEnded) -> None:
    """A child has ended: the step that waited for it ends as it did."""
    pointer = draft.find(message.pointer)
    if pointer is None or pointer.child != message.child_id or pointer.status is not PointerStatus.WAITING_FOR_EVENT:
        return
    if draft.halted:
        # Kept as the pointer's event: the step goes on when the instance does.
        draft.put(pointer.received(_encoder.encode(message), 0))
        return
    _child_is_over(draft, pointer, message)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ChildEnded)


def _child_is_over(draft: Draft, pointer: Pointer, message: ChildEnded) -> None:
    step = draft.step_of(pointer)
    if message.status is not WorkflowStatus.COMPLETE:
        cause = f": {message.error.summary}" if message.error is not None else ""
        text = f"Child workflow {message.child_id!r} of step {step.id!r} ended {message.status}{cause}"
        fail_by(draft, pointer, ChildWorkflowFailed(text))
        return
    if "outputs" in step.values:
        try:
            outputs = flow.ask(draft, step, "outputs", pointer.scope, pointer.index, extra=message.data)
            draft.merge_data(flow.output_of(draft, outputs, step), base=draft.state.revision, pointer=pointer)
        except AskFailed as failure:
            flow.fail_asking(draft, pointer, failure)
            return
        except DataError as error:
            fail_by(draft, pointer, error)
            return
    flow.complete(draft, pointer)

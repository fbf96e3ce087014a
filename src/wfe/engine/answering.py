"""What the answer of a body does: one function for each kind of execution result."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import msgspec

from wfe.engine import flow, structures
from wfe.engine.asking import AskFailed
from wfe.engine.failing import OUTCOME, fail, fail_by
from wfe.engine.timers import wake_time
from wfe.engine.transition import Draft
from wfe.model.errors import DataError
from wfe.model.message import Answered, Begun, BodyStopped, Failed
from wfe.model.moment import from_datetime, microseconds
from wfe.model.pointer import ErrorRecord, Pointer
from wfe.model.result import (
    Branch,
    End,
    Failure,
    Next,
    Outcome,
    Persist,
    Skip,
    Sleep,
    SleepUntil,
    WaitForEvent,
)
from wfe.model.status import LifecycleKind, WorkflowStatus

if TYPE_CHECKING:
    from wfe.model.moment import Moment

__all__ = ["answered", "attempt_failed", "begun", "body_stopped"]

_replace = msgspec.structs.replace

_FIRST_POLL = 1_000_000
_LONGEST_POLL = 60_000_000


def begun(draft: Draft, message: Begun) -> None:
    """A body that counts crashes is about to begin. It begins only if this records it; else it is told to wait."""
    pointer = _current(draft, message.pointer, message.attempt)
    if pointer is not None and pointer.begun is not message.counts and not (message.counts and draft.halted):
        draft.put(_replace(pointer, begun=message.counts))


def answered(draft: Draft, message: Answered) -> None:
    """A body has answered. A late answer, of an attempt that is over, is dropped with all that it changed."""
    pointer = _current(draft, message.pointer, message.attempt)
    if pointer is None:
        return
    before = draft.merged() if message.patch or message.output or message.values else None
    try:
        _merge(draft, pointer, message)
        if draft.stopping is None:
            _act(draft, pointer, message)
    except (AskFailed, DataError) as failure:
        if before is not None:
            draft.unmerge(before)
        _fail(draft, pointer, failure)
        return
    if draft.stopping is not None:
        # The result is recorded, but nothing follows it: the instance is being cancelled.
        draft.note(LifecycleKind.STEP_SUCCEEDED, pointer, duration=draft.took(pointer))
        draft.remove(pointer)


def _fail(draft: Draft, pointer: Pointer, failure: AskFailed | DataError) -> None:
    if draft.stopping is not None:
        draft.note(LifecycleKind.STEP_CANCELLED, pointer)
        draft.remove(pointer)
    elif isinstance(failure, AskFailed):
        flow.fail_asking(draft, pointer, failure)
    else:
        fail_by(draft, pointer, failure)


def _current(draft: Draft, number: int, attempt: int) -> Pointer | None:
    pointer = draft.find(number)
    if pointer is None or not pointer.runs_body or pointer.attempt != attempt:
        return None
    return pointer


def _merge(draft: Draft, pointer: Pointer, message: Answered) -> None:
    if message.patch is not None:
        draft.merge_data(message.patch, base=message.base, pointer=pointer)
    if message.output is not None:
        draft.merge_data(message.output, base=message.base, pointer=pointer)
    if message.values is not None:
        draft.merge_values(message.values)


def _act(draft: Draft, pointer: Pointer, message: Answered) -> None:  # noqa: C901 - one case for each kind of result
    result = message.result
    match result:
        case Next():
            flow.complete(draft, pointer)
        case Outcome():
            _outcome(draft, pointer, result.value)
        case Sleep():
            _sleep(draft, pointer, draft.now + microseconds(result.duration), message.persisted)
        case SleepUntil():
            _sleep(draft, pointer, _moment_of(result), message.persisted)
        case Persist():
            _poll(draft, pointer, result, message.persisted)
        case Branch():
            pointer = _replace(pointer, persisted=message.persisted, event=b"", polls=0, begun=False)
            _branch(draft, pointer, result, message.items)
        case WaitForEvent():
            limit = None if result.timeout is None else microseconds(result.timeout)
            pointer = _replace(pointer, polls=0)
            structures.subscribe(
                draft,
                pointer,
                result.name,
                result.key,
                as_of=result.as_of,
                limit=limit,
                persisted=message.persisted,
            )
        case Skip():
            flow.skip(draft, pointer, reason=result.reason or "")
        case End():
            flow.end_now(draft, pointer)
        case Failure():
            # The runner turns it into `Failed`, which carries the record; here it would have no words.
            fail(draft, pointer, ErrorRecord("step_failed", str(result.error)), retryable=result.retryable)
        case _:
            assert_never(result)


def _outcome(draft: Draft, pointer: Pointer, value: object) -> None:
    step = draft.step_of(pointer)
    chosen = structures.matching_block(step, value)
    block = None if chosen is None else step.blocks[chosen]
    if block is None or not block.steps:
        flow.complete(draft, pointer)
        return
    container = _replace(pointer, phase=OUTCOME, block=chosen or 0, open=1, begun=False)
    draft.put(container)
    flow.open_block(draft, container, block, -1, 0)


def _moment_of(result: SleepUntil) -> Moment:
    if result.when.tzinfo is None:
        raise flow.unusable(f"sleep_until needs an aware datetime, got {result.when!r}; add a time zone.")
    return from_datetime(result.when)


def _sleep(draft: Draft, pointer: Pointer, until: Moment, persisted: bytes) -> None:
    draft.put(pointer.slept(wake_time(until), persisted))
    draft.note(LifecycleKind.STEP_SLEEPING, pointer)


def _poll(draft: Draft, pointer: Pointer, result: Persist, persisted: bytes) -> None:
    first = _FIRST_POLL if result.poll is None else max(1, microseconds(result.poll))
    pause = min(first << min(pointer.polls, 16), max(_LONGEST_POLL, first))
    draft.put(pointer.slept(wake_time(draft.now + pause), persisted, polls=pointer.polls + 1))
    draft.note(LifecycleKind.STEP_SLEEPING, pointer)


def _branch(draft: Draft, pointer: Pointer, result: Branch, items: tuple[bytes, ...]) -> None:
    if draft.step_of(pointer).children is None:
        message = f"Step {pointer.step!r} answered branch(…), but has no children; give them with .do(block)."
        raise AskFailed(ErrorRecord("definition_error", message), retryable=False)
    structures.branch_out(draft, pointer, items, parallel=result.parallel)


def attempt_failed(draft: Draft, message: Failed) -> None:
    """An attempt of a body failed. A late failure, of an attempt that is over, is dropped."""
    pointer = _current(draft, message.pointer, message.attempt)
    if pointer is None:
        return
    if draft.stopping is not None:
        draft.note(LifecycleKind.STEP_CANCELLED, pointer, error=message.error)
        draft.remove(pointer)
        return
    fail(draft, pointer, message.error, retryable=message.retryable, classes=message.classes)


def body_stopped(draft: Draft, message: BodyStopped) -> None:
    """A body has stopped without an answer: it was asked to, or did not begin because the instance was suspended."""
    pointer = draft.find(message.pointer)
    if pointer is None or not pointer.runs_body:
        return
    if draft.stopping is not None:
        draft.note(LifecycleKind.STEP_CANCELLED, pointer)
        draft.remove(pointer)
        return
    if pointer.begun and not message.host_died:
        pointer = _replace(pointer, begun=False)
    if draft.status is WorkflowStatus.SUSPENDED:
        draft.put(pointer.held())
    else:
        # The instance was resumed before this was read. Nobody runs the body, and nothing else would make it run.
        flow.begin(draft, pointer)

"""Error rules: what happens when an attempt of a step, or a scope, has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import msgspec

from wfe.engine import flow
from wfe.engine.asking import classes_of
from wfe.engine.timers import wake_time
from wfe.engine.transition import Draft
from wfe.model.definition import NO_POLICIES, StepKind
from wfe.model.errors import DataError
from wfe.model.moment import microseconds
from wfe.model.pointer import ROOT_SCOPE, ErrorRecord, Pointer
from wfe.model.policies import (
    Compensate,
    CompensateThenRetry,
    CompensateThenSuspend,
    Continue,
    ErrorBehavior,
    Fail,
    Retry,
    RetryPolicy,
    Suspend,
    Terminate,
)
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus

if TYPE_CHECKING:
    from wfe.model.definition import Policies, Step
    from wfe.model.errors import WfeError

__all__ = ["HELD", "HELD_ENTERING", "OUTCOME", "fail", "fail_by", "fail_container"]

_replace = msgspec.structs.replace
_FAIL = Fail()

OUTCOME = "outcome"
"""Phase of a body's pointer while the block that its outcome chose is run."""
HELD = "held"
"""Phase of a failed pointer whose scope does not know of the failure: resuming re-arms it."""
HELD_ENTERING = "held enter"
"""As `HELD`, for one that failed before it entered its step."""


def fail(
    draft: Draft, pointer: Pointer, error: ErrorRecord, *, retryable: bool = True, classes: tuple[str, ...] = ()
) -> None:
    """An attempt failed: try again, or apply the error rule."""
    record = msgspec.structs.replace(
        error, step=pointer.step, pointer=pointer.id, attempt=pointer.attempt, time=draft.now
    )
    draft.errors.append(record)
    definition = draft.definition
    assert definition is not None
    place = definition.places[pointer.step]
    if place.step.kind is not StepKind.BODY:
        # What it waited for is over. A body keeps the event that woke it: its next attempt is for the same event.
        pointer = _replace(pointer, event=b"", child="")
    rules = _rules(definition.policies_of(pointer.step), definition.default_policies)
    _apply(draft, pointer, record, rules, retryable=retryable, classes=classes)


def fail_by(draft: Draft, pointer: Pointer, error: WfeError) -> None:
    """An attempt failed by an error of the engine's own. A value that cannot be stored is no better the next time."""
    classes = classes_of(type(error))
    record = ErrorRecord(error.code, str(error), type=classes[0])
    fail(draft, pointer, record, retryable=not isinstance(error, DataError), classes=classes)


def fail_container(draft: Draft, container: Pointer) -> None:
    """A scope failed, now that all its branches have ended. Its own rule applies, not the workflow's default again."""
    assert draft.definition is not None
    first = draft.find(container.first_failed)
    error = None if first is None else first.error
    error = error or ErrorRecord("step_failed", "A branch failed.")
    own = draft.definition.policies_of(container.step)
    if container.phase == OUTCOME:
        # The body has done its work; what failed is where its outcome led. Doing the work again is no answer to that.
        _give_up(draft, container, error)
        return
    rules = _rules(own, NO_POLICIES)
    if _retries(container, rules[0], retryable=True, classes=()) or not isinstance(rules[1], Fail):
        flow.drop_branches(draft, container.id, keep_failed=False)
        container = _replace(container, open=0, spawned=0, failed=0, first_failed=0, total=0)
    _apply(draft, container, error, rules, retryable=True, classes=())


def _rules(own: Policies, default: Policies) -> tuple[RetryPolicy | Retry | None, ErrorBehavior]:
    """Find who decides on further attempts, and what happens when they are used up: step, then workflow, then Fail."""
    rule = own.error if own.error is not None else default.error
    return own.attempts_rule(default), (rule.then if isinstance(rule, Retry) else rule) or _FAIL


def _apply(
    draft: Draft,
    pointer: Pointer,
    error: ErrorRecord,
    rules: tuple[RetryPolicy | Retry | None, ErrorBehavior],
    *,
    retryable: bool,
    classes: tuple[str, ...],
) -> None:
    attempts, rule = rules
    if attempts is not None and _retries(pointer, attempts, retryable=retryable, classes=classes):
        pause = microseconds(attempts.delay(pointer.budget + 1, draft.random()))
        draft.put(pointer.retrying(error, wake_time(draft.now + pause)))
        draft.note(LifecycleKind.STEP_RETRYING, pointer, error=error)
        if pause <= 0:
            draft.todo.append((pointer.scope, lambda: _try_again(draft, pointer.id)))
        return
    match rule:
        case Fail():
            _give_up(draft, pointer, error)
        case Continue():
            flow.skip(draft, pointer, error=error)
        case Suspend() | CompensateThenSuspend():
            _hold(draft, pointer, error)
        case Terminate():
            draft.note(LifecycleKind.STEP_FAILED, pointer, error=error)
            draft.put(pointer.gave_up(error))
            flow.finish(draft, WorkflowStatus.TERMINATED, error=error)
        case Compensate() | CompensateThenRetry():
            # Refused by the builder where there is no compensation; a plan read from elsewhere fails as by `Fail`.
            _give_up(draft, pointer, error)
        case Retry():
            # `then` is never Retry, and Retry was taken apart above.
            _give_up(draft, pointer, error)
        case _:
            assert_never(rule)


def _hold(draft: Draft, pointer: Pointer, error: ErrorRecord) -> None:
    """Suspend the instance with this failure; resuming tries the step again."""
    draft.put(_replace(pointer.gave_up(error), phase=HELD_ENTERING if pointer.phase == flow.ENTERING else HELD))
    draft.note(LifecycleKind.STEP_FAILED, pointer, error=error)
    if not draft.halted:
        draft.status = WorkflowStatus.SUSPENDED
        draft.reason = f"step {pointer.step!r} failed: {error.summary}"
        draft.note(LifecycleKind.WORKFLOW_SUSPENDED, error=error)


def _retries(
    pointer: Pointer, attempts: RetryPolicy | Retry | None, *, retryable: bool, classes: tuple[str, ...]
) -> bool:
    if attempts is None or not retryable or pointer.budget + 1 >= attempts.max_attempts:
        return False
    if isinstance(attempts, Retry):
        if attempts.not_on is not None and _names_any(attempts.not_on, classes):
            return False
        if attempts.on is not None and not _names_any(attempts.on, classes):
            return False
    return True


def _names_any(chosen: tuple[type[BaseException] | str, ...], classes: tuple[str, ...]) -> bool:
    for each in chosen:
        name = each if isinstance(each, str) else f"{each.__module__}.{each.__qualname__}"
        if name in classes or any(known.rpartition(".")[2] == name for known in classes):
            return True
    return False


def _try_again(draft: Draft, pointer_id: int) -> None:
    pointer = draft.find(pointer_id)
    if pointer is not None and pointer.status is PointerStatus.SLEEPING:
        from wfe.engine.passing import wake_up

        wake_up(draft, pointer)


def _give_up(draft: Draft, pointer: Pointer, error: ErrorRecord) -> None:
    """Fail the pointer, and tell its scope."""
    failed = pointer.gave_up(error) if pointer.open == 0 else pointer
    draft.put(failed)
    draft.note(LifecycleKind.STEP_FAILED, pointer, duration=draft.took(pointer), error=error)
    scope, slot = pointer.scope, 0
    if scope == ROOT_SCOPE:
        draft.failed += 1
        if not draft.first_failed:
            draft.first_failed = pointer.id
        if draft.error is None:
            draft.error = error
    else:
        container = draft.find(scope)
        if container is None:
            return
        container = _replace(container, failed=container.failed + 1, first_failed=container.first_failed or pointer.id)
        draft.put(container)
        if _is_fail_fast(draft.step_of(container)):
            _cut_short(draft, container)
    draft.todo.append((scope, lambda: flow.join(draft, scope, slot)))


def _is_fail_fast(step: Step) -> bool:
    return bool(step.option("fail_fast"))


def _cut_short(draft: Draft, container: Pointer) -> None:
    """Cancel the other branches of a scope; the branch that failed is the only one left to arrive."""
    flow.drop_branches(draft, container.id, keep_failed=True)
    draft.put(_replace(container, status=PointerStatus.RUNNING, open=1, spawned=container.total))

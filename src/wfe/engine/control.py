"""Control requests: suspend, resume, cancel, terminate. They need the state only, not the code."""

from __future__ import annotations

from typing import assert_never

import msgspec

from wfe.engine import flow
from wfe.engine.failing import HELD, HELD_ENTERING
from wfe.engine.passing import go_on
from wfe.engine.transition import Draft
from wfe.model.message import Control, ControlVerb
from wfe.model.pointer import Pointer
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus
from wfe.ports.store import Unsubscribe

__all__ = ["controlled", "stopped_if_idle"]

_replace = msgspec.structs.replace


def controlled(draft: Draft, message: Control) -> None:
    """Apply a request. One that asks for what already is changes nothing."""
    match message.verb:
        case ControlVerb.SUSPEND:
            _suspend(draft, message.reason)
        case ControlVerb.RESUME:
            _resume(draft)
        case ControlVerb.CANCEL:
            _cancel(draft, message.reason)
        case ControlVerb.TERMINATE:
            draft.reason = message.reason
            flow.finish(draft, WorkflowStatus.TERMINATED)
        case _:
            assert_never(message.verb)


def _suspend(draft: Draft, reason: str) -> None:
    if draft.status is not WorkflowStatus.RUNNABLE or draft.stopping is not None:
        return
    draft.status = WorkflowStatus.SUSPENDED
    draft.reason = reason
    draft.note(LifecycleKind.WORKFLOW_SUSPENDED, detail=reason)


def _resume(draft: Draft) -> None:
    if draft.status is not WorkflowStatus.SUSPENDED:
        return
    draft.status = WorkflowStatus.RUNNABLE
    draft.reason = ""
    draft.note(LifecycleKind.WORKFLOW_RESUMED)
    for pointer in draft.live():
        if pointer.phase in {HELD, HELD_ENTERING}:
            draft.put(_replace(pointer.rearmed(), phase=flow.ENTERING if pointer.phase == HELD_ENTERING else ""))
    go_on(draft)
    draft.is_overdue = True  # after the messages: an event that is here was before a timeout that is not yet recorded
    if draft.next_pointer > 1:  # it had begun
        flow.end_if_done(draft)


def _cancel(draft: Draft, reason: str) -> None:
    if draft.stopping is not None:
        return
    draft.stopping = WorkflowStatus.CANCELLED
    draft.status = WorkflowStatus.RUNNABLE
    draft.reason = reason
    draft.todo.clear()
    for pointer in draft.live():
        if pointer.status is PointerStatus.WAITING_FOR_EVENT and not pointer.child:
            draft.unsubscribe.append(Unsubscribe(pointer.id, pointer.waits))
        if pointer.runs_body and _has_begun(draft, pointer):
            draft.stop.append(pointer.id)
        elif pointer.open == 0 and pointer.status is not PointerStatus.FAILED:
            flow.announce_cancelled(draft, pointer)
            draft.remove(pointer)


def _has_begun(draft: Draft, pointer: Pointer) -> bool:
    """Whether a body of it may run, so that its end has to be waited for."""
    # Without its code nothing of the instance runs here. What this very decision made ready does not run yet, even if
    # an earlier attempt of it has.
    return draft.definition is not None and pointer.id in draft.state.running and pointer.id not in draft.run


def stopped_if_idle(draft: Draft) -> None:
    """End an instance that is being cancelled once no body of it runs."""
    if draft.stopping is None or draft.ended:
        return
    if any(pointer.runs_body for pointer in draft.live()):
        return
    draft.open = 0
    flow.finish(draft, draft.stopping)

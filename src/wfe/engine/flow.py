"""How an instance moves along its plan: entering steps, completing them, joining branches, ending."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from wfe.engine import failing, structures  # in a cycle: looked up when called
from wfe.engine.asking import AskFailed, CodeMissing, Question, classes_of, evaluate
from wfe.engine.inbox import pack
from wfe.engine.transition import Draft
from wfe.model.definition import StepKind
from wfe.model.document import Patch, encode_typed
from wfe.model.errors import DataError
from wfe.model.message import ChildEnded, Control, ControlVerb
from wfe.model.pointer import ROOT_SCOPE, ErrorRecord, Pointer
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus
from wfe.ports.store import InboxInsert, Unsubscribe

if TYPE_CHECKING:
    from wfe.model.definition import Block, Place, Step
    from wfe.model.moment import Moment

__all__ = [
    "ENDING",
    "ENTERING",
    "announce_cancelled",
    "arrive",
    "ask",
    "ask_whether",
    "begin",
    "cancel_child",
    "complete",
    "drop_branches",
    "end_if_done",
    "end_now",
    "enter",
    "fail_asking",
    "finish",
    "join",
    "open_block",
    "output_of",
    "settle",
    "skip",
    "store_output",
    "unusable",
]

_replace = msgspec.structs.replace

ENTERING = "enter"
"""Phase of a pointer that has reached its step without entering it: `when` is still to be asked."""
ENDING = "end"
"""Phase of a pointer whose step has ended the workflow while that was suspended."""


def settle(draft: Draft) -> None:
    """Do what is left to do. Rules push further moves instead of calling them, so depth never grows with the plan."""
    todo = draft.todo
    while todo:
        todo.pop()[1]()


def ask(draft: Draft, step: Step, slot: str, scope: int, index: int, *, extra: bytes = b"") -> object:
    """Give the value of a step's slot.

    Raises:
        AskFailed: User code raised, or a named field is missing.
    """
    question = Question(step, slot, draft.data, draft.values, lambda: draft.loops(None, scope, index), extra)
    try:
        return evaluate(step.values[slot], question, draft.asker)
    except AskFailed:
        raise
    except Exception as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        message = f"The {slot.replace('_', ' ')} of step {step.id!r} has no value: {text}"
        raise unusable(message, error) from error


def ask_whether(draft: Draft, step: Step, slot: str, scope: int, index: int) -> bool:
    """Give the truth of a condition.

    Raises:
        AskFailed: User code raised, or its answer is neither true nor false.
    """
    value = ask(draft, step, slot, scope, index)
    if value is True or value is False:
        return value
    try:
        return bool(value)
    except Exception as error:
        message = f"The {slot.replace('_', ' ')} of step {step.id!r} gave a {type(value).__qualname__}: {error}"
        raise unusable(message, error) from error


def unusable(message: str, error: Exception | None = None) -> AskFailed:
    """Make the failure of a question whose answer cannot be used. Asking again may help only where code raised."""
    kind = DataError if error is None else type(error)
    classes = classes_of(kind)
    return AskFailed(ErrorRecord("data_error", message, type=classes[0]), retryable=error is not None, classes=classes)


def enter(  # noqa: PLR0917 - called for every step: a value to hold the place would cost more than it tells
    draft: Draft, step_id: str, scope: int, index: int, slot: int, again: Pointer | None = None
) -> None:
    """A branch reaches a step. `again` is the pointer to go on with, where the step is entered anew (a retry)."""
    if scope != ROOT_SCOPE:
        container = draft.find(scope)
        if container is None or container.open == 0:
            return  # the scope was cut short by a branch that failed in this very transition
    draft.budget -= 1
    pointer = draft.new_pointer(step_id, scope, index, slot) if again is None else again
    if draft.halted or draft.budget < 0:
        _put_off(draft, pointer)
        return
    step = draft.places[step_id].step
    # Asked once: not for a further attempt.
    if "when" in step.values and (again is None or again.phase == ENTERING) and not _is_wanted(draft, step, pointer):
        return
    if again is not None:
        pointer = _afresh(again, draft.now)
    if step.kind is StepKind.BODY:
        begin(draft, pointer)
        return
    try:
        structures.ENTRIES[step.kind](draft, step, pointer)
    except AskFailed as failure:
        fail_asking(draft, pointer, failure)
    except CodeMissing:
        # Begun again from here, so not in the phase in which `when` is asked: that was answered.
        draft.put(_replace(pointer, status=PointerStatus.PENDING, wake=0))


def _put_off(draft: Draft, pointer: Pointer) -> None:
    draft.put(_replace(pointer, status=PointerStatus.PENDING, wake=0, phase=ENTERING))
    draft.again = draft.again or not draft.halted


def _afresh(pointer: Pointer, now: Moment) -> Pointer:
    return _replace(
        pointer,
        status=PointerStatus.RUNNING,
        wake=0,
        started=now,
        phase="",
        open=0,
        spawned=0,
        failed=0,
        first_failed=0,
        total=0,
        event=b"",
        child="",
        error=None,
    )


def _is_wanted(draft: Draft, step: Step, pointer: Pointer) -> bool:
    """Ask the `when` of a step. Where it says no, or cannot say, the step is dealt with here."""
    try:
        if ask_whether(draft, step, "when", pointer.scope, pointer.index):
            return True
    except AskFailed as failure:
        # Not entered yet, so that a further attempt asks again.
        entering = _replace(pointer, status=PointerStatus.RUNNING, wake=0, started=draft.now, phase=ENTERING)
        fail_asking(draft, entering, failure)
    else:
        skip(draft, pointer, jump=False)
    return False


def fail_asking(draft: Draft, pointer: Pointer, failure: AskFailed) -> None:
    """User code that was asked for a value failed: a failure of the step."""
    failing.fail(draft, pointer, failure.error, retryable=failure.retryable, classes=failure.classes)


def begin(draft: Draft, pointer: Pointer) -> None:
    """A body may run: now if nothing halts the instance."""
    if draft.halted:
        draft.put(_replace(pointer, status=PointerStatus.PENDING, wake=0))
        return
    if pointer.status is not PointerStatus.RUNNING:
        pointer = pointer.began(draft.now)
    draft.put(pointer)
    draft.run.append(pointer.id)
    draft.note(LifecycleKind.STEP_STARTED, pointer)


def complete(draft: Draft, pointer: Pointer) -> None:
    """A step is done: its branch goes on with what follows."""
    draft.note(LifecycleKind.STEP_SUCCEEDED, pointer, duration=draft.took(pointer))
    draft.remove(pointer)
    _follow(draft, pointer)


def skip(
    draft: Draft, pointer: Pointer, *, error: ErrorRecord | None = None, reason: str = "", jump: bool = True
) -> None:
    """A step is passed over; its branch goes on with what follows. `jump` False: its `go_to` is passed over too."""
    draft.note(LifecycleKind.STEP_SKIPPED, pointer, error=error, detail=reason)
    draft.remove(pointer)
    _follow(draft, pointer, jump=jump)


def _follow(draft: Draft, pointer: Pointer, *, jump: bool = True) -> None:
    """Go to the next step of the block, to the target of a `go_to`, or to the end of the branch."""
    place = draft.places[pointer.step]
    target = place.step.go_to if jump else ""
    if target:
        pointer = _leave_blocks(draft, place, target, pointer)
    else:
        target = place.next
    scope, index, slot = pointer.scope, pointer.index, pointer.slot
    if target:
        draft.todo.append((scope, lambda: enter(draft, target, scope, index, slot)))
    else:
        draft.todo.append((scope, lambda: join(draft, scope, slot)))


def _leave_blocks(draft: Draft, place: Place, target: str, pointer: Pointer) -> Pointer:
    """Leave the blocks between a step and the target of its `go_to`: the pointer whose branch goes on out there."""
    goal = draft.places[target]
    while (goal.container, goal.block) != (place.container, place.block):
        container = draft.find(pointer.scope)
        if container is None:
            break
        draft.remove(container)
        place, pointer = draft.places[container.step], container
    return pointer


def open_block(draft: Draft, container: Pointer, block: Block, index: int, slot: int) -> None:
    """Begin a branch of a container. The container's counters already include it."""
    scope = container.id
    if block.steps:
        first = block.steps[0].id
        draft.todo.append((scope, lambda: enter(draft, first, scope, index, slot)))
    else:
        draft.todo.append((scope, lambda: join(draft, scope, slot)))


def join(draft: Draft, scope: int, slot: int) -> None:
    """A branch of a scope has ended. Costs the same whatever the scope's width."""
    if draft.ended:
        return
    if scope == ROOT_SCOPE:
        draft.open -= 1
        end_if_done(draft)
        return
    container = draft.find(scope)
    if container is None:
        return
    container = _replace(container, open=container.open - 1)
    draft.put(container)
    if draft.stopping is not None:
        return
    arrive(draft, container, slot)


def end_if_done(draft: Draft) -> None:
    """End the instance when nothing of it is open. A suspended one is held: it ends when it is resumed."""
    if draft.open <= 0 and draft.stopping is None and draft.status is WorkflowStatus.RUNNABLE and not draft.ended:
        finish(draft, WorkflowStatus.FAILED if draft.failed else WorkflowStatus.COMPLETE)


def arrive(draft: Draft, container: Pointer, slot: int) -> None:
    """Look what a container does after one of its branches has ended."""
    try:
        structures.arrived(draft, draft.step_of(container), container, slot)
    except AskFailed as failure:
        fail_asking(draft, container, failure)


def store_output(draft: Draft, pointer: Pointer, field: str, payload: bytes) -> None:
    """Write one field of the data on behalf of a step that has no body."""
    patch = Patch({field: payload})
    draft.asker.check(patch, draft.data)
    draft.merge_data(patch, base=draft.state.revision, pointer=pointer)


def finish(draft: Draft, status: WorkflowStatus, *, error: ErrorRecord | None = None) -> None:
    """The instance reaches its end: everything that is still open is dropped, a parent is told."""
    draft.ended = True
    draft.status = status
    draft.stopping = None
    draft.todo.clear()
    if error is not None and draft.error is None:
        draft.error = error
    for pointer in draft.live():
        if pointer.status is not PointerStatus.FAILED:
            _drop(draft, pointer)
    draft.cancel_children = draft.definition is None or draft.definition.starts_children
    failure = draft.error if status in {WorkflowStatus.FAILED, WorkflowStatus.TERMINATED} else None
    draft.note(
        _ENDINGS[status], duration=max(0, draft.now - draft.state.created_at), error=failure, detail=draft.reason
    )
    parent = draft.state.parent
    if parent is not None:
        ended = ChildEnded(parent.pointer, draft.state.id, status, draft.data, draft.error)
        draft.messages.append(InboxInsert(parent.instance_id, pack(ended)))


_ENDINGS = {
    WorkflowStatus.COMPLETE: LifecycleKind.WORKFLOW_COMPLETED,
    WorkflowStatus.FAILED: LifecycleKind.WORKFLOW_FAILED,
    WorkflowStatus.COMPENSATED: LifecycleKind.WORKFLOW_COMPENSATED,
    WorkflowStatus.CANCELLED: LifecycleKind.WORKFLOW_CANCELLED,
    WorkflowStatus.TERMINATED: LifecycleKind.WORKFLOW_TERMINATED,
}


def end_now(draft: Draft, pointer: Pointer) -> None:
    """A step ends the instance, which completes; a suspended one is held until it is resumed."""
    if draft.halted:
        draft.put(_replace(pointer, status=PointerStatus.PENDING, wake=0, phase=ENDING))
        return
    draft.note(LifecycleKind.STEP_SUCCEEDED, pointer, duration=draft.took(pointer))
    draft.remove(pointer)
    finish(draft, WorkflowStatus.COMPLETE)


def drop_branches(draft: Draft, scope: int, *, keep_failed: bool) -> None:
    """Cancel everything inside a scope. Costs as much as the instance has pointers.

    With `keep_failed`, what has failed inside stays to be seen, and so do the containers around it, as failed.
    """
    inside = {scope}
    branches: list[Pointer] = []
    for pointer in draft.live():  # containers have lower ids than what is in them
        if pointer.scope in inside:
            inside.add(pointer.id)
            branches.append(pointer)
    kept = _failures(branches) if keep_failed else {}
    for pointer in branches:
        if pointer.id in kept:
            error = kept[pointer.id]
            if pointer.status is not PointerStatus.FAILED:
                draft.note(LifecycleKind.STEP_FAILED, pointer, error=error)
            draft.put(_replace(pointer, status=PointerStatus.FAILED, phase="", wake=0, open=0, error=error))
        else:
            _drop(draft, pointer)
    draft.todo[:] = [move for move in draft.todo if move[0] not in inside]


def _failures(branches: list[Pointer]) -> dict[int, ErrorRecord | None]:
    """Give what has failed, and the containers around it, with the error."""
    found: dict[int, ErrorRecord | None] = {}
    for pointer in reversed(branches):
        if pointer.status is PointerStatus.FAILED or pointer.id in found:
            error = found[pointer.id] = pointer.error or found.get(pointer.id)
            found[pointer.scope] = error
    return found


def _drop(draft: Draft, pointer: Pointer) -> None:
    if pointer.child:
        _cancel_child(draft, pointer)
    elif pointer.status is PointerStatus.WAITING_FOR_EVENT:
        draft.unsubscribe.append(Unsubscribe(pointer.id, pointer.waits))
    if pointer.runs_body:
        draft.stop.append(pointer.id)
    announce_cancelled(draft, pointer)
    draft.remove(pointer)


def announce_cancelled(draft: Draft, pointer: Pointer) -> None:
    """Announce that a step was cut off. A container is not: the steps in it are. A body with branches is both."""
    if pointer.status is not PointerStatus.FAILED and (pointer.open == 0 or pointer.phase):
        draft.note(LifecycleKind.STEP_CANCELLED, pointer)


def _cancel_child(draft: Draft, pointer: Pointer) -> None:
    if draft.ended or pointer.status is not PointerStatus.WAITING_FOR_EVENT:
        return  # the end of the parent reaches all children at once; one that has ended needs nothing
    cancel_child(draft, pointer)


def cancel_child(draft: Draft, pointer: Pointer) -> None:
    """The step that waits for a child waits no more: the child is cancelled, unless it was to be left alone."""
    if draft.step_of(pointer).option("on_parent_end", "cancel") == "cancel":
        request = Control(ControlVerb.CANCEL, "the step that waited for it has ended")
        draft.messages.append(InboxInsert(pointer.child, pack(request)))


def output_of(draft: Draft, value: object, step: Step) -> Patch:
    """Check and encode a mapping that merges into the data.

    Raises:
        AskFailed: It is no mapping, or holds something that cannot be stored.
    """
    if not isinstance(value, Mapping):
        raise unusable(f"The outputs of step {step.id!r} are a {type(value).__name__}, not a mapping.")
    try:
        patch = Patch({str(name): encode_typed(item, path=f"$.{name}") for name, item in value.items()})
        draft.asker.check(patch, draft.data)
    except DataError as error:
        raise unusable(str(error)) from error
    return patch

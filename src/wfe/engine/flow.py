"""How an instance moves along its plan: entering steps, completing them, joining branches, ending."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wfe.engine import failing, structures  # in a cycle: looked up when called
from wfe.engine.asking import AskFailed, Question, evaluate
from wfe.engine.inbox import pack
from wfe.engine.transition import Draft
from wfe.model.document import Patch, encode_typed
from wfe.model.definition import StepKind
from wfe.model.errors import DataError
from wfe.model.message import ChildEnded
from wfe.model.pointer import ROOT_SCOPE, ErrorRecord, Pointer
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus
from wfe.ports.store import InboxInsert, Unsubscribe

if TYPE_CHECKING:
    from wfe.model.definition import Block, Step

__all__ = [
    "arrive",
    "ask",
    "begin",
    "complete",
    "drop_branches",
    "enter",
    "fail_asking",
    "finish",
    "join",
    "open_block",
    "output_of",
    "settle",
    "skip",
    "store_output",
]

_replace = msgspec.structs.replace


def settle(draft: Draft) -> None:
    """Do what is left to do. Rules push further moves instead of calling them, so depth never grows with the plan."""
    todo = draft.todo
    while todo:
        todo.pop()()


def ask(draft: Draft, step: Step, slot: str, scope: int, index: int, extra: bytes = b"") -> object:
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
        raise AskFailed(ErrorRecord("data_error", message, type=type(error).__qualname__)) from error


def enter(draft: Draft, step_id: str, scope: int, index: int, slot: int, again: Pointer | None = None) -> None:
    """A branch reaches a step. `again` is the pointer to go on with, where the step is entered anew (a retry)."""
    if scope != ROOT_SCOPE:
        container = draft.find(scope)
        if container is None or container.open == 0:
            return  # the scope was cut short by a branch that failed in this very transition
    draft.budget -= 1
    if draft.halted or draft.budget < 0:
        pointer = draft.new_pointer(step_id, scope, index, slot) if again is None else again
        draft.put(_replace(pointer, status=PointerStatus.PENDING, wake=0, phase="enter"))
        draft.again = draft.again or not draft.halted
        return
    step = draft.places[step_id].step
    if "when" in step.values:
        try:
            wanted = ask(draft, step, "when", scope, index)
        except AskFailed as failure:
            _fail_entering(draft, step_id, scope, index, slot, again, failure)
            return
        if not wanted:
            pointer = draft.new_pointer(step_id, scope, index, slot) if again is None else again
            skip(draft, pointer, step)
            return
    pointer = (
        draft.new_pointer(step_id, scope, index, slot)
        if again is None
        else _replace(
            again, status=PointerStatus.RUNNING, wake=0, started=draft.now, phase="", open=0, spawned=0, failed=0,
            first_failed=0, total=0,
        )  # fmt: skip
    )
    if step.kind is StepKind.BODY:
        begin(draft, pointer)
        return
    try:
        structures.ENTRIES[step.kind](draft, step, pointer)
    except AskFailed as failure:
        fail_asking(draft, pointer, failure)


def _fail_entering(
    draft: Draft, step_id: str, scope: int, index: int, slot: int, again: Pointer | None, failure: AskFailed
) -> None:
    pointer = draft.new_pointer(step_id, scope, index, slot) if again is None else again
    fail_asking(draft, _replace(pointer, status=PointerStatus.RUNNING, wake=0, started=draft.now), failure)


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
    draft.note(LifecycleKind.STEP_SUCCEEDED, pointer, duration=max(0, draft.now - pointer.started))
    draft.remove(pointer)
    _follow(draft, pointer)


def skip(draft: Draft, pointer: Pointer, step: Step, *, error: ErrorRecord | None = None, reason: str = "") -> None:
    """A step is passed over; its branch goes on with what follows."""
    del step
    draft.note(LifecycleKind.STEP_SKIPPED, pointer, error=error, detail=reason)
    draft.remove(pointer)
    _follow(draft, pointer)


def _follow(draft: Draft, pointer: Pointer) -> None:
    """Go to the next step of the block, to the target of a `go_to`, or to the end of the branch."""
    place = draft.places[pointer.step]
    target = place.step.go_to or place.next
    scope, index, slot = pointer.scope, pointer.index, pointer.slot
    if not target:
        draft.todo.append(lambda: join(draft, scope, slot))
        return
    if place.step.go_to:
        goal = draft.places[target]
        while (goal.container, goal.block) != (place.container, place.block) and scope != ROOT_SCOPE:
            container = draft.find(scope)
            if container is None:
                break
            draft.remove(container)
            place, scope, index, slot = draft.places[container.step], container.scope, container.index, container.slot
    draft.todo.append(lambda: enter(draft, target, scope, index, slot))


def open_block(draft: Draft, container: Pointer, block: Block, index: int, slot: int) -> None:
    """Begin a branch of a container. The container's counters already include it."""
    scope = container.id
    if block.steps:
        first = block.steps[0].id
        draft.todo.append(lambda: enter(draft, first, scope, index, slot))
    else:
        draft.todo.append(lambda: join(draft, scope, slot))


def join(draft: Draft, scope: int, slot: int) -> None:
    """A branch of a scope has ended. Costs the same whatever the scope's width."""
    if draft.ended:
        return
    if scope == ROOT_SCOPE:
        draft.open -= 1
        if draft.open <= 0 and draft.stopping is None:
            finish(draft, WorkflowStatus.FAILED if draft.failed else WorkflowStatus.COMPLETE)
        return
    container = draft.find(scope)
    if container is None:
        return
    container = _replace(container, open=container.open - 1)
    draft.put(container)
    if draft.stopping is not None:
        return
    arrive(draft, container, slot)


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
            _drop(draft, pointer, announce=status is not WorkflowStatus.COMPLETE and pointer.open == 0)
    draft.cancel_children = True
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


def drop_branches(draft: Draft, scope: int, *, keep_failed: bool) -> None:
    """Cancel everything inside a scope. Costs as much as the instance has pointers."""
    inside = {scope}
    for pointer in sorted(draft.live(), key=lambda each: each.id):  # containers have lower ids than what is in them
        if pointer.scope in inside:
            inside.add(pointer.id)
            if not (keep_failed and pointer.status is PointerStatus.FAILED):
                _drop(draft, pointer, announce=pointer.open == 0 and pointer.status is not PointerStatus.FAILED)


def _drop(draft: Draft, pointer: Pointer, *, announce: bool) -> None:
    if pointer.status is PointerStatus.WAITING_FOR_EVENT:
        draft.unsubscribe.append(Unsubscribe(pointer.id, pointer.waits))
    if pointer.runs_body:
        draft.stop.append(pointer.id)
    if announce:
        draft.note(LifecycleKind.STEP_CANCELLED, pointer)
    draft.remove(pointer)


def output_of(draft: Draft, value: object, step: Step) -> Patch:
    """Check and encode a mapping that merges into the data.

    Raises:
        AskFailed: It is no mapping, or holds something that cannot be stored.
    """
    if not isinstance(value, dict):
        record = ErrorRecord("data_error", f"The outputs of step {step.id!r} are a {type(value).__name__}, not a mapping.")
        raise AskFailed(record, retryable=False)
    try:
        patch = Patch({str(name): encode_typed(item, path=f"$.{name}") for name, item in value.items()})
        draft.asker.check(patch, draft.data)
    except DataError as error:
        raise AskFailed(ErrorRecord(error.code, str(error)), retryable=False) from error
    return patch

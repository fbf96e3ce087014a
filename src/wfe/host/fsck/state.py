"""Rules over the state of one instance, as it is stored at one moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wfe.engine.failing import HELD, HELD_ENTERING
from wfe.engine.structures import BRANCH
from wfe.host.fsck.findings import Problem
from wfe.host.starting import digest_of
from wfe.model.definition import StepKind
from wfe.model.message import ControlVerb
from wfe.model.moment import LAST_MOMENT
from wfe.model.pointer import ROOT_SCOPE, Pointer
from wfe.model.status import PointerStatus, WorkflowStatus
from wfe.ports.store import NO_DEFINITION

if TYPE_CHECKING:
    from wfe.host.fsck.reading import Contents
    from wfe.model.definition import WorkflowDefinition
    from wfe.model.instance import Head
    from wfe.model.moment import Moment

__all__ = ["state_problems"]

_STORED = {
    PointerStatus.PENDING,
    PointerStatus.RUNNING,
    PointerStatus.SLEEPING,
    PointerStatus.WAITING_FOR_EVENT,
    PointerStatus.PENDING_PREDECESSOR,
    PointerStatus.FAILED,
    PointerStatus.BLOCKED,
}
"""Statuses of pointers that are kept. In all others a pointer has its result, and its row goes."""

_GUESSED = 1_000_000
"""Microseconds by which a host's idea of an instance's beginning may differ from what the store wrote."""


def state_problems(contents: Contents, definition: WorkflowDefinition[Any] | None) -> Iterator[Problem]:
    """List what is wrong with an instance. `definition`: its recorded plan, if that can be read."""
    yield from _holding(contents)
    yield from _times(contents)
    if contents.head is None:
        return
    yield from _row(contents, contents.head)
    if not contents.is_readable:
        return
    yield from _pointers(contents, contents.head)
    yield from _deliveries(contents)
    if contents.stored.ended_at is not None:
        yield from _ended(contents, contents.head)
        return
    yield from _start(contents, contents.head)
    yield from _steps(contents, definition)
    yield from _containers(contents, contents.head, definition)
    yield from _waits(contents)
    yield from _children(contents)
    yield from _going_on(contents, contents.head)
    yield from _wake(contents, contents.head)


def _holding(contents: Contents) -> Iterator[Problem]:
    stored = contents.stored
    if stored.fence < 0:
        yield Problem("L1", f"its fence is {stored.fence}, which no taking gives")
    elif stored.owner is not None and stored.fence < 1:
        yield Problem("L1", f"session {stored.owner} holds it with fence {stored.fence}, so without having taken it")
    if stored.activations < 0:
        yield Problem("Q5", f"it counts {stored.activations} activations")


def _times(contents: Contents) -> Iterator[Problem]:
    stored = contents.stored
    times = {"created_at": stored.created_at, "ended_at": stored.ended_at, "wake_at": stored.wake_at}
    for name, time in times.items():
        if time is not None and not 0 <= time <= LAST_MOMENT:
            yield Problem("T10", f"its {name} is {time}, which is no time")


def _row(contents: Contents, head: Head) -> Iterator[Problem]:
    stored = contents.stored
    if (stored.status, stored.run) != (head.status, head.run):
        yield Problem(
            "T10", f"its row says {stored.status}, run {stored.run}, its head {head.status.value}, run {head.run}"
        )
    if (stored.ended_at is not None) != head.status.is_terminal:
        when = "no time of its end" if stored.ended_at is None else "a time of its end"
        yield Problem("T7", f"it is {head.status.value} and has {when}")


def _pointers(contents: Contents, head: Head) -> Iterator[Problem]:
    for number, pointer in contents.pointers.items():
        if not 0 < number < head.next_pointer or not 0 < pointer.slot < head.next_slot:
            yield Problem(
                "T10",
                f"it has slot {pointer.slot}, while the next pointer is {head.next_pointer}, the next slot "
                f"{head.next_slot}",
                "pointer",
                number,
            )
        if pointer.status not in _STORED:
            yield Problem("T2", f"it is {pointer.status.value}, and its row is still there", "pointer", number)


def _deliveries(contents: Contents) -> Iterator[Problem]:
    delivered = Counter((event.pointer, event.wait) for event in contents.events)
    for (pointer, wait), count in delivered.items():
        if count > 1:
            yield Problem("E2", f"{count} events were delivered for its wait {wait}", "inbox", pointer)
        if (pointer, wait) in contents.stored.waits:
            yield Problem("E4", f"its wait {wait} has its event, and still waits for one", "subscription", pointer)


def _ended(contents: Contents, head: Head) -> Iterator[Problem]:
    stored = contents.stored
    for number, pointer in contents.pointers.items():
        if pointer.status is not PointerStatus.FAILED:
            yield Problem("T7", f"it is {pointer.status.value} in an instance that has ended", "pointer", number)
    left = {"subscription": stored.waits, "inbox": stored.inbox, "item": stored.items}
    for table, rows in left.items():
        if rows:
            yield Problem("T7", f"it has ended, and {len(rows)} rows of {table} are left", table)
    if stored.wake_at is not None:
        yield Problem("T7", f"it has ended, and would wake up at {stored.wake_at}")
    if head.stopping is not None:
        yield Problem("T7", "it has ended, and is still being cancelled")


def _start(contents: Contents, head: Head) -> Iterator[Problem]:
    stored = contents.stored
    is_known = stored.data is not None and stored.definition != NO_DEFINITION
    if stored.revision == 1 and is_known and stored.digest != digest_of(stored.definition.id, stored.data or b""):
        yield Problem("S1", "its data are not those that it was started with", "document")
    if head.next_pointer == 1 and contents.pointers:
        yield Problem("S3", f"it has not begun, and has {len(contents.pointers)} pointers", "pointer")
    if stored.parent is not None and stored.parent_has_ended and stored.parent.on_parent_end == "cancel":
        told = head.stopping is not None or any(
            control.verb in {ControlVerb.CANCEL, ControlVerb.TERMINATE} for control in contents.controls
        )
        if not told:
            yield Problem("A1", f"its parent {stored.parent.instance_id!r} has ended, and it was not told")


def _steps(contents: Contents, definition: WorkflowDefinition[Any] | None) -> Iterator[Problem]:
    if definition is None:
        return
    for number, pointer in contents.pointers.items():
        place = definition.places.get(pointer.step)
        if place is None:
            yield Problem(
                "V1", f"it stands on step {pointer.step!r}, which its definition does not have", "pointer", number
            )
        elif pointer.runs_body and place.step.kind is not StepKind.BODY:
            yield Problem("W1", f"no branch of {pointer.step!r} is open, and it has not ended", "pointer", number)


def _is_open(pointer: Pointer) -> bool:
    """Tell whether its scope still waits for it."""
    return pointer.status is not PointerStatus.FAILED or pointer.phase in {HELD, HELD_ENTERING}


def _containers(contents: Contents, head: Head, definition: WorkflowDefinition[Any] | None) -> Iterator[Problem]:
    branches = Counter(pointer.scope for pointer in contents.pointers.values() if _is_open(pointer))
    if head.stopping is None and head.open != branches[ROOT_SCOPE]:
        yield Problem("T8", f"it counts {head.open} open branches, and has {branches[ROOT_SCOPE]}")
    for number, pointer in contents.pointers.items():
        if pointer.scope != ROOT_SCOPE and pointer.scope not in contents.pointers:
            yield Problem("T8", f"the container {pointer.scope} that it is in is gone", "pointer", number)
        if head.stopping is None and pointer.open != branches[number]:
            yield Problem(
                "T8", f"it counts {pointer.open} open branches, and has {branches[number]}", "pointer", number
            )
        if pointer.total and not pointer.open <= pointer.spawned <= pointer.total:
            yield Problem(
                "T8",
                f"of {pointer.total} branches {pointer.spawned} have begun and {pointer.open} are open",
                "pointer",
                number,
            )
        if pointer.open and _walks_items(pointer, definition) and contents.item_counts.get(number) != pointer.total:
            found = contents.item_counts.get(number, "no")
            yield Problem("T8", f"it walks {pointer.total} items, and {found} are stored", "item", number)
    for number in contents.item_counts:
        if number not in contents.pointers:
            yield Problem("T8", "items are stored for it, and it is gone", "item", number)
    yield from _indexes(contents)


def _walks_items(pointer: Pointer, definition: WorkflowDefinition[Any] | None) -> bool:
    if pointer.phase == BRANCH:
        return True
    place = None if definition is None else definition.places.get(pointer.step)
    return place is not None and place.step.kind is StepKind.FOR_EACH


def _indexes(contents: Contents) -> Iterator[Problem]:
    taken: dict[tuple[int, int], int] = {}
    for number, pointer in contents.pointers.items():
        if pointer.index < 0:
            continue
        other = taken.setdefault((pointer.scope, pointer.index), number)
        container = contents.pointers.get(pointer.scope)
        if other != number:
            yield Problem("T8", f"it and pointer {other} are for the same item {pointer.index}", "pointer", number)
        elif container is not None and container.total and pointer.index >= container.spawned:
            yield Problem("T8", f"it is for item {pointer.index}, which was not begun", "pointer", number)


def _awaits_event(pointer: Pointer) -> bool:
    return pointer.status is PointerStatus.WAITING_FOR_EVENT and not pointer.child


def _waits(contents: Contents) -> Iterator[Problem]:
    stored = contents.stored
    waiting = {(pointer.id, pointer.waits) for pointer in contents.pointers.values() if _awaits_event(pointer)}
    delivered = {(event.pointer, event.wait) for event in contents.events}
    for pointer, wait in sorted(waiting.difference(stored.waits, delivered)):
        yield Problem("E3", f"its wait {wait} has neither a subscription nor its event", "subscription", pointer)
    for pointer, wait in sorted(set(stored.waits).difference(waiting)):
        yield Problem("E8", f"a subscription is there for wait {wait}, and it does not wait", "subscription", pointer)
    for missed in stored.overlooked:
        yield Problem(
            "E3", f"its wait {missed.wait} matches the stored event {missed.sequence}", "subscription", missed.pointer
        )


def _children(contents: Contents) -> Iterator[Problem]:
    living = set(contents.stored.live_children)
    told = {(child.pointer, child.child_id) for child in contents.children}
    for number, pointer in contents.pointers.items():
        if pointer.status is not PointerStatus.WAITING_FOR_EVENT or not pointer.child or pointer.child in living:
            continue
        if (number, pointer.child) not in told:
            yield Problem("K1", f"it waits for {pointer.child!r}, which is not there or has ended", "pointer", number)


def _going_on(contents: Contents, head: Head) -> Iterator[Problem]:
    """W1, A1: what is open can go on some time."""
    runs = any(pointer.runs_body for pointer in contents.pointers.values())
    if head.stopping is not None:
        if not runs:
            yield Problem("A1", "it is being cancelled, nothing of it runs, and it has not ended")
        return
    if head.status is not WorkflowStatus.RUNNABLE or head.next_pointer == 1:
        return
    if not any(_is_open(pointer) for pointer in contents.pointers.values() if pointer.scope == ROOT_SCOPE):
        yield Problem("W1", "no branch of it is open, and it has not ended")
    for number, pointer in contents.pointers.items():
        if pointer.status is PointerStatus.SLEEPING and not pointer.wake:
            yield Problem("W1", "it sleeps without a time to wake up", "pointer", number)
        elif pointer.phase in {HELD, HELD_ENTERING}:
            yield Problem("W1", "it failed and is held, in an instance that is not suspended", "pointer", number)


def _wake(contents: Contents, head: Head) -> Iterator[Problem]:
    """W1, M2: the instance's own row says when it goes on."""
    wake, pointers = contents.stored.wake_at, contents.pointers.values()
    rests = head.status is not WorkflowStatus.RUNNABLE or head.stopping is not None
    if any(pointer.runs_body for pointer in pointers):
        begins, what = 0, "a body of it is to run"
    elif rests:
        return
    elif head.next_pointer == 1:
        begins, what = head.start_at, f"it is to begin at {_at(head.start_at)}"
    elif any(pointer.status is PointerStatus.PENDING for pointer in pointers):
        begins, what = 0, "some of its pointers are to go on"
    else:
        yield from _timers(contents, head)
        return
    if wake is None or wake > begins:
        yield Problem("W1", f"{what}, and it wakes up at {_at(wake)}")


def _timers(contents: Contents, head: Head) -> Iterator[Problem]:
    wake = contents.stored.wake_at
    earliest = min((pointer.wake for pointer in contents.pointers.values() if pointer.wake), default=None)
    deadline = head.deadline(contents.stored.created_at) or None
    if earliest is not None and (wake is None or wake > earliest):
        yield Problem("M2", f"its earliest timer is due at {_at(earliest)}, and it wakes up at {_at(wake)}")
    elif deadline is not None and (wake is None or wake > deadline + _GUESSED):
        yield Problem("M2", f"its time limit ends at {_at(deadline)}, and it wakes up at {_at(wake)}")
    elif wake is not None and not _is_caused(wake, earliest, deadline, is_new=contents.stored.revision == 1):
        yield Problem("W1", f"it wakes up at {_at(wake)}, when there is nothing to do, and so again and again")


def _is_caused(wake: Moment, earliest: Moment | None, deadline: Moment | None, *, is_new: bool) -> bool:
    """Tell what an instance wakes up for.

    Its first transition is decided before the store says when it began: if that was long on its way, the time limit
    is later by as much. Until then it wakes up in vain, which later transitions mend.
    """
    if deadline is None:
        return wake == earliest
    return wake == earliest or abs(wake - deadline) <= _GUESSED or (is_new and wake < deadline)


def _at(moment: Moment | None) -> str:
    return "no time" if moment is None else f"{moment} µs"

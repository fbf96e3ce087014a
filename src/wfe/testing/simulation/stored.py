"""What a stored instance must look like: to its holder, to a host that loads it, and to a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from wfe.engine.failing import HELD, HELD_ENTERING
from wfe.engine.state import InstanceState, decode_head, encode_head, encode_pointer
from wfe.model.moment import Moment
from wfe.model.pointer import Pointer
from wfe.model.status import PointerStatus, WorkflowStatus
from wfe.ports.store import Changes, ItemsRow, LoadedInstance

if TYPE_CHECKING:
    from wfe.host.runner import Runner
    from wfe.providers.memory.tables import Instance

__all__ = ["differences", "loaded", "says_nothing", "shape_problems", "wake_problems"]


def says_nothing(changes: Changes, head: bytes) -> bool:
    """Tell whether a transition changes nothing of an instance with this head: it was written for no reason."""
    return changes.head == head and not (
        changes.records
        or changes.consumed
        or changes.pointers
        or changes.pointers_gone
        or changes.subscribe
        or changes.unsubscribe
    )


def loaded(instance: Instance) -> InstanceState:
    """Give the state that a host would load."""
    row = LoadedInstance(
        id=instance.id,
        definition=instance.definition,
        fence=instance.fence,
        revision=instance.revision,
        run=instance.run,
        head=instance.head,
        data=instance.data,
        values=instance.values,
        created_at=instance.created_at,
        pointers=instance.packed_pointers(),
        items=[ItemsRow(pointer, instance.items[pointer]) for pointer in sorted(instance.items)],
        inbox=(),
        name=instance.name,
        reference=instance.reference,
        parent=instance.parent,
    )
    return InstanceState.loaded(row)


def differences(runner: Runner, instance: Instance) -> Iterator[str]:
    """Say what of its holder's state is not what a host would load."""
    mine, stored = runner.state, loaded(instance)
    pairs: list[tuple[str, Any, Any]] = [
        ("head", encode_head(mine.head), instance.head),
        ("data", mine.data, instance.data),
        ("values", mine.values, instance.values),
        ("items", mine.items, stored.items),
        ("creation time", mine.created_at, instance.created_at),
        ("running pointers", mine.running, stored.running),
        ("pending pointers", mine.pending, stored.pending),
        ("earliest timer", mine.timers.earliest(), stored.timers.earliest()),
    ]
    for what, one, other in pairs:
        if one != other:
            yield f"{what} ({one!r}, stored {other!r})"
    own = {pointer.slot: encode_pointer(pointer) for pointer in mine.pointers.values()}
    if own != instance.pointers:
        slots = [slot for slot in {*own, *instance.pointers} if own.get(slot) != instance.pointers.get(slot)]
        yield f"pointers in slots {slots}"


def shape_problems(instance: Instance, pointers: Mapping[int, Pointer]) -> Iterator[str]:
    """What no stored state may look like."""
    if len(pointers) != len(instance.pointers):
        yield "one pointer is stored in two slots"
    if instance.has_ended:
        live = [pointer.id for pointer in pointers.values() if pointer.status is not PointerStatus.FAILED]
        if live:
            yield f"it has ended, and pointers {live} are live"
        return  # what has failed stays to be seen, without the containers that were around it
    for pointer in pointers.values():
        if pointer.scope and pointer.scope not in pointers:
            yield f"pointer {pointer.id} is in scope {pointer.scope}, which is gone"
    waiting = {
        (pointer.id, pointer.waits)
        for pointer in pointers.values()
        if pointer.status is PointerStatus.WAITING_FOR_EVENT and not pointer.child
    }
    lost = waiting.difference(instance.waits, {(row.pointer, row.wait) for row in instance.inbox.values()})
    if lost:
        yield f"pointers {sorted(lost)} wait without a subscription"
    over = set(instance.waits).difference(waiting)
    if over:
        yield f"subscriptions {sorted(over)} have no pointer that waits"
    children: dict[int, int] = {}
    for pointer in pointers.values():
        if pointer.scope and (pointer.status is not PointerStatus.FAILED or pointer.phase in {HELD, HELD_ENTERING}):
            children[pointer.scope] = children.get(pointer.scope, 0) + 1
    if decode_head(instance.head).stopping is not None:
        return
    for number, pointer in pointers.items():
        if pointer.open != children.get(number, 0):
            yield f"container {number} counts {pointer.open} open branches, and has {children.get(number, 0)}"


def wake_problems(instance: Instance, pointers: Mapping[int, Pointer], now: Moment) -> Iterator[str]:
    """Say why a sweep would not find what can go on by itself."""
    if instance.has_ended or instance.status != WorkflowStatus.RUNNABLE:
        return
    head = decode_head(instance.head)
    wake = instance.wake_at
    ready = [p.id for p in pointers.values() if p.runs_body or p.status is PointerStatus.PENDING]
    if ready and not head.start_at and (wake is None or wake > now):
        yield f"pointers {ready} may run, and its wake time is {wake}"
    timers = [pointer.wake for pointer in pointers.values() if pointer.wake]
    if timers and (wake is None or wake > min(timers)):
        yield f"a timer rings at {min(timers)}, and its wake time is {wake}"
    waits = instance.waits or instance.inbox or any(pointer.child for pointer in pointers.values())
    if wake is None and not waits:
        yield "nothing will ever wake it"

"""The rules that hold in every state, by the names that the guarantees give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from wfe.engine.failing import HELD, HELD_ENTERING
from wfe.engine.state import decode_head, decode_pointers, encode_head, encode_pointer
from wfe.model.document import fields_of
from wfe.model.pointer import ROOT_SCOPE, Pointer
from wfe.model.status import PointerStatus
from wfe.ports.store import EventRow
from wfe.providers.memory.tables import Instance
from wfe.testing.simulation.stored import loaded

if TYPE_CHECKING:
    from wfe.host.runner import Runner
    from wfe.testing.search.ledger import Account
    from wfe.testing.search.world import World

__all__ = ["state_problems", "wants"]

_HELD = {HELD, HELD_ENTERING}


def state_problems(world: World) -> list[str]:
    """Say which rules a state breaks."""
    found: list[str] = []
    for instance in world.tables.instances.values():
        pointers = decode_pointers(instance.packed_pointers())
        account = world.accounts[instance.id]
        if instance.has_ended:
            found += _of_ended(instance, pointers)
        else:
            found += _of_waits(world, instance, pointers)
            found += _of_scopes(instance, pointers)
        found += _of_results(instance, pointers, account)
    for host in world.hosts:
        for runner in host.runners.values():
            found += _of_runner(world, runner)
    return found


def wants(world: World, instance: Instance, pointer: Pointer, event: EventRow) -> bool:
    """Tell whether a pointer that waits wants an event, by what its plan says and what the instance has had.

    A wait by position wants what came since the start and after the event used last; one `as_of="any"` wants all.
    """
    values = world.registration.definition.places[pointer.step].step.values
    if "as_of" in values:
        return True
    return event.time >= instance.created_at and event.sequence > world.accounts[instance.id].position


def _of_ended(instance: Instance, pointers: Mapping[int, Pointer]) -> Iterator[str]:
    """In a terminal instance nothing is left that could begin, fire or be consumed."""
    name = f"T7: {instance.id} has ended {instance.status}"
    if instance.waits or instance.inbox:
        yield f"{name}, with waits {sorted(instance.waits)} and messages {sorted(instance.inbox)}"
    if instance.wake_at is not None or instance.owner is not None:
        yield f"{name}, with wake time {instance.wake_at} and owner {instance.owner}"
    live = [pointer.id for pointer in pointers.values() if pointer.status is not PointerStatus.FAILED]
    if live:
        yield f"{name}, with live pointers {live}"


def _of_waits(world: World, instance: Instance, pointers: Mapping[int, Pointer]) -> Iterator[str]:
    """Every wait is subscribed for or has its event in the inbox, and no event that it wants passes it over."""
    waiting = {
        (pointer.id, pointer.waits): pointer
        for pointer in pointers.values()
        if pointer.status is PointerStatus.WAITING_FOR_EVENT and not pointer.child
    }
    arrived = {(row.pointer, row.wait) for row in instance.inbox.values() if row.message is None}
    for lost in sorted(set(waiting).difference(instance.waits, arrived)):
        yield f"E3: wait {lost} of {instance.id} has neither a subscription nor an event"
    for over in sorted(set(instance.waits).difference(waiting)):
        yield f"E8: subscription {over} of {instance.id} is of no pointer that waits"
    for twice in sorted(arrived.intersection(instance.waits)):
        yield f"E4: wait {twice} of {instance.id} has its event, and is subscribed still"
    for place in sorted(set(waiting).intersection(instance.waits)):
        subscription = instance.waits[place]
        for event in world.tables.events.values():
            if (event.name, event.key) == subscription.topic and wants(world, instance, waiting[place], event):
                yield f"E3: event {event.sequence} passed wait {place} of {instance.id} over"


def _of_scopes(instance: Instance, pointers: Mapping[int, Pointer]) -> Iterator[str]:
    """Every scope counts exactly the branches in it that have not ended, so that its join fires once."""
    if len(pointers) != len(instance.pointers):
        yield f"T10: one pointer of {instance.id} is stored in two slots"
    open_in: dict[int, int] = {}
    for pointer in pointers.values():
        if pointer.scope != ROOT_SCOPE and pointer.scope not in pointers:
            yield f"T8: pointer {pointer.id} of {instance.id} has lost its container"
        if pointer.status is not PointerStatus.FAILED or pointer.phase in _HELD:
            open_in[pointer.scope] = open_in.get(pointer.scope, 0) + 1
    head = decode_head(instance.head)
    if head.stopping is not None or head.next_pointer == 1:
        return
    if head.open != open_in.get(ROOT_SCOPE, 0):
        yield f"T8: {instance.id} counts {head.open} open branches at the top, and has {open_in.get(ROOT_SCOPE, 0)}"
    for pointer in pointers.values():
        has = open_in.get(pointer.id, 0)
        if pointer.status is not PointerStatus.FAILED and pointer.open != has:
            yield f"T8: container {pointer.id} of {instance.id} counts {pointer.open} open branches, and has {has}"


def _of_results(instance: Instance, pointers: Mapping[int, Pointer], account: Account) -> Iterator[str]:
    """What is recorded stays, and what is recorded as over does not go on."""
    missing = account.written.difference(fields_of(instance.data))
    if missing:
        yield f"T2: the data of {instance.id} have lost {sorted(missing)}"
    again = [number for number, _ in sorted(account.results) if number in pointers]
    if again:
        yield f"T2: the results of pointers {again} of {instance.id} are recorded, and they are live"
    if account.fence != instance.fence:
        yield f"L1: the fence of {instance.id} is {instance.fence}, after {account.fence} was given out"
    if account.revision != instance.revision:
        yield f"T3: {instance.id} has revision {instance.revision} after {account.revision} transitions"


def _of_runner(world: World, runner: Runner) -> Iterator[str]:
    """What the holder has in memory is what is stored."""
    instance = world.tables.instances.get(runner.id)
    mine = runner.state
    if instance is None or (runner.fence, mine.revision) != (instance.fence, instance.revision):
        return
    stored = loaded(instance)
    own = {pointer.slot: encode_pointer(pointer) for pointer in mine.pointers.values()}
    pairs: tuple[tuple[str, object, object], ...] = (
        ("head", encode_head(mine.head), instance.head),
        ("data", mine.data, instance.data),
        ("values", mine.values, instance.values),
        ("items", mine.items, stored.items),
        ("pointers", own, instance.pointers),
        ("running pointers", mine.running, stored.running),
        ("pending pointers", mine.pending, stored.pending),
        ("earliest timer", mine.timers.earliest(), stored.timers.earliest()),
    )
    for what, one, other in pairs:
        if one != other:
            yield f"T10: the holder of {instance.id} has {what} {one!r}, stored is {other!r}"

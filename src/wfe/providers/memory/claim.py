"""How instances are taken."""

from __future__ import annotations

from wfe.model.moment import Moment
from wfe.model.status import WorkflowStatus
from wfe.ports.store import ItemsRow, LoadedInstance
from wfe.providers.memory.tables import Instance, Tables

__all__ = ["due_since", "next_event", "next_wake", "place_of", "take", "unheld_and_due"]

_LAST: Moment = 2**62


def take(instance: Instance, session: str) -> LoadedInstance:
    """Give an instance to a session, under a new fence, and load it."""
    instance.fence += 1
    instance.owner = session
    instance.activations += 1
    instance.blocked_reason = None
    return LoadedInstance(
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
        inbox=list(instance.inbox.values()),
        name=instance.name,
        reference=instance.reference,
        parent=instance.parent,
        activations=instance.activations,
    )


def unheld_and_due(tables: Tables, now: Moment) -> list[Instance]:
    """Give the instances that have something to do and that nobody living holds, longest due first."""
    due = [
        instance for instance in tables.stirring.values() if instance.is_due(now) and tables.holder(instance) is None
    ]
    return sorted(due, key=lambda instance: due_since(instance, now))


def place_of(instance: Instance, now: Moment) -> tuple[Moment, int]:
    """Give the place of an instance among those that are due: those with messages alone come last."""
    wakes = instance.wake_at is not None and instance.wake_at <= now and instance.status != WorkflowStatus.SUSPENDED
    return (instance.wake_at or 0) if wakes else _LAST, instance.number


def due_since(instance: Instance, now: Moment) -> Moment:
    """Give the wake time of an instance; now for one that has messages alone."""
    return now if instance.wake_at is None else min(instance.wake_at, now)


def next_wake(tables: Tables, now: Moment) -> Moment | None:
    """Give the earliest wake time ahead of an instance that nobody living holds."""
    ahead = (
        instance.wake_at
        for instance in tables.stirring.values()
        if instance.wakes_after(now) and tables.holder(instance) is None
    )
    return min((wake for wake in ahead if wake is not None), default=None)


def next_event(tables: Tables) -> Moment | None:
    """Give the earliest time of an event kept aside."""
    times = (publish.effective_at for publish in tables.future.values())
    return min((time for time in times if time is not None), default=None)

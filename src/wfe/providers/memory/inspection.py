"""Shows everything that the memory provider keeps, and checks its indexes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from wfe.ports.inspection import Damage, Inspector, OverlookedEvent, StoredEvent, StoredInstance
from wfe.ports.store import ErrorRow, ItemsRow, LogRow, PointerRow
from wfe.providers.memory.tables import Instance, Tables

__all__ = ["inspect"]


def inspect(tables: Tables, inspector: Inspector) -> None:
    """Show all instances, then what is wrong with the tables. Nothing else must happen meanwhile."""
    logs: dict[str, list[LogRow]] = {}
    for row in tables.log.values():
        logs.setdefault(row.instance_id, []).append(row)
    for instance in tables.instances.values():
        inspector.instance(_stored(tables, instance))
        inspector.errors([ErrorRow(number, instance.errors[number]) for number in sorted(instance.errors)])
        inspector.log(logs.pop(instance.id, []))
        inspector.finished()
    for instance_id in logs:
        inspector.damage(Damage("A3", "log rows are left of an instance that is not there", "Tables.log", instance_id))
    inspector.events([StoredEvent(f"event {e.sequence}", e.payload, "Tables.events") for e in tables.events.values()])
    inspector.events(
        [StoredEvent(f"future event {e.id!r}", e.payload, "Tables.future") for e in tables.future.values()]
    )
    inspector.definitions(list(tables.definitions.values()))
    for damage in (*_indexes(tables), *_waits(tables), *_events(tables), *_numbers(tables)):
        inspector.damage(damage)


def _stored(tables: Tables, instance: Instance) -> StoredInstance:
    definition = tables.definitions.get((instance.definition.id, instance.definition.version))
    is_recorded = definition is not None and definition.key == instance.definition
    parent = None if instance.parent is None else tables.instances.get(instance.parent.instance_id)
    return StoredInstance(
        id=instance.id,
        definition=instance.definition,
        plan=definition.plan if is_recorded and definition is not None else None,
        status=instance.status,
        run=instance.run,
        revision=instance.revision,
        fence=instance.fence,
        owner=instance.owner,
        wake_at=instance.wake_at,
        created_at=instance.created_at,
        ended_at=instance.ended_at,
        activations=instance.activations,
        digest=instance.digest,
        head=instance.head,
        data=instance.data,
        values=instance.values,
        parent=instance.parent,
        parent_has_ended=parent is not None and parent.has_ended,
        pointers=[PointerRow(slot, instance.pointers[slot]) for slot in sorted(instance.pointers)],
        items=[ItemsRow(pointer, instance.items[pointer]) for pointer in sorted(instance.items)],
        inbox=list(instance.inbox.values()),
        waits=list(instance.waits),
        overlooked=list(_overlooked(tables, instance)),
        live_children=[child for child in tables.children.get(instance.id, ()) if child in tables.live],
    )


def _overlooked(tables: Tables, instance: Instance) -> Iterator[OverlookedEvent]:
    for wait in instance.waits.values():
        event = next((event for event in tables.topics.get(wait.topic, ()) if wait.matches(event)), None)
        if event is not None:
            yield OverlookedEvent(wait.pointer, wait.wait, event.sequence)


def _indexes(tables: Tables) -> Iterator[Damage]:
    """Q1: what claims look at is all that has something to do."""
    for instance in tables.instances.values():
        stirs = instance.wake_at is not None or bool(instance.inbox)
        groups = (("live", tables.live, not instance.has_ended), ("stirring", tables.stirring, stirs))
        for name, group, belongs in groups:
            if group.get(instance.id) is not (instance if belongs else None):
                what = f"it is {'not ' if belongs else ''}among those that are {name}"
                yield Damage("Q1", what, f"Tables.{name}", instance.id)
        parent = instance.parent
        if parent is not None and instance.id not in tables.children.get(parent.instance_id, {}):
            yield Damage("K1", f"{parent.instance_id!r} does not know it as a child", "Tables.children", instance.id)
    for name, group in (("live", tables.live), ("stirring", tables.stirring)):
        for instance_id in group:
            if instance_id not in tables.instances:
                yield Damage(
                    "A3", f"it is among those that are {name}, and is not there", f"Tables.{name}", instance_id
                )


def _waits(tables: Tables) -> Iterator[Damage]:
    """E3, E8: publishing finds exactly the waits that instances have."""
    found = {wait: topic for topic, waiting in tables.waiting.items() for wait in waiting.values()}
    known = {wait for instance in tables.instances.values() for wait in instance.waits.values()}
    for wait in known:
        if found.get(wait) != wait.topic:
            what = f"its wait {wait.wait} of pointer {wait.pointer} is not found by events"
            yield Damage("E3", what, "Tables.waiting", wait.instance_id)
    for wait in found:
        if wait not in known:
            what = f"events find wait {wait.wait} of pointer {wait.pointer}, which is over"
            yield Damage("E8", what, "Tables.waiting", wait.instance_id)


def _events(tables: Tables) -> Iterator[Damage]:
    """E1, E3, E5, E7: the events themselves."""
    events = list(tables.events.values())
    numbers = [event.sequence for event in events]
    for before, after in pairwise(events):
        if after.sequence <= before.sequence or after.time < before.time:
            what = f"event {after.sequence} comes after {before.sequence}, at {after.time} after {before.time}"
            yield Damage("E5", what, "Tables.events")
    if numbers and len(numbers) != tables.last_event - min(numbers) + 1:
        missing = sorted(set(range(min(numbers), tables.last_event + 1)).difference(numbers))
        yield Damage("E1", f"events {missing[:10]} are missing", "Tables.events")
    if {id(event) for topic in tables.topics.values() for event in topic} != {id(event) for event in events}:
        yield Damage("E3", "the events by topic are not those that are stored", "Tables.topics")
    for event_id in tables.future:
        if event_id in tables.events:
            yield Damage("E7", f"event {event_id!r} is published and still to be published", "Tables.future")


def _numbers(tables: Tables) -> Iterator[Damage]:
    """E2, E4: no instance speaks of an event that was never published."""
    for instance in tables.instances.values():
        for row in instance.inbox.values():
            if row.message is None and row.sequence > tables.last_event:
                what = f"event {row.sequence} was delivered to it, and no such event was published"
                yield Damage("E2", what, "Instance.inbox", instance.id)
        for sequence in instance.positions.values():
            if sequence > tables.last_event:
                what = f"one of its positions is {sequence}, and no such event was published"
                yield Damage("E4", what, "Instance.positions", instance.id)

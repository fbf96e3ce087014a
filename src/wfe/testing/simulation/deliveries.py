"""Rules of events: a model of who waits for what, beside the store's own, compared with it at every commit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeAlias

from wfe.ports.store import Batch, Changes, CommitReply, EventRow, InboxRow, StartOutcome, TransitionOutcome
from wfe.providers.memory.tables import Subscription, Tables, Topic

__all__ = ["Deliveries"]

_Wait: TypeAlias = tuple[str, int, int]
"""Instance, pointer and number of the wait."""


class Deliveries:
    """Follows all waits from the batches alone: begun, ended, and what each of them got."""

    def __init__(self, tables: Tables, broken: Callable[[str, str], None]) -> None:
        self._tables = tables
        self._broken = broken
        self._waits: dict[_Wait, Subscription] = {}
        self._of_instance: dict[str, dict[_Wait, None]] = {}
        self._got: dict[_Wait, int] = {}
        self._positions: dict[tuple[str, Topic], int] = {}
        self._seen_events = 0
        self._seen_rows = 0

    def after_commit(self, batch: Batch, reply: CommitReply) -> None:
        """Follow a batch that was written, and check what it delivered."""
        begun: list[_Wait] = []
        for instance_id, changes in _written(batch, reply):
            begun += self._follow(instance_id, changes)
        for row in self._new_rows(reply):
            self._delivered(row)
        self._check_left(begun)

    def _follow(self, instance_id: str, changes: Changes) -> Iterator[_Wait]:
        for name, key, sequence in changes.positions:
            place = instance_id, (name, key)
            self._positions[place] = max(sequence, self._positions.get(place, 0))
        for gone in changes.unsubscribe:
            self._end((instance_id, gone.pointer, gone.wait))
        for wanted in changes.subscribe:
            wait = instance_id, wanted.pointer, wanted.wait
            by_position = wanted.as_of is None
            self._waits[wait] = Subscription(
                instance_id,
                wanted.pointer,
                wanted.wait,
                wanted.name,
                wanted.key,
                after_sequence=self._positions.get((instance_id, (wanted.name, wanted.key)), 0) if by_position else 0,
                from_time=self._tables.instances[instance_id].created_at if wanted.as_of is None else wanted.as_of,
            )
            self._of_instance.setdefault(instance_id, {})[wait] = None
            yield wait
        if changes.ended:
            for wait in self._of_instance.pop(instance_id, {}):
                self._waits.pop(wait, None)

    def _end(self, wait: _Wait) -> Subscription | None:
        self._of_instance.get(wait[0], {}).pop(wait, None)
        return self._waits.pop(wait, None)

    def _new_rows(self, reply: CommitReply) -> list[InboxRow]:
        """List the events that this batch put into inboxes."""
        rows = [delivery.row for delivery in reply.deliveries]
        rows += [row for taken in reply.taken for row in taken.inbox]
        fresh = [row for row in rows if row.id > self._seen_rows and row.message is None]
        self._seen_rows = self._tables.last_inbox
        return fresh

    def _delivered(self, row: InboxRow) -> None:
        wait = row.instance_id, row.pointer, row.wait
        subscription = self._end(wait)
        if subscription is None:
            earlier = self._got.get(wait)
            rule = "E8" if earlier is None else "E2"
            self._broken(rule, f"{wait} got event {row.sequence}, and does not wait (it got {earlier} before)")
            return
        self._got[wait] = row.sequence
        fitting = (event for event in self._events(subscription.topic) if subscription.matches(event))
        first = next(fitting, None)
        if first is None or (row.name, row.key) != subscription.topic:
            self._broken("E6", f"{wait} waits for {subscription.topic} and got {row.name, row.key} {row.sequence}")
        elif (first.sequence, first.payload) != (row.sequence, row.payload):
            self._broken("E4", f"{wait} got event {row.sequence}, and the first that it waits for is {first.sequence}")

    def _check_left(self, begun: Iterable[_Wait]) -> None:
        """E3 and E6: after the commit nobody waits for an event that is there."""
        for wait in begun:
            subscription = self._waits.get(wait)
            if subscription is not None and any(map(subscription.matches, self._events(subscription.topic))):
                self._broken("E3", f"{wait} began to wait for {subscription.topic}, and a stored event matches")
        if self._tables.last_event > self._seen_events:
            self._check_published()
            self._seen_events = self._tables.last_event

    def _check_published(self) -> None:
        fresh: list[Topic] = []
        for event in reversed(self._tables.events.values()):
            if event.sequence <= self._seen_events:
                break
            fresh.append((event.name, event.key))
        for wait, subscription in self._waits.items():
            if subscription.topic in fresh and any(map(subscription.matches, self._events(subscription.topic))):
                self._broken("E6", f"{wait} waits for {subscription.topic}, and did not get what was published")

    def _events(self, topic: Topic) -> Collection[EventRow]:
        return self._tables.topics.get(topic, ())


def _written(batch: Batch, reply: CommitReply) -> Iterator[tuple[str, Changes]]:
    """Give what was accepted and created, in the order in which it is written."""
    accepted: list[tuple[str, Changes]] = []
    for write, outcome in zip(batch.transitions, reply.transitions, strict=True):
        if outcome is TransitionOutcome.ACCEPTED:
            accepted.append((write.instance_id, write.changes))
    for start, started in zip(batch.starts, reply.starts, strict=True):
        if started is StartOutcome.CREATED:
            accepted.append((start.id, start.changes))
    created = set(reply.children)
    for instance_id, changes in accepted:
        yield instance_id, changes
        yield from _children(changes, created)


def _children(changes: Changes, created: set[str]) -> Iterator[tuple[str, Changes]]:
    for child in changes.children:
        if child.id in created:
            created.discard(child.id)
            yield child.id, child.changes
            yield from _children(child.changes, created)

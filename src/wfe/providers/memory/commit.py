"""How a batch is applied: guards first, then the rows of what was accepted, then what it means for other instances."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from wfe.ports.store import (
    Batch,
    Changes,
    CommitReply,
    Delivery,
    EventRow,
    InboxInsert,
    InboxRow,
    LoadedInstance,
    LogRow,
    Publication,
    Publish,
    PublishOutcome,
    Start,
    StartOutcome,
    Subscribe,
    TransitionOutcome,
    TransitionWrite,
)
from wfe.providers.memory.claim import take
from wfe.providers.memory.tables import Instance, Subscription, Tables

__all__ = ["Commit"]


class Commit:
    """One batch on its way into the tables. Nothing awaits, and nothing is written before every guard has spoken."""

    def __init__(self, tables: Tables, batch: Batch) -> None:
        self._tables = tables
        self._batch = batch
        self._now = tables.now()
        self._inserted: list[InboxRow] = []
        self._children: list[str] = []

    def apply(self) -> CommitReply:
        """Write the batch and tell what became of it."""
        batch = self._batch
        outcomes = self._guard_all(batch.transitions)
        accepted = [
            write
            for write, outcome in zip(batch.transitions, outcomes, strict=True)
            if outcome is TransitionOutcome.ACCEPTED
        ]
        for write in accepted:
            self.transition(write)
        starts = [self.start(start) for start in batch.starts]
        created = [
            start for start, outcome in zip(batch.starts, starts, strict=True) if outcome is StartOutcome.CREATED
        ]
        for instance_id, changes in [(write.instance_id, write.changes) for write in accepted] + [
            (start.id, start.changes) for start in created
        ]:
            self.reach_others(instance_id, changes)
        self.promote()
        publications = [self.publish(publish) for publish in batch.publishes]
        inserted = [self.insert(insert.instance_id, insert) for insert in batch.inbox]
        return self._reply(outcomes, accepted, starts, publications, inserted)

    # Guards

    def _guard_all(self, writes: Sequence[TransitionWrite]) -> list[TransitionOutcome]:
        outcomes: list[TransitionOutcome] = []
        seen: dict[str, None] = {}
        for write in writes:
            repeated = write.instance_id in seen
            outcomes.append(TransitionOutcome.STALE if repeated else self.guard(write))
            seen[write.instance_id] = None
        return outcomes

    def guard(self, write: TransitionWrite) -> TransitionOutcome:
        """Compare fence, revision and required waits with what is stored."""
        instance = self._tables.instances.get(write.instance_id)
        if instance is None or instance.fence != write.fence:
            return TransitionOutcome.FENCED
        if instance.revision != write.revision:
            return TransitionOutcome.STALE
        if not self.required_waits_stand(instance, write.changes):
            return TransitionOutcome.WAIT_GONE
        return TransitionOutcome.ACCEPTED

    def required_waits_stand(self, instance: Instance, changes: Changes) -> bool:
        """Tell whether every wait that ends by time still waits."""
        return all((gone.pointer, gone.wait) in instance.waits for gone in changes.unsubscribe if gone.required)

    # Instances

    def transition(self, write: TransitionWrite) -> None:
        """Write an accepted transition."""
        instance = self._tables.instances[write.instance_id]
        if not write.changes.hold:
            instance.owner = None
        self.write(instance, write.changes)

    def start(self, start: Start) -> StartOutcome:
        """Insert an instance, unless one of that id is there."""
        tables = self._tables
        there = tables.instances.get(start.id)
        if there is not None:
            return StartOutcome.EXISTS if there.digest == start.digest else StartOutcome.CONFLICT
        tables.last_instance += 1
        instance = Instance.of_start(start, self._now, tables.last_instance)
        if start.changes.hold:
            instance.owner, instance.fence = self._batch.session, 1
        self._record(instance)
        self.write(instance, start.changes)
        return StartOutcome.CREATED

    def _record(self, instance: Instance) -> None:
        tables = self._tables
        tables.instances[instance.id] = instance
        if instance.name is not None:
            tables.names.setdefault(instance.name, []).append(instance.id)
        if instance.parent is not None:
            tables.children.setdefault(instance.parent.instance_id, {})[instance.id] = None

    def write(self, instance: Instance, changes: Changes) -> None:
        """Apply what a transition, or a start's first one, changes in its own instance."""
        instance.revision += 1
        instance.activations = 0
        instance.status, instance.run = changes.status, changes.run
        instance.head, instance.wake_at = changes.head, changes.wake_at
        self.write_rows(instance, changes)
        self.write_waits(instance, changes)
        self.write_log(instance, changes)
        if changes.ended:
            self.end(instance)
        else:
            instance.ended_at = None
        self._tables.sort_in(instance)

    def write_rows(self, instance: Instance, changes: Changes) -> None:
        """Pointers, documents, collections, errors and consumed messages."""
        for slot in changes.pointers_gone:
            instance.pointers.pop(slot, None)
        for row in changes.pointers:
            instance.pointers[row.slot] = row.state
        for pointer in changes.items_gone:
            instance.items.pop(pointer, None)
        for items in changes.items:
            instance.items[items.pointer] = items.items
        if changes.data is not None:
            instance.data = changes.data
        if changes.values is not None:
            instance.values = changes.values
        for error in changes.errors:
            instance.errors[error.number] = error.error
        for row_id in changes.consumed:
            instance.inbox.pop(row_id, None)
            instance.requests.pop(row_id, None)

    def write_log(self, instance: Instance, changes: Changes) -> None:
        """The announcements, in one row."""
        tables = self._tables
        tables.last_log += 1
        tables.log[tables.last_log] = LogRow(
            instance.id,
            instance.revision,
            changes.first_sequence,
            changes.record_count,
            changes.run,
            self._now,
            changes.records,
            instance.definition.id,
            instance.definition.version,
        )

    def end(self, instance: Instance) -> None:
        """Nothing reaches an ended instance any more."""
        instance.ended_at = self._now
        instance.owner = None
        instance.wake_at = None
        for subscription in tuple(instance.waits.values()):
            self.remove(subscription)
        instance.inbox.clear()
        instance.requests.clear()
        instance.items.clear()

    # Events and waits

    def write_waits(self, instance: Instance, changes: Changes) -> None:
        """Positions first: the waits that begin in this very transition count from them."""
        for name, key, sequence in changes.positions:
            topic = name, key
            instance.positions[topic] = max(sequence, instance.positions.get(topic, 0))
        for gone in changes.unsubscribe:
            subscription = instance.waits.get((gone.pointer, gone.wait))
            if subscription is not None:
                self.remove(subscription)
        for wanted in changes.subscribe:
            self.subscribe(instance, wanted)

    def subscribe(self, instance: Instance, wanted: Subscribe) -> None:
        """Match the first stored event that fits, else wait for those to come."""
        by_position = wanted.as_of is None
        subscription = Subscription(
            instance.id,
            wanted.pointer,
            wanted.wait,
            wanted.name,
            wanted.key,
            after_sequence=instance.positions.get((wanted.name, wanted.key), 0) if by_position else 0,
            from_time=instance.created_at if wanted.as_of is None else wanted.as_of,
        )
        event = self.stored_match(subscription)
        if event is not None:
            self.deliver(subscription, event)
            return
        instance.waits[wanted.pointer, wanted.wait] = subscription
        waiting = self._tables.waiting.setdefault(subscription.topic, {})
        waiting[instance.id, wanted.pointer, wanted.wait] = subscription

    def stored_match(self, subscription: Subscription) -> EventRow | None:
        """Give the event of the lowest sequence number that a wait matches."""
        events = self._tables.topics.get(subscription.topic, [])
        first = bisect_right(events, subscription.after_sequence, key=_sequence_of)
        return next((event for event in events[first:] if subscription.matches(event)), None)

    def remove(self, subscription: Subscription) -> None:
        """End a wait."""
        tables = self._tables
        tables.instances[subscription.instance_id].waits.pop((subscription.pointer, subscription.wait), None)
        waiting = tables.waiting.get(subscription.topic)
        if waiting is not None:
            waiting.pop((subscription.instance_id, subscription.pointer, subscription.wait), None)
            if not waiting:
                del tables.waiting[subscription.topic]

    def publish(self, publish: Publish) -> Publication:
        """Store an event, now or aside, unless one of that id is there."""
        tables = self._tables
        there = tables.events.get(publish.id) or tables.future.get(publish.id)
        if there is not None:
            same = (there.name, there.key, there.payload) == (publish.name, publish.key, publish.payload)
            return Publication(PublishOutcome.EXISTS if same else PublishOutcome.CONFLICT)
        if publish.effective_at is not None and publish.effective_at > self._now:
            tables.future[publish.id] = publish
            return Publication(PublishOutcome.CREATED)
        return Publication(PublishOutcome.CREATED, self.announce(publish))

    def promote(self) -> None:
        """Publish future events that are due, in the order of their times."""
        tables = self._tables
        due = [
            publish
            for publish in tables.future.values()
            if publish.effective_at is not None and publish.effective_at <= self._now
        ]
        due.sort(key=lambda publish: publish.effective_at or 0)
        for publish in due[: self._batch.promote]:
            del tables.future[publish.id]
            self.announce(publish)

    def announce(self, publish: Publish) -> int:
        """Give the event its sequence number and hand it to every wait that it matches; tell to how many."""
        tables = self._tables
        tables.last_event += 1
        event = EventRow(publish.id, publish.name, publish.key, publish.payload, tables.last_event, self._now)
        tables.events[event.id] = event
        tables.topics.setdefault((event.name, event.key), []).append(event)
        matched = [
            subscription
            for subscription in tables.waiting.get((event.name, event.key), {}).values()
            if subscription.matches(event)
        ]
        for subscription in matched:
            self.remove(subscription)
            self.deliver(subscription, event)
        return len(matched)

    def deliver(self, subscription: Subscription, event: EventRow) -> None:
        """Put a matched event into the inbox of the instance that waits."""
        self._insert(
            InboxRow(
                self._next_inbox_id(),
                subscription.instance_id,
                pointer=subscription.pointer,
                wait=subscription.wait,
                sequence=event.sequence,
                name=event.name,
                key=event.key,
                payload=event.payload,
            )
        )

    # Other instances

    def reach_others(self, instance_id: str, changes: Changes) -> None:
        """Start children and send messages."""
        for child in changes.children:
            if self.start(child) is StartOutcome.CREATED:
                self._children.append(child.id)
                self.reach_others(child.id, child.changes)
        for message in changes.messages:
            self.insert(message.instance_id, message)
        if changes.cancel_children is not None:
            self.cancel_children(instance_id, changes.cancel_children)

    def cancel_children(self, parent_id: str, message: bytes) -> None:
        """Send a message to each live child that ends with its parent."""
        for child_id in self._tables.children.get(parent_id, {}):
            child = self._tables.live.get(child_id)
            if child is not None and child.parent is not None and child.parent.on_parent_end == "cancel":
                self.insert(child_id, InboxInsert(child_id, message))

    def insert(self, instance_id: str, insert: InboxInsert) -> bool:
        """Put a message into an inbox; tell whether there was an instance to take it."""
        instance = self._tables.instances.get(instance_id)
        if instance is None or instance.has_ended:
            return False
        row = InboxRow(self._next_inbox_id(), instance_id, insert.message)
        self._insert(row)
        if insert.id:
            instance.requests[row.id] = insert.id
        return True

    def _next_inbox_id(self) -> int:
        self._tables.last_inbox += 1
        return self._tables.last_inbox

    def _insert(self, row: InboxRow) -> None:
        instance = self._tables.instances[row.instance_id]
        instance.inbox[row.id] = row
        self._tables.stirring[instance.id] = instance
        self._inserted.append(row)

    # Reply

    def _reply(
        self,
        outcomes: Sequence[TransitionOutcome],
        accepted: Sequence[TransitionWrite],
        starts: Sequence[StartOutcome],
        publications: Sequence[Publication],
        inserted: Sequence[bool],
    ) -> CommitReply:
        instances = self._tables.instances
        rows = [row for row in self._inserted if row.id in instances[row.instance_id].inbox]
        taken = self.take_reached(rows)
        gone = {instance.id for instance in taken}
        return CommitReply(
            now=self._now,
            transitions=outcomes,
            starts=starts,
            publishes=publications,
            inbox=inserted,
            unread=[write.instance_id for write in accepted if instances[write.instance_id].inbox],
            deliveries=[
                Delivery(row.instance_id, self._tables.holder(instances[row.instance_id]), row)
                for row in rows
                if row.instance_id not in gone
            ],
            taken=taken,
            children=self._children,
        )

    def take_reached(self, rows: Sequence[InboxRow]) -> list[LoadedInstance]:
        """Take unheld instances that this batch's messages reached, as far as there is room and code for them."""
        tables, batch = self._tables, self._batch
        if not batch.room or not tables.is_alive(batch.session):
            return []
        reached = [tables.instances[instance_id] for instance_id in dict.fromkeys(row.instance_id for row in rows)]
        free = [
            instance
            for instance in reached
            if instance.definition in batch.runnable and tables.holder(instance) is None
        ]
        return [take(instance, batch.session) for instance in free[: batch.room]]


def _sequence_of(event: EventRow) -> int:
    return event.sequence

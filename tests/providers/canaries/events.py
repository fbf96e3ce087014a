"""Waits and events, broken."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from tests.providers.canaries.planting import breaks, locked
from wfe.model.moment import Moment
from wfe.ports.store import Batch, Changes, EventRow, Publish, PublishOutcome, Subscribe
from wfe.providers.memory.commit import Commit
from wfe.providers.memory.store import MemoryStore
from wfe.providers.memory.tables import Instance, Subscription


@breaks(
    Commit,
    "remove",
    "test_wait_takes_one_event",
    "test_ended_wait_gets_nothing",
    "test_timeout_wins_over_an_event_of_its_batch",
    "test_publishes_racing_for_one_wait_give_one_delivery",
    "test_one_wait_takes_the_first_event_of_a_batch",
    "test_waits_of_ended_instances_are_removed",
    "test_wait_that_ends_by_time_ends_while_it_waits",
)
def subscription_is_not_removed(original: Any, self: Any, subscription: Subscription) -> None:
    return


@breaks(Commit, "remove", "test_waits_of_one_pointer_are_apart")
def all_waits_of_the_pointer_are_removed(original: Any, self: Any, subscription: Subscription) -> None:
    instance = self._tables.instances[subscription.instance_id]
    for other in [one for one in instance.waits.values() if one.pointer == subscription.pointer]:
        original(self, other)


@breaks(
    Commit,
    "stored_match",
    "test_wait_after_the_event_gets_it",
    "test_start_is_matched_with_stored_events",
    "test_events_since_the_start_are_taken",
    "test_publish_and_wait_racing_meet_once",
    "test_promoted_event_is_stored",
    "test_many_waits_of_one_transition",
    "test_events_and_positions_survive",
)
def only_the_publisher_matches(original: Any, self: Any, subscription: Subscription) -> None:
    return None


@breaks(
    Commit,
    "announce",
    "test_wait_before_the_event_gets_it",
    "test_transition_and_event_of_one_batch_meet",
    "test_every_waiting_instance_gets_the_event",
    "test_promote_publishes_what_is_due",
    "test_many_keys_in_one_batch",
    "test_waits_survive",
    "test_start_may_wait",
)
def only_the_subscriber_matches(original: Any, self: Any, publish: Publish) -> Any:
    with patch.object(self._tables, "waiting", {}):
        return original(self, publish)


@breaks(Commit, "announce", "test_every_waiting_instance_gets_the_event")
def event_reaches_one_wait_alone(original: Any, self: Any, publish: Publish) -> Any:
    waiting = self._tables.waiting
    some = {topic: dict([next(iter(waits.items()))]) for topic, waits in waiting.items()}
    with patch.object(self._tables, "waiting", some):
        return original(self, publish)


@breaks(MemoryStore, "commit", "test_publish_and_wait_racing_meet_once")
async def waits_are_matched_before_the_transaction(original: Any, self: Any, batch: Batch) -> Any:
    stored = {topic: list(events) for topic, events in self._tables.topics.items()}
    await asyncio.sleep(0)

    def old_match(_: Commit, subscription: Subscription) -> object:
        return next((one for one in stored.get(subscription.topic, ()) if subscription.matches(one)), None)

    with patch.object(Commit, "stored_match", old_match):
        return await original(self, batch)


@breaks(MemoryStore, "commit", "test_publish_behind_a_big_wait_is_not_lost")
async def waits_of_a_big_batch_are_matched_one_by_one(original: Any, self: Any, batch: Batch) -> Any:
    stored = {topic: list(events) for topic, events in self._tables.topics.items()}
    for write in batch.transitions:
        for _ in write.changes.subscribe:
            await asyncio.sleep(0)

    def old_match(_: Commit, subscription: Subscription) -> object:
        return next((one for one in stored.get(subscription.topic, ()) if subscription.matches(one)), None)

    with patch.object(Commit, "stored_match", old_match):
        return await original(self, batch)


@breaks(MemoryStore, "commit", "test_batches_over_the_same_keys_in_any_order_end")
async def keys_are_locked_in_the_order_given(original: Any, self: Any, batch: Batch) -> Any:
    changes = [*(one.changes for one in batch.transitions), *(one.changes for one in batch.starts)]
    waits = [(one.name, one.key) for each in changes for one in each.subscribe]
    async with locked(self._tables, dict.fromkeys([*waits, *((one.name, one.key) for one in batch.publishes)])):
        return await original(self, batch)


@breaks(Commit, "subscribe", "test_wait_matched_by_a_stored_event_is_over", "test_matched_wait_is_gone_for_a_timeout")
def matched_wait_stays(original: Any, self: Any, instance: Instance, wanted: Subscribe) -> None:
    original(self, instance, wanted)
    with patch.object(Commit, "stored_match", lambda *_: None):
        original(self, instance, wanted)


@breaks(
    Commit,
    "stored_match",
    "test_lowest_sequence_number_is_first",
    "test_burst_is_received_in_order",
    "test_as_of_time_takes_events_from_then_on",
    "test_events_of_one_batch_are_in_order",
)
def wait_takes_the_newest_event(original: Any, self: Any, subscription: Subscription) -> Any:
    events = self._tables.topics.get(subscription.topic, [])
    return next((event for event in reversed(events) if subscription.matches(event)), None)


@breaks(
    Commit,
    "stored_match",
    "test_burst_is_received_in_order",
    "test_position_is_that_of_the_event_consumed",
    "test_position_counts_for_waits_of_its_own_transition",
    "test_position_outlives_the_holder",
    "test_event_is_promoted_once",
)
def position_is_ignored(original: Any, self: Any, subscription: Subscription) -> Any:
    events = self._tables.topics.get(subscription.topic, [])
    return next((event for event in events if event.time >= subscription.from_time), None)


@breaks(
    Subscription,
    "matches",
    "test_events_before_the_instance_are_not_taken",
    "test_as_of_time_takes_events_from_then_on",
    "test_as_of_time_ahead_lets_events_pass",
    "test_event_id_makes_publishing_idempotent",
    "test_sequence_numbers_rise",
)
def time_is_ignored(original: Any, self: Subscription, event: Any) -> Any:
    return bool(event.sequence > self.after_sequence)


@breaks(Subscription, "matches", "test_as_of_time_takes_events_from_then_on")
def as_of_leaves_out_its_own_moment(original: Any, self: Subscription, event: Any) -> Any:
    return original(self, event) and event.time > self.from_time


@breaks(
    Commit,
    "subscribe",
    "test_as_of_zero_takes_any_stored_event",
    "test_start_is_matched_with_stored_events",
    "test_as_of_zero_ignores_the_position",
)
def as_of_zero_is_by_position(original: Any, self: Any, instance: Instance, wanted: Subscribe) -> None:
    original(self, instance, replace(wanted, as_of=wanted.as_of or None))


@breaks(Commit, "subscribe", "test_as_of_waits_for_what_is_not_there")
def as_of_looks_back_alone(original: Any, self: Any, instance: Instance, wanted: Subscribe) -> None:
    original(self, instance, wanted)
    if wanted.as_of is not None and (wanted.pointer, wanted.wait) in instance.waits:
        self.remove(instance.waits[wanted.pointer, wanted.wait])


@breaks(Commit, "subscribe", "test_long_keys")
def keys_of_waits_are_cut_short(original: Any, self: Any, instance: Instance, wanted: Subscribe) -> None:
    original(self, instance, replace(wanted, key=wanted.key[:255]))


@breaks(Commit, "deliver", "test_waiting_pointer_takes_what_another_consumed_before_it_began")
def delivery_moves_the_position(original: Any, self: Any, subscription: Subscription, stored: EventRow) -> None:
    original(self, subscription, stored)
    self._tables.instances[subscription.instance_id].positions[subscription.topic] = stored.sequence


@breaks(Commit, "deliver", "test_publishing_writes_no_instance")
def delivery_wakes_the_instance(original: Any, self: Any, subscription: Subscription, stored: EventRow) -> None:
    original(self, subscription, stored)
    self._tables.instances[subscription.instance_id].wake_at = self._now


@breaks(Commit, "write_waits", "test_positions_of_instances_are_apart")
def positions_are_shared(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    instance.positions = vars(self._tables).setdefault("positions", {})
    original(self, instance, changes)


@breaks(Commit, "write_waits", "test_position_counts_for_waits_of_its_own_transition")
def positions_are_written_after_the_waits(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    original(self, instance, replace(changes, positions=()))
    original(self, instance, replace(changes, subscribe=(), unsubscribe=()))


@breaks(Commit, "write_waits", "test_position_does_not_go_back")
def positions_go_back(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    for name, key, _ in changes.positions:
        instance.positions.pop((name, key), None)
    original(self, instance, changes)


@breaks(Commit, "write_waits", "test_positions_of_names_and_keys_are_apart")
def position_is_one_for_all_keys(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    highest = max((sequence for _, _, sequence in changes.positions), default=0)
    topics = [*instance.positions, ("a", "k"), ("b", "k"), ("a", "l")]
    original(self, instance, replace(changes, positions=[(name, key, highest) for name, key in topics]))


@breaks(Commit, "write_waits", "test_wait_may_begin_again")
def waits_end_after_those_that_begin(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    original(self, instance, replace(changes, unsubscribe=()))
    gone = {one.pointer for one in changes.unsubscribe}
    for subscription in [one for one in instance.waits.values() if one.pointer in gone]:
        self.remove(subscription)


@breaks(
    Commit,
    "publish",
    "test_event_id_makes_publishing_idempotent",
    "test_event_id_twice_in_one_batch_is_published_once",
    "test_event_id_with_other_content_conflicts",
    "test_future_event_has_its_id",
    "test_same_event_id_racing_is_published_once",
)
def event_ids_are_ignored(original: Any, self: Any, publish: Publish) -> Any:
    self._tables.events.pop(publish.id, None)
    self._tables.future.pop(publish.id, None)
    return original(self, publish)


@breaks(
    Commit,
    "publish",
    "test_event_id_with_other_content_conflicts",
    "test_event_id_twice_in_one_batch_is_published_once",
    "test_promoted_event_keeps_its_id",
    "test_event_ids_and_requests_are_any_text",
)
def content_of_events_is_not_compared(original: Any, self: Any, publish: Publish) -> Any:
    publication = original(self, publish)
    outcome = publication.outcome
    return replace(publication, outcome=PublishOutcome.EXISTS if outcome is PublishOutcome.CONFLICT else outcome)


@breaks(Commit, "announce", "test_sequence_numbers_rise", "test_sequence_numbers_are_not_used_again")
def sequence_numbers_are_used_again(original: Any, self: Any, publish: Publish) -> Any:
    self._tables.last_event = 0
    return original(self, publish)


@breaks(
    Commit,
    "publish",
    "test_future_event_reaches_nobody_yet",
    "test_next_event_is_told",
    "test_promote_is_never_early",
    "test_future_events_survive",
    "test_due_event_waits_for_promote",
)
def future_events_are_published_at_once(original: Any, self: Any, publish: Publish) -> Any:
    return original(self, replace(publish, effective_at=None))


@breaks(Commit, "publish", "test_past_effective_time_is_now")
def effective_times_are_always_ahead(original: Any, self: Any, publish: Publish) -> Any:
    now, self._now = self._now, 0
    publication = original(self, publish)
    self._now = now
    return publication


@breaks(Commit, "promote", "test_promote_is_never_early")
def promote_is_early(original: Any, self: Any) -> None:
    self._now += 10**12
    original(self)
    self._now -= 10**12


@breaks(Commit, "promote", "test_due_event_waits_for_promote", "test_promote_has_a_limit_and_an_order")
def promote_has_no_limit(original: Any, self: Any) -> None:
    self._batch = replace(self._batch, promote=1_000)
    original(self)


@breaks(
    Commit,
    "promote",
    "test_event_is_promoted_once",
    "test_promote_publishes_what_is_due",
    "test_promoting_at_the_same_time_publishes_once",
)
def promoted_events_are_kept_aside(original: Any, self: Any) -> None:
    future = dict(self._tables.future)
    original(self)
    self._tables.future.update(future)


@breaks(Commit, "apply", "test_promoted_events_come_before_those_of_the_batch")
def promoted_events_come_last(original: Any, self: Any) -> Any:
    batch, self._batch = self._batch, replace(self._batch, promote=0)
    reply = original(self)
    self._batch = batch
    self.promote()
    return reply


@breaks(MemoryStore, "drop_events", "test_dropped_events_reach_nobody")
async def dropping_drops_nothing(original: Any, self: Any, before: Moment, limit: int = 1000) -> Any:
    return len(self._tables.events)


@breaks(MemoryStore, "drop_events", "test_young_events_are_not_dropped")
async def dropping_takes_the_young(original: Any, self: Any, before: Moment, limit: int = 1000) -> Any:
    return await original(self, before + 1, limit)


@breaks(MemoryStore, "drop_events", "test_dropping_has_a_limit")
async def dropping_has_no_limit(original: Any, self: Any, before: Moment, limit: int = 1000) -> Any:
    return await original(self, before)


@breaks(MemoryStore, "drop_events", "test_delivered_event_is_kept_for_its_instance")
async def dropping_empties_inboxes(original: Any, self: Any, before: Moment, limit: int = 1000) -> Any:
    for instance in self._tables.instances.values():
        instance.inbox.clear()
    return await original(self, before, limit)


@breaks(MemoryStore, "drop_events", "test_standing_wait_survives_dropping")
async def dropping_ends_waits(original: Any, self: Any, before: Moment, limit: int = 1000) -> Any:
    self._tables.waiting.clear()
    return await original(self, before, limit)


@breaks(MemoryStore, "drop_events", "test_future_events_are_not_dropped")
async def dropping_takes_future_events(original: Any, self: Any, before: Moment, limit: int = 1000) -> Any:
    self._tables.future.clear()
    return await original(self, before, limit)

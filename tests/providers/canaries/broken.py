"""Memory providers that break one promise each, and the conformance test that must notice it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from msgspec.structs import replace

from wfe.model.status import WorkflowStatus
from wfe.ports.store import (
    ClaimReply,
    CommitReply,
    InboxInsert,
    LogCursorPage,
    Publication,
    PublishOutcome,
    StartOutcome,
    TransitionOutcome,
)
from wfe.providers.memory import commit as commit_module
from wfe.providers.memory import store as store_module
from wfe.providers.memory.claim import take
from wfe.providers.memory.commit import Commit
from wfe.providers.memory.hints import HintExchange, MemoryHints
from wfe.providers.memory.hints import _Receiver as Receiver
from wfe.providers.memory.lease import MemoryLease, MemoryRenewer
from wfe.providers.memory.lifecycle import MemoryLifecycle
from wfe.providers.memory.store import MemoryStore
from wfe.providers.memory.tables import Instance, Session, Subscription, Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from wfe.model.moment import Moment
    from wfe.ports.lifecycle import LifecyclePublisher
    from wfe.ports.store import Batch, Changes, InboxRow, LoadedInstance, Publish, Start, Subscribe

ACCEPTED, FENCED, STALE, WAIT_GONE = TransitionOutcome


@dataclass(frozen=True)
class Canary:
    """One broken promise."""

    name: str
    test: str
    place: object
    attribute: str
    broken: Callable[..., Any]
    """Takes the place of the attribute; its first argument is what was there."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        original = getattr(self.place, self.attribute)

        def instead(*args: Any, **options: Any) -> Any:
            return self.broken(original, *args, **options)

        with patch.object(self.place, self.attribute, instead):
            yield


CANARIES: list[Canary] = []


def breaks(place: object, attribute: str, *tests: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function take the place of an attribute; each of the tests must notice it."""

    def note(broken: Callable[..., Any]) -> Callable[..., Any]:
        CANARIES.extend(Canary(broken.__name__, test, place, attribute, broken) for test in tests)
        return broken

    return note


# Guards


@breaks(
    Commit,
    "guard",
    "test_old_fence_is_fenced",
    "test_holder_that_came_back_is_fenced",
    "test_refused_transition_leaves_no_trace",
    "test_refused_transition_keeps_its_messages_and_waits",
    "test_refused_transition_sends_children_no_cancel",
    "test_refused_transition_does_not_disturb_its_batch",
    "test_many_refused_among_many_accepted",
    "test_fence_ahead_is_fenced",
)
def guard_without_fence(original: Any, self: Any, write: Any) -> TransitionOutcome:
    there = self._tables.instances.get(write.instance_id)
    return original(self, replace(write, fence=there.fence) if there else write)


@breaks(
    Commit,
    "guard",
    "test_old_revision_is_stale",
    "test_revision_ahead_is_stale",
    "test_other_batch_with_equal_parts_is_another_batch",
    "test_racing_transitions_of_one_revision_have_one_winner",
)
def guard_without_revision(original: Any, self: Any, write: Any) -> TransitionOutcome:
    there = self._tables.instances.get(write.instance_id)
    return original(self, replace(write, revision=there.revision) if there else write)


@breaks(Commit, "guard", "test_old_revision_is_stale")
def stale_is_called_fenced(original: Any, self: Any, write: Any) -> TransitionOutcome:
    outcome = original(self, write)
    return FENCED if outcome is STALE else outcome


@breaks(Commit, "guard", "test_old_fence_counts_before_old_revision")
def revision_is_judged_before_the_fence(original: Any, self: Any, write: Any) -> TransitionOutcome:
    there = self._tables.instances.get(write.instance_id)
    return STALE if there and there.revision != write.revision else original(self, write)


@breaks(
    Commit,
    "_guard_all",
    "test_refused_transition_does_not_disturb_its_batch",
    "test_gone_wait_does_not_disturb_its_batch",
)
def one_refusal_refuses_all(original: Any, self: Any, writes: Any) -> list[TransitionOutcome]:
    outcomes = original(self, writes)
    worst = next((outcome for outcome in outcomes if outcome is not ACCEPTED), ACCEPTED)
    return [worst for _ in outcomes]


@breaks(Commit, "_guard_all", "test_refused_transition_does_not_disturb_its_batch")
def outcomes_are_sorted(original: Any, self: Any, writes: Any) -> list[TransitionOutcome]:
    return sorted(original(self, writes), key=lambda outcome: outcome.value)


@breaks(Commit, "guard", "test_missing_instance_is_fenced")
def missing_instance_is_stale(original: Any, self: Any, write: Any) -> TransitionOutcome:
    return original(self, write) if write.instance_id in self._tables.instances else STALE


@breaks(
    Commit,
    "required_waits_stand",
    "test_wait_that_ends_by_time_needs_its_subscription",
    "test_one_gone_wait_of_several_refuses_the_transition",
    "test_required_wait_is_that_wait_alone",
    "test_event_racing_a_timeout_has_one_winner",
    "test_matched_wait_is_gone_for_a_timeout",
)
def gone_waits_do_not_matter(original: Any, self: Any, instance: Instance, changes: Changes) -> bool:
    return True


@breaks(Commit, "required_waits_stand", "test_required_wait_is_that_wait_alone")
def any_wait_of_the_pointer_stands(original: Any, self: Any, instance: Instance, changes: Changes) -> bool:
    pointers = {pointer for pointer, _ in instance.waits}
    return all(gone.pointer in pointers for gone in changes.unsubscribe if gone.required)


@breaks(Commit, "required_waits_stand", "test_wait_that_ends_by_cancel_may_be_gone")
def every_wait_is_required(original: Any, self: Any, instance: Instance, changes: Changes) -> bool:
    return all((gone.pointer, gone.wait) in instance.waits for gone in changes.unsubscribe)


@breaks(
    MemoryStore,
    "commit",
    "test_repeated_batch_gives_the_first_outcomes",
    "test_repeated_batch_without_transitions_writes_once",
    "test_repeated_start_batch_is_created_still",
)
async def batches_are_forgotten(original: Any, self: Any, batch: Batch) -> CommitReply:
    self._tables.replies.clear()
    return await original(self, batch)


@breaks(
    MemoryStore,
    "commit",
    "test_racing_transitions_of_one_revision_have_one_winner",
    "test_claim_racing_the_old_holder_fences_it",
)
async def guards_are_judged_before_the_transaction(original: Any, self: Any, batch: Batch) -> CommitReply:
    outcomes = Commit(self._tables, batch)._guard_all(batch.transitions)
    await asyncio.sleep(0)
    with patch.object(Commit, "_guard_all", lambda *_: outcomes):
        return await original(self, batch)


# Starts


@breaks(
    Commit,
    "start",
    "test_repeated_start_exists",
    "test_start_with_another_digest_conflicts",
    "test_same_id_twice_in_one_batch_is_started_once",
    "test_existing_child_is_left_as_it_is",
    "test_concurrent_starts_of_one_id_create_one_instance",
    "test_start_of_an_ended_instance_exists",
    "test_refused_start_leaves_no_trace",
)
def start_overwrites(original: Any, self: Any, start: Start) -> StartOutcome:
    self._tables.instances.pop(start.id, None)
    return original(self, start)


@breaks(
    Commit,
    "start",
    "test_start_with_another_digest_conflicts",
    "test_same_id_with_another_digest_in_one_batch_conflicts",
    "test_outcomes_come_in_the_order_of_the_starts",
    "test_digests_are_any_bytes",
)
def digest_is_ignored(original: Any, self: Any, start: Start) -> StartOutcome:
    return StartOutcome.EXISTS if start.id in self._tables.instances else original(self, start)


@breaks(
    Commit, "start", "test_held_start_is_leased_to_the_committing_session", "test_first_transition_follows_revision_one"
)
def held_start_is_free(original: Any, self: Any, start: Start) -> StartOutcome:
    return original(self, replace(start, changes=replace(start.changes, hold=False)))


@breaks(
    Commit,
    "start",
    "test_free_start_is_held_by_nobody",
    "test_free_start_can_be_claimed_by_any_session",
    "test_children_are_started_free",
)
def free_start_is_held(original: Any, self: Any, start: Start) -> StartOutcome:
    return original(self, replace(start, changes=replace(start.changes, hold=True)))


@breaks(Commit, "start", "test_created_at_is_store_time_of_the_commit")
def created_at_is_never(original: Any, self: Any, start: Start) -> StartOutcome:
    outcome = original(self, start)
    self._tables.instances[start.id].created_at = 1
    return outcome


@breaks(
    Commit, "write", "test_accepted_transition_writes_the_instance", "test_started_instance_reads_as_it_was_written"
)
def instance_is_not_written(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    instance.revision += 1


@breaks(
    Commit,
    "write_rows",
    "test_started_instance_reads_as_it_was_written",
    "test_transition_replaces_documents",
    "test_collections_are_loaded_with_the_instance",
    "test_errors_are_kept_in_order",
    "test_many_transitions_are_one_batch",
    "test_instances_survive",
    "test_big_documents",
)
def rows_are_not_written(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    return


# Rows of a transition


@breaks(Commit, "write_rows", "test_transition_keeps_what_it_does_not_carry")
def pointers_are_replaced_whole(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    instance.pointers.clear()
    original(self, instance, changes)


@breaks(Commit, "write_rows", "test_transition_deletes_pointers", "test_many_pointers", "test_end_keeps_what_is_shown")
def pointers_are_not_deleted(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    original(self, instance, replace(changes, pointers_gone=()))


@breaks(Commit, "end", "test_end_keeps_what_is_shown")
def end_deletes_pointers(original: Any, self: Any, instance: Instance) -> None:
    original(self, instance)
    instance.pointers.clear()


@breaks(Commit, "write_rows", "test_messages_are_consumed_one_by_one")
def messages_are_consumed_up_to_the_last(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    last = max(changes.consumed, default=0)
    original(self, instance, replace(changes, consumed=[row_id for row_id in instance.inbox if row_id <= last]))


@breaks(Commit, "write_rows", "test_messages_left_are_reported", "test_many_messages")
def messages_are_consumed_together(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    original(self, instance, replace(changes, consumed=list(instance.inbox) if changes.consumed else ()))


@breaks(Commit, "write_rows", "test_messages_of_others_are_not_consumed")
def messages_of_others_are_consumed(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    for other in self._tables.instances.values():
        for row_id in changes.consumed:
            other.inbox.pop(row_id, None)


@breaks(
    Commit,
    "write_rows",
    "test_consumed_messages_are_gone",
    "test_messages_read_are_not_reported",
    "test_control_requests_are_pending_until_consumed",
    "test_burst_is_received_in_order",
)
def messages_are_not_consumed(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    original(self, instance, replace(changes, consumed=()))


@breaks(Commit, "_next_inbox_id", "test_row_ids_are_not_used_again")
def row_ids_are_used_again(original: Any, self: Any) -> int:
    return 1 + max((row for instance in self._tables.instances.values() for row in instance.inbox), default=0)


@breaks(Commit, "write", "test_accepted_transition_resets_activations")
def activations_are_not_reset(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    before = instance.activations
    original(self, instance, changes)
    instance.activations = before


@breaks(MemoryStore, "release", "test_release_after_a_transition_counts_nothing_back")
async def release_counts_below_zero(original: Any, self: Any, session: str, holds: Any) -> None:
    for instance_id, _ in holds:
        self._tables.instances[instance_id].activations -= 1


@breaks(Commit, "transition", "test_hold_keeps_the_instance")
def transition_gives_back_always(original: Any, self: Any, write: Any) -> None:
    original(self, replace(write, changes=replace(write.changes, hold=False)))


@breaks(
    Commit,
    "transition",
    "test_transition_may_give_the_instance_back",
    "test_instance_given_back_in_the_batch_is_taken",
    "test_transition_that_gives_back_racing_a_message_loses_nothing",
)
def transition_gives_back_never(original: Any, self: Any, write: Any) -> None:
    original(self, replace(write, changes=replace(write.changes, hold=True)))


@breaks(Commit, "end", "test_end_closes_the_instance", "test_start_may_end_at_once")
def ended_instance_keeps_its_holder(original: Any, self: Any, instance: Instance) -> None:
    owner = instance.owner
    original(self, instance)
    instance.owner = owner


@breaks(Commit, "end", "test_end_closes_the_instance", "test_start_may_end_at_once")
def ended_instance_keeps_its_wake_time(original: Any, self: Any, instance: Instance) -> None:
    wake_at = instance.wake_at
    original(self, instance)
    instance.wake_at = wake_at


@breaks(Commit, "end", "test_end_drops_the_inbox", "test_ended_instances_have_nothing_unread")
def ended_instance_keeps_its_inbox(original: Any, self: Any, instance: Instance) -> None:
    inbox = dict(instance.inbox)
    original(self, instance)
    instance.inbox.update(inbox)


@breaks(Commit, "end", "test_end_drops_collections")
def ended_instance_keeps_its_collections(original: Any, self: Any, instance: Instance) -> None:
    items = dict(instance.items)
    original(self, instance)
    instance.items.update(items)


@breaks(
    Commit,
    "end",
    "test_waits_of_ended_instances_are_removed",
    "test_end_wins_over_an_event_of_its_batch",
    "test_waits_of_ended_instances_do_not_return_with_a_retry",
)
def ended_instance_keeps_its_waits(original: Any, self: Any, instance: Instance) -> None:
    waits = dict(instance.waits)
    instance.waits.clear()
    original(self, instance)
    instance.waits.update(waits)


@breaks(Commit, "write", "test_ended_instance_may_live_again", "test_retried_instance_is_live")
def what_has_ended_stays_ended(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    ended_at = instance.ended_at
    original(self, instance, changes)
    if ended_at is not None:
        instance.ended_at = ended_at


# Waits and events


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
def only_the_subscriber_matches(original: Any, self: Any, publish: Publish) -> int:
    with patch.object(self._tables, "waiting", {}):
        return original(self, publish)


@breaks(Commit, "announce", "test_every_waiting_instance_gets_the_event")
def event_reaches_one_wait_alone(original: Any, self: Any, publish: Publish) -> int:
    waiting = self._tables.waiting
    some = {topic: dict([next(iter(waits.items()))]) for topic, waits in waiting.items()}
    with patch.object(self._tables, "waiting", some):
        return original(self, publish)


@breaks(
    MemoryStore, "commit", "test_publish_and_wait_racing_meet_once", "test_batches_over_the_same_keys_in_any_order_end"
)
async def waits_are_matched_before_the_transaction(original: Any, self: Any, batch: Batch) -> CommitReply:
    stored = {topic: list(events) for topic, events in self._tables.topics.items()}
    await asyncio.sleep(0)

    def old_match(_: Commit, subscription: Subscription) -> object:
        return next((one for one in stored.get(subscription.topic, ()) if subscription.matches(one)), None)

    with patch.object(Commit, "stored_match", old_match):
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
def wait_takes_the_newest_event(original: Any, self: Any, subscription: Subscription) -> object:
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
def position_is_ignored(original: Any, self: Any, subscription: Subscription) -> object:
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
def time_is_ignored(original: Any, self: Subscription, event: Any) -> bool:
    return bool(event.sequence > self.after_sequence)


@breaks(Subscription, "matches", "test_as_of_time_takes_events_from_then_on")
def as_of_leaves_out_its_own_moment(original: Any, self: Subscription, event: Any) -> bool:
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
def event_ids_are_ignored(original: Any, self: Any, publish: Publish) -> Publication:
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
def content_of_events_is_not_compared(original: Any, self: Any, publish: Publish) -> Publication:
    publication = original(self, publish)
    outcome = publication.outcome
    return replace(publication, outcome=PublishOutcome.EXISTS if outcome is PublishOutcome.CONFLICT else outcome)


@breaks(Commit, "announce", "test_sequence_numbers_rise", "test_sequence_numbers_are_not_used_again")
def sequence_numbers_are_used_again(original: Any, self: Any, publish: Publish) -> int:
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
def future_events_are_published_at_once(original: Any, self: Any, publish: Publish) -> Publication:
    return original(self, replace(publish, effective_at=None))


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
def promoted_events_come_last(original: Any, self: Any) -> CommitReply:
    batch, self._batch = self._batch, replace(self._batch, promote=0)
    reply = original(self)
    self._batch = batch
    self.promote()
    return reply


@breaks(MemoryStore, "drop_events", "test_dropped_events_reach_nobody")
async def dropping_drops_nothing(original: Any, self: Any, before: Moment, limit: int = 1000) -> int:
    return len(self._tables.events)


@breaks(MemoryStore, "drop_events", "test_young_events_are_not_dropped")
async def dropping_takes_the_young(original: Any, self: Any, before: Moment, limit: int = 1000) -> int:
    return await original(self, before + 1, limit)


@breaks(MemoryStore, "drop_events", "test_dropping_has_a_limit")
async def dropping_has_no_limit(original: Any, self: Any, before: Moment, limit: int = 1000) -> int:
    return await original(self, before)


@breaks(MemoryStore, "drop_events", "test_delivered_event_is_kept_for_its_instance")
async def dropping_empties_inboxes(original: Any, self: Any, before: Moment, limit: int = 1000) -> int:
    for instance in self._tables.instances.values():
        instance.inbox.clear()
    return await original(self, before, limit)


@breaks(MemoryStore, "drop_events", "test_standing_wait_survives_dropping")
async def dropping_ends_waits(original: Any, self: Any, before: Moment, limit: int = 1000) -> int:
    self._tables.waiting.clear()
    return await original(self, before, limit)


@breaks(MemoryStore, "drop_events", "test_future_events_are_not_dropped")
async def dropping_takes_future_events(original: Any, self: Any, before: Moment, limit: int = 1000) -> int:
    self._tables.future.clear()
    return await original(self, before, limit)


# Messages, children, what a batch hands out


@breaks(
    Commit,
    "insert",
    "test_message_for_nobody_is_dropped",
    "test_message_misses_an_instance_that_ends_in_its_batch",
    "test_child_end_for_an_ended_parent_is_dropped",
)
def messages_reach_the_ended(original: Any, self: Any, instance_id: str, insert: InboxInsert) -> bool:
    with patch.object(Instance, "has_ended", new=False):
        return original(self, instance_id, insert)


@breaks(MemoryStore, "inbox", "test_messages_are_read_in_order")
async def inbox_is_read_backwards(original: Any, self: Any, ids: Sequence[str]) -> Sequence[InboxRow]:
    return (await original(self, ids))[::-1]


@breaks(MemoryStore, "inbox", "test_inboxes_of_several_instances", "test_no_ids_read_nothing")
async def inbox_of_all_is_read(original: Any, self: Any, ids: Sequence[str]) -> Sequence[InboxRow]:
    return await original(self, list(self._tables.instances))


@breaks(MemoryStore, "pending_control", "test_only_requests_asked_for_are_told")
async def all_requests_are_told(original: Any, self: Any, request_ids: Sequence[str]) -> Collection[str]:
    return [one for instance in self._tables.live.values() for one in instance.requests.values()]


@breaks(
    Commit,
    "_reply",
    "test_unread_messages_are_reported",
    "test_match_on_subscribing_is_reported",
    "test_unread_messages_of_an_instance_given_back_are_reported",
    "test_instance_held_after_its_transition_is_not_taken",
)
def unread_messages_are_not_reported(original: Any, self: Any, *args: Any) -> CommitReply:
    return replace(original(self, *args), unread=[])


@breaks(
    Commit,
    "_reply",
    "test_unread_messages_are_reported",
    "test_messages_read_are_not_reported",
    "test_refused_transitions_report_nothing_unread",
)
def everything_is_reported_unread(original: Any, self: Any, *args: Any) -> CommitReply:
    return replace(original(self, *args), unread=[write.instance_id for write in self._batch.transitions])


@breaks(
    Commit,
    "_reply",
    "test_matched_event_is_reported",
    "test_message_for_a_held_instance_names_the_holder",
    "test_message_without_room_leaves_the_instance",
    "test_cancel_reaches_live_children",
)
def deliveries_are_not_reported(original: Any, self: Any, *args: Any) -> CommitReply:
    return replace(original(self, *args), deliveries=[])


@breaks(
    Commit,
    "take_reached",
    "test_message_for_a_held_instance_names_the_holder",
    "test_instance_held_after_its_transition_is_not_taken",
)
def held_instances_are_taken_with_messages(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    with patch.object(Tables, "holder", lambda *_: None):
        return original(self, rows)


@breaks(Commit, "take_reached", "test_message_without_room_leaves_the_instance", "test_room_is_the_limit")
def room_is_ignored(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    self._batch = replace(self._batch, room=1_000)
    return original(self, rows)


@breaks(Commit, "take_reached", "test_only_runnable_instances_are_taken")
def code_is_not_asked_for(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    runnable = {self._tables.instances[row.instance_id].definition for row in rows}
    self._batch = replace(self._batch, runnable=runnable)
    return original(self, rows)


@breaks(
    Commit,
    "take_reached",
    "test_message_takes_an_unheld_instance",
    "test_event_takes_an_unheld_instance",
    "test_child_end_takes_an_unheld_parent",
    "test_instance_of_a_dead_session_is_taken",
    "test_taking_with_a_message_clears_the_reason",
)
def nothing_is_taken_with_messages(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    return []


@breaks(Commit, "take_reached", "test_suspended_instance_is_taken_too")
def suspended_are_not_taken_with_messages(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    instances = self._tables.instances
    return original(self, [row for row in rows if instances[row.instance_id].status != WorkflowStatus.SUSPENDED])


@breaks(
    Tables,
    "is_alive",
    "test_dead_session_takes_nothing_with_a_batch",
    "test_dead_session_takes_nothing",
    "test_instance_of_an_ended_session_is_taken",
    "test_instance_of_an_expired_session_is_taken",
    "test_instance_of_an_unknown_session_is_taken",
    "test_unclaimed_instances_of_dead_sessions_are_listed",
    "test_timer_of_a_dead_holder_comes_due",
    "test_next_wake_counts_instances_of_dead_sessions",
)
def every_session_lives(original: Any, self: Any, session: str) -> bool:
    return True


@breaks(Commit, "take_reached", "test_instances_without_messages_are_not_taken")
def all_due_work_is_taken_with_messages(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    return [take(one, self._batch.session) for one in self._tables.live.values() if one.is_due(self._now)]


@breaks(Commit, "take_reached", "test_instance_is_taken_once", "test_message_takes_an_unheld_instance")
def taken_instance_has_new_messages_alone(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    return [replace(one, inbox=list(one.inbox)[-1:]) for one in original(self, rows)]


@breaks(
    Commit,
    "reach_others",
    "test_children_are_started_free",
    "test_child_end_reaches_the_parent",
    "test_start_writes_its_errors_and_messages",
    "test_start_may_have_children",
    "test_child_that_waits_is_started_waiting",
    "test_children_and_starts_are_logged",
)
def others_are_not_reached(original: Any, self: Any, instance_id: str, changes: Changes) -> None:
    return


@breaks(Commit, "reach_others", "test_child_knows_its_parent", "test_filters")
def children_forget_their_parent(original: Any, self: Any, instance_id: str, changes: Changes) -> None:
    original(self, instance_id, replace(changes, children=[replace(child, parent=None) for child in changes.children]))


@breaks(Commit, "_reply", "test_existing_child_is_left_as_it_is")
def existing_children_are_named(original: Any, self: Any, *args: Any) -> CommitReply:
    wanted = [child.id for write in self._batch.transitions for child in write.changes.children]
    return replace(original(self, *args), children=wanted)


@breaks(Commit, "cancel_children", "test_cancel_reaches_live_children", "test_cancel_reaches_no_others")
def children_are_not_cancelled(original: Any, self: Any, parent_id: str, message: bytes) -> None:
    return


@breaks(Commit, "cancel_children", "test_cancel_reaches_live_children", "test_cancel_reaches_no_others")
def everybody_is_cancelled(original: Any, self: Any, parent_id: str, message: bytes) -> None:
    for instance_id in tuple(self._tables.live):
        self.insert(instance_id, InboxInsert(instance_id, message))


# Claims


@breaks(
    Tables,
    "holder",
    "test_held_instance_is_not_taken",
    "test_racing_claims_share_the_work",
    "test_racing_claims_of_one_instance_have_one_winner",
    "test_hold_keeps_the_instance",
    "test_block_leaves_held_instances",
    "test_claim_racing_a_message_takes_it_once",
    "test_due_instances_that_nobody_takes_are_listed",
    "test_next_wake_is_none_without_timers",
)
def nobody_holds_anything(original: Any, self: Any, instance: Instance) -> None:
    return None


@breaks(MemoryStore, "claim", "test_racing_claims_share_the_work", "test_racing_claims_of_one_instance_have_one_winner")
async def claim_reads_before_it_takes(original: Any, self: Any, session: str, *args: Any, **named: Any) -> ClaimReply:
    limit = args[1]
    due = [one for one in self._tables.live.values() if one.is_due(self._tables.now()) and one.owner is None]
    await asyncio.sleep(0)
    return ClaimReply(self._tables.now(), [take(one, session) for one in due[:limit]])


@breaks(
    store_module,
    "take",
    "test_every_change_of_holder_raises_the_fence",
    "test_old_fence_is_fenced",
    "test_instance_of_an_ended_session_is_taken",
    "test_released_instance_can_be_taken",
    "test_fences_go_on",
    "test_old_fence_releases_nothing",
)
def fence_is_not_raised(original: Any, instance: Instance, session: str) -> LoadedInstance:
    instance.fence -= 1 if instance.fence else 0
    return original(instance, session)


@breaks(
    commit_module, "take", "test_message_takes_an_unheld_instance", "test_instance_given_back_in_the_batch_is_taken"
)
def fence_is_not_raised_with_messages(original: Any, instance: Instance, session: str) -> LoadedInstance:
    instance.fence -= 1
    return original(instance, session)


@breaks(
    store_module,
    "take",
    "test_activations_count_takings_without_a_transition",
    "test_claim_takes_the_lease",
    "test_activations_and_reasons_survive",
)
def activations_are_not_counted(original: Any, instance: Instance, session: str) -> LoadedInstance:
    instance.activations -= 1
    return original(instance, session)


@breaks(store_module, "take", "test_block_does_not_hinder_a_claim")
def reason_is_not_cleared(original: Any, instance: Instance, session: str) -> LoadedInstance:
    reason = instance.blocked_reason
    loaded = original(instance, session)
    instance.blocked_reason = reason
    return loaded


@breaks(
    store_module,
    "take",
    "test_due_instance_is_taken_whole",
    "test_instance_with_messages_is_taken",
    "test_instance_with_a_matched_event_is_taken",
    "test_packed_values_are_any_bytes",
)
def inbox_is_not_loaded(original: Any, instance: Instance, session: str) -> LoadedInstance:
    return replace(original(instance, session), inbox=[])


@breaks(store_module, "take", "test_due_instance_is_taken_whole", "test_collections_are_loaded_with_the_instance")
def collections_are_not_loaded(original: Any, instance: Instance, session: str) -> LoadedInstance:
    return replace(original(instance, session), items=[])


@breaks(
    Instance,
    "is_due",
    "test_timer_is_never_early",
    "test_idle_instance_is_not_taken",
    "test_named_claim_needs_something_to_do",
    "test_later_wake_time_replaces_the_earlier",
    "test_due_instances_that_nobody_takes_are_listed",
)
def everything_is_due(original: Any, self: Instance, now: Moment) -> bool:
    return not self.has_ended


@breaks(Instance, "is_due", "test_ended_instance_is_not_taken")
def ended_instances_are_due(original: Any, self: Instance, now: Moment) -> bool:
    return self.has_ended or original(self, now)


@breaks(Instance, "is_due", "test_timer_is_never_early")
def timers_are_early(original: Any, self: Instance, now: Moment) -> bool:
    return original(self, now + 2 * 3600 * 10**6)


@breaks(Instance, "is_due", "test_timer_due_now_is_taken")
def timers_are_late(original: Any, self: Instance, now: Moment) -> bool:
    return original(self, now - 1)


@breaks(Instance, "is_due", "test_suspended_instance_is_not_woken", "test_unclaimed_leaves_out_what_cannot_be_claimed")
def suspended_instances_wake(original: Any, self: Instance, now: Moment) -> bool:
    return original(self, now) or (self.wake_at is not None and self.wake_at <= now)


@breaks(Instance, "is_due", "test_suspended_instance_is_taken_for_its_inbox")
def suspended_instances_read_nothing(original: Any, self: Instance, now: Moment) -> bool:
    return original(self, now) and self.status != WorkflowStatus.SUSPENDED


@breaks(
    Instance,
    "is_due",
    "test_instance_with_messages_is_taken",
    "test_message_before_a_release_is_found",
    "test_release_racing_a_message_loses_nothing",
    "test_instance_with_a_matched_event_is_taken",
)
def messages_wake_nobody(original: Any, self: Instance, now: Moment) -> bool:
    inbox, self.inbox = self.inbox, {}
    due = original(self, now)
    self.inbox = inbox
    return due


@breaks(
    MemoryStore,
    "claim",
    "test_only_runnable_definitions_are_taken",
    "test_nothing_runnable_takes_nothing",
    "test_limit_counts_what_is_taken",
    "test_definitions_have_any_text",
)
async def claim_takes_any_code(original: Any, self: Any, session: str, _: Any, limit: int, **named: Any) -> ClaimReply:
    runnable = {instance.definition for instance in self._tables.instances.values()}
    return await original(self, session, runnable, limit, **named)


@breaks(MemoryStore, "claim", "test_only_runnable_definitions_are_taken")
async def claim_forgets_structure(
    original: Any, self: Any, session: str, runnable: Any, limit: int, **named: Any
) -> ClaimReply:
    known = {(key.id, key.version) for key in runnable}
    fitting = {one.definition for one in self._tables.live.values() if one.definition[:2] in known}
    return await original(self, session, fitting, limit, **named)


@breaks(MemoryStore, "claim", "test_claim_has_a_limit", "test_limit_zero_takes_nothing", "test_named_claim_has_a_limit")
async def claim_has_no_limit(
    original: Any, self: Any, session: str, runnable: Any, limit: int, **named: Any
) -> ClaimReply:
    return await original(self, session, runnable, 1_000, **named)


@breaks(MemoryStore, "claim", "test_named_claim_looks_at_nothing_else", "test_claim_of_no_ids_takes_nothing")
async def claim_ignores_ids(
    original: Any, self: Any, session: str, runnable: Any, limit: int, *, ids: Any = None, **named: Any
) -> ClaimReply:
    return await original(self, session, runnable, limit, **named)


@breaks(MemoryStore, "claim", "test_any_definition_takes_what_is_named", "test_any_definition_takes_an_ended_instance")
async def any_definition_is_ignored(
    original: Any, self: Any, *args: Any, ids: Any = None, any_definition: bool = False
) -> ClaimReply:
    return await original(self, *args, ids=ids)


@breaks(
    store_module,
    "unheld_and_due",
    "test_earliest_timer_is_first",
    "test_unclaimed_has_a_limit",
    "test_due_instances_that_nobody_takes_are_listed",
)
def latest_timer_is_first(original: Any, tables: Tables, now: Moment) -> list[Instance]:
    return original(tables, now)[::-1]


@breaks(MemoryStore, "_named", "test_earliest_named_timer_is_first")
def latest_named_timer_is_first(original: Any, self: Any, *args: Any, **named: Any) -> list[Instance]:
    return original(self, *args, **named)[::-1]


@breaks(store_module, "next_wake", "test_next_wake_is_told")
def next_wake_is_not_told(original: Any, tables: Tables, now: Moment) -> None:
    return None


@breaks(store_module, "next_wake", "test_next_wake_is_none_without_timers")
def next_wake_counts_what_is_due(original: Any, tables: Tables, now: Moment) -> Moment | None:
    return original(tables, -1)


@breaks(store_module, "next_event", "test_next_event_is_told", "test_far_times_are_kept_exactly")
def next_event_is_not_told(original: Any, tables: Tables) -> None:
    return None


@breaks(
    MemoryStore,
    "release",
    "test_released_instance_is_free_unchanged",
    "test_release_of_many",
    "test_release_racing_a_message_loses_nothing",
)
async def release_does_nothing(original: Any, self: Any, session: str, holds: Any) -> None:
    return


@breaks(MemoryStore, "release", "test_old_fence_releases_nothing")
async def release_ignores_fences(original: Any, self: Any, session: str, holds: Any) -> None:
    await original(self, session, [(one, self._tables.instances[one].fence) for one, _ in holds])


@breaks(MemoryStore, "release", "test_other_session_releases_nothing")
async def release_ignores_sessions(original: Any, self: Any, session: str, holds: Any) -> None:
    for instance_id, fence in holds:
        await original(self, self._tables.instances[instance_id].owner, [(instance_id, fence)])


@breaks(MemoryStore, "release", "test_release_does_not_count_the_activation")
async def release_counts_the_activation(original: Any, self: Any, session: str, holds: Any) -> None:
    for instance_id, _ in holds:
        self._tables.instances[instance_id].activations += 1
    await original(self, session, holds)


@breaks(MemoryStore, "block", "test_block_sets_the_reason_alone")
async def block_raises_the_revision(original: Any, self: Any, reasons: Mapping[str, str]) -> Collection[str]:
    for instance_id in reasons:
        self._tables.instances[instance_id].revision += 1
    return await original(self, reasons)


@breaks(MemoryStore, "block", "test_block_of_many_with_reasons_of_their_own")
async def block_gives_one_reason_to_all(original: Any, self: Any, reasons: Mapping[str, str]) -> Collection[str]:
    return await original(self, dict.fromkeys(reasons, next(iter(reasons.values()))))


@breaks(MemoryStore, "unclaimed", "test_listing_takes_nothing")
async def listing_takes(original: Any, self: Any, limit: int) -> Any:
    rows = await original(self, limit)
    for row in rows:
        take(self._tables.instances[row.id], "whoever")
    return rows


# Reading, log, definitions, purge


@breaks(MemoryStore, "get", "test_instance_is_found_by_name")
async def names_are_not_looked_up(original: Any, self: Any, id_or_name: str) -> Any:
    return await original(self, id_or_name) if id_or_name in self._tables.instances else None


@breaks(MemoryStore, "get", "test_instance_is_found_by_name", "test_id_comes_before_name")
async def first_of_a_name_is_given(original: Any, self: Any, id_or_name: str) -> Any:
    return await original(self, self._tables.names.get(id_or_name, [id_or_name])[0])


@breaks(MemoryStore, "ended", "test_ended_instances_are_told")
async def live_instances_are_told(original: Any, self: Any, ids: Any, **named: Any) -> Any:
    return await original(self, ids, until=["runnable"])


@breaks(MemoryStore, "ended", "test_further_statuses_count_as_an_end")
async def further_statuses_are_ignored(original: Any, self: Any, ids: Any, **named: Any) -> Any:
    return await original(self, ids)


@breaks(MemoryStore, "known", "test_known_ids_are_told", "test_purged_instance_is_gone")
async def everything_is_known(original: Any, self: Any, ids: Sequence[str]) -> Collection[str]:
    return ids


@breaks(MemoryStore, "list_instances", "test_newest_is_first")
async def oldest_is_first(original: Any, self: Any, *args: Any) -> Any:
    rows, cursor = await original(self, *args)
    return rows[::-1], cursor


@breaks(
    MemoryStore,
    "list_instances",
    "test_filters",
    "test_cursor_keeps_to_the_filter",
    "test_names_and_references_are_any_text",
    "test_empty_text_is_text",
)
async def filter_is_ignored(original: Any, self: Any, where: Any, limit: int, cursor: str | None = None) -> Any:
    return await original(self, type(where)(), limit, cursor)


@breaks(MemoryStore, "list_instances", "test_last_page_has_no_cursor")
async def full_page_has_a_cursor(original: Any, self: Any, where: Any, limit: int, cursor: str | None = None) -> Any:
    rows, following = await original(self, where, limit, cursor)
    return rows, following or ("instances-before-0" if len(rows) == limit else None)


@breaks(MemoryStore, "list_instances", "test_pages_are_complete")
async def pages_skip_their_last(original: Any, self: Any, where: Any, limit: int, cursor: str | None = None) -> Any:
    rows, following = await original(self, where, limit, cursor)
    return rows[:-1] if following else rows, following


@breaks(MemoryStore, "list_instances", "test_foreign_list_cursor_is_refused")
async def any_list_cursor_is_taken(original: Any, self: Any, where: Any, limit: int, cursor: str | None = None) -> Any:
    return await original(self, where, limit, cursor if cursor and cursor.startswith("instances-") else None)


@breaks(
    MemoryStore,
    "list_instances",
    "test_changed_and_purged_instances_do_not_disturb_the_pages",
    "test_new_instances_do_not_disturb_the_pages",
)
async def cursor_is_an_offset(original: Any, self: Any, where: Any, limit: int, cursor: str | None = None) -> Any:
    offset = int(cursor or 0)
    rows, _ = await original(self, where, 1_000)
    more = len(rows) > offset + limit
    return rows[offset : offset + limit], str(offset + limit) if more else None


@breaks(
    Commit,
    "write_log",
    "test_transition_is_logged",
    "test_history_stays_after_the_end",
    "test_log_begins_with_the_oldest_row",
    "test_announcements_come_in_order",
)
def log_is_not_written(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    return


@breaks(MemoryStore, "history", "test_history_goes_on_after_a_number")
async def history_counts_from_the_first_number(
    original: Any, self: Any, instance_id: str, after: int = 0, limit: int = 1000
) -> Any:
    return [row for row in await original(self, instance_id) if row.first_sequence > after][:limit]


@breaks(MemoryStore, "history", "test_history_has_a_limit")
async def history_has_no_limit(original: Any, self: Any, instance_id: str, after: int = 0, limit: int = 1000) -> Any:
    return await original(self, instance_id, after)


@breaks(MemoryStore, "log_after", "test_history_names_the_definition")
async def log_forgets_the_definition(original: Any, self: Any, *args: Any, **named: Any) -> LogCursorPage:
    page = await original(self, *args, **named)
    return replace(page, rows=[replace(row, definition_id="", version=0) for row in page.rows])


@breaks(MemoryStore, "log_after", "test_log_is_in_commit_order")
async def log_is_ordered_by_instance(original: Any, self: Any, *args: Any, **named: Any) -> LogCursorPage:
    page = await original(self, *args, **named)
    return replace(page, rows=sorted(page.rows, key=lambda row: row.instance_id))


@breaks(MemoryStore, "log_after", "test_cursor_goes_on", "test_rows_of_one_instance_are_in_order_under_load")
async def log_cursor_skips(original: Any, self: Any, cursor: Any, limit: int, **named: Any) -> LogCursorPage:
    page = await original(self, cursor, limit, **named)
    return replace(page, rows=page.rows[:-1]) if len(page.rows) > 2 else page


@breaks(
    MemoryStore,
    "log_after",
    "test_cursor_at_the_end_sees_what_comes",
    "test_cursor_goes_on",
    "test_log_cursors_survive",
)
async def log_cursor_repeats(original: Any, self: Any, cursor: Any, limit: int, **named: Any) -> LogCursorPage:
    return replace(await original(self, cursor, limit, **named), cursor=cursor or "log-after-0")


@breaks(MemoryStore, "log_after", "test_now_is_the_end")
async def now_is_the_beginning(original: Any, self: Any, cursor: Any, limit: int, **named: Any) -> LogCursorPage:
    return await original(self, None if cursor == "now" else cursor, limit, **named)


@breaks(MemoryStore, "log_after", "test_log_of_one_instance")
async def log_of_all_is_given(
    original: Any, self: Any, cursor: Any, limit: int, *, instance_id: Any = None
) -> LogCursorPage:
    return await original(self, cursor, limit)


@breaks(MemoryStore, "log_after", "test_foreign_cursor_is_refused")
async def any_cursor_is_taken(original: Any, self: Any, cursor: Any, limit: int, **named: Any) -> LogCursorPage:
    return await original(self, cursor if cursor and cursor.startswith("log-") else None, limit, **named)


@breaks(
    MemoryStore,
    "save_definition",
    "test_other_structure_in_use_is_refused",
    "test_held_and_suspended_instances_are_unfinished",
    "test_definition_is_recorded_once",
    "test_definitions_survive",
)
async def definitions_are_replaced_always(original: Any, self: Any, row: Any) -> None:
    self._tables.definitions[row.key.id, row.key.version] = row


@breaks(
    MemoryStore,
    "save_definition",
    "test_other_structure_replaces_one_that_is_not_in_use",
    "test_instances_of_another_version_do_not_count",
)
async def definitions_are_never_replaced(original: Any, self: Any, row: Any) -> Any:
    there = self._tables.definitions.get((row.key.id, row.key.version))
    return there.key if there is not None and there.key != row.key else await original(self, row)


@breaks(MemoryStore, "save_definition", "test_versions_and_ids_are_apart")
async def definitions_are_kept_by_id_alone(original: Any, self: Any, row: Any) -> Any:
    for place in [place for place in self._tables.definitions if place[0] == row.key.id]:
        del self._tables.definitions[place]
    return await original(self, row)


@breaks(MemoryStore, "purge", "test_live_instances_stay", "test_retried_instance_is_live")
async def purge_takes_the_living(original: Any, self: Any, **named: Any) -> int:
    for instance in self._tables.instances.values():
        instance.ended_at = instance.ended_at or 1
    return await original(self, **named)


@breaks(MemoryStore, "purge", "test_purge_by_id")
async def purge_takes_no_ids_for_all(original: Any, self: Any, *, ids: Any = None, **named: Any) -> int:
    return await original(self, ids=ids or None, **named)


@breaks(MemoryStore, "purge", "test_purge_by_status", "test_purge_by_all")
async def purge_ignores_the_status(original: Any, self: Any, *, status: Any = (), **named: Any) -> int:
    return await original(self, **named)


@breaks(MemoryStore, "purge", "test_purge_by_age")
async def purge_ignores_the_age(original: Any, self: Any, *, ended_before: Any = None, **named: Any) -> int:
    return await original(self, **named)


@breaks(MemoryStore, "purge", "test_purge_has_a_limit")
async def purge_has_no_limit(original: Any, self: Any, *, limit: int = 100, **named: Any) -> int:
    return await original(self, **named)


@breaks(
    MemoryStore,
    "_remove",
    "test_purged_instance_is_gone",
    "test_purged_id_is_free",
    "test_holder_of_a_purged_instance_is_fenced",
)
def purge_removes_nothing(original: Any, self: Any, gone: Any) -> None:
    return


@breaks(MemoryStore, "_remove", "test_purged_instance_is_gone")
def purge_leaves_the_log(original: Any, self: Any, gone: Any) -> None:
    log = dict(self._tables.log)
    original(self, gone)
    self._tables.log = log


@breaks(MemoryStore, "log_after", "test_cursor_outlives_a_purge")
async def log_ends_where_rows_were_purged(
    original: Any, self: Any, cursor: str | None, limit: int, **named: Any
) -> LogCursorPage:
    place, rows = int((cursor or "log-after-0").rsplit("-", 1)[1]), []
    while (row := self._tables.log.get(place + 1)) is not None and len(rows) < limit:
        rows.append(row)
        place += 1
    return LogCursorPage(rows, f"log-after-{place}")


@breaks(Commit, "write_waits", "test_positions_are_purged", "test_purged_id_is_free")
def positions_outlive_their_instance(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    kept = vars(self._tables).setdefault("kept_positions", {})
    instance.positions = kept.setdefault(instance.id, {})
    original(self, instance, changes)


@breaks(MemoryStore, "_remove", "test_purge_keeps_events")
def purge_drops_events(original: Any, self: Any, gone: Any) -> None:
    original(self, gone)
    self._tables.topics.clear()


@breaks(MemoryStore, "_remove", "test_children_outlive_the_purge_of_their_parent")
def purge_takes_children(original: Any, self: Any, gone: Sequence[Instance]) -> None:
    children = [child for one in gone for child in self._tables.children.get(one.id, ())]
    original(self, gone)
    for child in children:
        del self._tables.instances[child]


@breaks(MemoryStore, "get", "test_ids_are_any_text")
async def ids_are_compared_without_case(original: Any, self: Any, id_or_name: str) -> Any:
    return await original(self, id_or_name.lower())


@breaks(MemoryStore, "commit", "test_other_name_or_key_does_not_match")
async def names_and_keys_run_together(original: Any, self: Any, batch: Batch) -> CommitReply:
    return await original(self, _with_topics(batch, lambda name, key: ("", name + key)))


@breaks(MemoryStore, "commit", "test_event_names_and_keys_are_any_text")
async def keys_are_compared_without_case(original: Any, self: Any, batch: Batch) -> CommitReply:
    return await original(self, _with_topics(batch, lambda name, key: (name.lower(), key.lower())))


def _with_topics(batch: Batch, topic: Callable[[str, str], tuple[str, str]]) -> Batch:
    def with_topic(one: Any) -> Any:
        name, key = topic(one.name, one.key)
        return replace(one, name=name, key=key)

    def with_topics(one: Any) -> Any:
        subscribe = [with_topic(wanted) for wanted in one.changes.subscribe]
        return replace(one, changes=replace(one.changes, subscribe=subscribe))

    return replace(
        batch,
        transitions=[with_topics(one) for one in batch.transitions],
        starts=[with_topics(one) for one in batch.starts],
        publishes=[with_topic(one) for one in batch.publishes],
    )


@breaks(Tables, "now", "test_store_time_does_not_go_back", "test_claim_tells_store_time", "test_store_time_goes_on")
def store_time_goes_back(original: Any, self: Any) -> Moment:
    self.latest = (self.latest or 10**15) - 1
    return self.latest


# Sessions


@breaks(MemoryLease, "end", "test_ended_session_is_dead_at_once", "test_another_process_sees_the_sessions")
async def ending_does_nothing(original: Any, self: Any, session: str) -> None:
    return


@breaks(MemoryLease, "begin", "test_names_are_labels")
async def sessions_are_told_apart_by_name(original: Any, self: Any, session: str, *, name: str, **named: Any) -> None:
    for other in [one for one, found in self._tables.sessions.items() if found.name == name]:
        del self._tables.sessions[other]
    await original(self, session, name=name, **named)


@breaks(
    Tables,
    "is_alive",
    "test_session_expires",
    "test_renewal_is_for_its_time_alone",
    "test_expired_session_cannot_be_renewed",
    "test_sessions_are_independent",
)
def sessions_do_not_expire(original: Any, self: Any, session: str) -> bool:
    return session in self.sessions


@breaks(
    MemoryRenewer,
    "renew",
    "test_renewed_session_goes_on",
    "test_expired_session_cannot_be_renewed",
    "test_ended_session_cannot_be_renewed",
    "test_unknown_session_cannot_be_renewed",
)
def renewing_does_nothing(original: Any, self: Any) -> None:
    return


@breaks(
    MemoryRenewer,
    "renew",
    "test_expired_session_cannot_be_renewed",
    "test_ended_session_cannot_be_renewed",
    "test_unknown_session_cannot_be_renewed",
)
def renewing_brings_sessions_back(original: Any, self: Any) -> None:
    self._tables.sessions[self._session] = Session("back", self._tables.clock.monotonic() + 3600)


@breaks(MemoryRenewer, "renew", "test_renewal_is_for_its_session_alone")
def renewing_renews_all(original: Any, self: Any) -> None:
    for session in self._tables.sessions.values():
        session.expires += self._ttl.total_seconds()


@breaks(MemoryRenewer, "close", "test_session_outlives_its_renewer", "test_unused_renewer_can_be_closed")
def closing_ends_the_session(original: Any, self: Any) -> None:
    self._tables.sessions.pop(self._session, None)


@breaks(MemoryLease, "end", "test_ending_what_is_over_is_harmless", "test_sessions_are_independent")
async def ending_ends_all(original: Any, self: Any, session: str) -> None:
    self._tables.sessions.clear()


@breaks(MemoryLease, "alive", "test_begun_session_lives", "test_many_sessions_begin_at_the_same_time")
async def only_one_session_is_told(original: Any, self: Any) -> Collection[str]:
    return list(await original(self))[:1]


# Hints


@breaks(HintExchange, "send", "test_hint_reaches_that_session_alone")
def hints_reach_everybody(original: Any, self: Any, to: str | None, hint: Any, origins: Any) -> None:
    original(self, None, hint, ())


@breaks(HintExchange, "send", "test_hint_to_all_reaches_all_others")
def hints_reach_their_sender(original: Any, self: Any, to: str | None, hint: Any, origins: Any) -> None:
    original(self, to, hint, ())


@breaks(MemoryHints, "close", "test_closed_hints_are_silent")
async def closing_does_nothing(original: Any, self: Any) -> None:
    return


@breaks(
    HintExchange,
    "send",
    "test_hints_of_both_kinds_are_told_apart",
    "test_hint_reaches_a_session",
    "test_hints_of_odd_ids",
    "test_several_hints_at_once",
    "test_big_hint_does_no_harm",
    "test_hints_may_be_opened_again",
    "test_sending_to_nobody_is_harmless",
    "test_received_in_the_loop",
)
def hints_are_all_lost(original: Any, self: Any, to: str | None, hint: Any, origins: Any) -> None:
    return


@breaks(Receiver, "take", "test_received_in_the_loop")
def hints_come_in_another_thread(original: Any, self: Any, hint: Any) -> None:
    thread = threading.Thread(target=self.receive, args=(hint,))
    thread.start()
    thread.join()


# Announcements


@breaks(MemoryLifecycle, "subscribe", "test_subscribing_begins_with_now")
def now_means_start(original: Any, self: Any, *, since: str | None = None, **named: Any) -> LifecyclePublisher:
    return original(self, since=since or "start", **named)


@breaks(MemoryLifecycle, "subscribe", "test_one_workflow_is_picked_out")
def workflow_is_not_picked_out(original: Any, self: Any, *, since: Any = None, **_: Any) -> LifecyclePublisher:
    return original(self, since=since)


@breaks(MemoryLifecycle, "subscribe", "test_every_cursor_resumes")
def cursor_loses_the_rest_of_its_row(original: Any, self: Any, *, since: Any = None, **named: Any) -> Any:
    if since and "." in since:
        since = f"{int(since.split('.')[0]) + 1}.0"
    return original(self, since=since, **named)

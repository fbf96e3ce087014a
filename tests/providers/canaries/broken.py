"""Memory providers that break one promise each, and the conformance test that must notice it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from msgspec.structs import replace

from wfe.model.status import WorkflowStatus
from wfe.ports.store import (
    ClaimReply,
    CommitReply,
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
from wfe.providers.memory.lease import MemoryLease, MemoryRenewer
from wfe.providers.memory.lifecycle import MemoryLifecycle
from wfe.providers.memory.store import MemoryStore
from wfe.providers.memory.tables import Instance, Session, Subscription, Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from wfe.model.moment import Moment
    from wfe.ports.lifecycle import LifecyclePublisher
    from wfe.ports.store import Batch, Changes, InboxInsert, InboxRow, LoadedInstance, Publish, Start, Subscribe

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

        with ExitStack() as stack:
            stack.enter_context(patch.object(self.place, self.attribute, instead))
            yield


CANARIES: list[Canary] = []


def breaks(test: str, place: object, attribute: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Plant a function in a provider, to be noticed by a test; give it again for each test that must notice it."""

    def note(broken: Callable[..., Any]) -> Callable[..., Any]:
        CANARIES.append(Canary(broken.__name__, test, place, attribute, broken))
        return broken

    return note


# Guards


@breaks("test_old_fence_is_fenced", Commit, "guard")
@breaks("test_holder_that_came_back_is_fenced", Commit, "guard")
@breaks("test_refused_transition_leaves_no_trace", Commit, "guard")
@breaks("test_refused_transition_keeps_its_messages_and_waits", Commit, "guard")
@breaks("test_refused_transition_sends_children_no_cancel", Commit, "guard")
@breaks("test_refused_transition_does_not_disturb_its_batch", Commit, "guard")
@breaks("test_many_refused_among_many_accepted", Commit, "guard")
@breaks("test_fence_ahead_is_fenced", Commit, "guard")
def guard_without_fence(original: Any, self: Any, write: Any) -> TransitionOutcome:
    there = self._tables.instances.get(write.instance_id)
    return original(self, replace(write, fence=there.fence) if there else write)


@breaks("test_old_revision_is_stale", Commit, "guard")
@breaks("test_revision_ahead_is_stale", Commit, "guard")
@breaks("test_other_batch_with_equal_parts_is_another_batch", Commit, "guard")
@breaks("test_racing_transitions_of_one_revision_have_one_winner", Commit, "guard")
def guard_without_revision(original: Any, self: Any, write: Any) -> TransitionOutcome:
    there = self._tables.instances.get(write.instance_id)
    return original(self, replace(write, revision=there.revision) if there else write)


@breaks("test_old_revision_is_stale", Commit, "guard")
def stale_is_called_fenced(original: Any, self: Any, write: Any) -> TransitionOutcome:
    outcome = original(self, write)
    return FENCED if outcome is STALE else outcome


@breaks("test_old_fence_counts_before_old_revision", Commit, "guard")
def revision_is_judged_before_the_fence(original: Any, self: Any, write: Any) -> TransitionOutcome:
    there = self._tables.instances.get(write.instance_id)
    return STALE if there and there.revision != write.revision else original(self, write)


@breaks("test_refused_transition_does_not_disturb_its_batch", Commit, "_guard_all")
@breaks("test_gone_wait_does_not_disturb_its_batch", Commit, "_guard_all")
@breaks("test_refused_transition_does_not_disturb_its_batch", Commit, "_guard_all")
def one_refusal_refuses_all(original: Any, self: Any, writes: Any) -> list[TransitionOutcome]:
    outcomes = original(self, writes)
    worst = next((outcome for outcome in outcomes if outcome is not ACCEPTED), ACCEPTED)
    return [worst for _ in outcomes]


@breaks("test_refused_transition_does_not_disturb_its_batch", Commit, "_guard_all")
def outcomes_are_sorted(original: Any, self: Any, writes: Any) -> list[TransitionOutcome]:
    return sorted(original(self, writes), key=lambda outcome: outcome.value)


@breaks("test_missing_instance_is_fenced", Commit, "guard")
def missing_instance_is_stale(original: Any, self: Any, write: Any) -> TransitionOutcome:
    return original(self, write) if write.instance_id in self._tables.instances else STALE


@breaks("test_wait_that_ends_by_time_needs_its_subscription", Commit, "required_waits_stand")
@breaks("test_one_gone_wait_of_several_refuses_the_transition", Commit, "required_waits_stand")
@breaks("test_required_wait_is_that_wait_alone", Commit, "required_waits_stand")
@breaks("test_event_racing_a_timeout_has_one_winner", Commit, "required_waits_stand")
@breaks("test_matched_wait_is_gone_for_a_timeout", Commit, "required_waits_stand")
def gone_waits_do_not_matter(original: Any, self: Any, instance: Instance, changes: Changes) -> bool:
    return True


@breaks("test_required_wait_is_that_wait_alone", Commit, "required_waits_stand")
def any_wait_of_the_pointer_stands(original: Any, self: Any, instance: Instance, changes: Changes) -> bool:
    pointers = {pointer for pointer, _ in instance.waits}
    return all(gone.pointer in pointers for gone in changes.unsubscribe if gone.required)


@breaks("test_wait_that_ends_by_cancel_may_be_gone", Commit, "required_waits_stand")
def every_wait_is_required(original: Any, self: Any, instance: Instance, changes: Changes) -> bool:
    return all((gone.pointer, gone.wait) in instance.waits for gone in changes.unsubscribe)


@breaks("test_repeated_batch_gives_the_first_outcomes", MemoryStore, "commit")
@breaks("test_repeated_batch_without_transitions_writes_once", MemoryStore, "commit")
@breaks("test_repeated_start_batch_is_created_still", MemoryStore, "commit")
async def batches_are_forgotten(original: Any, self: Any, batch: Batch) -> CommitReply:
    self._tables.replies.clear()
    return await original(self, batch)


@breaks("test_racing_transitions_of_one_revision_have_one_winner", MemoryStore, "commit")
@breaks("test_claim_racing_the_old_holder_fences_it", MemoryStore, "commit")
async def guards_are_judged_before_the_transaction(original: Any, self: Any, batch: Batch) -> CommitReply:
    outcomes = Commit(self._tables, batch)._guard_all(batch.transitions)
    await asyncio.sleep(0)
    with patch.object(Commit, "_guard_all", lambda *_: outcomes):
        return await original(self, batch)


# Starts


@breaks("test_repeated_start_exists", Commit, "start")
@breaks("test_start_with_another_digest_conflicts", Commit, "start")
@breaks("test_same_id_twice_in_one_batch_is_started_once", Commit, "start")
@breaks("test_existing_child_is_left_as_it_is", Commit, "start")
@breaks("test_concurrent_starts_of_one_id_create_one_instance", Commit, "start")
@breaks("test_start_of_an_ended_instance_exists", Commit, "start")
@breaks("test_refused_start_leaves_no_trace", Commit, "start")
def start_overwrites(original: Any, self: Any, start: Start) -> StartOutcome:
    self._tables.instances.pop(start.id, None)
    return original(self, start)


@breaks("test_start_with_another_digest_conflicts", Commit, "start")
@breaks("test_same_id_with_another_digest_in_one_batch_conflicts", Commit, "start")
@breaks("test_outcomes_come_in_the_order_of_the_starts", Commit, "start")
@breaks("test_digests_are_any_bytes", Commit, "start")
def digest_is_ignored(original: Any, self: Any, start: Start) -> StartOutcome:
    return StartOutcome.EXISTS if start.id in self._tables.instances else original(self, start)


@breaks("test_held_start_is_leased_to_the_committing_session", Commit, "start")
@breaks("test_first_transition_follows_revision_one", Commit, "start")
def held_start_is_free(original: Any, self: Any, start: Start) -> StartOutcome:
    return original(self, replace(start, changes=replace(start.changes, hold=False)))


@breaks("test_free_start_is_held_by_nobody", Commit, "start")
@breaks("test_free_start_can_be_claimed_by_any_session", Commit, "start")
@breaks("test_children_are_started_free", Commit, "start")
def free_start_is_held(original: Any, self: Any, start: Start) -> StartOutcome:
    return original(self, replace(start, changes=replace(start.changes, hold=True)))


@breaks("test_created_at_is_store_time_of_the_commit", Commit, "start")
def created_at_is_never(original: Any, self: Any, start: Start) -> StartOutcome:
    outcome = original(self, start)
    self._tables.instances[start.id].created_at = 1
    return outcome


@breaks("test_started_instance_reads_as_it_was_written", Commit, "write_rows")
@breaks("test_accepted_transition_writes_the_instance", Commit, "write")
@breaks("test_transition_replaces_documents", Commit, "write_rows")
@breaks("test_collections_are_loaded_with_the_instance", Commit, "write_rows")
@breaks("test_errors_are_kept_in_order", Commit, "write_rows")
@breaks("test_consumed_messages_are_gone", Commit, "write_rows")
def nothing_is_written(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    if instance.revision > 1 or "write_rows" in repr(original):
        return
    original(self, instance, changes)


# Rows of a transition


@breaks("test_transition_keeps_what_it_does_not_carry", Commit, "write_rows")
def pointers_are_replaced_whole(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    instance.pointers.clear()
    original(self, instance, changes)


@breaks("test_transition_deletes_pointers", Commit, "write_rows")
@breaks("test_many_pointers", Commit, "write_rows")
@breaks("test_end_keeps_what_is_shown", Commit, "write_rows")
def pointers_are_not_deleted(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    original(self, instance, replace(changes, pointers_gone=()))


@breaks("test_end_keeps_what_is_shown", Commit, "end")
def end_deletes_pointers(original: Any, self: Any, instance: Instance) -> None:
    original(self, instance)
    instance.pointers.clear()


@breaks("test_messages_are_consumed_one_by_one", Commit, "write_rows")
@breaks("test_messages_left_are_reported", Commit, "write_rows")
@breaks("test_many_messages", Commit, "write_rows")
def messages_are_consumed_up_to_the_last(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    for row_id in tuple(instance.inbox):
        if changes.consumed and row_id <= max(changes.consumed):
            del instance.inbox[row_id]
    if changes.consumed and len(changes.consumed) > 1:
        instance.inbox.clear()
    if len(changes.consumed) == 1:
        instance.inbox.clear()
    original(self, instance, changes)


@breaks("test_messages_of_others_are_not_consumed", Commit, "write_rows")
def messages_of_others_are_consumed(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    for other in self._tables.instances.values():
        for row_id in changes.consumed:
            other.inbox.pop(row_id, None)


@breaks("test_consumed_messages_are_gone", Commit, "write_rows")
@breaks("test_messages_read_are_not_reported", Commit, "write_rows")
@breaks("test_control_requests_are_pending_until_consumed", Commit, "write_rows")
@breaks("test_burst_is_received_in_order", Commit, "write_rows")
def messages_are_not_consumed(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    original(self, instance, replace(changes, consumed=()))


@breaks("test_row_ids_are_not_used_again", Commit, "_next_inbox_id")
def row_ids_are_used_again(original: Any, self: Any) -> int:
    return 1 + max((row for instance in self._tables.instances.values() for row in instance.inbox), default=0)


@breaks("test_accepted_transition_resets_activations", Commit, "write")
@breaks("test_release_after_a_transition_counts_nothing_back", Commit, "write")
def activations_are_not_reset(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    before = instance.activations
    original(self, instance, changes)
    instance.activations = before or -1


@breaks("test_hold_keeps_the_instance", Commit, "transition")
def transition_gives_back_always(original: Any, self: Any, write: Any) -> None:
    original(self, replace(write, changes=replace(write.changes, hold=False)))


@breaks("test_transition_may_give_the_instance_back", Commit, "transition")
@breaks("test_instance_given_back_in_the_batch_is_taken", Commit, "transition")
@breaks("test_transition_that_gives_back_racing_a_message_loses_nothing", Commit, "transition")
def transition_gives_back_never(original: Any, self: Any, write: Any) -> None:
    original(self, replace(write, changes=replace(write.changes, hold=True)))


@breaks("test_end_closes_the_instance", Commit, "end")
@breaks("test_start_may_end_at_once", Commit, "end")
def ended_instance_keeps_its_holder(original: Any, self: Any, instance: Instance) -> None:
    owner = instance.owner
    original(self, instance)
    instance.owner = owner


@breaks("test_end_closes_the_instance", Commit, "end")
@breaks("test_start_may_end_at_once", Commit, "end")
def ended_instance_keeps_its_wake_time(original: Any, self: Any, instance: Instance) -> None:
    wake_at = instance.wake_at
    original(self, instance)
    instance.wake_at = wake_at


@breaks("test_end_drops_the_inbox", Commit, "end")
@breaks("test_ended_instances_have_nothing_unread", Commit, "end")
@breaks("test_child_and_parent_may_end_in_one_batch", Commit, "end")
def ended_instance_keeps_its_inbox(original: Any, self: Any, instance: Instance) -> None:
    inbox = dict(instance.inbox)
    original(self, instance)
    instance.inbox.update(inbox or {0: _row_of(self, instance)})


def _row_of(commit: Any, instance: Instance) -> InboxRow:
    from wfe.ports.store import InboxRow

    return InboxRow(commit._next_inbox_id(), instance.id, b"left over")


@breaks("test_end_drops_collections", Commit, "end")
def ended_instance_keeps_its_collections(original: Any, self: Any, instance: Instance) -> None:
    items = dict(instance.items)
    original(self, instance)
    instance.items.update(items)


@breaks("test_waits_of_ended_instances_are_removed", Commit, "end")
@breaks("test_end_wins_over_an_event_of_its_batch", Commit, "end")
@breaks("test_waits_of_ended_instances_do_not_return_with_a_retry", Commit, "end")
def ended_instance_keeps_its_waits(original: Any, self: Any, instance: Instance) -> None:
    waits = dict(instance.waits)
    instance.waits.clear()
    original(self, instance)
    instance.waits.update(waits)


@breaks("test_ended_instance_may_live_again", Commit, "write")
@breaks("test_retried_instance_is_live", Commit, "write")
def what_has_ended_stays_ended(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    ended_at = instance.ended_at
    original(self, instance, changes)
    if ended_at is not None:
        instance.ended_at = ended_at


# Waits and events


@breaks("test_wait_takes_one_event", Commit, "remove")
@breaks("test_ended_wait_gets_nothing", Commit, "remove")
@breaks("test_timeout_wins_over_an_event_of_its_batch", Commit, "remove")
@breaks("test_publishes_racing_for_one_wait_give_one_delivery", Commit, "remove")
@breaks("test_one_wait_takes_the_first_event_of_a_batch", Commit, "remove")
@breaks("test_waits_of_ended_instances_are_removed", Commit, "remove")
@breaks("test_wait_that_ends_by_time_ends_while_it_waits", Commit, "remove")
def subscription_is_not_removed(original: Any, self: Any, subscription: Subscription) -> None:
    return


@breaks("test_waits_of_one_pointer_are_apart", Commit, "remove")
def all_waits_of_the_pointer_are_removed(original: Any, self: Any, subscription: Subscription) -> None:
    instance = self._tables.instances[subscription.instance_id]
    for other in [one for one in instance.waits.values() if one.pointer == subscription.pointer]:
        original(self, other)


@breaks("test_wait_after_the_event_gets_it", Commit, "stored_match")
@breaks("test_start_is_matched_with_stored_events", Commit, "stored_match")
@breaks("test_events_since_the_start_are_taken", Commit, "stored_match")
@breaks("test_publish_and_wait_racing_meet_once", Commit, "stored_match")
@breaks("test_promoted_event_is_stored", Commit, "stored_match")
@breaks("test_many_waits_of_one_transition", Commit, "stored_match")
@breaks("test_events_and_positions_survive", Commit, "stored_match")
def only_the_publisher_matches(original: Any, self: Any, subscription: Subscription) -> None:
    return None


@breaks("test_wait_before_the_event_gets_it", Commit, "announce")
@breaks("test_transition_and_event_of_one_batch_meet", Commit, "announce")
@breaks("test_every_waiting_instance_gets_the_event", Commit, "announce")
@breaks("test_promote_publishes_what_is_due", Commit, "announce")
@breaks("test_many_keys_in_one_batch", Commit, "announce")
@breaks("test_waits_survive", Commit, "announce")
@breaks("test_start_may_wait", Commit, "announce")
def only_the_subscriber_matches(original: Any, self: Any, publish: Publish) -> int:
    with patch.object(self._tables, "waiting", {}):
        return original(self, publish)


@breaks("test_every_waiting_instance_gets_the_event", Commit, "announce")
def event_reaches_one_wait_alone(original: Any, self: Any, publish: Publish) -> int:
    waiting = self._tables.waiting
    some = {topic: dict([next(iter(waits.items()))]) for topic, waits in waiting.items()}
    with patch.object(self._tables, "waiting", some):
        return original(self, publish)


@breaks("test_publish_and_wait_racing_meet_once", MemoryStore, "commit")
@breaks("test_batches_over_the_same_keys_in_any_order_end", MemoryStore, "commit")
async def waits_are_matched_before_the_transaction(original: Any, self: Any, batch: Batch) -> CommitReply:
    stored = {topic: list(events) for topic, events in self._tables.topics.items()}
    await asyncio.sleep(0)

    def old_match(_: Commit, subscription: Subscription) -> object:
        return next((one for one in stored.get(subscription.topic, ()) if subscription.matches(one)), None)

    with patch.object(Commit, "stored_match", old_match):
        return await original(self, batch)


@breaks("test_wait_matched_by_a_stored_event_is_over", Commit, "subscribe")
@breaks("test_matched_wait_is_gone_for_a_timeout", Commit, "subscribe")
def matched_wait_stays(original: Any, self: Any, instance: Instance, wanted: Subscribe) -> None:
    original(self, instance, wanted)
    with patch.object(Commit, "stored_match", lambda *_: None):
        original(self, instance, wanted)


@breaks("test_lowest_sequence_number_is_first", Commit, "stored_match")
@breaks("test_burst_is_received_in_order", Commit, "stored_match")
@breaks("test_as_of_time_takes_events_from_then_on", Commit, "stored_match")
@breaks("test_events_of_one_batch_are_in_order", Commit, "stored_match")
def wait_takes_the_newest_event(original: Any, self: Any, subscription: Subscription) -> object:
    events = self._tables.topics.get(subscription.topic, [])
    return next((event for event in reversed(events) if subscription.matches(event)), None)


@breaks("test_burst_is_received_in_order", Subscription, "matches")
@breaks("test_position_is_that_of_the_event_consumed", Subscription, "matches")
@breaks("test_position_counts_for_waits_of_its_own_transition", Subscription, "matches")
@breaks("test_position_outlives_the_holder", Subscription, "matches")
@breaks("test_event_is_promoted_once", Subscription, "matches")
def position_is_ignored(original: Any, self: Subscription, event: Any) -> bool:
    return bool(event.time >= self.from_time)


@breaks("test_events_before_the_instance_are_not_taken", Subscription, "matches")
@breaks("test_as_of_time_takes_events_from_then_on", Subscription, "matches")
@breaks("test_as_of_time_ahead_lets_events_pass", Subscription, "matches")
@breaks("test_event_id_makes_publishing_idempotent", Subscription, "matches")
@breaks("test_sequence_numbers_rise", Subscription, "matches")
def time_is_ignored(original: Any, self: Subscription, event: Any) -> bool:
    return bool(event.sequence > self.after_sequence)


@breaks("test_as_of_time_takes_events_from_then_on", Subscription, "matches")
def as_of_leaves_out_its_own_moment(original: Any, self: Subscription, event: Any) -> bool:
    return original(self, event) and event.time > self.from_time


@breaks("test_as_of_zero_takes_any_stored_event", Commit, "subscribe")
@breaks("test_start_is_matched_with_stored_events", Commit, "subscribe")
@breaks("test_as_of_zero_ignores_the_position", Commit, "subscribe")
def as_of_zero_is_by_position(original: Any, self: Any, instance: Instance, wanted: Subscribe) -> None:
    # One later than the events of the same virtual moment, which count as published since the start.
    original(self, instance, replace(wanted, as_of=(wanted.as_of or None) and wanted.as_of))
    if wanted.as_of == 0:
        for row_id in [row.id for row in instance.inbox.values() if row.payload]:
            del instance.inbox[row_id]


@breaks("test_position_counts_for_waits_of_its_own_transition", Commit, "write_waits")
def positions_are_written_after_the_waits(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    original(self, instance, replace(changes, positions=()))
    original(self, instance, replace(changes, subscribe=(), unsubscribe=()))


@breaks("test_position_does_not_go_back", Commit, "write_waits")
def positions_go_back(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    for name, key, _ in changes.positions:
        instance.positions.pop((name, key), None)
    original(self, instance, changes)


@breaks("test_positions_of_names_and_keys_are_apart", Commit, "write_waits")
def position_is_one_for_all_keys(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    highest = max((sequence for _, _, sequence in changes.positions), default=0)
    topics = [*instance.positions, ("a", "k"), ("b", "k"), ("a", "l")]
    original(self, instance, replace(changes, positions=[(name, key, highest) for name, key in topics]))


@breaks("test_wait_may_begin_again", Commit, "write_waits")
def waits_end_after_those_that_begin(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    original(self, instance, replace(changes, unsubscribe=()))
    gone = {one.pointer for one in changes.unsubscribe}
    for subscription in [one for one in instance.waits.values() if one.pointer in gone]:
        self.remove(subscription)


@breaks("test_event_id_makes_publishing_idempotent", Commit, "publish")
@breaks("test_event_id_twice_in_one_batch_is_published_once", Commit, "publish")
@breaks("test_event_id_with_other_content_conflicts", Commit, "publish")
@breaks("test_future_event_has_its_id", Commit, "publish")
@breaks("test_same_event_id_racing_is_published_once", Commit, "publish")
def event_ids_are_ignored(original: Any, self: Any, publish: Publish) -> Publication:
    self._tables.events.pop(publish.id, None)
    self._tables.future.pop(publish.id, None)
    return original(self, publish)


@breaks("test_event_id_with_other_content_conflicts", Commit, "publish")
@breaks("test_event_id_twice_in_one_batch_is_published_once", Commit, "publish")
@breaks("test_promoted_event_keeps_its_id", Commit, "publish")
@breaks("test_event_ids_and_requests_are_any_text", Commit, "publish")
def content_of_events_is_not_compared(original: Any, self: Any, publish: Publish) -> Publication:
    publication = original(self, publish)
    outcome = publication.outcome
    return replace(publication, outcome=PublishOutcome.EXISTS if outcome is PublishOutcome.CONFLICT else outcome)


@breaks("test_sequence_numbers_rise", Commit, "announce")
@breaks("test_sequence_numbers_are_not_used_again", Commit, "announce")
def sequence_numbers_are_used_again(original: Any, self: Any, publish: Publish) -> int:
    self._tables.last_event = 0
    return original(self, publish)


@breaks("test_future_event_reaches_nobody_yet", Commit, "publish")
@breaks("test_next_event_is_told", Commit, "publish")
@breaks("test_promote_is_never_early", Commit, "publish")
@breaks("test_future_events_survive", Commit, "publish")
@breaks("test_due_event_waits_for_promote", Commit, "publish")
def future_events_are_published_at_once(original: Any, self: Any, publish: Publish) -> Publication:
    return original(self, replace(publish, effective_at=None))


@breaks("test_promote_is_never_early", Commit, "promote")
def promote_is_early(original: Any, self: Any) -> None:
    self._now += 10**12
    original(self)
    self._now -= 10**12


@breaks("test_due_event_waits_for_promote", Commit, "promote")
@breaks("test_promote_has_a_limit_and_an_order", Commit, "promote")
def promote_has_no_limit(original: Any, self: Any) -> None:
    self._batch = replace(self._batch, promote=1_000)
    original(self)


@breaks("test_event_is_promoted_once", Commit, "promote")
@breaks("test_promote_publishes_what_is_due", Commit, "promote")
@breaks("test_promoting_at_the_same_time_publishes_once", Commit, "promote")
def promoted_events_are_kept_aside(original: Any, self: Any) -> None:
    future = dict(self._tables.future)
    original(self)
    self._tables.future.update(future)


@breaks("test_promoted_events_come_before_those_of_the_batch", Commit, "apply")
def promoted_events_come_last(original: Any, self: Any) -> CommitReply:
    batch, self._batch = self._batch, replace(self._batch, promote=0)
    reply = original(self)
    self._batch = batch
    self.promote()
    return reply


@breaks("test_dropped_events_reach_nobody", MemoryStore, "drop_events")
async def dropping_drops_nothing(original: Any, self: Any, before: Moment, limit: int = 1000) -> int:
    return len(self._tables.events)


@breaks("test_young_events_are_not_dropped", MemoryStore, "drop_events")
async def dropping_takes_the_young(original: Any, self: Any, before: Moment, limit: int = 1000) -> int:
    return await original(self, before + 1, limit)


@breaks("test_dropping_has_a_limit", MemoryStore, "drop_events")
async def dropping_has_no_limit(original: Any, self: Any, before: Moment, limit: int = 1000) -> int:
    return await original(self, before)


@breaks("test_delivered_event_is_kept_for_its_instance", MemoryStore, "drop_events")
async def dropping_empties_inboxes(original: Any, self: Any, before: Moment, limit: int = 1000) -> int:
    for instance in self._tables.instances.values():
        instance.inbox.clear()
    return await original(self, before, limit)


@breaks("test_standing_wait_survives_dropping", MemoryStore, "drop_events")
async def dropping_ends_waits(original: Any, self: Any, before: Moment, limit: int = 1000) -> int:
    self._tables.waiting.clear()
    return await original(self, before, limit)


@breaks("test_future_events_are_not_dropped", MemoryStore, "drop_events")
async def dropping_takes_future_events(original: Any, self: Any, before: Moment, limit: int = 1000) -> int:
    self._tables.future.clear()
    return await original(self, before, limit)


# Messages, children, what a batch hands out


@breaks("test_message_for_nobody_is_dropped", Commit, "insert")
@breaks("test_message_misses_an_instance_that_ends_in_its_batch", Commit, "insert")
@breaks("test_child_end_for_an_ended_parent_is_dropped", Commit, "insert")
def messages_reach_the_ended(original: Any, self: Any, instance_id: str, insert: InboxInsert) -> bool:
    with patch.object(Instance, "has_ended", new=False):
        return original(self, instance_id, insert)


@breaks("test_messages_are_read_in_order", MemoryStore, "inbox")
async def inbox_is_read_backwards(original: Any, self: Any, ids: Sequence[str]) -> Sequence[InboxRow]:
    return (await original(self, ids))[::-1]


@breaks("test_inboxes_of_several_instances", MemoryStore, "inbox")
@breaks("test_no_ids_read_nothing", MemoryStore, "inbox")
async def inbox_of_all_is_read(original: Any, self: Any, ids: Sequence[str]) -> Sequence[InboxRow]:
    return await original(self, list(self._tables.instances))


@breaks("test_only_requests_asked_for_are_told", MemoryStore, "pending_control")
async def all_requests_are_told(original: Any, self: Any, request_ids: Sequence[str]) -> Collection[str]:
    return [one for instance in self._tables.live.values() for one in instance.requests.values()]


@breaks("test_unread_messages_are_reported", Commit, "_reply")
@breaks("test_match_on_subscribing_is_reported", Commit, "_reply")
@breaks("test_unread_messages_of_an_instance_given_back_are_reported", Commit, "_reply")
@breaks("test_instance_held_after_its_transition_is_not_taken", Commit, "_reply")
def unread_messages_are_not_reported(original: Any, self: Any, *args: Any) -> CommitReply:
    return replace(original(self, *args), unread=[])


@breaks("test_unread_messages_are_reported", Commit, "_reply")
@breaks("test_messages_read_are_not_reported", Commit, "_reply")
@breaks("test_refused_transitions_report_nothing_unread", Commit, "_reply")
def everything_is_reported_unread(original: Any, self: Any, *args: Any) -> CommitReply:
    return replace(original(self, *args), unread=[write.instance_id for write in self._batch.transitions])


@breaks("test_matched_event_is_reported", Commit, "_reply")
@breaks("test_message_for_a_held_instance_names_the_holder", Commit, "_reply")
@breaks("test_message_without_room_leaves_the_instance", Commit, "_reply")
@breaks("test_cancel_reaches_live_children", Commit, "_reply")
def deliveries_are_not_reported(original: Any, self: Any, *args: Any) -> CommitReply:
    return replace(original(self, *args), deliveries=[])


@breaks("test_message_for_a_held_instance_names_the_holder", Commit, "take_reached")
@breaks("test_instance_held_after_its_transition_is_not_taken", Commit, "take_reached")
def held_instances_are_taken_with_messages(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    with patch.object(Tables, "holder", lambda *_: None):
        return original(self, rows)


@breaks("test_message_without_room_leaves_the_instance", Commit, "take_reached")
@breaks("test_room_is_the_limit", Commit, "take_reached")
def room_is_ignored(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    self._batch = replace(self._batch, room=1_000)
    return original(self, rows)


@breaks("test_only_runnable_instances_are_taken", Commit, "take_reached")
def code_is_not_asked_for(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    runnable = {self._tables.instances[row.instance_id].definition for row in rows}
    self._batch = replace(self._batch, runnable=runnable)
    return original(self, rows)


@breaks("test_message_takes_an_unheld_instance", Commit, "take_reached")
@breaks("test_event_takes_an_unheld_instance", Commit, "take_reached")
@breaks("test_child_end_takes_an_unheld_parent", Commit, "take_reached")
@breaks("test_instance_of_a_dead_session_is_taken", Commit, "take_reached")
@breaks("test_taking_with_a_message_clears_the_reason", Commit, "take_reached")
def nothing_is_taken_with_messages(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    return []


@breaks("test_suspended_instance_is_taken_too", Commit, "take_reached")
def suspended_are_not_taken_with_messages(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    instances = self._tables.instances
    return original(self, [row for row in rows if instances[row.instance_id].status != WorkflowStatus.SUSPENDED])


@breaks("test_dead_session_takes_nothing_with_a_batch", Tables, "is_alive")
@breaks("test_dead_session_takes_nothing", Tables, "is_alive")
@breaks("test_instance_of_an_ended_session_is_taken", Tables, "is_alive")
@breaks("test_instance_of_an_expired_session_is_taken", Tables, "is_alive")
@breaks("test_instance_of_an_unknown_session_is_taken", Tables, "is_alive")
@breaks("test_unclaimed_instances_of_dead_sessions_are_listed", Tables, "is_alive")
@breaks("test_timer_of_a_dead_holder_comes_due", Tables, "is_alive")
@breaks("test_next_wake_counts_instances_of_dead_sessions", Tables, "is_alive")
def every_session_lives(original: Any, self: Any, session: str) -> bool:
    return True


@breaks("test_instances_without_messages_are_not_taken", Commit, "take_reached")
def all_due_work_is_taken_with_messages(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    return [take(one, self._batch.session) for one in self._tables.live.values() if one.is_due(self._now)]


@breaks("test_instance_is_taken_once", Commit, "take_reached")
@breaks("test_message_takes_an_unheld_instance", Commit, "take_reached")
def taken_instance_has_new_messages_alone(original: Any, self: Any, rows: Any) -> list[LoadedInstance]:
    return [replace(one, inbox=list(one.inbox)[-1:]) for one in original(self, rows)]


@breaks("test_children_are_started_free", Commit, "reach_others")
@breaks("test_child_end_reaches_the_parent", Commit, "reach_others")
@breaks("test_start_writes_its_errors_and_messages", Commit, "reach_others")
@breaks("test_start_may_have_children", Commit, "reach_others")
@breaks("test_child_that_waits_is_started_waiting", Commit, "reach_others")
@breaks("test_children_and_starts_are_logged", Commit, "reach_others")
def others_are_not_reached(original: Any, self: Any, instance_id: str, changes: Changes) -> None:
    return


@breaks("test_child_knows_its_parent", Commit, "reach_others")
@breaks("test_filters", Commit, "reach_others")
def children_forget_their_parent(original: Any, self: Any, instance_id: str, changes: Changes) -> None:
    original(
        self, instance_id, replace(changes, children=[replace(child, parent=None) for child in changes.children])
    )


@breaks("test_existing_child_is_left_as_it_is", Commit, "_reply")
def existing_children_are_named(original: Any, self: Any, *args: Any) -> CommitReply:
    wanted = [child.id for write in self._batch.transitions for child in write.changes.children]
    return replace(original(self, *args), children=wanted)


@breaks("test_cancel_reaches_live_children", Commit, "cancel_children")
@breaks("test_cancel_reaches_no_others", Commit, "cancel_children")
def children_are_not_cancelled(original: Any, self: Any, parent_id: str, message: bytes) -> None:
    return


@breaks("test_cancel_reaches_live_children", Commit, "cancel_children")
@breaks("test_cancel_reaches_no_others", Commit, "cancel_children")
def everybody_is_cancelled(original: Any, self: Any, parent_id: str, message: bytes) -> None:
    for instance_id in tuple(self._tables.live):
        self.insert(instance_id, commit_module.InboxInsert(instance_id, message))


# Claims


@breaks("test_held_instance_is_not_taken", Tables, "holder")
@breaks("test_racing_claims_share_the_work", Tables, "holder")
@breaks("test_racing_claims_of_one_instance_have_one_winner", Tables, "holder")
@breaks("test_hold_keeps_the_instance", Tables, "holder")
@breaks("test_block_leaves_held_instances", Tables, "holder")
@breaks("test_claim_racing_a_message_takes_it_once", Tables, "holder")
@breaks("test_due_instances_that_nobody_takes_are_listed", Tables, "holder")
@breaks("test_next_wake_is_none_without_timers", Tables, "holder")
def nobody_holds_anything(original: Any, self: Any, instance: Instance) -> None:
    return None


@breaks("test_racing_claims_share_the_work", MemoryStore, "claim")
@breaks("test_racing_claims_of_one_instance_have_one_winner", MemoryStore, "claim")
async def claim_reads_before_it_takes(original: Any, self: Any, session: str, *args: Any, **named: Any) -> ClaimReply:
    limit = args[1]
    due = [one for one in self._tables.live.values() if one.is_due(self._tables.now()) and one.owner is None]
    await asyncio.sleep(0)
    return ClaimReply(self._tables.now(), [take(one, session) for one in due[:limit]])


@breaks("test_every_change_of_holder_raises_the_fence", store_module, "take")
@breaks("test_old_fence_is_fenced", store_module, "take")
@breaks("test_instance_of_an_ended_session_is_taken", store_module, "take")
@breaks("test_released_instance_can_be_taken", store_module, "take")
@breaks("test_fences_go_on", store_module, "take")
@breaks("test_old_fence_releases_nothing", store_module, "take")
def fence_is_not_raised(original: Any, instance: Instance, session: str) -> LoadedInstance:
    instance.fence -= 1 if instance.fence else 0
    return original(instance, session)


@breaks("test_message_takes_an_unheld_instance", commit_module, "take")
@breaks("test_instance_given_back_in_the_batch_is_taken", commit_module, "take")
def fence_is_not_raised_with_messages(original: Any, instance: Instance, session: str) -> LoadedInstance:
    instance.fence -= 1
    return original(instance, session)


@breaks("test_activations_count_takings_without_a_transition", store_module, "take")
@breaks("test_claim_takes_the_lease", store_module, "take")
@breaks("test_activations_and_reasons_survive", store_module, "take")
def activations_are_not_counted(original: Any, instance: Instance, session: str) -> LoadedInstance:
    instance.activations -= 1
    return original(instance, session)


@breaks("test_block_does_not_hinder_a_claim", store_module, "take")
def reason_is_not_cleared(original: Any, instance: Instance, session: str) -> LoadedInstance:
    reason = instance.blocked_reason
    loaded = original(instance, session)
    instance.blocked_reason = reason
    return loaded


@breaks("test_due_instance_is_taken_whole", store_module, "take")
@breaks("test_instance_with_messages_is_taken", store_module, "take")
@breaks("test_instance_with_a_matched_event_is_taken", store_module, "take")
@breaks("test_packed_values_are_any_bytes", store_module, "take")
def inbox_is_not_loaded(original: Any, instance: Instance, session: str) -> LoadedInstance:
    return replace(original(instance, session), inbox=[])


@breaks("test_due_instance_is_taken_whole", store_module, "take")
@breaks("test_collections_are_loaded_with_the_instance", store_module, "take")
def collections_are_not_loaded(original: Any, instance: Instance, session: str) -> LoadedInstance:
    return replace(original(instance, session), items=[])


@breaks("test_timer_is_never_early", Instance, "is_due")
@breaks("test_idle_instance_is_not_taken", Instance, "is_due")
@breaks("test_named_claim_needs_something_to_do", Instance, "is_due")
@breaks("test_later_wake_time_replaces_the_earlier", Instance, "is_due")
@breaks("test_due_instances_that_nobody_takes_are_listed", Instance, "is_due")
def everything_is_due(original: Any, self: Instance, now: Moment) -> bool:
    return not self.has_ended


@breaks("test_ended_instance_is_not_taken", Instance, "is_due")
def ended_instances_are_due(original: Any, self: Instance, now: Moment) -> bool:
    return self.has_ended or original(self, now)


@breaks("test_timer_is_never_early", Instance, "is_due")
def timers_are_early(original: Any, self: Instance, now: Moment) -> bool:
    return original(self, now + 2 * 3600 * 10**6)


@breaks("test_timer_due_now_is_taken", Instance, "is_due")
def timers_are_late(original: Any, self: Instance, now: Moment) -> bool:
    return original(self, now - 1)


@breaks("test_suspended_instance_is_not_woken", Instance, "is_due")
@breaks("test_unclaimed_leaves_out_what_cannot_be_claimed", Instance, "is_due")
def suspended_instances_wake(original: Any, self: Instance, now: Moment) -> bool:
    return original(self, now) or (self.wake_at is not None and self.wake_at <= now)


@breaks("test_suspended_instance_is_taken_for_its_inbox", Instance, "is_due")
def suspended_instances_read_nothing(original: Any, self: Instance, now: Moment) -> bool:
    return original(self, now) and self.status != WorkflowStatus.SUSPENDED


@breaks("test_instance_with_messages_is_taken", Instance, "is_due")
@breaks("test_message_before_a_release_is_found", Instance, "is_due")
@breaks("test_release_racing_a_message_loses_nothing", Instance, "is_due")
@breaks("test_instance_with_a_matched_event_is_taken", Instance, "is_due")
def messages_wake_nobody(original: Any, self: Instance, now: Moment) -> bool:
    inbox, self.inbox = self.inbox, {}
    due = original(self, now)
    self.inbox = inbox
    return due


@breaks("test_only_runnable_definitions_are_taken", MemoryStore, "claim")
@breaks("test_nothing_runnable_takes_nothing", MemoryStore, "claim")
@breaks("test_limit_counts_what_is_taken", MemoryStore, "claim")
@breaks("test_definitions_have_any_text", MemoryStore, "claim")
async def claim_takes_any_code(original: Any, self: Any, session: str, _: Any, limit: int, **named: Any) -> ClaimReply:
    runnable = {instance.definition for instance in self._tables.instances.values()}
    return await original(self, session, runnable, limit, **named)


@breaks("test_only_runnable_definitions_are_taken", MemoryStore, "claim")
async def claim_forgets_structure(
    original: Any, self: Any, session: str, runnable: Any, limit: int, **named: Any
) -> ClaimReply:
    known = {(key.id, key.version) for key in runnable}
    fitting = {one.definition for one in self._tables.live.values() if one.definition[:2] in known}
    return await original(self, session, fitting, limit, **named)


@breaks("test_claim_has_a_limit", MemoryStore, "claim")
@breaks("test_limit_zero_takes_nothing", MemoryStore, "claim")
@breaks("test_named_claim_has_a_limit", MemoryStore, "claim")
async def claim_has_no_limit(
    original: Any, self: Any, session: str, runnable: Any, limit: int, **named: Any
) -> ClaimReply:
    return await original(self, session, runnable, 1_000, **named)


@breaks("test_named_claim_looks_at_nothing_else", MemoryStore, "claim")
@breaks("test_claim_of_no_ids_takes_nothing", MemoryStore, "claim")
async def claim_ignores_ids(
    original: Any, self: Any, session: str, runnable: Any, limit: int, *, ids: Any = None, **named: Any
) -> ClaimReply:
    return await original(self, session, runnable, limit, **named)


@breaks("test_any_definition_takes_what_is_named", MemoryStore, "claim")
@breaks("test_any_definition_takes_an_ended_instance", MemoryStore, "claim")
async def any_definition_is_ignored(
    original: Any, self: Any, *args: Any, ids: Any = None, any_definition: bool = False
) -> ClaimReply:
    return await original(self, *args, ids=ids)


@breaks("test_earliest_timer_is_first", store_module, "unheld_and_due")
@breaks("test_unclaimed_has_a_limit", store_module, "unheld_and_due")
@breaks("test_due_instances_that_nobody_takes_are_listed", store_module, "unheld_and_due")
def latest_timer_is_first(original: Any, tables: Tables, now: Moment) -> list[Instance]:
    return original(tables, now)[::-1]


@breaks("test_earliest_named_timer_is_first", MemoryStore, "_named")
def latest_named_timer_is_first(original: Any, self: Any, *args: Any, **named: Any) -> list[Instance]:
    return original(self, *args, **named)[::-1]


@breaks("test_next_wake_is_told", store_module, "next_wake")
def next_wake_is_not_told(original: Any, tables: Tables, now: Moment) -> None:
    return None


@breaks("test_next_wake_is_none_without_timers", store_module, "next_wake")
def next_wake_counts_what_is_due(original: Any, tables: Tables, now: Moment) -> Moment | None:
    return original(tables, -1)


@breaks("test_next_event_is_told", store_module, "next_event")
@breaks("test_far_times_are_kept_exactly", store_module, "next_event")
def next_event_is_not_told(original: Any, tables: Tables) -> None:
    return None


@breaks("test_released_instance_is_free_unchanged", MemoryStore, "release")
@breaks("test_release_of_many", MemoryStore, "release")
@breaks("test_release_racing_a_message_loses_nothing", MemoryStore, "release")
async def release_does_nothing(original: Any, self: Any, session: str, holds: Any) -> None:
    return


@breaks("test_old_fence_releases_nothing", MemoryStore, "release")
async def release_ignores_fences(original: Any, self: Any, session: str, holds: Any) -> None:
    await original(self, session, [(one, self._tables.instances[one].fence) for one, _ in holds])


@breaks("test_other_session_releases_nothing", MemoryStore, "release")
async def release_ignores_sessions(original: Any, self: Any, session: str, holds: Any) -> None:
    for instance_id, fence in holds:
        await original(self, self._tables.instances[instance_id].owner, [(instance_id, fence)])


@breaks("test_release_does_not_count_the_activation", MemoryStore, "release")
async def release_counts_the_activation(original: Any, self: Any, session: str, holds: Any) -> None:
    for instance_id, _ in holds:
        self._tables.instances[instance_id].activations += 1
    await original(self, session, holds)


@breaks("test_block_sets_the_reason_alone", MemoryStore, "block")
async def block_raises_the_revision(original: Any, self: Any, reasons: Mapping[str, str]) -> Collection[str]:
    for instance_id in reasons:
        self._tables.instances[instance_id].revision += 1
    return await original(self, reasons)


@breaks("test_block_of_many_with_reasons_of_their_own", MemoryStore, "block")
async def block_gives_one_reason_to_all(original: Any, self: Any, reasons: Mapping[str, str]) -> Collection[str]:
    return await original(self, dict.fromkeys(reasons, next(iter(reasons.values()))))


@breaks("test_listing_takes_nothing", MemoryStore, "unclaimed")
async def listing_takes(original: Any, self: Any, limit: int) -> Any:
    rows = await original(self, limit)
    for row in rows:
        take(self._tables.instances[row.id], "whoever")
    return rows


# Reading, log, definitions, purge


@breaks("test_instance_is_found_by_name", MemoryStore, "get")
async def names_are_not_looked_up(original: Any, self: Any, id_or_name: str) -> Any:
    return await original(self, id_or_name) if id_or_name in self._tables.instances else None


@breaks("test_instance_is_found_by_name", MemoryStore, "get")
@breaks("test_id_comes_before_name", MemoryStore, "get")
async def first_of_a_name_is_given(original: Any, self: Any, id_or_name: str) -> Any:
    return await original(self, self._tables.names.get(id_or_name, [id_or_name])[0])


@breaks("test_ended_instances_are_told", MemoryStore, "ended")
async def live_instances_are_told(original: Any, self: Any, ids: Any, **named: Any) -> Any:
    return await original(self, ids, until=["runnable"])


@breaks("test_further_statuses_count_as_an_end", MemoryStore, "ended")
async def further_statuses_are_ignored(original: Any, self: Any, ids: Any, **named: Any) -> Any:
    return await original(self, ids)


@breaks("test_known_ids_are_told", MemoryStore, "known")
@breaks("test_purged_instance_is_gone", MemoryStore, "known")
async def everything_is_known(original: Any, self: Any, ids: Sequence[str]) -> Collection[str]:
    return ids


@breaks("test_newest_is_first", MemoryStore, "list_instances")
async def oldest_is_first(original: Any, self: Any, *args: Any) -> Any:
    rows, cursor = await original(self, *args)
    return rows[::-1], cursor


@breaks("test_filters", MemoryStore, "list_instances")
@breaks("test_cursor_keeps_to_the_filter", MemoryStore, "list_instances")
@breaks("test_names_and_references_are_any_text", MemoryStore, "list_instances")
@breaks("test_empty_text_is_text", MemoryStore, "list_instances")
async def filter_is_ignored(original: Any, self: Any, where: Any, limit: int, cursor: str | None = None) -> Any:
    return await original(self, type(where)(), limit, cursor)


@breaks("test_pages_are_complete", MemoryStore, "list_instances")
@breaks("test_new_instances_do_not_disturb_the_pages", MemoryStore, "list_instances")
@breaks("test_last_page_has_no_cursor", MemoryStore, "list_instances")
@breaks("test_foreign_list_cursor_is_refused", MemoryStore, "list_instances")
async def cursor_is_an_offset(original: Any, self: Any, where: Any, limit: int, cursor: str | None = None) -> Any:
    offset = int(cursor) if cursor and cursor.isdecimal() else 0
    rows, _ = await original(self, where, 1_000)
    page = rows[offset : offset + limit]
    return page, str(offset + limit - 1) if len(page) == limit and limit > 1 else None


@breaks("test_changed_and_purged_instances_do_not_disturb_the_pages", MemoryStore, "list_instances")
@breaks("test_new_instances_do_not_disturb_the_pages", MemoryStore, "list_instances")
async def cursor_is_a_true_offset(original: Any, self: Any, where: Any, limit: int, cursor: str | None = None) -> Any:
    offset = int(cursor or 0)
    rows, _ = await original(self, where, 1_000)
    more = len(rows) > offset + limit
    return rows[offset : offset + limit], str(offset + limit) if more else None


@breaks("test_transition_is_logged", Commit, "write_log")
@breaks("test_history_stays_after_the_end", Commit, "write_log")
@breaks("test_log_begins_with_the_oldest_row", Commit, "write_log")
@breaks("test_announcements_come_in_order", Commit, "write_log")
def log_is_not_written(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    return


@breaks("test_history_goes_on_after_a_number", MemoryStore, "history")
async def history_counts_from_the_first_number(
    original: Any, self: Any, instance_id: str, after: int = 0, limit: int = 1000
) -> Any:
    return [row for row in await original(self, instance_id) if row.first_sequence > after][:limit]


@breaks("test_history_has_a_limit", MemoryStore, "history")
async def history_has_no_limit(original: Any, self: Any, instance_id: str, after: int = 0, limit: int = 1000) -> Any:
    return await original(self, instance_id, after)


@breaks("test_history_names_the_definition", MemoryStore, "log_after")
async def log_forgets_the_definition(original: Any, self: Any, *args: Any, **named: Any) -> LogCursorPage:
    page = await original(self, *args, **named)
    return replace(page, rows=[replace(row, definition_id="", version=0) for row in page.rows])


@breaks("test_log_is_in_commit_order", MemoryStore, "log_after")
async def log_is_ordered_by_instance(original: Any, self: Any, *args: Any, **named: Any) -> LogCursorPage:
    page = await original(self, *args, **named)
    return replace(page, rows=sorted(page.rows, key=lambda row: row.instance_id))


@breaks("test_cursor_goes_on", MemoryStore, "log_after")
@breaks("test_rows_of_one_instance_are_in_order_under_load", MemoryStore, "log_after")
async def log_cursor_skips(original: Any, self: Any, cursor: Any, limit: int, **named: Any) -> LogCursorPage:
    page = await original(self, cursor, limit, **named)
    return replace(page, rows=page.rows[:-1]) if len(page.rows) > 2 else page


@breaks("test_cursor_at_the_end_sees_what_comes", MemoryStore, "log_after")
@breaks("test_cursor_goes_on", MemoryStore, "log_after")
@breaks("test_log_cursors_survive", MemoryStore, "log_after")
async def log_cursor_repeats(original: Any, self: Any, cursor: Any, limit: int, **named: Any) -> LogCursorPage:
    return replace(await original(self, cursor, limit, **named), cursor=cursor or "log-after-0")


@breaks("test_now_is_the_end", MemoryStore, "log_after")
async def now_is_the_beginning(original: Any, self: Any, cursor: Any, limit: int, **named: Any) -> LogCursorPage:
    return await original(self, None if cursor == "now" else cursor, limit, **named)


@breaks("test_log_of_one_instance", MemoryStore, "log_after")
async def log_of_all_is_given(
    original: Any, self: Any, cursor: Any, limit: int, *, instance_id: Any = None
) -> LogCursorPage:
    return await original(self, cursor, limit)


@breaks("test_foreign_cursor_is_refused", MemoryStore, "log_after")
async def any_cursor_is_taken(original: Any, self: Any, cursor: Any, limit: int, **named: Any) -> LogCursorPage:
    return await original(self, cursor if cursor and cursor.startswith("log-") else None, limit, **named)


@breaks("test_other_structure_in_use_is_refused", MemoryStore, "save_definition")
@breaks("test_held_and_suspended_instances_are_unfinished", MemoryStore, "save_definition")
@breaks("test_definition_is_recorded_once", MemoryStore, "save_definition")
@breaks("test_definitions_survive", MemoryStore, "save_definition")
async def definitions_are_replaced_always(original: Any, self: Any, row: Any) -> None:
    self._tables.definitions[row.key.id, row.key.version] = row


@breaks("test_other_structure_replaces_one_that_is_not_in_use", MemoryStore, "save_definition")
@breaks("test_instances_of_another_version_do_not_count", MemoryStore, "save_definition")
async def definitions_are_never_replaced(original: Any, self: Any, row: Any) -> Any:
    there = self._tables.definitions.get((row.key.id, row.key.version))
    return there.key if there is not None and there.key != row.key else await original(self, row)


@breaks("test_versions_and_ids_are_apart", MemoryStore, "save_definition")
async def definitions_are_kept_by_id_alone(original: Any, self: Any, row: Any) -> Any:
    for place in [place for place in self._tables.definitions if place[0] == row.key.id]:
        del self._tables.definitions[place]
    return await original(self, row)


@breaks("test_live_instances_stay", MemoryStore, "purge")
@breaks("test_retried_instance_is_live", MemoryStore, "purge")
async def purge_takes_the_living(original: Any, self: Any, **named: Any) -> int:
    for instance in self._tables.instances.values():
        instance.ended_at = instance.ended_at or 1
    return await original(self, **named)


@breaks("test_purge_by_id", MemoryStore, "purge")
async def purge_takes_no_ids_for_all(original: Any, self: Any, *, ids: Any = None, **named: Any) -> int:
    return await original(self, ids=ids or None, **named)


@breaks("test_purge_by_status", MemoryStore, "purge")
@breaks("test_purge_by_all", MemoryStore, "purge")
async def purge_ignores_the_status(original: Any, self: Any, *, status: Any = (), **named: Any) -> int:
    return await original(self, **named)


@breaks("test_purge_by_age", MemoryStore, "purge")
async def purge_ignores_the_age(original: Any, self: Any, *, ended_before: Any = None, **named: Any) -> int:
    return await original(self, **named)


@breaks("test_purge_has_a_limit", MemoryStore, "purge")
async def purge_has_no_limit(original: Any, self: Any, *, limit: int = 100, **named: Any) -> int:
    return await original(self, **named)


@breaks("test_purged_instance_is_gone", MemoryStore, "_remove")
@breaks("test_purged_id_is_free", MemoryStore, "_remove")
@breaks("test_holder_of_a_purged_instance_is_fenced", MemoryStore, "_remove")
def purge_removes_nothing(original: Any, self: Any, gone: Any) -> None:
    return


@breaks("test_purged_instance_is_gone", MemoryStore, "_remove")
@breaks("test_cursor_outlives_a_purge", MemoryStore, "log_after")
def purge_leaves_the_log(original: Any, self: Any, *args: Any, **named: Any) -> Any:
    if named or len(args) > 1:  # planted in log_after: rows are lost behind the gap that a purge left
        return _page_up_to_a_gap(self, *args)
    log = dict(self._tables.log)
    original(self, *args)
    self._tables.log = log
    return None


async def _page_up_to_a_gap(store: Any, cursor: str | None, limit: int) -> LogCursorPage:
    place, rows = int((cursor or "log-after-0").rsplit("-", 1)[1]), []
    while (row := store._tables.log.get(place + 1)) is not None and len(rows) < limit:
        rows.append(row)
        place += 1
    return LogCursorPage(rows, f"log-after-{place}")


@breaks("test_positions_are_purged", MemoryStore, "_remove")
@breaks("test_purged_id_is_free", MemoryStore, "_remove")
def purge_leaves_positions(original: Any, self: Any, gone: Sequence[Instance]) -> None:
    original(self, gone)
    positions = dict(gone[0].positions) if gone else {}

    def inheriting(start: Any, created_at: int, number: int) -> Instance:
        instance = of_start(start, created_at, number)
        instance.positions.update(positions)
        return instance

    of_start = Instance.of_start
    self._tables.inheritance = patch.object(Instance, "of_start", staticmethod(inheriting))
    self._tables.inheritance.start()


@breaks("test_purge_keeps_events", MemoryStore, "_remove")
def purge_drops_events(original: Any, self: Any, gone: Any) -> None:
    original(self, gone)
    self._tables.topics.clear()


@breaks("test_children_outlive_the_purge_of_their_parent", MemoryStore, "_remove")
def purge_takes_children(original: Any, self: Any, gone: Sequence[Instance]) -> None:
    children = [child for one in gone for child in self._tables.children.get(one.id, ())]
    original(self, gone)
    for child in children:
        del self._tables.instances[child]


@breaks("test_ids_are_any_text", MemoryStore, "get")
async def ids_are_compared_without_case(original: Any, self: Any, id_or_name: str) -> Any:
    return await original(self, id_or_name.lower())


@breaks("test_event_names_and_keys_are_any_text", Subscription, "topic")
@breaks("test_other_name_or_key_does_not_match", Subscription, "topic")
def topics_run_together(original: Any) -> Any:
    raise NotImplementedError


@breaks("test_store_time_does_not_go_back", Tables, "now")
@breaks("test_claim_tells_store_time", Tables, "now")
@breaks("test_store_time_goes_on", Tables, "now")
def store_time_goes_back(original: Any, self: Any) -> Moment:
    self.latest = (self.latest or 10**15) - 1
    return self.latest


# Sessions


@breaks("test_ended_session_is_dead_at_once", MemoryLease, "end")
@breaks("test_another_process_sees_the_sessions", MemoryLease, "end")
@breaks("test_names_are_labels", MemoryLease, "begin")
async def sessions_are_told_apart_by_name(original: Any, self: Any, session: str, **named: Any) -> None:
    if not named:  # planted in end: nothing ends
        return
    for other in [one for one, found in self._tables.sessions.items() if found.name == named["name"]]:
        del self._tables.sessions[other]
    await original(self, session, **named)


@breaks("test_session_expires", Tables, "is_alive")
@breaks("test_renewal_is_for_its_time_alone", Tables, "is_alive")
@breaks("test_expired_session_cannot_be_renewed", Tables, "is_alive")
@breaks("test_sessions_are_independent", Tables, "is_alive")
def sessions_do_not_expire(original: Any, self: Any, session: str) -> bool:
    return session in self.sessions


@breaks("test_renewed_session_goes_on", MemoryRenewer, "renew")
@breaks("test_expired_session_cannot_be_renewed", MemoryRenewer, "renew")
@breaks("test_ended_session_cannot_be_renewed", MemoryRenewer, "renew")
@breaks("test_unknown_session_cannot_be_renewed", MemoryRenewer, "renew")
def renewing_does_nothing(original: Any, self: Any) -> None:
    return


@breaks("test_expired_session_cannot_be_renewed", MemoryRenewer, "renew")
@breaks("test_ended_session_cannot_be_renewed", MemoryRenewer, "renew")
@breaks("test_unknown_session_cannot_be_renewed", MemoryRenewer, "renew")
def renewing_brings_sessions_back(original: Any, self: Any) -> None:
    self._tables.sessions[self._session] = Session("back", self._tables.clock.monotonic() + 3600)


@breaks("test_renewal_is_for_its_session_alone", MemoryRenewer, "renew")
def renewing_renews_all(original: Any, self: Any) -> None:
    for session in self._tables.sessions.values():
        session.expires += self._ttl.total_seconds()


@breaks("test_session_outlives_its_renewer", MemoryRenewer, "close")
@breaks("test_unused_renewer_can_be_closed", MemoryRenewer, "close")
def closing_ends_the_session(original: Any, self: Any) -> None:
    self._tables.sessions.pop(self._session, None)


@breaks("test_ending_what_is_over_is_harmless", MemoryLease, "end")
@breaks("test_sessions_are_independent", MemoryLease, "end")
async def ending_ends_all(original: Any, self: Any, session: str) -> None:
    self._tables.sessions.clear()


@breaks("test_begun_session_lives", MemoryLease, "alive")
@breaks("test_many_sessions_begin_at_the_same_time", MemoryLease, "alive")
async def only_one_session_is_told(original: Any, self: Any) -> Collection[str]:
    return list(await original(self))[:1]


# Hints


@breaks("test_hint_reaches_that_session_alone", HintExchange, "send")
def hints_reach_everybody(original: Any, self: Any, to: str | None, hint: Any, origins: Any) -> None:
    original(self, None, hint, ())


@breaks("test_hint_to_all_reaches_all_others", HintExchange, "send")
def hints_reach_their_sender(original: Any, self: Any, to: str | None, hint: Any, origins: Any) -> None:
    original(self, to, hint, ())


@breaks("test_closed_hints_are_silent", MemoryHints, "close")
async def closing_does_nothing(original: Any, self: Any) -> None:
    return


@breaks("test_hints_of_both_kinds_are_told_apart", HintExchange, "send")
@breaks("test_hint_reaches_a_session", HintExchange, "send")
@breaks("test_hints_of_odd_ids", HintExchange, "send")
@breaks("test_several_hints_at_once", HintExchange, "send")
@breaks("test_big_hint_does_no_harm", HintExchange, "send")
@breaks("test_hints_may_be_opened_again", HintExchange, "send")
@breaks("test_sending_to_nobody_is_harmless", HintExchange, "send")
@breaks("test_received_in_the_loop", HintExchange, "send")
def hints_are_all_lost(original: Any, self: Any, to: str | None, hint: Any, origins: Any) -> None:
    return


# Announcements


@breaks("test_subscribing_begins_with_now", MemoryLifecycle, "subscribe")
def now_means_start(original: Any, self: Any, *, since: str | None = None, **named: Any) -> LifecyclePublisher:
    return original(self, since=since or "start", **named)


@breaks("test_one_workflow_is_picked_out", MemoryLifecycle, "subscribe")
def workflow_is_not_picked_out(original: Any, self: Any, *, since: Any = None, **_: Any) -> LifecyclePublisher:
    return original(self, since=since)


@breaks("test_every_cursor_resumes", MemoryLifecycle, "subscribe")
def cursor_loses_the_rest_of_its_row(original: Any, self: Any, *, since: Any = None, **named: Any) -> Any:
    if since and "." in since:
        since = f"{int(since.split('.')[0]) + 1}.0"
    return original(self, since=since, **named)

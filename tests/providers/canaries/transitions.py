"""Guards, starts, and the rows of transitions, broken."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from tests.providers.canaries.planting import breaks, locked
from wfe.ports.store import Batch, Changes, CommitReply, Start, StartOutcome, TransitionOutcome
from wfe.providers.memory.commit import Commit
from wfe.providers.memory.store import MemoryStore
from wfe.providers.memory.tables import Instance

ACCEPTED, FENCED, STALE, WAIT_GONE = TransitionOutcome


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
def guard_without_fence(original: Any, self: Any, write: Any) -> Any:
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
def guard_without_revision(original: Any, self: Any, write: Any) -> Any:
    there = self._tables.instances.get(write.instance_id)
    return original(self, replace(write, revision=there.revision) if there else write)


@breaks(Commit, "guard", "test_old_revision_is_stale")
def stale_is_called_fenced(original: Any, self: Any, write: Any) -> Any:
    outcome = original(self, write)
    return FENCED if outcome is STALE else outcome


@breaks(Commit, "guard", "test_old_fence_counts_before_old_revision")
def revision_is_judged_before_the_fence(original: Any, self: Any, write: Any) -> Any:
    there = self._tables.instances.get(write.instance_id)
    return STALE if there and there.revision != write.revision else original(self, write)


@breaks(Commit, "guard", "test_fence_counts_before_a_gone_wait")
def wait_is_judged_before_the_fence(original: Any, self: Any, write: Any) -> Any:
    there = self._tables.instances.get(write.instance_id)
    return WAIT_GONE if there and not self.required_waits_stand(there, write.changes) else original(self, write)


@breaks(Commit, "guard", "test_refused_transitions_are_not_logged")
def refused_transitions_are_logged(original: Any, self: Any, write: Any) -> Any:
    outcome = original(self, write)
    if outcome is not ACCEPTED:
        self.write_log(self._tables.instances[write.instance_id], write.changes)
    return outcome


@breaks(Commit, "apply", "test_refused_transition_does_not_disturb_other_parts")
def refused_transition_stops_the_rest(original: Any, self: Any) -> Any:
    writes = self._batch.transitions
    if any(self.guard(write) is not ACCEPTED for write in writes):
        self._batch = Batch(id=self._batch.id, session=self._batch.session, transitions=writes)
    return original(self)


@breaks(MemoryStore, "commit", "test_empty_batch_is_nothing")
async def empty_batch_is_not_timed(original: Any, self: Any, batch: Batch) -> Any:
    parts = batch.transitions, batch.starts, batch.publishes, batch.inbox
    return await original(self, batch) if any(parts) or batch.promote else CommitReply(now=0)


@breaks(
    Commit,
    "_guard_all",
    "test_refused_transition_does_not_disturb_its_batch",
    "test_gone_wait_does_not_disturb_its_batch",
)
def one_refusal_refuses_all(original: Any, self: Any, writes: Any) -> Any:
    outcomes = original(self, writes)
    worst = next((outcome for outcome in outcomes if outcome is not ACCEPTED), ACCEPTED)
    return [worst for _ in outcomes]


@breaks(Commit, "_guard_all", "test_refused_transition_does_not_disturb_its_batch")
def outcomes_are_sorted(original: Any, self: Any, writes: Any) -> Any:
    return sorted(original(self, writes), key=lambda outcome: outcome.value)


@breaks(Commit, "guard", "test_missing_instance_is_fenced")
def missing_instance_is_stale(original: Any, self: Any, write: Any) -> Any:
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
def gone_waits_do_not_matter(original: Any, self: Any, instance: Instance, changes: Changes) -> Any:
    return True


@breaks(Commit, "required_waits_stand", "test_required_wait_is_that_wait_alone")
def any_wait_of_the_pointer_stands(original: Any, self: Any, instance: Instance, changes: Changes) -> Any:
    pointers = {pointer for pointer, _ in instance.waits}
    return all(gone.pointer in pointers for gone in changes.unsubscribe if gone.required)


@breaks(Commit, "required_waits_stand", "test_wait_that_ends_by_cancel_may_be_gone")
def every_wait_is_required(original: Any, self: Any, instance: Instance, changes: Changes) -> Any:
    return all((gone.pointer, gone.wait) in instance.waits for gone in changes.unsubscribe)


@breaks(
    MemoryStore,
    "commit",
    "test_repeated_batch_gives_the_first_outcomes",
    "test_repeated_batch_without_transitions_writes_once",
    "test_repeated_start_batch_is_created_still",
    "test_commit_under_a_cut_happens_once",
    "test_many_writers_under_cuts_lose_nothing",
)
async def batches_are_forgotten(original: Any, self: Any, batch: Batch) -> Any:
    self._tables.replies.clear()
    return await original(self, batch)


@breaks(
    MemoryStore,
    "commit",
    "test_racing_transitions_of_one_revision_have_one_winner",
    "test_claim_racing_the_old_holder_fences_it",
)
async def guards_are_judged_before_the_transaction(original: Any, self: Any, batch: Batch) -> Any:
    outcomes = Commit(self._tables, batch)._guard_all(batch.transitions)
    await asyncio.sleep(0)
    with patch.object(Commit, "_guard_all", lambda *_: outcomes):
        return await original(self, batch)


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
def start_overwrites(original: Any, self: Any, start: Start) -> Any:
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
def digest_is_ignored(original: Any, self: Any, start: Start) -> Any:
    return StartOutcome.EXISTS if start.id in self._tables.instances else original(self, start)


@breaks(Commit, "start", "test_start_without_documents_has_empty_ones")
def documents_are_empty_bytes(original: Any, self: Any, start: Start) -> Any:
    changes = start.changes
    whole = replace(changes, data=changes.data or b"", values=changes.values or b"")
    return original(self, replace(start, changes=whole))


@breaks(MemoryStore, "commit", "test_concurrent_batches_that_start_the_same_ids_in_any_order_end")
async def ids_are_locked_in_the_order_given(original: Any, self: Any, batch: Batch) -> Any:
    async with locked(self._tables, [start.id for start in batch.starts]):
        return await original(self, batch)


@breaks(
    Commit, "start", "test_held_start_is_leased_to_the_committing_session", "test_first_transition_follows_revision_one"
)
def held_start_is_free(original: Any, self: Any, start: Start) -> Any:
    return original(self, replace(start, changes=replace(start.changes, hold=False)))


@breaks(
    Commit,
    "start",
    "test_free_start_is_held_by_nobody",
    "test_free_start_can_be_claimed_by_any_session",
    "test_children_are_started_free",
)
def free_start_is_held(original: Any, self: Any, start: Start) -> Any:
    return original(self, replace(start, changes=replace(start.changes, hold=True)))


@breaks(Commit, "start", "test_created_at_is_store_time_of_the_commit")
def created_at_is_never(original: Any, self: Any, start: Start) -> Any:
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


@breaks(Commit, "write_rows", "test_transition_keeps_what_it_does_not_carry")
def pointers_are_replaced_whole(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    instance.pointers.clear()
    original(self, instance, changes)


@breaks(Commit, "write_rows", "test_transition_deletes_pointers", "test_many_pointers", "test_end_keeps_what_is_shown")
def pointers_are_not_deleted(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    original(self, instance, replace(changes, pointers_gone=()))


@breaks(Commit, "write_rows", "test_pointers_of_instances_are_apart")
def pointers_of_others_are_deleted(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    original(self, instance, changes)
    for other in self._tables.instances.values():
        for slot in changes.pointers_gone:
            other.pointers.pop(slot, None)


@breaks(Commit, "end", "test_end_keeps_what_is_shown")
def end_deletes_pointers(original: Any, self: Any, instance: Instance) -> None:
    original(self, instance)
    instance.pointers.clear()


@breaks(Commit, "write_rows", "test_messages_are_consumed_one_by_one")
def messages_are_consumed_up_to_the_last(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    last = max(changes.consumed, default=0)
    original(self, instance, replace(changes, consumed=[row_id for row_id in instance.inbox if row_id <= last]))


@breaks(
    Commit,
    "write_rows",
    "test_messages_left_are_reported",
    "test_many_messages",
    "test_messages_committed_out_of_order_are_all_read",
)
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


@breaks(MemoryStore, "commit", "test_message_racing_a_transition_stays")
async def inbox_is_written_as_it_was_read(original: Any, self: Any, batch: Batch) -> Any:
    instances = self._tables.instances
    read = {write.instance_id: dict(instances[write.instance_id].inbox) for write in batch.transitions}
    await asyncio.sleep(0)
    reply = await original(self, batch)
    for instance_id, inbox in read.items():
        instances[instance_id].inbox = inbox
    return reply


@breaks(Commit, "_next_inbox_id", "test_row_ids_are_not_used_again")
def row_ids_are_used_again(original: Any, self: Any) -> Any:
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


@breaks(
    Commit,
    "end",
    "test_end_drops_the_inbox",
    "test_ended_instances_have_nothing_unread",
    "test_event_racing_an_end_is_harmless",
)
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

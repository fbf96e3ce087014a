"""Messages, children, and what a batch hands out, broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from tests.providers.canaries.planting import breaks
from wfe.model.status import WorkflowStatus
from wfe.ports.store import Changes, InboxInsert
from wfe.providers.memory.claim import take
from wfe.providers.memory.commit import Commit
from wfe.providers.memory.store import MemoryStore
from wfe.providers.memory.tables import Instance, Tables


@breaks(
    Commit,
    "insert",
    "test_message_for_nobody_is_dropped",
    "test_message_misses_an_instance_that_ends_in_its_batch",
    "test_child_end_for_an_ended_parent_is_dropped",
    "test_child_and_parent_may_end_in_one_batch",
)
def messages_reach_the_ended(original: Any, self: Any, instance_id: str, insert: InboxInsert) -> Any:
    with patch.object(Instance, "has_ended", new=False):
        return original(self, instance_id, insert)


@breaks(Commit, "insert", "test_message_is_kept")
def messages_are_text(original: Any, self: Any, instance_id: str, insert: InboxInsert) -> Any:
    text = insert.message.decode(errors="replace")
    return original(self, instance_id, replace(insert, message=text.encode()))


@breaks(Commit, "_guard_all", "test_message_reaches_an_instance_of_its_batch")
def messages_come_before_the_starts(original: Any, self: Any, writes: Any) -> Any:
    early = {insert: self.insert(insert.instance_id, insert) for insert in self._batch.inbox}
    self.insert = lambda _, insert: early[insert]
    return original(self, writes)


@breaks(MemoryStore, "inbox", "test_messages_are_read_in_order")
async def inbox_is_read_backwards(original: Any, self: Any, ids: Sequence[str]) -> Any:
    return (await original(self, ids))[::-1]


@breaks(MemoryStore, "inbox", "test_inboxes_of_several_instances", "test_no_ids_read_nothing")
async def inbox_of_all_is_read(original: Any, self: Any, ids: Sequence[str]) -> Any:
    return await original(self, list(self._tables.instances))


@breaks(MemoryStore, "pending_control", "test_only_requests_asked_for_are_told")
async def all_requests_are_told(original: Any, self: Any, request_ids: Sequence[str]) -> Any:
    return [one for instance in self._tables.live.values() for one in instance.requests.values()]


@breaks(MemoryStore, "pending_control", "test_control_requests_end_with_their_instance")
async def requests_are_pending_for_ever(original: Any, self: Any, request_ids: Sequence[str]) -> Any:
    return list(request_ids)


@breaks(MemoryStore, "pending_control", "test_questions_about_many_ids")
async def a_thousand_requests_are_looked_at(original: Any, self: Any, request_ids: Sequence[str]) -> Any:
    return await original(self, request_ids[:1_000])


@breaks(MemoryStore, "inbox", "test_questions_about_many_ids")
async def a_thousand_inboxes_are_looked_at(original: Any, self: Any, ids: Sequence[str]) -> Any:
    return await original(self, ids[:1_000])


@breaks(
    Commit,
    "_reply",
    "test_unread_messages_are_reported",
    "test_match_on_subscribing_is_reported",
    "test_unread_messages_of_an_instance_given_back_are_reported",
    "test_instance_held_after_its_transition_is_not_taken",
)
def unread_messages_are_not_reported(original: Any, self: Any, *args: Any) -> Any:
    return replace(original(self, *args), unread=[])


@breaks(
    Commit,
    "_reply",
    "test_unread_messages_are_reported",
    "test_messages_read_are_not_reported",
    "test_refused_transitions_report_nothing_unread",
)
def everything_is_reported_unread(original: Any, self: Any, *args: Any) -> Any:
    return replace(original(self, *args), unread=[write.instance_id for write in self._batch.transitions])


@breaks(
    Commit,
    "_reply",
    "test_matched_event_is_reported",
    "test_message_for_a_held_instance_names_the_holder",
    "test_message_without_room_leaves_the_instance",
    "test_cancel_reaches_live_children",
)
def deliveries_are_not_reported(original: Any, self: Any, *args: Any) -> Any:
    return replace(original(self, *args), deliveries=[])


@breaks(
    Commit,
    "take_reached",
    "test_message_for_a_held_instance_names_the_holder",
    "test_instance_held_after_its_transition_is_not_taken",
)
def held_instances_are_taken_with_messages(original: Any, self: Any, rows: Any) -> Any:
    with patch.object(Tables, "holder", lambda *_: None):
        return original(self, rows)


@breaks(Commit, "take_reached", "test_message_without_room_leaves_the_instance", "test_room_is_the_limit")
def room_is_ignored(original: Any, self: Any, rows: Any) -> Any:
    self._batch = replace(self._batch, room=1_000)
    return original(self, rows)


@breaks(Commit, "take_reached", "test_only_runnable_instances_are_taken")
def code_is_not_asked_for(original: Any, self: Any, rows: Any) -> Any:
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
def nothing_is_taken_with_messages(original: Any, self: Any, rows: Any) -> Any:
    return []


@breaks(Commit, "take_reached", "test_suspended_instance_is_taken_too")
def suspended_are_not_taken_with_messages(original: Any, self: Any, rows: Any) -> Any:
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
    "test_claim_under_a_cut_is_found_by_the_next",
)
def every_session_lives(original: Any, self: Any, session: str) -> Any:
    return True


@breaks(Commit, "take_reached", "test_instances_without_messages_are_not_taken")
def all_due_work_is_taken_with_messages(original: Any, self: Any, rows: Any) -> Any:
    return [take(one, self._batch.session) for one in self._tables.live.values() if one.is_due(self._now)]


@breaks(Commit, "take_reached", "test_instance_is_taken_once", "test_message_takes_an_unheld_instance")
def taken_instance_has_new_messages_alone(original: Any, self: Any, rows: Any) -> Any:
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
def existing_children_are_named(original: Any, self: Any, *args: Any) -> Any:
    wanted = [child.id for write in self._batch.transitions for child in write.changes.children]
    return replace(original(self, *args), children=wanted)


@breaks(Commit, "cancel_children", "test_cancel_reaches_live_children", "test_cancel_reaches_no_others")
def children_are_not_cancelled(original: Any, self: Any, parent_id: str, message: bytes) -> None:
    return


@breaks(Commit, "cancel_children", "test_cancel_reaches_live_children", "test_cancel_reaches_no_others")
def everybody_is_cancelled(original: Any, self: Any, parent_id: str, message: bytes) -> None:
    for instance_id in tuple(self._tables.live):
        self.insert(instance_id, InboxInsert(instance_id, message))


@breaks(Commit, "cancel_children", "test_cancel_without_children_is_nothing")
def nobodys_children_are_all(original: Any, self: Any, parent_id: str, message: bytes) -> None:
    for child_id in self._tables.children.get(parent_id) or tuple(self._tables.live):
        self.insert(child_id, InboxInsert(child_id, message))


@breaks(Commit, "reach_others", "test_end_alone_cancels_nobody")
def every_end_cancels_the_children(original: Any, self: Any, instance_id: str, changes: Changes) -> None:
    original(self, instance_id, changes)
    if changes.ended and changes.cancel_children is None:
        self.cancel_children(instance_id, b"cancel")

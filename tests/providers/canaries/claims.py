"""Claims, timers, giving back and blocking, broken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from tests.providers.canaries.planting import breaks
from wfe.model.moment import Moment
from wfe.model.status import WorkflowStatus
from wfe.ports.store import ClaimReply
from wfe.providers.memory import commit as commit_module
from wfe.providers.memory import store as store_module
from wfe.providers.memory.claim import take
from wfe.providers.memory.store import MemoryStore
from wfe.providers.memory.tables import Instance, Tables


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
async def claim_reads_before_it_takes(original: Any, self: Any, session: str, *args: Any, **named: Any) -> Any:
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
def fence_is_not_raised(original: Any, instance: Instance, session: str) -> Any:
    instance.fence -= 1 if instance.fence else 0
    return original(instance, session)


@breaks(
    commit_module, "take", "test_message_takes_an_unheld_instance", "test_instance_given_back_in_the_batch_is_taken"
)
def fence_is_not_raised_with_messages(original: Any, instance: Instance, session: str) -> Any:
    instance.fence -= 1
    return original(instance, session)


@breaks(
    store_module,
    "take",
    "test_activations_count_takings_without_a_transition",
    "test_claim_takes_the_lease",
    "test_activations_and_reasons_survive",
)
def activations_are_not_counted(original: Any, instance: Instance, session: str) -> Any:
    instance.activations -= 1
    return original(instance, session)


@breaks(store_module, "take", "test_claimed_instance_can_be_written")
def claim_gives_the_fence_of_before(original: Any, instance: Instance, session: str) -> Any:
    loaded = original(instance, session)
    return replace(loaded, fence=loaded.fence - 1)


@breaks(commit_module, "take", "test_taken_instance_can_be_written")
def batch_gives_the_fence_of_before(original: Any, instance: Instance, session: str) -> Any:
    loaded = original(instance, session)
    return replace(loaded, fence=loaded.fence - 1)


@breaks(store_module, "take", "test_block_does_not_hinder_a_claim")
def reason_is_not_cleared(original: Any, instance: Instance, session: str) -> Any:
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
def inbox_is_not_loaded(original: Any, instance: Instance, session: str) -> Any:
    return replace(original(instance, session), inbox=[])


@breaks(store_module, "take", "test_due_instance_is_taken_whole", "test_collections_are_loaded_with_the_instance")
def collections_are_not_loaded(original: Any, instance: Instance, session: str) -> Any:
    return replace(original(instance, session), items=[])


@breaks(
    Instance,
    "is_due",
    "test_timer_is_never_early",
    "test_named_claim_needs_something_to_do",
    "test_later_wake_time_replaces_the_earlier",
    "test_due_instances_that_nobody_takes_are_listed",
)
def everything_is_due(original: Any, self: Instance, now: Moment) -> Any:
    return not self.has_ended


@breaks(Instance, "is_due", "test_ended_instance_is_not_taken")
def ended_instances_are_due(original: Any, self: Instance, now: Moment) -> Any:
    return self.has_ended or original(self, now)


@breaks(Instance, "is_due", "test_timer_is_never_early")
def timers_are_early(original: Any, self: Instance, now: Moment) -> Any:
    return original(self, now + 2 * 3600 * 10**6)


@breaks(Instance, "is_due", "test_timer_due_now_is_taken")
def timers_are_late(original: Any, self: Instance, now: Moment) -> Any:
    return original(self, now - 1)


@breaks(Instance, "is_due", "test_timer_comes_due")
def timers_are_judged_when_they_are_written(original: Any, self: Instance, now: Moment) -> Any:
    return original(self, self.created_at)


@breaks(Instance, "is_due", "test_timer_due_while_nobody_looked_is_kept")
def old_timers_are_given_up(original: Any, self: Instance, now: Moment) -> Any:
    return original(self, now) and (self.wake_at is None or self.wake_at > now - 60 * 10**6)


@breaks(Instance, "is_due", "test_suspended_instance_is_not_woken", "test_unclaimed_leaves_out_what_cannot_be_claimed")
def suspended_instances_wake(original: Any, self: Instance, now: Moment) -> Any:
    return original(self, now) or (self.wake_at is not None and self.wake_at <= now)


@breaks(Instance, "is_due", "test_suspended_instance_is_taken_for_its_inbox")
def suspended_instances_read_nothing(original: Any, self: Instance, now: Moment) -> Any:
    return original(self, now) and self.status != WorkflowStatus.SUSPENDED


@breaks(
    Instance,
    "is_due",
    "test_instance_with_messages_is_taken",
    "test_message_before_a_release_is_found",
    "test_release_racing_a_message_loses_nothing",
    "test_instance_with_a_matched_event_is_taken",
)
def messages_wake_nobody(original: Any, self: Instance, now: Moment) -> Any:
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
async def claim_takes_any_code(original: Any, self: Any, session: str, _: Any, limit: int, **named: Any) -> Any:
    runnable = {instance.definition for instance in self._tables.instances.values()}
    return await original(self, session, runnable, limit, **named)


@breaks(MemoryStore, "claim", "test_only_runnable_definitions_are_taken")
async def claim_forgets_structure(
    original: Any, self: Any, session: str, runnable: Any, limit: int, **named: Any
) -> Any:
    known = {(key.id, key.version) for key in runnable}
    fitting = {one.definition for one in self._tables.live.values() if one.definition[:2] in known}
    return await original(self, session, fitting, limit, **named)


@breaks(MemoryStore, "claim", "test_many_runnable_definitions")
async def claim_looks_at_a_hundred_definitions(
    original: Any, self: Any, session: str, runnable: Any, limit: int, **named: Any
) -> Any:
    return await original(self, session, list(runnable)[:100], limit, **named)


@breaks(MemoryStore, "claim", "test_version_zero_and_big_versions")
async def version_zero_is_any(original: Any, self: Any, session: str, runnable: Any, limit: int, **named: Any) -> Any:
    return await original(self, session, [*runnable, *(key._replace(version=0) for key in runnable)], limit, **named)


@breaks(MemoryStore, "claim", "test_many_starts")
async def claim_loads_few_pointers(original: Any, self: Any, *args: Any, **named: Any) -> Any:
    reply = await original(self, *args, **named)
    few, rest = reply.instances[:100], reply.instances[100:]
    return replace(reply, instances=[*few, *(replace(loaded, pointers=()) for loaded in rest)])


@breaks(MemoryStore, "claim", "test_claim_has_a_limit", "test_limit_zero_takes_nothing", "test_named_claim_has_a_limit")
async def claim_has_no_limit(original: Any, self: Any, session: str, runnable: Any, limit: int, **named: Any) -> Any:
    return await original(self, session, runnable, 1_000, **named)


@breaks(MemoryStore, "claim", "test_named_claim_looks_at_nothing_else", "test_claim_of_no_ids_takes_nothing")
async def claim_ignores_ids(
    original: Any, self: Any, session: str, runnable: Any, limit: int, *, ids: Any = None, **named: Any
) -> Any:
    return await original(self, session, runnable, limit, **named)


@breaks(MemoryStore, "claim", "test_any_definition_takes_what_is_named", "test_any_definition_takes_an_ended_instance")
async def any_definition_is_ignored(
    original: Any, self: Any, *args: Any, ids: Any = None, any_definition: bool = False, **named: Any
) -> Any:
    return await original(self, *args, ids=ids, **named)


@breaks(
    store_module,
    "unheld_and_due",
    "test_earliest_timer_is_first",
)
def latest_timer_is_first(original: Any, tables: Tables, now: Moment) -> Any:
    return original(tables, now)[::-1]


@breaks(store_module, "unheld_and_due", "test_idle_instance_is_not_taken")
def sweep_takes_the_idle(original: Any, tables: Tables, now: Moment) -> Any:
    return list(tables.live.values())


@breaks(MemoryStore, "_named", "test_earliest_named_timer_is_first")
def latest_named_timer_is_first(original: Any, self: Any, *args: Any, **named: Any) -> Any:
    return original(self, *args, **named)[::-1]


@breaks(store_module, "next_wake", "test_next_wake_is_told")
def next_wake_is_not_told(original: Any, tables: Tables, now: Moment) -> None:
    return None


@breaks(store_module, "next_wake", "test_next_wake_is_none_without_timers")
def next_wake_counts_what_is_due(original: Any, tables: Tables, now: Moment) -> Any:
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


@breaks(MemoryStore, "release", "test_release_of_nothing")
async def release_of_nothing_releases_all(original: Any, self: Any, session: str, holds: Any) -> None:
    await original(self, session, holds or await self.held(session))


@breaks(MemoryStore, "held", "test_held_instances_are_listed")
async def holds_of_others_are_listed(original: Any, self: Any, session: str) -> Any:
    return [(one.id, one.fence) for one in self._tables.live.values() if one.owner is not None]


@breaks(MemoryStore, "held", "test_held_instances_are_listed")
async def ended_instances_are_held(original: Any, self: Any, session: str) -> Any:
    over = [(one.id, one.fence) for one in self._tables.instances.values() if one.has_ended]
    return [*await original(self, session), *over]


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
async def block_raises_the_revision(original: Any, self: Any, reasons: Mapping[str, str]) -> Any:
    for instance_id in reasons:
        self._tables.instances[instance_id].revision += 1
    return await original(self, reasons)


@breaks(MemoryStore, "block", "test_block_of_many_with_reasons_of_their_own")
async def block_gives_one_reason_to_all(original: Any, self: Any, reasons: Mapping[str, str]) -> Any:
    return await original(self, dict.fromkeys(reasons, next(iter(reasons.values()))))


@breaks(MemoryStore, "block", "test_reasons_are_any_text")
async def reasons_are_trimmed(original: Any, self: Any, reasons: Mapping[str, str]) -> Any:
    return await original(self, {instance_id: reason.strip() for instance_id, reason in reasons.items()})


@breaks(MemoryStore, "unclaimed", "test_listing_takes_nothing")
async def listing_takes(original: Any, self: Any, limit: int, **named: Any) -> Any:
    rows = await original(self, limit, **named)
    for row in rows:
        take(self._tables.instances[row.id], "whoever")
    return rows


@breaks(MemoryStore, "unclaimed", "test_unclaimed_tells_of_messages")
async def events_count_as_messages(original: Any, self: Any, limit: int, **named: Any) -> Any:
    rows = await original(self, limit, **named)
    return [replace(row, has_message=bool(self._tables.instances[row.id].inbox)) for row in rows]


@breaks(
    MemoryStore,
    "claim",
    "test_claim_leaves_what_was_taken_too_often",
    "test_what_is_left_does_not_use_up_the_limit",
)
async def claim_takes_whoever_was_taken_often(
    original: Any, self: Any, *args: Any, activations_below: int | None = None, **named: Any
) -> Any:
    return await original(self, *args, **named)


@breaks(
    store_module,
    "place_of",
    "test_unclaimed_has_a_limit",
    "test_due_instances_that_nobody_takes_are_listed",
)
def shortest_due_is_listed_first(original: Any, instance: Instance, now: Moment) -> Any:
    since, number = original(instance, now)
    return -since, number


@breaks(
    MemoryStore, "unclaimed", "test_unclaimed_goes_on_page_by_page", "test_unclaimed_goes_on_after_a_row_that_is_gone"
)
async def every_page_is_the_first(original: Any, self: Any, limit: int, *, after: Any = None) -> Any:
    return await original(self, limit)

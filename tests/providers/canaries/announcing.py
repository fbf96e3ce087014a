"""Announcements, broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from tests.providers.canaries import cuts
from tests.providers.canaries.planting import breaks
from wfe.model.lifecycle import LifecycleEvent
from wfe.ports.store import Batch, Changes
from wfe.providers.memory import lifecycle as lifecycle_module
from wfe.providers.memory.commit import Commit
from wfe.providers.memory.lifecycle import MemoryLifecycle
from wfe.providers.memory.store import MemoryStore
from wfe.providers.memory.tables import Instance


@breaks(MemoryLifecycle, "subscribe", "test_subscribing_begins_with_now")
def now_means_start(original: Any, self: Any, *, since: str | None = None, **named: Any) -> Any:
    return original(self, since=since or "start", **named)


@breaks(MemoryLifecycle, "position", "test_position_is_now")
async def position_is_the_start(original: Any, self: Any) -> str:
    return "start"


@breaks(MemoryLifecycle, "position", "test_position_is_now", "test_position_of_an_empty_log")
async def position_is_ahead(original: Any, self: Any) -> str:
    place, _, seen = (await original(self)).partition(".")
    return f"{int(place) + 1}.{seen}"


@breaks(MemoryLifecycle, "subscribe", "test_one_workflow_is_picked_out")
def workflow_is_not_picked_out(original: Any, self: Any, *, since: Any = None, **_: Any) -> Any:
    return original(self, since=since)


@breaks(MemoryLifecycle, "subscribe", "test_every_cursor_resumes")
def cursor_loses_the_rest_of_its_row(original: Any, self: Any, *, since: Any = None, **named: Any) -> Any:
    if since and "." in since:
        since = f"{int(since.split('.')[0]) + 1}.0"
    return original(self, since=since, **named)


@breaks(lifecycle_module, "_events_of", "test_announcement_is_whole")
def run_is_always_the_first(original: Any, row: Any, seen: int) -> Any:
    return original(replace(row, run=1), seen)


@breaks(lifecycle_module, "_events_of", "test_announcement_is_whole")
def announcements_are_timed_when_they_are_read(original: Any, row: Any, seen: int) -> Any:
    return original(replace(row, time=row.time + 1), seen)


@breaks(lifecycle_module, "_events_of", "test_transitions_without_announcements_are_passed_over")
def silent_rows_are_announced(original: Any, row: Any, seen: int) -> Any:
    if row.count:
        return original(row, seen)
    silence: Any = LifecycleEvent(0, None, None, row.instance_id, row.definition_id, row.version)  # type: ignore[arg-type]  # the fault
    return [(1, silence)]


@breaks(MemoryLifecycle, "subscribe", "test_last_cursor_waits_for_what_comes")
def cursors_are_taken_for_now(original: Any, self: Any, *, since: str | None = None, **named: Any) -> Any:
    return original(self, since=since if since == "start" else None, **named)


@breaks(Commit, "write_log", "test_events_of_all_instances_come")
def one_instance_of_a_batch_is_announced(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    if vars(self).setdefault("announced", instance) is instance:
        original(self, instance, changes)


@breaks(lifecycle_module, "call_in", "test_waiting_subscriber_is_woken")
def subscribers_are_not_woken(original: Any, loop: Any, callback: Any) -> None:
    return


@breaks(MemoryStore, "commit", "test_commits_of_other_processes_come")
async def one_process_alone_wakes_subscribers(original: Any, self: Any, batch: Batch) -> Any:
    if vars(self._tables).setdefault("first_process", self) is self:
        return await original(self, batch)
    with patch.object(self._tables, "listeners", {}):
        return await original(self, batch)


@breaks(MemoryLifecycle, "_follow", "test_subscribers_are_independent")
async def each_event_is_given_to_one_subscriber(original: Any, self: Any, *args: Any) -> AsyncIterator[Any]:
    given: set[str] = vars(self._tables).setdefault("given", set())
    async for cursor, event in original(self, *args):
        if cursor not in given:
            given.add(cursor)
            yield cursor, event


@breaks(MemoryLifecycle, "_follow", "test_leaving_while_waiting_is_clean")
async def leaving_silences_the_others(original: Any, self: Any, *args: Any) -> AsyncIterator[Any]:
    left: asyncio.Event = vars(self._tables).setdefault("left", asyncio.Event())
    try:
        async for announced in original(self, *args):
            if not left.is_set():
                yield announced
    finally:
        left.set()


@breaks(MemoryLifecycle, "_follow", "test_nothing_is_missed_under_load")
async def what_is_committed_while_reading_is_missed(
    original: Any, self: Any, workflow_id: Any, place: int, seen: int
) -> AsyncIterator[Any]:
    while True:
        for row in [row for number, row in self._tables.log.items() if number >= place]:
            for index, event in lifecycle_module._events_of(row, 0):
                await asyncio.sleep(0)
                yield f"{place}.{index}", event
        place = self._tables.last_log + 1
        await asyncio.sleep(0)


@breaks(cuts, "tell_followers", "test_subscriber_survives_a_lost_connection")
def subscribers_are_forgotten_with_the_connection(original: Any, provider: Any) -> None:
    provider._tables.listeners.clear()

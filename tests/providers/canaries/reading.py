"""Reading, the log, definitions and purging, broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from tests.providers.canaries.planting import breaks
from wfe.ports.store import Batch, Changes, LogCursorPage, LogRow
from wfe.providers.memory.commit import Commit
from wfe.providers.memory.store import MemoryStore
from wfe.providers.memory.tables import Instance, Tables


@breaks(MemoryStore, "get", "test_instance_is_found_by_name")
async def names_are_not_looked_up(original: Any, self: Any, id_or_name: str) -> Any:
    return await original(self, id_or_name) if id_or_name in self._tables.instances else None


@breaks(MemoryStore, "get", "test_instance_is_found_by_name", "test_id_comes_before_name")
async def first_of_a_name_is_given(original: Any, self: Any, id_or_name: str) -> Any:
    return await original(self, self._tables.names.get(id_or_name, [id_or_name])[0])


@breaks(MemoryStore, "get", "test_unknown_instance_is_none")
async def beginnings_of_ids_are_enough(original: Any, self: Any, id_or_name: str) -> Any:
    found = [one for one in self._tables.instances if one.startswith(id_or_name)]
    return await original(self, found[0] if found else id_or_name)


@breaks(MemoryStore, "get", "test_held_instance_is_read")
async def reading_writes_the_instance(original: Any, self: Any, id_or_name: str) -> Any:
    row = await original(self, id_or_name)
    self._tables.instances[id_or_name].fence += 1
    return row


@breaks(MemoryStore, "ended", "test_nothing_asked_nothing_ended")
async def no_ids_ask_for_all(original: Any, self: Any, ids: Any, **named: Any) -> Any:
    return await original(self, ids or list(self._tables.instances), **named)


@breaks(MemoryStore, "errors", "test_errors_of_an_unknown_instance_are_none")
async def errors_of_all_are_read(original: Any, self: Any, instance_id: str) -> Any:
    return [error for one in self._tables.instances.values() for error in one.errors.values()]


@breaks(MemoryStore, "list_instances", "test_listed_rows_are_whole_but_for_pointers")
async def listed_rows_have_pointers(original: Any, self: Any, *args: Any) -> Any:
    rows, cursor = await original(self, *args)
    return [await self.get(row.id) for row in rows], cursor


@breaks(MemoryStore, "list_instances", "test_listed_rows_are_whole_but_for_pointers")
async def listed_rows_have_no_documents(original: Any, self: Any, *args: Any) -> Any:
    rows, cursor = await original(self, *args)
    return [replace(row, values=b"{}") for row in rows], cursor


@breaks(MemoryStore, "ended", "test_ended_instances_are_told")
async def live_instances_are_told(original: Any, self: Any, ids: Any, **named: Any) -> Any:
    return await original(self, ids, until=["runnable"])


@breaks(MemoryStore, "ended", "test_further_statuses_count_as_an_end")
async def further_statuses_are_ignored(original: Any, self: Any, ids: Any, **named: Any) -> Any:
    return await original(self, ids)


@breaks(MemoryStore, "known", "test_known_ids_are_told", "test_purged_instance_is_gone")
async def everything_is_known(original: Any, self: Any, ids: Sequence[str]) -> Any:
    return ids


@breaks(MemoryStore, "known", "test_questions_about_many_ids")
async def a_thousand_ids_are_looked_at(original: Any, self: Any, ids: Sequence[str]) -> Any:
    return await original(self, ids[:1_000])


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


@breaks(Commit, "write_log", "test_log_time_is_store_time")
def log_rows_are_timed_one_by_one(original: Any, self: Any, instance: Instance, changes: Changes) -> None:
    original(self, instance, changes)
    log = self._tables.log
    log[self._tables.last_log] = replace(log[self._tables.last_log], time=self._now + self._tables.last_log)


@breaks(MemoryStore, "history", "test_history_is_in_order", "test_history_of_an_unknown_instance_is_empty")
async def history_of_all_is_read(original: Any, self: Any, instance_id: str, after: int = 0, limit: int = 1000) -> Any:
    return list(self._tables.log.values())[:limit]


@breaks(MemoryStore, "history", "test_history_is_in_order")
async def history_begins_with_the_newest(original: Any, self: Any, *args: Any) -> Any:
    return (await original(self, *args))[::-1]


@breaks(MemoryStore, "history", "test_history_goes_on_after_a_number")
async def history_counts_from_the_first_number(
    original: Any, self: Any, instance_id: str, after: int = 0, limit: int = 1000
) -> Any:
    return [row for row in await original(self, instance_id) if row.first_sequence > after][:limit]


@breaks(MemoryStore, "history", "test_history_has_a_limit")
async def history_has_no_limit(original: Any, self: Any, instance_id: str, after: int = 0, limit: int = 1000) -> Any:
    return await original(self, instance_id, after)


@breaks(MemoryStore, "log_after", "test_history_names_the_definition")
async def log_forgets_the_definition(original: Any, self: Any, *args: Any, **named: Any) -> Any:
    page = await original(self, *args, **named)
    return replace(page, rows=[replace(row, definition_id="", version=0) for row in page.rows])


@breaks(MemoryStore, "log_after", "test_log_is_in_commit_order")
async def log_is_ordered_by_instance(original: Any, self: Any, *args: Any, **named: Any) -> Any:
    page = await original(self, *args, **named)
    return replace(page, rows=sorted(page.rows, key=lambda row: row.instance_id))


@breaks(MemoryStore, "log_after", "test_cursor_goes_on", "test_rows_of_one_instance_are_in_order_under_load")
async def log_cursor_skips(original: Any, self: Any, cursor: Any, limit: int, **named: Any) -> Any:
    page = await original(self, cursor, limit, **named)
    return replace(page, rows=page.rows[:-1]) if len(page.rows) > 2 else page


@breaks(
    MemoryStore,
    "log_after",
    "test_cursor_at_the_end_sees_what_comes",
    "test_cursor_goes_on",
    "test_log_cursors_survive",
)
async def log_cursor_repeats(original: Any, self: Any, cursor: Any, limit: int, **named: Any) -> Any:
    return replace(await original(self, cursor, limit, **named), cursor=cursor or "log-after-0")


@breaks(MemoryStore, "log_after", "test_now_is_the_end")
async def now_is_the_beginning(original: Any, self: Any, cursor: Any, limit: int, **named: Any) -> Any:
    return await original(self, None if cursor == "now" else cursor, limit, **named)


@breaks(MemoryStore, "log_after", "test_cursor_of_an_empty_log", "test_now_of_an_empty_log")
async def cursor_of_an_empty_log_is_its_first_row(original: Any, self: Any, *args: Any, **named: Any) -> Any:
    page = await original(self, *args, **named)
    return page if self._tables.last_log else replace(page, cursor="log-after-1")


@breaks(MemoryStore, "log_after", "test_log_of_one_instance")
async def log_of_all_is_given(original: Any, self: Any, cursor: Any, limit: int, *, instance_id: Any = None) -> Any:
    return await original(self, cursor, limit)


@breaks(MemoryStore, "log_after", "test_foreign_cursor_is_refused")
async def any_cursor_is_taken(original: Any, self: Any, cursor: Any, limit: int, **named: Any) -> Any:
    return await original(self, cursor if cursor and cursor.startswith("log-") else None, limit, **named)


@breaks(
    MemoryStore,
    "save_definition",
    "test_other_structure_in_use_is_refused",
    "test_held_and_suspended_instances_are_unfinished",
    "test_definitions_survive",
)
async def definitions_are_replaced_always(original: Any, self: Any, row: Any) -> None:
    self._tables.definitions[row.key.id, row.key.version] = row


@breaks(MemoryStore, "save_definition", "test_definition_is_recorded")
async def sources_are_not_kept(original: Any, self: Any, row: Any) -> Any:
    return await original(self, replace(row, source=""))


@breaks(MemoryStore, "save_definition", "test_same_structure_is_recorded_as_it_is_now")
async def plans_are_never_mended(original: Any, self: Any, row: Any) -> Any:
    there = self._tables.definitions.get((row.key.id, row.key.version))
    return None if there is not None and there.key == row.key else await original(self, row)


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
async def purge_takes_the_living(original: Any, self: Any, **named: Any) -> Any:
    for instance in self._tables.instances.values():
        instance.ended_at = instance.ended_at or 1
    return await original(self, **named)


@breaks(MemoryStore, "purge", "test_purge_by_id")
async def purge_takes_no_ids_for_all(original: Any, self: Any, *, ids: Any = None, **named: Any) -> Any:
    return await original(self, ids=ids or None, **named)


@breaks(MemoryStore, "purge", "test_purge_by_status", "test_purge_by_all")
async def purge_ignores_the_status(original: Any, self: Any, *, status: Any = (), **named: Any) -> Any:
    return await original(self, **named)


@breaks(MemoryStore, "purge", "test_purge_by_age")
async def purge_ignores_the_age(original: Any, self: Any, *, ended_before: Any = None, **named: Any) -> Any:
    return await original(self, **named)


@breaks(MemoryStore, "purge", "test_purge_has_a_limit")
async def purge_has_no_limit(original: Any, self: Any, *, limit: int = 100, **named: Any) -> Any:
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
) -> Any:
    place = int((cursor or "log-after-0").rsplit("-", 1)[1])
    rows: list[LogRow] = []
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
async def names_and_keys_run_together(original: Any, self: Any, batch: Batch) -> Any:
    return await original(self, _with_topics(batch, lambda name, key: ("", name + key)))


@breaks(MemoryStore, "commit", "test_event_names_and_keys_are_any_text")
async def keys_are_compared_without_case(original: Any, self: Any, batch: Batch) -> Any:
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
def store_time_goes_back(original: Any, self: Any) -> Any:
    self.latest = (self.latest or 10**15) - 1
    return self.latest

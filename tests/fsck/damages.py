"""Damages, one to a function: each breaks a rule in the rows of the store of `stage`, and tells what is to be found.

A function gives what the check has to find, exactly: rules with instance and pointer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from tests.fsck.rows import Rows
from wfe.model.lifecycle import LogRecord
from wfe.model.pointer import Pointer
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus

__all__ = ["DAMAGES", "Expected"]

Expected: TypeAlias = set[tuple[str, str | None, int | None]]

DAMAGES: dict[str, tuple[Callable[[Rows], Expected], tuple[str, ...]]] = {}
"""Name → what plants it, and on which stores."""

_BOTH = ("sqlite", "postgres")


def damage(*stores: str) -> Callable[[Callable[[Rows], Expected]], Callable[[Rows], Expected]]:
    """Register a damage, for both databases unless some are named."""

    def register(plant: Callable[[Rows], Expected]) -> Callable[[Rows], Expected]:
        DAMAGES[plant.__name__] = (plant, stores or _BOTH)
        return plant

    return register


# Starts


@damage()
def data_are_gone(rows: Rows) -> Expected:
    rows.delete("document", "sleeper")
    return {("S1", "sleeper", None)}


@damage()
def data_are_others(rows: Rows) -> Expected:
    rows.change("document", "later", "SET data = ?2", b'{"forged":1}')
    return {("S1", "later", None)}


@damage()
def log_is_gone(rows: Rows) -> Expected:
    rows.delete("log", "later")
    return {("S3", "later", None)}


@damage()
def start_is_not_announced(rows: Rows) -> Expected:
    rows.announce("limited", LogRecord(LifecycleKind.STEP_SLEEPING), at=0)
    return {("S3", "limited", None)}


@damage()
def pointer_before_the_begin(rows: Rows) -> Expected:
    rows.put_pointer("later", Pointer(1, 1, rows.pointer("sleeper").step, wake=1, status=PointerStatus.SLEEPING))
    rows.set_head("later", open=1)
    return {("S3", "later", None), ("T10", "later", 1), ("V1", "later", 1)}


# Transitions


@damage()
def announcements_have_a_gap(rows: Rows) -> Expected:
    rows.run("UPDATE log SET first_sequence = first_sequence + 1 WHERE n = ?1 AND revision = 2", rows.n("sleeper"))
    return {("T1", "sleeper", None)}


@damage()
def announcements_are_miscounted(rows: Rows) -> Expected:
    rows.run("UPDATE log SET count = count + 1 WHERE n = ?1 AND revision = 1", rows.n("limited"))
    return {("T1", "limited", None)}


@damage()
def error_is_gone(rows: Rows) -> Expected:
    rows.delete("error", "retrying")
    return {("T1", "retrying", None)}


@damage()
def result_is_announced_twice(rows: Rows) -> Expected:
    rows.announce("sleeper", LogRecord(LifecycleKind.STEP_SUCCEEDED, "count", 1, 1))
    return {("T2", "sleeper", 1)}


@damage()
def ended_pointer_is_kept(rows: Rows) -> Expected:
    rows.set_pointer("sleeper", status=PointerStatus.COMPLETE)
    return {("T2", "sleeper", rows.pointer("sleeper").id)}


@damage()
def result_of_a_live_pointer_is_announced(rows: Rows) -> Expected:
    pointer = rows.pointer("sleeper")
    rows.announce("sleeper", LogRecord(LifecycleKind.STEP_SUCCEEDED, pointer.step, pointer.id, 1))
    return {("T2", "sleeper", pointer.id)}


@damage()
def revision_is_left_out(rows: Rows) -> Expected:
    rows.run("UPDATE log SET revision = 7 WHERE n = ?1 AND revision = 2", rows.n("sleeper"))
    return {("T3", "sleeper", None)}


@damage()
def state_is_newer_than_its_log(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET revision = revision + 1")
    return {("T3", "sleeper", None)}


@damage("sqlite")
def log_numbers_would_be_used_again(rows: Rows) -> Expected:
    rows.run("UPDATE batch SET log = 1")
    return {("T3", None, None)}


@damage()
def instance_numbers_would_be_used_again(rows: Rows) -> Expected:
    if rows.kind == "sqlite":
        rows.run("UPDATE batch SET instance = 1")
    else:
        rows.run("SELECT setval('instance_number', 1)")
    return {("T3", None, None)}


@damage()
def failure_is_recorded_twice(rows: Rows) -> Expected:
    rows.run("INSERT INTO error (n, number, error) SELECT n, 2, error FROM error WHERE n = ?1", rows.n("retrying"))
    rows.set_head("retrying", errors=2)
    return {("T4", "retrying", rows.pointer("retrying").id)}


@damage()
def step_begins_after_its_result(rows: Rows) -> Expected:
    rows.announce("sleeper", LogRecord(LifecycleKind.STEP_STARTED, "count", 1, 1))
    return {("T5", "sleeper", 1)}


@damage()
def pointer_outlives_the_end(rows: Rows) -> Expected:
    pointer = rows.pointer("failed")
    rows.put_pointer("failed", msgspec.structs.replace(pointer, status=PointerStatus.RUNNING))
    return {("T7", "failed", pointer.id)}


@damage()
def subscription_outlives_the_end(rows: Rows) -> Expected:
    _subscribe(rows, "failed", pointer=1)
    return {("T7", "failed", None)}


@damage("sqlite")
def message_outlives_the_end(rows: Rows) -> Expected:
    rows.run("UPDATE inbox SET n = ?2 WHERE n = ?1", rows.n("told"), rows.n("failed"))
    return {("T7", "failed", None), ("E3", "told", rows.pointer("told").id)}


@damage()
def items_outlive_the_end(rows: Rows) -> Expected:
    rows.run("INSERT INTO item (n, pointer, items) VALUES (?1, 1, ?2)", rows.n("failed"), b"[1]")
    return {("T7", "failed", None)}


@damage()
def wake_time_outlives_the_end(rows: Rows) -> Expected:
    rows.change("instance", "failed", "SET wake_at = 5")
    return {("T7", "failed", None)}


@damage()
def end_has_no_time(rows: Rows) -> Expected:
    rows.change("instance", "done", "SET ended_at = NULL")
    return {("T7", "done", None)}


@damage()
def end_is_announced_twice(rows: Rows) -> Expected:
    rows.announce("done", LogRecord(LifecycleKind.WORKFLOW_COMPLETED))
    return {("T7", "done", None)}


@damage()
def end_is_not_announced(rows: Rows) -> Expected:
    rows.announce("done", LogRecord(LifecycleKind.WORKFLOW_FAILED))
    revision = rows.run("SELECT revision FROM instance WHERE id = 'done'")[0][0]
    rows.rewrite("done", revision, [LogRecord(LifecycleKind.DATA_OVERWRITTEN)] * _count_of(rows, "done", revision))
    return {("T7", "done", None)}


def _count_of(rows: Rows, instance_id: str, revision: int) -> int:
    return int(rows.run("SELECT count FROM log WHERE n = ?1 AND revision = ?2", rows.n(instance_id), revision)[0][0])


@damage()
def open_branches_are_miscounted(rows: Rows) -> Expected:
    rows.set_head("sleeper", open=2)
    return {("T8", "sleeper", None)}


@damage()
def container_miscounts_its_branches(rows: Rows) -> Expected:
    rows.set_pointer("loop", lambda pointer: pointer.is_container, open=2)
    return {("T8", "loop", rows.pointer("loop", lambda pointer: pointer.is_container).id)}


@damage()
def container_is_gone(rows: Rows) -> Expected:
    loop = rows.pointer("loop", lambda pointer: pointer.is_container)
    rows.run("DELETE FROM pointer WHERE n = ?1 AND slot = ?2", rows.n("loop"), loop.slot)
    inside: Expected = {("T8", "loop", number) for number in rows.pointers("loop")}
    # It has no branch at the top either, and the items are nobody's.
    return inside | {("T8", "loop", None), ("T8", "loop", loop.id), ("W1", "loop", None)}


@damage()
def items_are_gone(rows: Rows) -> Expected:
    rows.delete("item", "loop")
    return {("T8", "loop", rows.pointer("loop", lambda pointer: pointer.is_container).id)}


@damage()
def item_is_walked_twice(rows: Rows) -> Expected:
    rows.set_pointer("loop", lambda pointer: pointer.index == 2, index=1)
    return {("T8", "loop", rows.pointer("loop", lambda pointer: pointer.slot == 4).id)}


@damage()
def head_is_garbage(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET head = ?2", b"\xff\xfe")
    return {("T10", "sleeper", None)}


@damage()
def head_has_more_than_it_should(rows: Rows) -> Expected:
    plain = msgspec.msgpack.decode(rows.run("SELECT head FROM instance WHERE id = 'sleeper'")[0][0])
    rows.change("instance", "sleeper", "SET head = ?2", msgspec.msgpack.encode(plain | {"odd": 1}))
    return {("T10", "sleeper", None)}


@damage()
def row_contradicts_its_head(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET status = 'suspended'")
    return {("T10", "sleeper", None)}


@damage()
def pointer_is_garbage(rows: Rows) -> Expected:
    rows.change("pointer", "sleeper", "SET state = ?2", b"\x81")
    return {("T10", "sleeper", None)}


@damage()
def pointer_is_in_two_slots(rows: Rows) -> Expected:
    pointer = rows.pointer("sleeper")
    rows.put_pointer("sleeper", pointer, slot=pointer.slot + 1)
    return {("T10", "sleeper", pointer.id)}


@damage()
def data_are_no_json(rows: Rows) -> Expected:
    rows.change("document", "sleeper", "SET data = ?2", b"{oops")
    return {("T10", "sleeper", None)}


@damage()
def items_are_no_json(rows: Rows) -> Expected:
    rows.change("item", "loop", "SET items = ?2", b"[1,")
    loop = rows.pointer("loop", lambda pointer: pointer.is_container).id
    return {("T10", "loop", loop), ("T8", "loop", loop)}


@damage()
def announcements_are_garbage(rows: Rows) -> Expected:
    rows.run("UPDATE log SET records = ?2 WHERE n = ?1 AND revision = 1", rows.n("limited"), b"\xc1")
    return {("T10", "limited", None)}


@damage()
def error_is_garbage(rows: Rows) -> Expected:
    rows.change("error", "retrying", "SET error = ?2", b"\xc1")
    return {("T10", "retrying", None)}


@damage()
def message_is_garbage(rows: Rows) -> Expected:
    rows.change("inbox", "told", "SET message = ?2", b"\xc1")
    return {("T10", "told", None), ("E3", "told", rows.pointer("told").id)}


# Columns and texts


@damage("sqlite")
def name_is_no_text(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET name = cast(x'ff41' AS text)")
    return {("T10", "sleeper", None)}


@damage("sqlite")
def id_is_no_text(rows: Rows) -> Expected:
    rows.change("instance", "retrying", "SET id = cast(x'ff41' AS text)")
    return {("T10", "\\xffA", None)}


@damage("sqlite")
def name_of_a_future_event_is_no_text(rows: Rows) -> Expected:
    rows.run("UPDATE future SET name = cast(x'ff41' AS text)")
    return {("T10", None, None)}


@damage("sqlite")
def plan_is_no_text(rows: Rows) -> Expected:
    rows.run("UPDATE definition SET plan = cast(x'ff41' AS text) WHERE id = 'limited'")
    return {("T10", None, None), ("V1", "limited", None)}


@damage("sqlite")
def pointer_is_a_text(rows: Rows) -> Expected:
    rows.change("pointer", "sleeper", "SET state = 'text'")
    return {("T10", "sleeper", None)}


@damage("sqlite")
def data_are_a_text(rows: Rows) -> Expected:
    rows.change("document", "sleeper", "SET data = '[1]'")
    return {("T10", "sleeper", None)}


@damage("sqlite")
def wake_time_is_a_text(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET wake_at = 'soon'")
    return {("T10", "sleeper", None), ("M2", "sleeper", None)}


@damage("sqlite")
def wake_time_is_bytes(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET wake_at = x'00'")
    return {("T10", "sleeper", None), ("M2", "sleeper", None)}


@damage("sqlite")
def activations_are_a_text(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET activations = 'many'")
    return {("T10", "sleeper", None)}


@damage("sqlite")
def revision_is_a_text(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET revision = 'many'")
    return {("T10", "sleeper", None), ("T3", "sleeper", None)}


@damage("sqlite")
def log_row_has_a_text(rows: Rows) -> Expected:
    rows.run("UPDATE log SET count = 'many' WHERE n = ?1 AND revision = 1", rows.n("limited"))
    return {("T10", None, None), ("T1", "limited", None)}


@damage("sqlite")
def session_ends_at_a_text(rows: Rows) -> Expected:
    rows.run("INSERT INTO session (id, name, expires_at, locked) VALUES ('zz', 'n', 'never', 1)")
    return {("T10", None, None)}


@damage("sqlite")
def store_time_is_a_text(rows: Rows) -> Expected:
    rows.run("UPDATE batch SET now = 'noon'")
    return {("T10", None, None)}


@damage("sqlite")
def future_time_is_a_text(rows: Rows) -> Expected:
    rows.run("UPDATE future SET effective_at = 'soon'")
    return {("T10", None, None)}


@damage()
def wake_time_is_none(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET wake_at = ?2", 2**63 - 1)
    return {("T10", "sleeper", None), ("M2", "sleeper", None)}


@damage()
def beginning_is_none(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET created_at = ?2", 2**63 - 1)
    return {("T10", "sleeper", None)}


@damage()
def beginning_is_another(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET created_at = created_at + 1")
    return {("T1", "sleeper", None)}


@damage()
def status_is_none(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET status = 'dancing'")
    return {("T10", "sleeper", None)}


@damage()
def payload_of_an_event_is_garbage(rows: Rows) -> Expected:
    rows.run("UPDATE event SET payload = ?1 WHERE sequence = 2", b"\xff")
    return {("T10", None, None)}


@damage()
def payload_of_a_future_event_is_garbage(rows: Rows) -> Expected:
    if rows.kind == "sqlite":
        rows.run("UPDATE future SET payload = ?1", b"\xff")
    else:
        rows.run("UPDATE event SET payload = ?1 WHERE sequence IS NULL", b"\xff")
    return {("T10", None, None)}


@damage()
def plan_that_nobody_uses_is_garbage(rows: Rows) -> Expected:
    rows.run(f"UPDATE definition SET {'plan' if rows.kind == 'sqlite' else 'body'} = '{{' WHERE id = 'failing'")
    return {("T10", None, None)}


# Tables


@damage("sqlite")
def index_is_gone(rows: Rows) -> Expected:
    rows.run("DROP INDEX instance_due")
    return {("T10", None, None)}


@damage("sqlite")
def column_is_gone(rows: Rows) -> Expected:
    rows.run("ALTER TABLE instance DROP COLUMN blocked_reason")
    return {("T10", None, None)}


@damage("sqlite")
def table_is_gone(rows: Rows) -> Expected:
    rows.run("DROP TABLE inbox")
    return {("T10", None, None)}


@damage("sqlite")
def markers_are_gone(rows: Rows) -> Expected:
    rows.run("DELETE FROM batch")
    return {("T3", None, None)}


# Events


@damage("sqlite")
def event_is_gone(rows: Rows) -> Expected:
    rows.run("DELETE FROM event WHERE sequence = 2")
    return {("E1", None, None)}


@damage("sqlite")
def newest_event_is_gone(rows: Rows) -> Expected:
    rows.run("DELETE FROM event WHERE sequence = (SELECT max(sequence) FROM event)")
    return {("E1", None, None)}


@damage()
def event_is_delivered_twice(rows: Rows) -> Expected:
    columns = "n, pointer, wait, sequence, request, name, key, message, payload"
    number = "k" if rows.kind == "sqlite" else "id"
    rows.run(
        f"INSERT INTO inbox ({number}, {columns}) SELECT {number} - 1, {columns} FROM inbox WHERE n = ?1",
        rows.n("told"),
    )
    return {("E2", "told", rows.pointer("told").id)}


@damage()
def event_is_delivered_that_never_was(rows: Rows) -> Expected:
    rows.change("inbox", "told", "SET sequence = 1000")
    return {("E2", "told", None)}


@damage()
def inbox_numbers_would_be_used_again(rows: Rows) -> Expected:
    if rows.kind == "sqlite":
        rows.run("UPDATE batch SET inbox = 0")
        return {("E2", None, None)}
    rows.run("UPDATE inbox SET id = 1000")
    return {("E2", None, None)}


@damage()
def subscription_is_gone(rows: Rows) -> Expected:
    rows.delete("subscription", "limited")
    return {("E3", "limited", rows.pointer("limited").id)}


@damage()
def event_is_overlooked(rows: Rows) -> Expected:
    if rows.kind == "sqlite":
        rows.change("subscription", "limited", "SET name = 'news', key = 'k'")
    else:
        rows.change(
            "subscription",
            "limited",
            "SET topic = news.topic FROM (SELECT topic FROM event WHERE name = 'news' LIMIT 1) news",
        )
    return {("E3", "limited", rows.pointer("limited").id)}


@damage()
def wait_that_was_served_still_waits(rows: Rows) -> Expected:
    pointer = rows.pointer("told")
    _subscribe(rows, "told", pointer=pointer.id, wait=pointer.waits)
    return {("E4", "told", pointer.id)}


@damage()
def position_is_ahead(rows: Rows) -> Expected:
    if rows.kind == "sqlite":
        rows.run("INSERT INTO position (n, name, key, sequence) VALUES (?1, 'news', 'k', 1000)", rows.n("limited"))
    else:
        rows.run(
            "INSERT INTO position (n, topic, sequence) SELECT ?1, topic, 1000 FROM event LIMIT 1", rows.n("limited")
        )
    return {("E4", "limited", None)}


@damage()
def event_is_before_its_time(rows: Rows) -> Expected:
    rows.run("UPDATE event SET time = 1 WHERE sequence = 3")
    return {("E5", None, None)}


@damage("postgres")
def event_numbers_would_be_used_again(rows: Rows) -> Expected:
    rows.run("UPDATE event SET sequence = 1000 WHERE sequence = (SELECT max(sequence) FROM event WHERE name = 'news')")
    return {("E5", None, None)}


@damage("sqlite")
def published_event_is_still_to_come(rows: Rows) -> Expected:
    rows.run("UPDATE future SET id = (SELECT id FROM event WHERE sequence = 1)")
    return {("E7", None, None)}


@damage()
def wait_that_is_over_is_still_subscribed(rows: Rows) -> Expected:
    _subscribe(rows, "sleeper", pointer=rows.pointer("sleeper").id)
    return {("E8", "sleeper", rows.pointer("sleeper").id)}


def _subscribe(rows: Rows, instance_id: str, *, pointer: int, wait: int = 1) -> None:
    """Put a subscription of one instance's wait to an event that was never published."""
    other = rows.n("limited")
    columns = "name, key, as_of" if rows.kind == "sqlite" else "after_sequence, from_time, topic"
    rows.run(
        f"INSERT INTO subscription (n, pointer, wait, {columns}) SELECT ?1, ?2, ?3, {columns} FROM subscription "
        "WHERE n = ?4",
        rows.n(instance_id),
        pointer,
        wait,
        other,
    )


# Timers, children, holders


@damage()
def wake_time_is_late(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET wake_at = wake_at + 1")
    return {("M2", "sleeper", None)}


@damage()
def time_limit_is_forgotten(rows: Rows) -> Expected:
    rows.change("instance", "limited", "SET wake_at = NULL")
    return {("M2", "limited", None)}


@damage()
def child_is_not_there(rows: Rows) -> Expected:
    rows.set_pointer("parent", child="nobody")
    return {("K1", "parent", rows.pointer("parent").id)}


@damage()
def end_of_a_child_was_not_told(rows: Rows) -> Expected:
    rows.set_pointer("parent", child="done")
    return {("K1", "parent", rows.pointer("parent").id)}


@damage()
def holder_has_not_taken_it(rows: Rows) -> Expected:
    if rows.kind == "sqlite":
        rows.run("INSERT INTO session (k, id, name, expires_at, locked) VALUES (77, 's', '', 0, 0)")
        rows.change("instance", "later", "SET owner = 77, fence = 0")
    else:
        rows.change("instance", "later", "SET owner = 's', fence = 0")
    return {("L1", "later", None)}


@damage("sqlite")
def claims_do_not_see_a_message(rows: Rows) -> Expected:
    rows.run("DELETE FROM called")
    return {("Q1", "told", None)}


@damage("sqlite")
def session_of_a_holder_is_gone(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET owner = 77")
    return {("Q1", "sleeper", None)}


@damage()
def fence_is_negative(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET fence = -3")
    return {("L1", "sleeper", None)}


@damage()
def activations_are_negative(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET activations = -1")
    return {("Q5", "sleeper", None)}


@damage()
def definition_is_not_recorded(rows: Rows) -> Expected:
    if rows.kind == "sqlite":
        rows.run("UPDATE definition SET plan = NULL WHERE id = 'limited'")
    else:
        rows.run("DELETE FROM definition WHERE id = 'limited'")
    return {("V1", "limited", None)}


@damage()
def definition_is_another_number(rows: Rows) -> Expected:
    rows.change("instance", "later", f"SET {'definition' if rows.kind == 'sqlite' else 'plan'} = 999")
    return {("V1", "later", None)}


@damage()
def plan_is_another(rows: Rows) -> Expected:
    table, column = ("definition", "plan") if rows.kind == "sqlite" else ("definition", "body")
    rows.run(f"UPDATE {table} SET {column} = (SELECT {column} FROM {table} WHERE id = 'told') WHERE id = 'limited'")
    return {("V1", "limited", None)}


@damage()
def plan_is_garbage(rows: Rows) -> Expected:
    rows.run(f"UPDATE definition SET {'plan' if rows.kind == 'sqlite' else 'body'} = '{{' WHERE id = 'limited'")
    return {("V1", "limited", None)}


@damage()
def step_is_not_in_the_plan(rows: Rows) -> Expected:
    rows.set_pointer("sleeper", step="nowhere")
    return {("V1", "sleeper", rows.pointer("sleeper").id)}


# Requests, purges, standing still


@damage()
def cancelled_instance_does_not_end(rows: Rows) -> Expected:
    rows.set_head("sleeper", stopping=WorkflowStatus.CANCELLED)
    return {("A1", "sleeper", None)}


@damage()
def child_was_not_told_of_the_end(rows: Rows) -> Expected:
    rows.change("instance", "sleeper", "SET parent_id = 'done', parent_pointer = 1, on_parent_end = 'cancel'")
    return {("A1", "sleeper", None)}


@damage()
def rows_of_nothing_are_left(rows: Rows) -> Expected:
    rows.run("INSERT INTO pointer (n, slot, state) VALUES (?1, 1, ?2)", 999_999, b"")
    rows.run("INSERT INTO item (n, pointer, items) VALUES (?1, 1, ?2)", 999_999, b"")
    rows.run("INSERT INTO error (n, number, error) VALUES (?1, 1, ?2)", 999_999, b"")
    return {("A3", None, None)}


@damage()
def log_of_nothing_is_left(rows: Rows) -> Expected:
    rows.run("UPDATE log SET n = 999999 WHERE n = ?1", rows.n("later"))
    return {("A3", None, None), ("S3", "later", None)}


@damage()
def body_would_never_run(rows: Rows) -> Expected:
    rows.set_pointer("retrying", status=PointerStatus.RUNNING, wake=0)
    return {("W1", "retrying", None)}


@damage()
def nothing_is_open(rows: Rows) -> Expected:
    rows.delete("pointer", "sleeper")
    rows.set_head("sleeper", open=0)
    rows.change("instance", "sleeper", "SET wake_at = NULL")
    return {("W1", "sleeper", None)}


@damage()
def sleeper_has_no_time(rows: Rows) -> Expected:
    rows.set_pointer("sleeper", wake=0)
    rows.change("instance", "sleeper", "SET wake_at = NULL")
    return {("W1", "sleeper", rows.pointer("sleeper").id)}


@damage()
def empty_container_does_not_end(rows: Rows) -> Expected:
    rows.set_pointer("sleeper", status=PointerStatus.RUNNING, wake=0)
    rows.change("instance", "sleeper", "SET wake_at = 0")
    return {("W1", "sleeper", rows.pointer("sleeper").id)}


@damage()
def failure_is_held_without_suspension(rows: Rows) -> Expected:
    rows.set_pointer("retrying", status=PointerStatus.FAILED, wake=0, phase="held")
    rows.change("instance", "retrying", "SET wake_at = NULL")
    return {("W1", "retrying", rows.pointer("retrying").id)}


@damage()
def start_has_no_time(rows: Rows) -> Expected:
    rows.change("instance", "later", "SET wake_at = NULL")
    return {("W1", "later", None)}


@damage()
def pending_pointer_is_not_taken_up(rows: Rows) -> Expected:
    rows.set_pointer("sleeper", status=PointerStatus.PENDING, wake=0)
    return {("W1", "sleeper", None)}


@damage()
def instance_wakes_up_for_nothing(rows: Rows) -> Expected:
    rows.change("instance", "loop", "SET wake_at = 5")
    return {("W1", "loop", None)}

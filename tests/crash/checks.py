"""What must be true after crashes, of ledgers and stores. Each check gives the violations that it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.crash.flows import Planned, expected
from tests.crash.ledger import Entry
from tests.crash.snapshot import Snapshot, Stored
from wfe import WorkflowStatus
from wfe.model.status import LifecycleKind

__all__ = ["Record", "repeated_bodies", "violations"]


@dataclass(frozen=True)
class Record:
    """All that is known of one round."""

    planned: Sequence[Planned]
    """What was asked for again after the last crash, too: all of it must be there."""
    ledger: Sequence[Entry]
    snapshots: Sequence[Snapshot]
    """Taken after each crash, in order."""
    final: Snapshot


def violations(record: Record) -> list[str]:
    """List everything that must not have happened; empty if all is well."""
    checks = (
        _lost_starts,
        _wrong_ends,
        _changed_results,
        _rewritten_history,
        _begun_after_success,
        _begun_twice_in_one_life,
        _successes_without_bodies,
        _changing_keys,
        _gaps,
        _answered_otherwise,
    )
    return [text for check in checks for text in check(record)]


def repeated_bodies(ledger: Sequence[Entry]) -> int:
    """Count the bodies that were begun again in another process: what crashes in mid-work leave behind."""
    lives: dict[tuple[str, str, int], set[str]] = {}
    for entry in _begins(ledger):
        lives.setdefault((entry.instance, entry.pointer, entry.attempt), set()).add(entry.life)
    return sum(len(each) - 1 for each in lives.values())


def _begins(ledger: Sequence[Entry]) -> Iterator[Entry]:
    return (entry for entry in ledger if entry.what == "begin")


def _lost_starts(record: Record) -> Iterator[str]:
    acknowledged = {entry.instance: entry.detail for entry in record.ledger if entry.what == "start"}
    wanted = {planned.id: planned.definition for planned in record.planned if planned.id is not None}
    for instance_id, definition in (wanted | acknowledged).items():
        stored = record.final.instances.get(instance_id)
        if stored is None:
            yield f"lost: {instance_id} ({definition}) was acknowledged and is not there"
        elif stored.definition != definition:
            yield f"mixed up: {instance_id} is a {stored.definition}, asked for was a {definition}"


def _wrong_ends(record: Record) -> Iterator[str]:
    for stored in record.final.instances.values():
        yield from _wrong_end(stored)


def _wrong_end(stored: Stored) -> Iterator[str]:
    want = expected(stored.definition, stored.id)
    where = f"{stored.id} ({stored.definition})"
    if stored.status not in want.statuses:
        yield f"wrong end: {where} is {stored.status} ({stored.blocked_reason}), errors {stored.errors}"
        return
    if want.data is not None and stored.data != want.data:
        yield f"wrong data: {where} has {stored.data}, expected {want.data}"
    attempts = [error.attempt for error in stored.errors]
    if attempts != want.errors:
        yield f"wrong errors: {where} has failed attempts {attempts}, expected {want.errors}"
    if want.successes is not None:
        found = _body_successes(stored, want.successes)
        if found != want.successes:
            yield f"wrong successes: {where} has {found}, expected {want.successes}"
    ends = [event.kind for event in stored.history if event.kind in _ENDS]
    if len(ends) != 1 or stored.history[-1].kind is not ends[0]:
        yield f"wrong ending: {where} announced {ends}, not exactly one end as its last event"


_ENDS = {
    LifecycleKind.WORKFLOW_COMPLETED,
    LifecycleKind.WORKFLOW_FAILED,
    LifecycleKind.WORKFLOW_CANCELLED,
    LifecycleKind.WORKFLOW_TERMINATED,
    LifecycleKind.WORKFLOW_COMPENSATED,
}


def _body_successes(stored: Stored, planned: Counter[str]) -> Counter[str]:
    return Counter(
        event.step or ""
        for event in stored.history
        if event.kind is LifecycleKind.STEP_SUCCEEDED and event.step in planned
    )


def _changed_results(record: Record) -> Iterator[str]:
    for snapshot in record.snapshots:
        for instance_id, before in snapshot.instances.items():
            after = record.final.instances.get(instance_id)
            if after is None:
                yield f"lost: {instance_id} was in the store and is not there any more"
            elif before.has_ended and (before.status, before.data) != (after.status, after.data):
                yield f"changed: {instance_id} was {before.status} {before.data}, is {after.status} {after.data}"


def _rewritten_history(record: Record) -> Iterator[str]:
    chain = [*record.snapshots, record.final]
    for before, after in pairwise(chain):
        for instance_id, old in before.instances.items():
            new = after.instances.get(instance_id)
            if new is None:
                continue
            if new.history[: len(old.history)] != old.history:
                yield f"rewritten: the history of {instance_id} changed from {old.history} to {new.history}"
            if new.errors[: len(old.errors)] != old.errors:
                yield f"rewritten: the errors of {instance_id} changed"


def _begun_after_success(record: Record) -> Iterator[str]:
    for snapshot in record.snapshots:
        for entry in _begins(record.ledger[snapshot.ledger_lines :]):
            stored = snapshot.instances.get(entry.instance)
            if stored is not None and entry.pointer in stored.succeeded:
                yield f"begun after its result was recorded: {entry}"
            elif stored is not None and stored.has_ended:
                yield f"begun after the end of its instance was recorded: {entry}"


def _begun_twice_in_one_life(record: Record) -> Iterator[str]:
    counts = Counter((entry.life, entry.instance, entry.pointer, entry.attempt) for entry in _begins(record.ledger))
    yield from (f"begun {count} times without a crash between: {which}" for which, count in counts.items() if count > 1)


def _successes_without_bodies(record: Record) -> Iterator[str]:
    ended = {(entry.instance, entry.pointer) for entry in record.ledger if entry.what == "end"}
    for stored in record.final.instances.values():
        planned = expected(stored.definition, stored.id).successes or Counter()
        for event in stored.history:
            is_body = event.kind is LifecycleKind.STEP_SUCCEEDED and event.step in planned
            if is_body and (stored.id, event.pointer_id) not in ended:
                yield f"recorded as succeeded, but no body of it ended: {event}"


def _changing_keys(record: Record) -> Iterator[str]:
    keys: dict[tuple[str, str], str] = {}
    for entry in _begins(record.ledger):
        first = keys.setdefault((entry.instance, entry.pointer), entry.key)
        if first != entry.key:
            yield f"the idempotency key changed from {first} to {entry.key}: {entry}"
    if len(set(keys.values())) != len(keys):
        yield "two pointers share one idempotency key"


def _gaps(record: Record) -> Iterator[str]:
    for stored in record.final.instances.values():
        numbers = [event.sequence for event in stored.history]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"the history of {stored.id} has gaps or repeats: {numbers}"


def _answered_otherwise(record: Record) -> Iterator[str]:
    for entry in record.ledger:
        stored = record.final.instances.get(entry.instance)
        if stored is None:
            continue
        if entry.what == "result" and entry.detail != [stored.status, stored.data]:
            yield f"a client was told {entry.detail}, the store has {stored.status} {stored.data}"
        if entry.what == "control" and entry.detail == "terminate" and stored.status is not WorkflowStatus.TERMINATED:
            yield f"terminating {entry.instance} was acknowledged, but it is {stored.status}"

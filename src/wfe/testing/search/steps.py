"""The rules of single steps: what a commit, a taking, a release and the beginning of a body may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from wfe.engine.inbox import unpack
from wfe.engine.state import decode_head, decode_pointers
from wfe.model.lifecycle import LogRecord, decode_records
from wfe.model.message import Answered, Control, ControlVerb, Failed, Message
from wfe.model.pointer import ROOT_SCOPE, Pointer
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus
from wfe.ports.store import Batch, CommitReply, EventRow, InboxRow, LoadedInstance, TransitionOutcome, TransitionWrite
from wfe.testing.search.ledger import Account
from wfe.testing.search.rules import wants

if TYPE_CHECKING:
    from wfe.host.runner import Runner
    from wfe.providers.memory.tables import Instance
    from wfe.testing.search.world import World

__all__ = ["CommitRules", "begun", "released", "taken"]

_replace = msgspec.structs.replace
_RESULTS = {LifecycleKind.STEP_SUCCEEDED, LifecycleKind.STEP_SKIPPED, LifecycleKind.STEP_CANCELLED}
_ENDS = {
    LifecycleKind.WORKFLOW_COMPLETED,
    LifecycleKind.WORKFLOW_FAILED,
    LifecycleKind.WORKFLOW_CANCELLED,
    LifecycleKind.WORKFLOW_TERMINATED,
}


@dataclass(frozen=True)
class _Before:
    """An instance as it was when the batch arrived."""

    has_ended: bool
    status: str
    holder: str | None
    pointers: Mapping[int, Pointer]
    waits: frozenset[tuple[int, int]]
    inbox: Mapping[int, InboxRow]


class CommitRules:
    """What is compared before and after one commit."""

    def __init__(self, world: World, batch: Batch) -> None:
        self._world = world
        self._batch = batch
        tables = world.tables
        self._before = {each.id: _before(world, each) for each in tables.instances.values()}
        self._last_row = tables.last_inbox
        self._events = dict(tables.events)
        self._last_event = tables.last_event

    def check(self, reply: CommitReply) -> None:
        """Check what the commit did, and remember it."""
        world = self._world
        for start in self._batch.starts:
            world.accounts.setdefault(start.id, Account(revision=1, sequence=start.changes.record_count))
        applied: dict[str, set[int]] = {}
        for write, outcome in zip(self._batch.transitions, reply.transitions, strict=True):
            if outcome is TransitionOutcome.ACCEPTED:
                self._accepted(write, reply.now)
                applied[write.instance_id] = set(write.changes.consumed)
        self._check_events()
        self._check_deliveries()
        self._check_inboxes(applied)
        for loaded in reply.taken:
            taken(
                world,
                loaded,
                self._batch.session,
                self._before[loaded.id].holder if loaded.id in self._before else None,
            )

    # Transitions

    def _accepted(self, write: TransitionWrite, now: int) -> None:
        world, name = self._world, f"{write.instance_id}@{write.revision}"
        old, account = self._before[write.instance_id], world.accounts[write.instance_id]
        instance = world.tables.instances[write.instance_id]
        if write.fence != account.fence or self._batch.session != account.taker:
            holder = f"{account.taker} holds it under {account.fence}"
            world.breaks(
                "L2", f"{name} of {self._batch.session} under fence {write.fence} was accepted, while {holder}"
            )
        if write.revision != account.revision:
            world.breaks("T3", f"{name} was accepted after revision {account.revision}")
        if old.has_ended:
            world.breaks("T7", f"{name} was accepted although the instance had ended {old.status}")
        if write.changes.first_sequence != account.sequence + 1:
            world.breaks("H1", f"{name} announces {write.changes.first_sequence} after {account.sequence}")
        records = decode_records(write.changes.records)
        if len(records) != write.changes.record_count:
            world.breaks("H1", f"{name} has {len(records)} announcements and says {write.changes.record_count}")
        account = _replace(
            account, revision=account.revision + 1, sequence=account.sequence + write.changes.record_count
        )
        account = self._check_results(name, account, records)
        account = self._check_waits(name, account, old, write, records)
        account = self._check_branches(name, account, old, instance)
        self._check_requests(name, old, write, instance)
        account = self._check_timers(name, account, old, records, now)
        self._check_due_times(name, old, instance)
        world.accounts[write.instance_id] = account

    def _check_results(self, name: str, account: Account, records: list[LogRecord]) -> Account:
        results = dict(account.results)
        written, ends = set(account.written), account.ends
        for record in records:
            ends += record.kind in _ENDS
            if not record.pointer or record.kind is LifecycleKind.DATA_OVERWRITTEN:
                continue
            if record.pointer in results:
                self._world.breaks("T2", f"{name}: pointer {record.pointer} had ended, now {record.kind}")
            if record.kind in _RESULTS:
                results[record.pointer] = record.kind
            if record.kind is LifecycleKind.STEP_SUCCEEDED and self._world.writes(record.step):
                written.add(f"p{record.pointer}")
        if ends > 1:
            self._world.breaks("T7", f"{name} announces a second end")
        return _replace(account, results=frozenset(results.items()), written=frozenset(written), ends=ends)

    def _check_waits(
        self, name: str, account: Account, old: _Before, write: TransitionWrite, records: list[LogRecord]
    ) -> Account:
        world, changes = self._world, write.changes
        outcomes, consumed = set(account.outcomes), set(account.consumed)
        used = {sequence for _, _, sequence in changes.positions}
        for number in changes.consumed:
            if number in consumed:
                world.breaks("E2", f"{name} applies message {number} a second time")
            consumed.add(number)
            row = old.inbox.get(number)
            if row is not None and row.message is None and row.sequence in used:
                self._end_wait(name, outcomes, row.pointer, row.wait, "event")
        for record in records:
            pointer = old.pointers.get(record.pointer)
            if pointer is None or pointer.status is not PointerStatus.WAITING_FOR_EVENT:
                continue
            if record.error is None or record.error.code != "event_timeout":
                continue
            if (pointer.id, pointer.waits) not in old.waits:
                world.breaks("E8", f"{name} ends wait {pointer.id}.{pointer.waits} by time; its event has come")
            self._end_wait(name, outcomes, pointer.id, pointer.waits, "time")
        return _replace(
            account,
            outcomes=frozenset(outcomes),
            consumed=frozenset(consumed),
            position=max(account.position, *used) if used else account.position,
        )

    def _check_requests(self, name: str, old: _Before, write: TransitionWrite, instance: Instance) -> None:
        """A request that is applied has its effect, unless the instance ends, or another request undoes it."""
        rows = [old.inbox[number] for number in write.changes.consumed if number in old.inbox]
        messages = [unpack(row) for row in rows if row.message is not None]
        verbs = {message.verb for message in messages if isinstance(message, Control)}
        if instance.has_ended or not verbs:
            return
        is_stopping = decode_head(instance.head).stopping is not None
        if ControlVerb.TERMINATE in verbs or (ControlVerb.CANCEL in verbs and not is_stopping):
            self._world.breaks("A1", f"{name} has applied {sorted(verbs)}, and the instance goes on")
        if verbs == {ControlVerb.SUSPEND} and not is_stopping and instance.status != WorkflowStatus.SUSPENDED:
            self._world.breaks("A2", f"{name} has applied a request to suspend, and the instance is {instance.status}")
        if verbs == {ControlVerb.RESUME} and instance.status != WorkflowStatus.RUNNABLE:
            self._world.breaks("A2", f"{name} has applied a request to resume, and the instance is {instance.status}")

    def _end_wait(self, name: str, outcomes: set[tuple[int, int, str]], pointer: int, wait: int, how: str) -> None:
        before = [each for number, count, each in outcomes if (number, count) == (pointer, wait)]
        if before:
            self._world.breaks("M3", f"{name}: wait {pointer}.{wait} ended by {before[0]}, now by {how}")
        outcomes.add((pointer, wait, how))

    def _check_branches(self, name: str, account: Account, old: _Before, instance: Instance) -> Account:
        """A loop has one branch for each item, and what follows a join is reached once, when every branch has ended."""
        world = self._world
        branches, joined = set(account.branches), set(account.joined)
        after = decode_pointers(instance.packed_pointers())
        for number, pointer in after.items():
            if number in old.pointers:
                continue
            if pointer.index >= 0:
                branch = (pointer.scope, pointer.index, pointer.step)
                if branch in branches:
                    world.breaks("T8", f"{name}: item {pointer.index} of loop {pointer.scope} has a second branch")
                branches.add(branch)
            elif pointer.scope == ROOT_SCOPE:
                if pointer.step in joined:
                    world.breaks("T8", f"{name}: step {pointer.step!r} is reached a second time")
                joined.add(pointer.step)
                inside = [each.id for each in after.values() if each.scope != ROOT_SCOPE]
                if inside:
                    world.breaks(
                        "T8", f"{name}: step {pointer.step!r} is reached while {inside} are in branches before"
                    )
        return _replace(account, branches=frozenset(branches), joined=frozenset(joined))

    def _check_timers(self, name: str, account: Account, old: _Before, records: list[LogRecord], now: int) -> Account:
        """No pause or wait ends before its time, and each pause ends once."""
        pauses = set(account.pauses)
        for record in records:
            pointer = old.pointers.get(record.pointer)
            if pointer is None:
                continue
            by_time = pointer.status is PointerStatus.SLEEPING and record.kind in {
                LifecycleKind.STEP_STARTED,
                LifecycleKind.STEP_SUCCEEDED,
            }
            timed_out = record.error is not None and record.error.code == "event_timeout"
            if (by_time or timed_out) and pointer.wake > now:
                self._world.breaks("M1", f"{name}: pointer {record.pointer} was woken {pointer.wake - now} us early")
            if by_time:
                pause = pointer.id, pointer.failures
                if pause in pauses:
                    self._world.breaks("M3", f"{name}: the pause of pointer {record.pointer} ends a second time")
                pauses.add(pause)
        return _replace(account, pauses=frozenset(pauses))

    def _check_due_times(self, name: str, old: _Before, instance: Instance) -> None:
        """A pause keeps its end, whatever else happens meanwhile."""
        for number, pointer in decode_pointers(instance.packed_pointers()).items():
            before = old.pointers.get(number)
            if before is not None and before.wake and _same_pause(before, pointer) and pointer.wake != before.wake:
                self._world.breaks("M4", f"{name}: the due time of pointer {number} was {before.wake}: {pointer.wake}")

    # Events

    def _check_events(self) -> None:
        """Acknowledged events stay, one for each id, numbered in the order of their commits."""
        tables = self._world.tables
        lost = [event for event in self._events if event not in tables.events]
        if lost:
            self._world.breaks("E1", f"events {lost} are gone")
        last = self._last_event
        ids = {publish.id for publish in self._batch.publishes}
        for event in tables.events.values():
            if event.id in self._events:
                if event != self._events[event.id]:
                    self._world.breaks("E7", f"event {event.id!r} was published again")
                continue
            if event.sequence <= last:
                self._world.breaks("E5", f"event {event.id!r} has number {event.sequence}, after {last}")
            last = event.sequence
            ids.discard(event.id)
            self._check_reach(event)

    def _check_reach(self, event: EventRow) -> None:
        """A new event reaches exactly the waits that want it."""
        world = self._world
        reached = {
            (row.instance_id, row.pointer, row.wait)
            for instance in world.tables.instances.values()
            for row in instance.inbox.values()
            if row.message is None and row.sequence == event.sequence
        }
        wanted = {
            (instance_id, pointer.id, pointer.waits)
            for instance_id, old in self._before.items()
            for pointer in old.pointers.values()
            if (pointer.id, pointer.waits) in old.waits
            and pointer.status is PointerStatus.WAITING_FOR_EVENT
            and wants(world, world.tables.instances[instance_id], pointer, event)
        }
        if reached != wanted:
            world.breaks("E6", f"event {event.sequence} reached {sorted(reached)}; {sorted(wanted)} wait for it")

    def _check_deliveries(self) -> None:
        """A wait gets one event, the earliest that it wants, and only while it waits."""
        world = self._world
        for instance in world.tables.instances.values():
            for row in instance.inbox.values():
                if row.id > self._last_row and row.message is None:
                    self._check_delivery(instance, row)

    def _check_delivery(self, instance: Instance, row: InboxRow) -> None:
        world, account = self._world, self._world.accounts[instance.id]
        name = f"event {row.sequence} for wait {row.pointer}.{row.wait} of {instance.id}"
        for pointer, wait, sequence in account.delivered:
            if (pointer, wait) == (row.pointer, row.wait):
                rule = "E2" if sequence == row.sequence else "E4"
                world.breaks(rule, f"{name}: it had event {sequence} already")
        pointer_now = decode_pointers(instance.packed_pointers()).get(row.pointer)
        if pointer_now is None or pointer_now.waits != row.wait:
            world.breaks("E8", f"{name}: it does not wait")
        else:
            for event in world.tables.events.values():
                if event.sequence == row.sequence and not wants(world, instance, pointer_now, event):
                    world.breaks("E4", f"{name}: the instance has had it")
                if event.sequence < row.sequence and wants(world, instance, pointer_now, event):
                    world.breaks("E4", f"{name}: event {event.sequence} is earlier")
        delivered = account.delivered | {(row.pointer, row.wait, row.sequence)}
        world.accounts[instance.id] = _replace(account, delivered=delivered)

    def _check_inboxes(self, applied: Mapping[str, set[int]]) -> None:
        """A message stays until a transition has applied it, and not longer."""
        world = self._world
        for instance_id, old in self._before.items():
            instance = world.tables.instances[instance_id]
            gone = set(old.inbox).difference(instance.inbox)
            done = applied.get(instance_id, set())
            if gone.difference(done) and not instance.has_ended:
                world.breaks("A5", f"messages {sorted(gone.difference(done))} of {instance_id} are lost")
            if done.intersection(instance.inbox):
                kept = sorted(done.intersection(instance.inbox))
                world.breaks("T1", f"messages {kept} of {instance_id} were applied, and are there still")


def _before(world: World, instance: Instance) -> _Before:
    return _Before(
        instance.has_ended,
        instance.status,
        world.tables.holder(instance),
        decode_pointers(instance.packed_pointers()),
        frozenset(instance.waits),
        dict(instance.inbox),
    )


def _same_pause(before: Pointer, after: Pointer) -> bool:
    return (before.status, before.failures, before.waits, before.started) == (
        after.status,
        after.failures,
        after.waits,
        after.started,
    )


def taken(world: World, loaded: LoadedInstance, session: str, holder: str | None) -> None:
    """An instance was taken from nobody, under a fence that nobody had. `holder`: who held it, if a session lives."""
    account = world.accounts[loaded.id]
    if loaded.fence <= account.fence:
        world.breaks("L1", f"{session} took {loaded.id} under fence {loaded.fence}, after {account.fence}")
    if holder not in {None, session}:
        world.breaks("L1", f"{session} took {loaded.id} from {holder}, whose session lives")
    world.accounts[loaded.id] = _replace(account, taker=session, fence=loaded.fence)


def released(world: World, instance_id: str, fence: int, owner_before: str | None) -> None:
    """Something was given back: only by who held it."""
    account, instance = world.accounts[instance_id], world.tables.instances.get(instance_id)
    if instance is not None and fence != account.fence and instance.owner != owner_before:
        world.breaks("L2", f"a release under fence {fence} took {instance_id} from {owner_before} ({account.fence})")


def begun(world: World, runner: Runner, pointer: Pointer) -> None:
    """A body begins, on a host whose session lives."""
    name = f"{runner.id}: pointer {pointer.id} ({pointer.step!r}) begins"
    instance, account = world.tables.instances[runner.id], world.accounts[runner.id]
    if pointer.id in runner.bodies:
        world.breaks("T4", f"{name} while its body runs")
    if any(_is_answer(message, pointer) for message in (*runner.mailbox, *runner.inflight[0])):
        world.breaks("T4", f"{name} although its body has answered")
    if runner.fence != account.fence:
        world.breaks("L1", f"{name} under fence {runner.fence}, after {account.fence} was given out")
    elif runner.state.revision == instance.revision:  # its host knows of every commit
        _begun_rightly(world, name, instance, pointer)


def _is_answer(message: Message, pointer: Pointer) -> bool:
    return isinstance(message, Answered | Failed) and (message.pointer, message.attempt) == (
        pointer.id,
        pointer.attempt,
    )


def _begun_rightly(world: World, name: str, instance: Instance, pointer: Pointer) -> None:
    if instance.has_ended:
        world.breaks("T7", f"{name} after the end")
        return
    if instance.status == WorkflowStatus.SUSPENDED:
        world.breaks("A2", f"{name} in a suspended instance")
    if decode_head(instance.head).stopping is not None:
        world.breaks("A1", f"{name} in an instance that is being cancelled")
    if any(number == pointer.id for number, _ in world.accounts[instance.id].results):
        world.breaks("T5", f"{name} after its result was recorded")
    stored = decode_pointers(instance.packed_pointers()).get(pointer.id)
    if stored is None or not stored.runs_body:
        world.breaks("T5", f"{name}, and is not to run ({stored})")
    elif stored.attempt != pointer.attempt:
        world.breaks("T4", f"{name} with attempt {pointer.attempt}; recorded is {stored.attempt}")

"""Rules that are checked while a run goes on: at every commit, claim and beginning of a body.

The names are those of the guarantees: T are transitions, M timers, L leases, A control requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wfe.engine.failing import HELD, HELD_ENTERING
from wfe.engine.state import InstanceState, decode_head, decode_pointers, encode_head, encode_pointer
from wfe.model.lifecycle import LogRecord, decode_records
from wfe.model.moment import Moment
from wfe.model.pointer import Pointer
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus
from wfe.ports.store import (
    Batch,
    ClaimReply,
    CommitReply,
    ItemsRow,
    LoadedInstance,
    StartOutcome,
    TransitionOutcome,
    TransitionWrite,
)
from wfe.providers.memory.tables import Instance, Tables
from wfe.testing.simulation.ledger import BodyEntry

if TYPE_CHECKING:
    from wfe.host.runner import Runner
    from wfe.testing.simulation.machines import Life

__all__ = ["Watching", "loaded"]

_RESULTS = {LifecycleKind.STEP_SUCCEEDED, LifecycleKind.STEP_SKIPPED, LifecycleKind.STEP_CANCELLED}


@dataclass(frozen=True)
class _Before:
    """An instance as it was when a batch arrived."""

    fence: int
    revision: int
    owner: str | None
    status: str
    has_ended: bool
    pointers: Mapping[int, Pointer]
    waits: frozenset[tuple[int, int]]


class Watching:
    """Remembers what has been committed, and notes every broken rule."""

    def __init__(self, tables: Tables, tolerance: Moment) -> None:
        """Begin to watch.

        Args:
            tolerance: Microseconds by which a timer may be early: what a drifting clock gains until a reply shows it.
        """
        self._tables = tables
        self._tolerance = tolerance
        self._before: dict[str, dict[str, _Before]] = {}
        self._fences: dict[str, int] = {}
        self._results: dict[tuple[str, int], LifecycleKind] = {}
        self._running: dict[tuple[str, str, int], BodyEntry] = {}
        self._keys: dict[tuple[str, int], str] = {}
        self.violations: list[str] = []
        self.fenced = 0
        """Transitions refused because another host had taken the instance."""
        self.accepted = 0

    def broken(self, rule: str, text: str) -> None:
        """Note a broken rule."""
        self.violations.append(f"{rule}: {text}")

    # Commits

    def before_commit(self, life: Life, batch: Batch) -> None:
        """Remember what was there, and compare it with what the host believes."""
        found: dict[str, _Before] = {}
        for write in batch.transitions:
            instance = self._tables.instances.get(write.instance_id)
            if instance is None:
                continue
            found[write.instance_id] = _Before(
                instance.fence,
                instance.revision,
                instance.owner,
                instance.status,
                instance.has_ended,
                decode_pointers(instance.packed_pointers()),
                frozenset(instance.waits),
            )
            self._compare(life, write, instance)
        self._before[batch.id] = found

    def _compare(self, life: Life, write: TransitionWrite, instance: Instance) -> None:
        core = life.core
        runner = None if core is None else core.runners.get(write.instance_id)
        if runner is None or (runner.fence, runner.state.revision) != (instance.fence, instance.revision):
            return
        for what in _differences(runner, instance):
            self.broken("T10", f"{instance.id}@{instance.revision}: the holder's {what} is not what is stored")

    def after_commit(self, batch: Batch, reply: CommitReply) -> None:
        """Check what was accepted."""
        before = self._before.pop(batch.id, {})
        for write, outcome in zip(batch.transitions, reply.transitions, strict=True):
            old = before.get(write.instance_id)
            if old is None:
                continue
            if outcome is TransitionOutcome.ACCEPTED:
                self.accepted += 1
                self._accepted(write, old, batch.session, reply.now)
            elif outcome is TransitionOutcome.FENCED:
                self.fenced += 1
        for start, started in zip(batch.starts, reply.starts, strict=True):
            if started is StartOutcome.CREATED:
                self._note_results(start.id, start.changes.records)
        for taken in reply.taken:
            self._taken(taken.id, taken.fence)

    def _accepted(self, write: TransitionWrite, old: _Before, session: str, now: Moment) -> None:
        name = f"{write.instance_id}@{write.revision}"
        instance = self._tables.instances[write.instance_id]
        if old.fence != write.fence:
            self.broken("L2", f"{name} was accepted with fence {write.fence}, while {old.fence} held")
        if old.owner not in {session, None}:
            self.broken("L1", f"{name} was accepted from {session}, while {old.owner} held the instance")
        if old.has_ended:
            self.broken("T7", f"{name} was accepted although the instance had ended {old.status}")
        if instance.revision != old.revision + 1:
            self.broken("T3", f"{name} led to revision {instance.revision}")
        for gone in write.changes.unsubscribe:
            if gone.required and (gone.pointer, gone.wait) not in old.waits:
                self.broken(
                    "E2", f"{name} ends the wait of pointer {gone.pointer} by time, although its event has come"
                )
        records = decode_records(write.changes.records) if write.changes.records else []
        after = decode_pointers(instance.packed_pointers())
        self._check_timers(name, old, after, records, now)
        self._note_results(write.instance_id, write.changes.records)
        for text in _shape_problems(instance, after):
            self.broken("T10", f"{name}: {text}")

    def _check_timers(
        self, name: str, old: _Before, after: Mapping[int, Pointer], records: list[LogRecord], now: Moment
    ) -> None:
        moved = {
            record.pointer: record
            for record in records
            if record.kind in {LifecycleKind.STEP_STARTED, LifecycleKind.STEP_SUCCEEDED, LifecycleKind.STEP_RETRYING}
        }
        for number, pointer in old.pointers.items():
            if not pointer.wake:
                continue
            record = moved.get(number)
            timed_out = record is not None and record.error is not None and record.error.code == "event_timeout"
            fired = record is not None and (pointer.status is PointerStatus.SLEEPING or timed_out)
            if fired and pointer.wake > now + self._tolerance:
                self.broken("M1", f"{name}: pointer {number} was woken {(pointer.wake - now) / 1e6:.6f} s early")
            same = after.get(number)
            if (
                same is not None
                and (same.status, same.failures, same.polls, same.waits, same.persisted, same.started)
                == (pointer.status, pointer.failures, pointer.polls, pointer.waits, pointer.persisted, pointer.started)
                and same.wake != pointer.wake
            ):
                self.broken("M4", f"{name}: the due time of pointer {number} changed")

    def _note_results(self, instance_id: str, packed: bytes) -> None:
        for record in decode_records(packed) if packed else ():
            if not record.pointer or record.kind is LifecycleKind.DATA_OVERWRITTEN:
                continue
            place = (instance_id, record.pointer)
            if place in self._results:
                self.broken(
                    "T2", f"pointer {record.pointer} of {instance_id} had {self._results[place]}, now {record.kind}"
                )
            if record.kind in _RESULTS:
                self._results[place] = record.kind

    # Claims

    def after_claim(self, reply: ClaimReply) -> None:
        """Check the fences of what was taken."""
        for taken in reply.instances:
            self._taken(taken.id, taken.fence)

    def _taken(self, instance_id: str, fence: int) -> None:
        if fence <= self._fences.get(instance_id, 0):
            self.broken("L1", f"{instance_id} was taken with fence {fence}, after {self._fences[instance_id]}")
        self._fences[instance_id] = fence

    # Bodies

    def begun(self, life: Life, entry: BodyEntry, *, last_renewed: float, ttl: float) -> None:
        """Check whether a body may begin here and now."""
        name = f"{entry.instance} pointer {entry.pointer} ({entry.step}) attempt {entry.attempt} on {entry.host}"
        first = self._keys.setdefault((entry.instance, entry.pointer), entry.key)
        if first != entry.key:
            self.broken("T4", f"{name}: the idempotency key was {first}, now {entry.key}")
        if life.clock.monotonic() - last_renewed > ttl:
            self.broken("L4", f"{name} began {life.clock.monotonic() - last_renewed:.2f} s after the last renewal")
        place = (entry.host, entry.instance, entry.pointer)
        if place in self._running:
            self.broken("T4", f"{name} began while another body of this pointer runs on this host")
        self._running[place] = entry
        if entry.holds and not life.in_flight.get(entry.instance) and entry.instance not in life.unsure:
            for rule, text in self._wrongly_begun(entry):
                self.broken(rule, f"{name}: {text}")

    def _wrongly_begun(self, entry: BodyEntry) -> Iterator[tuple[str, str]]:
        """What speaks against it, for a host that knows everything that is committed."""
        instance = self._tables.instances.get(entry.instance)
        if instance is None:
            yield "T7", "there is no such instance"
            return
        if instance.has_ended:
            yield "T7", f"the instance has ended {instance.status}"
            return
        if instance.status == WorkflowStatus.SUSPENDED:
            yield "A2", "the instance is suspended"
        if decode_head(instance.head).stopping is not None:
            yield "A1", "the instance is being cancelled"
        result = self._results.get((entry.instance, entry.pointer))
        if result is not None:
            yield "T5", f"its result is recorded ({result})"
            return
        pointer = decode_pointers(instance.packed_pointers()).get(entry.pointer)
        if pointer is None or not pointer.runs_body:
            yield "T5", f"it is not to run ({pointer})"
        elif pointer.attempt != entry.attempt:
            yield "T4", f"the attempt recorded is {pointer.attempt}"

    def ended(self, entry: BodyEntry) -> None:
        """A body is over."""
        self._running.pop((entry.host, entry.instance, entry.pointer), None)


def loaded(instance: Instance) -> InstanceState:
    """Give the state that a host would load."""
    row = LoadedInstance(
        id=instance.id,
        definition=instance.definition,
        fence=instance.fence,
        revision=instance.revision,
        run=instance.run,
        head=instance.head,
        data=instance.data,
        values=instance.values,
        created_at=instance.created_at,
        pointers=instance.packed_pointers(),
        items=[ItemsRow(pointer, instance.items[pointer]) for pointer in sorted(instance.items)],
        inbox=(),
        name=instance.name,
        reference=instance.reference,
        parent=instance.parent,
    )
    return InstanceState.loaded(row)


def _differences(runner: Runner, instance: Instance) -> Iterator[str]:
    mine, stored = runner.state, loaded(instance)
    pairs: list[tuple[str, Any, Any]] = [
        ("head", encode_head(mine.head), instance.head),
        ("data", mine.data, instance.data),
        ("values", mine.values, instance.values),
        ("items", mine.items, stored.items),
        ("creation time", mine.created_at, instance.created_at),
        ("running pointers", mine.running, stored.running),
        ("pending pointers", mine.pending, stored.pending),
        ("earliest timer", mine.timers.earliest(), stored.timers.earliest()),
    ]
    for what, one, other in pairs:
        if one != other:
            yield f"{what} ({one!r}, stored {other!r})"
    own = {pointer.slot: encode_pointer(pointer) for pointer in mine.pointers.values()}
    if own != instance.pointers:
        slots = [slot for slot in {*own, *instance.pointers} if own.get(slot) != instance.pointers.get(slot)]
        yield f"pointers in slots {slots}"


def _shape_problems(instance: Instance, pointers: Mapping[int, Pointer]) -> Iterator[str]:
    """What no stored state may look like."""
    if len(pointers) != len(instance.pointers):
        yield "one pointer is stored in two slots"
    if instance.has_ended:
        live = [pointer.id for pointer in pointers.values() if pointer.status is not PointerStatus.FAILED]
        if live:
            yield f"it has ended, and pointers {live} are live"
        return  # what has failed stays to be seen, without the containers that were around it
    for pointer in pointers.values():
        if pointer.scope and pointer.scope not in pointers:
            yield f"pointer {pointer.id} is in scope {pointer.scope}, which is gone"
    waiting = {
        (pointer.id, pointer.waits)
        for pointer in pointers.values()
        if pointer.status is PointerStatus.WAITING_FOR_EVENT and not pointer.child
    }
    lost = waiting.difference(instance.waits, {(row.pointer, row.wait) for row in instance.inbox.values()})
    if lost:
        yield f"pointers {sorted(lost)} wait without a subscription"
    over = set(instance.waits).difference(waiting)
    if over:
        yield f"subscriptions {sorted(over)} have no pointer that waits"
    children: dict[int, int] = {}
    for pointer in pointers.values():
        if pointer.scope and (pointer.status is not PointerStatus.FAILED or pointer.phase in {HELD, HELD_ENTERING}):
            children[pointer.scope] = children.get(pointer.scope, 0) + 1
    if decode_head(instance.head).stopping is not None:
        return
    for number, pointer in pointers.items():
        if pointer.open != children.get(number, 0):
            yield f"container {number} counts {pointer.open} open branches, and has {children.get(number, 0)}"

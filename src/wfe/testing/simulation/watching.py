"""Rules that are checked while a run goes on: at every commit, claim and beginning of a body.

The names are those of the guarantees: T are transitions, M timers, L leases, A control requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wfe.engine.state import decode_head, decode_pointers
from wfe.host.trials import QUARANTINE_AFTER
from wfe.model.definition import DefinitionKey
from wfe.model.lifecycle import LogRecord, decode_records
from wfe.model.moment import Moment
from wfe.model.pointer import Pointer
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus
from wfe.ports.store import (
    Batch,
    ClaimReply,
    CommitReply,
    LoadedInstance,
    Start,
    StartOutcome,
    TransitionOutcome,
    TransitionWrite,
)
from wfe.providers.memory.tables import Instance, Tables
from wfe.testing.simulation.deliveries import Deliveries
from wfe.testing.simulation.ledger import BodyEntry
from wfe.testing.simulation.requests import Requests
from wfe.testing.simulation.stored import differences, says_nothing, shape_problems, wake_problems

if TYPE_CHECKING:
    from wfe.testing.simulation.machines import Life

__all__ = ["Watching"]

_RESULTS = {LifecycleKind.STEP_SUCCEEDED, LifecycleKind.STEP_SKIPPED, LifecycleKind.STEP_CANCELLED}


@dataclass(frozen=True)
class _Before:
    """An instance as it was when a batch arrived."""

    fence: int
    revision: int
    owner: str | None
    status: str
    has_ended: bool
    head: bytes
    pointers: Mapping[int, Pointer]
    waits: frozenset[tuple[int, int]]


class Watching:
    """Remembers what has been committed, and notes every broken rule."""

    def __init__(self, tables: Tables, tolerance: Moment, clock: Callable[[], float], seen: Counter[str]) -> None:
        """Begin to watch.

        Args:
            tolerance: Microseconds by which a timer may be early: what a drifting clock gains until a reply shows it.
            clock: Gives virtual time.
            seen: Counts what has happened.
        """
        self._tables = tables
        self.tolerance = tolerance
        self._clock = clock
        self.seen = seen
        self._before: dict[str, dict[str, _Before]] = {}
        self._deliveries = Deliveries(tables, self.broken)
        self._requests = Requests(tables, self.broken)
        self._definitions: dict[str, DefinitionKey] = {}
        self._sessions: dict[str, str] = {}
        self._latest = 0
        self._deaths: Counter[str] = Counter()
        """Activations without a commit that a death has ended."""
        self._killed: Counter[str] = Counter()
        """Hosts that bodies of an instance have killed since its last commit."""
        self._at_once: Counter[str] = Counter()
        """How many bodies each process runs."""
        self.taken: Counter[str] = Counter()
        """How often each instance was taken."""
        self.ended_at: dict[str, float] = {}
        """Virtual times at which instances ended."""
        self._fences: dict[str, int] = {}
        self._results: dict[tuple[str, int], LifecycleKind] = {}
        self._running: dict[tuple[str, str, int], BodyEntry] = {}
        self._begun: dict[tuple[str, int], tuple[int, int]] = {}
        """Attempt and fence with which the beginning of a body was recorded, and has no result yet."""
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
                instance.head,
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
        for what in differences(runner, instance):
            self.broken("T10", f"{instance.id}@{instance.revision}: the holder's {what} is not what is stored")

    def after_commit(self, batch: Batch, reply: CommitReply, *, misled: str = "") -> None:
        """Check what was accepted.

        Args:
            misled: What makes the host believe that it holds what it has lost, if anything does.
        """
        before = self._before.pop(batch.id, {})
        if reply.now < self._latest:
            self.broken("M5", f"store time went back from {self._latest} to {reply.now}")
        self._latest = max(self._latest, reply.now)
        for write, outcome in zip(batch.transitions, reply.transitions, strict=True):
            old = before.get(write.instance_id)
            if old is None:
                continue
            if outcome is TransitionOutcome.ACCEPTED:
                self.accepted += 1
                self._accepted(write, old, batch.session, reply.now, misled)
            else:
                self.fenced += outcome is TransitionOutcome.FENCED
                if misled and outcome is TransitionOutcome.FENCED:
                    self.seen[f"fenced despite {misled}"] += 1
                self._refused(write, old)
        for start, started in zip(batch.starts, reply.starts, strict=True):
            if started is StartOutcome.CREATED:
                self.created(start, reply.now)
        for taken in reply.taken:
            self._taken(taken)
        self._deliveries.after_commit(batch, reply)
        self._requests.after_commit(batch, reply)

    def created(self, start: Start, now: Moment) -> None:
        """Check a new instance."""
        self._note_results(start.id, start.changes.records)
        instance = self._tables.instances.get(start.id)
        if instance is None:
            self.broken("S3", f"{start.id} was started, and is not there")
            return
        if instance.revision != 1 or (start.changes.data is not None and instance.data != start.changes.data):
            self.broken("S3", f"{start.id} is not there as it was started")
        self._note_end(instance)
        for text in wake_problems(instance, decode_pointers(instance.packed_pointers()), now):
            self.broken("Q1", f"the start of {start.id}: {text}")

    def _note_end(self, instance: Instance) -> None:
        if instance.has_ended:
            self.ended_at.setdefault(instance.id, self._clock())

    def _refused(self, write: TransitionWrite, old: _Before) -> None:
        instance = self._tables.instances[write.instance_id]
        if (instance.revision, instance.status) != (old.revision, old.status):
            self.broken("T1", f"{write.instance_id}@{write.revision} was refused, and has changed something")

    def _check_written(self, name: str, write: TransitionWrite, instance: Instance) -> None:
        changes = write.changes
        kept = [row for row in changes.consumed if row in instance.inbox]
        if kept:
            self.broken("T1", f"{name} consumed the messages {kept}, and they are there")
        documents = [(changes.data, instance.data), (changes.values, instance.values), (changes.head, instance.head)]
        if any(new is not None and new != there for new, there in documents):
            self.broken("T1", f"{name} is not there as it was written")
        if any(instance.pointers.get(row.slot) != row.state for row in changes.pointers):
            self.broken("T1", f"{name} wrote pointers that are not there")
        if any(child.id not in self._tables.instances for child in changes.children):
            self.broken("T1", f"{name} started children that are not there")
        if self._definitions.setdefault(instance.id, instance.definition) != instance.definition:
            self.broken("V1", f"{name} is of {instance.definition}, and was of {self._definitions[instance.id]}")

    def _accepted(self, write: TransitionWrite, old: _Before, session: str, now: Moment, misled: str) -> None:
        name = f"{write.instance_id}@{write.revision}"
        instance = self._tables.instances[write.instance_id]
        self._deaths.pop(instance.id, None)
        self._killed.pop(instance.id, None)
        self._note_end(instance)
        if old.fence != write.fence:
            self.broken("L2", f"{name} was accepted with fence {write.fence}, while {old.fence} held")
            if misled:
                self.broken("L3", f"{name} was accepted from a host with {misled}, which had lost the instance")
        if old.owner not in {session, None}:
            self.broken("L1", f"{name} was accepted from {session}, while {old.owner} held the instance")
        if old.has_ended:
            self.broken("T7", f"{name} was accepted although the instance had ended {old.status}")
        if says_nothing(write.changes, old.head):  # no body here runs for so long that its host shows it to be harmless
            self.broken("Q3", f"{name} was written, and says nothing")
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
        self._note_begun(write, old, after)
        self._note_results(write.instance_id, write.changes.records)
        self._check_written(name, write, instance)
        for text in shape_problems(instance, after):
            self.broken("T10", f"{name}: {text}")
        for text in wake_problems(instance, after, now):
            self.broken("Q1", f"{name}: {text}")

    def _note_begun(self, write: TransitionWrite, old: _Before, after: Mapping[int, Pointer]) -> None:
        """Note which bodies that count crashes were recorded as begun here, and which are not any more."""
        for number, pointer in after.items():
            before = old.pointers.get(number)
            if pointer.begun and (before is None or (before.begun, before.attempt) != (True, pointer.attempt)):
                self._begun[write.instance_id, number] = (pointer.attempt, write.fence)
            elif before is not None and before.begun and not pointer.begun:
                self._begun.pop((write.instance_id, number), None)

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
            if fired and pointer.wake > now + self.tolerance:
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
            self._taken(taken)

    def _taken(self, taken: LoadedInstance) -> None:
        instance_id, fence = taken.id, taken.fence
        self.taken[instance_id] += 1
        if fence <= self._fences.get(instance_id, 0):
            self.broken("L1", f"{instance_id} was taken with fence {fence}, after {self._fences[instance_id]}")
        if taken.activations <= self._deaths[instance_id]:
            self.broken(
                "Q5",
                f"{instance_id} was taken for the {taken.activations}th time, and {self._deaths[instance_id]} "
                "of its hosts have died without a commit",
            )
        self._fences[instance_id] = fence

    # Hosts

    def released(self, ids: Iterable[str]) -> None:
        """Given back unchanged, an activation does not count; a host may have died while that was on its way."""
        for each in ids:
            instance = self._tables.instances.get(each)
            if instance is not None:
                self._deaths[each] = min(self._deaths[each], instance.activations)

    def session_begun(self, process: str, session: str) -> None:
        """A host has begun a session."""
        if self._sessions.setdefault(session, process) != process:
            self.broken("L5", f"the session {session} of {process} was begun by {self._sessions[session]}")

    def died(self, session: str) -> None:
        """A host is gone; what it held and has not committed since counts as an activation without a commit."""
        for instance in self._tables.live.values():
            if instance.owner == session and instance.activations:
                self._deaths[instance.id] += 1

    def killed(self, instance_id: str) -> None:
        """A body of an instance takes its host down."""
        self._killed[instance_id] += 1
        if self._killed[instance_id] > QUARANTINE_AFTER + 1:  # the activation of a start is not counted
            self.broken("W2", f"{instance_id} has killed {self._killed[instance_id]} hosts, and is not suspended")

    # Bodies

    def runs_since(self, host: str) -> float:
        """Give the virtual seconds for which the oldest body of a host has been running; 0.0: it runs none."""
        return max((self._clock() - entry.at for entry in self._running.values() if entry.host == host), default=0.0)

    def begun(
        self, life: Life, entry: BodyEntry, *, last_renewed: float, ttl: float, limit: int, was_ready: bool
    ) -> None:
        """Check whether a body may begin here and now.

        Args:
            last_renewed: When its host's session was renewed last, by the machine's steady clock.
            ttl: How long a session lasts without.
            limit: How many bodies its host may run at once.
            was_ready: It had been told to begin when its process was made to stand still.
        """
        name = f"{entry.instance} pointer {entry.pointer} ({entry.step}) attempt {entry.attempt} on {entry.host}"
        first = self._keys.setdefault((entry.instance, entry.pointer), entry.key)
        if first != entry.key:
            self.broken("T4", f"{name}: the idempotency key was {first}, now {entry.key}")
        if life.clock.monotonic() - last_renewed > ttl and not was_ready:
            self.broken("L4", f"{name} began {life.clock.monotonic() - last_renewed:.2f} s after the last renewal")
        place = (entry.host, entry.instance, entry.pointer)
        if place in self._running:
            self.broken("T4", f"{name} began while another body of this pointer runs on this host")
        self._running[place] = entry
        self._at_once[entry.host] += 1
        if self._at_once[entry.host] > limit:
            self.broken("Q6", f"{name}: {self._at_once[entry.host]} bodies run there at once, and {limit} may")
        self.seen["body begun"] += 1
        if not entry.session:
            self.broken("L4", f"{name} began, and its host has given up its session")
        wrongs = list(self._wrongly_begun(entry))
        if wrongs and not entry.lives:
            # Its session is over, and it cannot know yet: what it has lost is another's, or has ended there.
            self.seen["body begun by who had lost it"] += 1
            return
        for rule, text in wrongs:
            self.broken(rule, f"{name}: {text}")

    def _wrongly_begun(self, entry: BodyEntry) -> Iterator[tuple[str, str]]:
        """What speaks against it: all that is committed, also where the reply is still on its way, or was lost."""
        instance = self._tables.instances.get(entry.instance)
        if instance is None:
            yield "T7", "there is no such instance"
            return
        if instance.has_ended:
            yield "T7", f"the instance has ended {instance.status}"
            return
        if instance.status == WorkflowStatus.SUSPENDED:
            yield "A2", "the instance is suspended"
        if instance.activations > QUARANTINE_AFTER:
            yield "Q4", f"it is the {instance.activations}th activation without a commit"
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
        elif entry.counts and self._begun.get((entry.instance, entry.pointer)) != (entry.attempt, instance.fence):
            yield "T4", "it counts crashes, and its holder has not recorded that it begins"

    def ended(self, entry: BodyEntry) -> None:
        """A body is over."""
        if self._running.pop((entry.host, entry.instance, entry.pointer), None) is not None:
            self._at_once[entry.host] -= 1

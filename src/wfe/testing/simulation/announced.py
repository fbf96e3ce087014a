"""Rules of what instances have announced, compared with what is stored, what bodies did, and what a follower heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from wfe.host.fsck.reading import read_error
from wfe.model.lifecycle import LogRecord, decode_records
from wfe.model.status import LifecycleKind, WorkflowStatus
from wfe.testing.simulation.shapes import While, Work, nodes_of
from wfe.testing.simulation.verdict import said_by

if TYPE_CHECKING:
    from wfe.ports.store import LogRow
    from wfe.providers.memory.tables import Instance
    from wfe.testing.simulation.shapes import Plan
    from wfe.testing.simulation.world import World

__all__ = ["Announcements"]

_ENDS = {
    LifecycleKind.WORKFLOW_COMPLETED: WorkflowStatus.COMPLETE,
    LifecycleKind.WORKFLOW_FAILED: WorkflowStatus.FAILED,
    LifecycleKind.WORKFLOW_CANCELLED: WorkflowStatus.CANCELLED,
    LifecycleKind.WORKFLOW_TERMINATED: WorkflowStatus.TERMINATED,
}


class Announcements:
    """All that was announced in a run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tables = world.tables
        self._rows: dict[str, list[LogRow]] = {}
        for row in self._tables.log.values():
            self._rows.setdefault(row.instance_id, []).append(row)
        self.records: dict[str, list[LogRecord]] = {
            instance_id: [record for row in rows if row.count for record in decode_records(row.records)]
            for instance_id, rows in self._rows.items()
        }

    def verdict(self) -> list[str]:
        """List every broken rule."""
        return [
            text
            for check in (self.histories, self.bodies, self.failures, self.children, self.heard)
            for text in said_by(check)
        ]

    def histories(self) -> Iterator[str]:
        """T3, T7 and T9: one chain, one end, and nothing after it."""
        for instance in self._tables.instances.values():
            rows = self._rows.get(instance.id, [])
            revisions = [row.revision for row in rows]
            if revisions != list(range(1, instance.revision + 1)):
                yield f"T3: the revisions of {instance.id} are {revisions}"
            following = 1
            for row in rows:
                if row.count and row.first_sequence != following:
                    yield f"T9: {instance.id} announces {row.first_sequence} after {following - 1}"
                following += row.count
            if instance.has_ended:
                yield from self._end(instance, self.records.get(instance.id, []))

    @staticmethod
    def _end(instance: Instance, records: list[LogRecord]) -> Iterator[str]:
        ends = [record.kind for record in records if record.kind in _ENDS]
        if len(ends) != 1 or records[-1].kind is not ends[0]:
            yield f"T7: {instance.id} announced the ends {ends}, its last word was {records[-1:]}"
        elif _ENDS[ends[0]] != instance.status:
            yield f"T9: {instance.id} announced {ends[0]} and is {instance.status}"

    def bodies(self) -> Iterator[str]:
        """T4: nothing has a result without having run, and nothing runs again without a reason."""
        begun = Counter((entry.instance, entry.pointer) for entry in self._world.ledger.bodies if entry.what == "begin")
        for instance in self._tables.instances.values():
            steps = _steps_with_bodies(self._world.plans[instance.definition.id])
            ready: Counter[int] = Counter()
            for record in self.records.get(instance.id, ()):
                if record.step not in steps:
                    continue
                ready[record.pointer] += record.kind is LifecycleKind.STEP_STARTED
                if record.kind is LifecycleKind.STEP_SUCCEEDED and not begun[instance.id, record.pointer]:
                    yield f"T4: {record.step} of {instance.id} has succeeded, and its body has never begun"
            taken = self._world.watching.taken[instance.id]
            for pointer, times in ready.items():
                # Whoever takes an instance runs again what may have been running; so does one who resumes it.
                if begun[instance.id, pointer] > times + taken:
                    yield (
                        f"T4: pointer {pointer} of {instance.id} was made ready {times} times, the instance taken "
                        f"{taken} times, and its body began {begun[instance.id, pointer]} times"
                    )

    def failures(self) -> Iterator[str]:
        """Q7: a further attempt has begun, or a step has failed, because of failures that are recorded."""
        failed: Counter[tuple[str, int]] = Counter()
        for entry in self._world.ledger.bodies:
            place = entry.instance, entry.pointer
            failed[place] = max(failed[place], entry.attempt - 1)
        for instance in self._tables.instances.values():
            steps = _steps_with_bodies(self._world.plans[instance.definition.id])
            for record in self.records.get(instance.id, ()):
                # What failed around it, or within its branches, has its record elsewhere.
                if record.step in steps and record.error is not None and record.error.pointer == record.pointer:
                    place = instance.id, record.pointer
                    failed[place] = max(failed[place], record.error.attempt)
        for (instance_id, pointer), attempts in failed.items():
            errors = [read_error(packed) for packed in self._tables.instances[instance_id].errors.values()]
            recorded = {error.attempt for error in errors if error.pointer == pointer}
            missing = set(range(1, attempts + 1)) - recorded
            if missing:
                yield f"Q7: attempts {sorted(missing)} of pointer {pointer} of {instance_id} failed without a record"

    def children(self) -> Iterator[str]:
        """K1: each time that a step begins to wait for a child it has started one."""
        started: Counter[tuple[str, int]] = Counter()
        for instance in self._tables.instances.values():
            if instance.parent is not None:
                started[instance.parent.instance_id, instance.parent.pointer] += 1
        for (parent, pointer), count in started.items():
            waits = sum(
                record.kind is LifecycleKind.STEP_WAITING and record.pointer == pointer
                for record in self.records.get(parent, ())
            )
            if count > waits:
                yield f"K1: pointer {pointer} of {parent} has waited {waits} times for a child, and started {count}"

    def heard(self) -> Iterator[str]:
        """H1: the follower has heard every announcement of the instances it heard of, once and in order."""
        heard: dict[str, list[int]] = {}
        for event in self._world.ledger.heard:
            heard.setdefault(event.workflow_id, []).append(event.sequence)
        for instance_id, numbers in heard.items():
            if numbers != list(range(1, len(numbers) + 1)):
                yield f"H1: of {instance_id} was heard {numbers}"
            elif self._world.follows_to_the_end and len(numbers) != len(self.records[instance_id]):
                yield f"H1: of {instance_id} was heard up to {len(numbers)}, of {len(self.records[instance_id])}"


def _steps_with_bodies(plan: Plan) -> set[str]:
    nodes = list(nodes_of(plan.root))
    turns = {f"{node.id}.t" for node in nodes if isinstance(node, While)}
    return {node.id for node in nodes if isinstance(node, Work)} | turns

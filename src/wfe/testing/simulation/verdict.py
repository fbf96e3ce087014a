"""Rules that are checked when a run is over: of the store, of what clients were told, and of what bodies did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wfe.host.starting import digest_of
from wfe.model.document import encode_value
from wfe.model.errors import StartConflict
from wfe.model.instance import WorkflowResult
from wfe.model.lifecycle import LogRecord, decode_records
from wfe.model.moment import MICROSECONDS_PER_SECOND
from wfe.model.status import LifecycleKind, WorkflowStatus
from wfe.testing.simulation.reference import Reference, follow
from wfe.testing.simulation.scenario import StartOp

if TYPE_CHECKING:
    from wfe.providers.memory.tables import Instance
    from wfe.testing.simulation.ledger import Operation
    from wfe.testing.simulation.world import World

__all__ = ["verdict"]

_TOLD_WITHIN = 5.0
_ENDS = {
    LifecycleKind.WORKFLOW_COMPLETED: WorkflowStatus.COMPLETE,
    LifecycleKind.WORKFLOW_FAILED: WorkflowStatus.FAILED,
    LifecycleKind.WORKFLOW_CANCELLED: WorkflowStatus.CANCELLED,
    LifecycleKind.WORKFLOW_TERMINATED: WorkflowStatus.TERMINATED,
}


def verdict(world: World) -> list[str]:
    """List every broken rule."""
    judge = _Judge(world)
    checks = (judge.starts, judge.ends, judge.histories, judge.results, judge.events, judge.controls, judge.answers)
    return [text for check in checks for text in check()]


class _Judge:
    """Looks at a world that has come to rest."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tables = world.tables
        self._history = world.ledger.history

    def _done(self, *verbs: str) -> Iterator[Operation]:
        return (operation for operation in self._history if operation.verb in verbs)

    # Starts

    def starts(self) -> Iterator[str]:
        """S1 to S3."""
        digests = {id(op): digest_of(op.definition, encode_value({"x": op.x, "key": op.id})) for op in self._ops()}
        for operation in self._done("start"):
            op = operation.argument
            assert isinstance(op, StartOp)
            instance_id = operation.instance or str(operation.answer)
            stored = self._tables.instances.get(instance_id)
            if operation.outcome == "ok":
                if stored is None:
                    yield f"S1: the start of {instance_id} was acknowledged, and it is not there"
                elif stored.digest != digests[id(op)] or stored.definition.id != op.definition:
                    yield f"S2: {instance_id} is not what was started"
            elif isinstance(operation.answer, StartConflict) and stored is not None:
                if stored.digest == digests[id(op)]:
                    yield f"S2: a start of {instance_id} was refused, although it is the same"
        roots = {op.id for op in self._ops() if op.named} | {
            str(operation.answer) for operation in self._done("start") if operation.outcome == "ok"
        }
        prefixes = tuple(f"h{machine.index}." for machine in self._world.machines)
        for instance in self._tables.instances.values():
            if instance.parent is None and instance.id not in roots and not instance.id.startswith(prefixes):
                yield f"S3: nobody has started {instance.id}"

    def _ops(self) -> list[StartOp]:
        return [operation.argument for operation in self._done("start") if isinstance(operation.argument, StartOp)]

    # Ends

    def ends(self) -> Iterator[str]:
        """W1, and nothing left of what has ended."""
        for instance in self._tables.instances.values():
            if not instance.has_ended:
                yield (
                    f"W1: {instance.id} of {instance.definition.id} has not ended: {instance.status}, owner "
                    f"{instance.owner}, wake {instance.wake_at}, inbox {len(instance.inbox)}, waits "
                    f"{len(instance.waits)}, blocked {instance.blocked_reason}, activations {instance.activations}"
                )
            elif instance.inbox or instance.waits or instance.items or instance.wake_at is not None:
                yield f"T1: {instance.id} has ended, and something of it is left"

    def histories(self) -> Iterator[str]:
        """T3, and exactly one end."""
        rows: dict[str, list[Any]] = {}
        for row in self._tables.log.values():
            rows.setdefault(row.instance_id, []).append(row)
        for instance in self._tables.instances.values():
            own = rows.get(instance.id, [])
            revisions = [row.revision for row in own]
            if revisions != list(range(1, instance.revision + 1)):
                yield f"T3: the revisions of {instance.id} are {revisions}"
            following = 1
            records: list[LogRecord] = []
            for row in own:
                if row.count:
                    if row.first_sequence != following:
                        yield f"T9: {instance.id} announces {row.first_sequence} after {following - 1}"
                    following = row.first_sequence + row.count
                    records.extend(decode_records(row.records))
            ends = [record.kind for record in records if record.kind in _ENDS]
            if instance.has_ended and (len(ends) != 1 or records[-1].kind is not ends[0]):
                yield f"T7: {instance.id} announced the ends {ends}, its last word was {records[-1].kind}"
            elif instance.has_ended and _ENDS[ends[0]] != instance.status:
                yield f"T9: {instance.id} announced {ends[0]} and is {instance.status}"

    # Results

    def results(self) -> Iterator[str]:
        """T8 and the data: each instance ends as its plan says."""
        for instance in self._tables.instances.values():
            if instance.has_ended:
                yield from self._result(instance)

    def _result(self, instance: Instance) -> Iterator[str]:
        data = json.loads(instance.data)
        given = {name: data[name] for name in ("x", "key", "from") if name in data}
        reference = follow(
            self._world.plans[instance.definition.id],
            self._world.plans,
            given,
            lambda name, key: [
                json.loads(event.payload)
                for event in self._tables.topics.get((name, key), ())
                if event.time >= instance.created_at
            ],
        )
        status = WorkflowStatus(instance.status)
        if status not in reference.statuses:
            if status not in self._excused(instance, reference):
                wanted = sorted(reference.statuses)
                yield f"T8: {instance.id} of {instance.definition.id} ended {status}, not {wanted}"
            return
        if reference.exact and not self._was_ended_from_outside(instance):
            for text in reference.differences(data):
                yield f"T8: {instance.id} of {instance.definition.id} ({status}): {text}"
            yield from self._children(instance, data, reference)

    def _children(self, instance: Instance, data: dict[str, Any], reference: Reference) -> Iterator[str]:
        children = [self._tables.instances[each] for each in self._tables.children.get(instance.id, ())]
        ended = [json.loads(child.data) for child in children if child.status == WorkflowStatus.COMPLETE]
        for field in reference.loose:
            value = data.get(field)
            if isinstance(value, dict) and value.get("from") == field and value not in ended:
                yield f"T8: {instance.id}: {field} is not the data of a child that completed"

    def _excused(self, instance: Instance, reference: Reference) -> set[WorkflowStatus]:
        del reference
        found: set[WorkflowStatus] = set()
        for operation in self._done("cancel", "terminate"):
            if operation.instance == instance.id:
                found.add(WorkflowStatus.CANCELLED if operation.verb == "cancel" else WorkflowStatus.TERMINATED)
        parent = instance.parent
        while parent is not None:
            # Its parent may have ended, or given up waiting for it, at any moment.
            found.add(WorkflowStatus.CANCELLED)
            above = self._tables.instances.get(parent.instance_id)
            parent = None if above is None else above.parent
        return found

    def _was_ended_from_outside(self, instance: Instance) -> bool:
        """Whether it may have been cut off in the middle."""
        return instance.status in {WorkflowStatus.TERMINATED, WorkflowStatus.CANCELLED} and bool(
            self._excused(instance, Reference(frozenset(), {}, frozenset(), exact=False))
        )

    # Events

    def events(self) -> Iterator[str]:
        """E1, E3, E5 and E7."""
        for operation in self._done("publish"):
            if operation.outcome == "ok" and operation.instance not in self._tables.events:
                if operation.instance not in self._tables.future:
                    yield f"E1: event {operation.instance} was acknowledged, and it is not there"
        for topic, waiting in self._tables.waiting.items():
            for wait in waiting.values():
                if any(wait.matches(event) for event in self._tables.topics.get(topic, ())):
                    yield f"E3: {wait.instance_id} waits for {topic}, and a stored event matches"
        for topic, events in self._tables.topics.items():
            numbers = [event.sequence for event in events]
            if numbers != sorted(set(numbers)) or [e.time for e in events] != sorted(e.time for e in events):
                yield f"E5: the events of {topic} are not in order: {numbers}"
        late = [
            event
            for event in self._tables.future.values()
            if (event.effective_at or 0) < self._tables.now() - 5_000_000
        ]
        for event in late:
            yield f"M2: event {event.id} is due and was not published"

    # Control

    def controls(self) -> Iterator[str]:
        """A1 and A2: what was acknowledged holds."""
        for operation in self._done("cancel", "terminate"):
            if operation.outcome != "ok":
                continue
            instance = self._tables.instances.get(operation.instance)
            wanted = WorkflowStatus.CANCELLED if operation.verb == "cancel" else WorkflowStatus.TERMINATED
            if operation.answer is True and (instance is None or instance.status != wanted):
                others = {
                    other.verb for other in self._done("cancel", "terminate") if other.instance == operation.instance
                }
                if instance is None or len(others) == 1:
                    status = "gone" if instance is None else instance.status
                    yield f"A1: the {operation.verb} of {operation.instance} was acknowledged, and it is {status}"
            yield from self._begun_after(operation, "A1", float("inf"))
        for operation in self._done("suspend"):
            if operation.outcome == "ok":
                yield from self._begun_after(operation, "A2", self._next_resume(operation))

    def _next_resume(self, operation: Operation) -> float:
        later = [
            other.invoked
            for other in self._done("resume", "cancel", "terminate")
            if other.instance == operation.instance
            and (other.ended is None or other.outcome == "unknown" or other.ended > operation.invoked)
        ]
        return min(later, default=float("inf"))

    def _begun_after(self, operation: Operation, rule: str, until: float) -> Iterator[str]:
        if operation.answer is not True or operation.ended is None:
            return
        for entry in self._world.ledger.bodies:
            if entry.what == "begin" and entry.instance == operation.instance and entry.holds:
                if operation.ended < entry.at < until:
                    yield f"{rule}: {entry.step} of {entry.instance} began at {entry.at:.3f}, after {operation}"

    def _not_told(self, operation: Operation) -> Iterator[str]:
        """W1: who waits is told soon after the end, once all faults are over."""
        instance = self._tables.instances.get(operation.instance)
        if instance is None or instance.ended_at is None:
            return
        over = (instance.ended_at - self._world.began) / MICROSECONDS_PER_SECOND
        since = max(over, operation.invoked, self._world.healed_at)
        until = self._world.loop.time() if operation.ended is None else operation.ended
        if until - since > _TOLD_WITHIN:
            yield f"W1: {instance.id} had ended at {over:.3f}, and who waited was not told: {operation}"

    def answers(self) -> Iterator[str]:
        """What a client was told by `wait` is what is stored."""
        for operation in self._done("wait"):
            if operation.outcome != "ok":
                yield from self._not_told(operation)
                continue
            result = operation.answer
            assert isinstance(result, WorkflowResult)
            instance = self._tables.instances.get(result.id)
            if instance is None or (instance.status, json.loads(instance.data)) != (result.status, result.data):
                yield f"T9: a client was told that {result.id} ended {result.status} {result.data}"

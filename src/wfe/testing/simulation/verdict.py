"""Rules that are checked when a run is over: of the store, of what clients were told, and of what bodies did."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from wfe.engine.state import decode_head
from wfe.host.starting import digest_of
from wfe.model.document import encode_value
from wfe.model.errors import StartConflict
from wfe.model.instance import WorkflowResult
from wfe.model.moment import MICROSECONDS_PER_SECOND
from wfe.model.status import WorkflowStatus
from wfe.testing.simulation.clients import inputs_of
from wfe.testing.simulation.reference import Reference, follow
from wfe.testing.simulation.scenario import StartOp

if TYPE_CHECKING:
    from wfe.providers.memory.tables import Instance
    from wfe.testing.simulation.ledger import Operation
    from wfe.testing.simulation.world import World

__all__ = ["Judge", "said_by", "verdict"]

_TOLD_WITHIN = 5.0


def verdict(world: World) -> list[str]:
    """List every broken rule."""
    judge = Judge(world)
    checks = (judge.starts, judge.ends, judge.results, judge.events, judge.controls, judge.answers, judge.places)
    return [text for check in checks for text in said_by(check)]


def said_by(check: Callable[[], Iterable[str]]) -> Iterator[str]:
    """Give what a check finds; one that raises has met what nobody foresaw, and that is a finding like any other."""
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - whatever a checker stumbles over
        name = getattr(check, "__qualname__", "the verdict")
        yield f"crash: {name} raised {type(error).__name__}: {error}"


class Judge:
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
        roots = {op.id for op in self._ops() if op.named}
        for operation in self._done("start"):
            op = operation.argument
            assert isinstance(op, StartOp)
            digests = [digest_of(op.definition, encode_value(given)) for given in inputs_of(op)]
            if operation.outcome == "ok":
                answer = operation.answer
                started = [str(each) for each in (answer if isinstance(answer, list) else [answer])]
                roots.update(started)
                if len(set(started)) != len(digests):
                    yield f"S2: {len(digests)} starts gave {started}"
                for instance_id, digest in zip(started, digests, strict=False):
                    yield from self._started(instance_id, op, digest)
            elif isinstance(operation.answer, StartConflict):
                stored = self._tables.instances.get(operation.instance)
                if stored is not None and stored.digest == digests[0]:
                    yield f"S2: a start of {stored.id} was refused, although it is the same"
        prefixes = tuple(f"h{machine.index}." for machine in self._world.machines)
        for instance in self._tables.instances.values():
            if instance.parent is None and instance.id not in roots and not instance.id.startswith(prefixes):
                yield f"S3: nobody has started {instance.id}"

    def _started(self, instance_id: str, op: StartOp, digest: bytes) -> Iterator[str]:
        stored = self._tables.instances.get(instance_id)
        if stored is None:
            yield f"S1: the start of {instance_id} was acknowledged, and it is not there"
        elif stored.digest != digest or stored.definition.id != op.definition:
            yield f"S2: {instance_id} is not what was started"

    def _ops(self) -> list[StartOp]:
        return [operation.argument for operation in self._done("start") if isinstance(operation.argument, StartOp)]

    # Ends

    def ends(self) -> Iterator[str]:
        """W1 and M2, and nothing left of what has ended (T1)."""
        for instance in self._tables.instances.values():
            if not instance.has_ended:
                yield (
                    f"W1: {instance.id} of {instance.definition.id} has not ended: {instance.status}, owner "
                    f"{instance.owner}, wake {instance.wake_at}, inbox {len(instance.inbox)}, waits "
                    f"{len(instance.waits)}, blocked {instance.blocked_reason}, activations {instance.activations}"
                )
            elif instance.inbox or instance.waits or instance.items or instance.wake_at is not None:
                yield f"T1: {instance.id} has ended, and something of it is left"

    # Results

    def results(self) -> Iterator[str]:
        """T8, E4 and M1: each instance ends with the status and the data that its plan says."""
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
            lambda name, key, since: [
                json.loads(event.payload)
                for event in self._tables.topics.get((name, key), ())
                if event.time >= (instance.created_at if since is None else since)
            ],
        )
        status = WorkflowStatus(instance.status)
        if _ran_out_of_time(instance):
            yield from self._overdue(instance)
            return
        if status not in reference.statuses:
            if status not in self._excused(instance, reference):
                wanted = sorted(reference.statuses)
                yield f"T8: {instance.id} of {instance.definition.id} ended {status}, not {wanted}"
            return
        if reference.exact and not self._was_ended_from_outside(instance):
            for text in reference.differences(data):
                yield f"T8: {instance.id} of {instance.definition.id} ({status}): {text}"
            yield from self._children(instance, data, reference)

    def _overdue(self, instance: Instance) -> Iterator[str]:
        limit = self._world.plans[instance.definition.id].limit
        assert instance.ended_at is not None
        early = self._world.watching.tolerance
        if limit is None or instance.ended_at + early < instance.created_at + limit * MICROSECONDS_PER_SECOND:
            yield f"M1: {instance.id} ran out of time, although its limit is {limit} s"

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
            event_id = operation.instance or operation.answer
            if operation.outcome == "ok" and event_id not in self._tables.events:
                if event_id not in self._tables.future:
                    yield f"E1: event {event_id} was acknowledged, and it is not there"
        for topic, waiting in self._tables.waiting.items():
            for wait in waiting.values():
                if any(wait.matches(event) for event in self._tables.topics.get(topic, ())):
                    yield f"E3: {wait.instance_id} waits for {topic}, and a stored event matches"
        for topic, events in self._tables.topics.items():
            numbers = [event.sequence for event in events]
            if numbers != sorted(set(numbers)) or [e.time for e in events] != sorted(e.time for e in events):
                yield f"E5: the events of {topic} are not in order: {numbers}"
            ids = [event.id for event in events]
            if len(set(ids)) != len(ids):
                yield f"E7: the events of {topic} are {ids}"
        late = [
            event
            for event in self._tables.future.values()
            if (event.effective_at or 0) < self._tables.now() - 5_000_000
        ]
        for event in late:
            yield f"M2: event {event.id} is due and was not published"

    # Control

    def controls(self) -> Iterator[str]:
        """A1, A2 and A4: what was acknowledged holds."""
        for operation in self._done("cancel", "terminate"):
            if operation.outcome == "ok":
                yield from self._told_rightly(operation)
                yield from self._begun_after(operation, "A1", float("inf"))
        for operation in self._done("suspend"):
            if operation.outcome == "ok":
                yield from self._begun_after(operation, "A2", self._next_resume(operation))

    def _told_rightly(self, operation: Operation) -> Iterator[str]:
        """A4: an end has one cause, and who asked for it is told whether that is what was asked for."""
        instance = self._tables.instances.get(operation.instance)
        wanted = WorkflowStatus.CANCELLED if operation.verb == "cancel" else WorkflowStatus.TERMINATED
        if operation.answer is True and (instance is None or instance.status != wanted):
            others = {other.verb for other in self._done("cancel", "terminate") if other.instance == operation.instance}
            if instance is None or len(others) == 1:
                status = "gone" if instance is None else instance.status
                yield f"A4: the {operation.verb} of {operation.instance} was acknowledged, and it is {status}"

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
            if entry.what == "begin" and entry.instance == operation.instance and entry.lives:
                if operation.ended < entry.at < until:
                    yield f"{rule}: {entry.step} of {entry.instance} began at {entry.at:.3f}, after {operation}"

    def _not_told(self, operation: Operation) -> Iterator[str]:
        """W1: who waits is told soon after the end, once all faults are over."""
        instance = self._tables.instances.get(operation.instance)
        if instance is None or instance.ended_at is None:
            return
        over = self._world.watching.ended_at[instance.id]
        since = max(over, operation.invoked, self._world.healed_at)
        until = self._world.loop.time() if operation.ended is None else operation.ended
        if until - since > _TOLD_WITHIN:
            yield f"W1: {instance.id} had ended at {over:.3f}, and who waited was not told: {operation}"

    def places(self) -> Iterator[str]:
        """Q6: a host that runs nothing has all its room."""
        for machine in self._world.machines:
            core = machine.life.core
            if core is not None and not self._tables.live and core.bodies.active:
                yield f"Q6: {machine.life.name} has nothing to run, and {core.bodies.active} of its places are taken"

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


def _ran_out_of_time(instance: Instance) -> bool:
    error = decode_head(instance.head).error
    return error is not None and error.code == "workflow_timeout"

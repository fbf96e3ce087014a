"""A world of one instance, for tests of the engine: applies transitions in memory and checks what always holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from wfe.engine.advance import advance
from wfe.engine.asking import AskFailed, ChildRequest, LoopItem, Question
from wfe.engine.state import InstanceState
from wfe.engine.transition import Transition
from wfe.model.definition import Block, DefinitionKey, Policies, Step, StepKind, WorkflowDefinition
from wfe.model.document import EMPTY_DOCUMENT, Limits, Patch, encode_value
from wfe.model.errors import DataError
from wfe.model.instance import Head
from wfe.model.lifecycle import LogRecord
from wfe.model.message import (
    Answered,
    BodyStopped,
    ChildEnded,
    Control,
    ControlVerb,
    EventMatched,
    Failed,
    Message,
    Started,
    TimePassed,
)
from wfe.model.pointer import ROOT_SCOPE, ErrorRecord, Pointer
from wfe.model.policies import ErrorBehavior, RetryPolicy
from wfe.model.result import NEXT, AnyResult, Branch
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus
from wfe.ports.store import Changes, ItemsRow, LoadedInstance, ParentLink, Start, Subscribe

SECOND = 1_000_000
T0 = 1_700_000_000 * SECOND

Answers = Callable[[dict[str, Any], tuple[int, ...]], object]


def body(step_id: str, **extra: Any) -> Step:
    """A step with a body."""
    return Step(id=step_id, kind=StepKind.BODY, step_type="test", **extra)


def block(*steps: Step, label: object = None, default: bool = False) -> Block:
    return Block(steps, label, default)


def plan(
    *steps: Step,
    error: Mapping[str, ErrorBehavior] | None = None,
    retry: Mapping[str, RetryPolicy] | None = None,
    timeout: Mapping[str, timedelta] | None = None,
    default: Policies | None = None,
    strict_data: bool = False,
) -> WorkflowDefinition[Any]:
    """A definition, with the policies of its steps by id."""
    error, retry, timeout = error or {}, retry or {}, timeout or {}
    policies = {
        each: Policies(error.get(each), retry.get(each), timeout.get(each)) for each in {*error, *retry, *timeout}
    }
    return WorkflowDefinition(
        "test",
        1,
        Block(steps),
        policies=policies,
        default_policies=default or Policies(),
        strict_data=strict_data,
    )


class TableAsker:
    """Answers questions from a table of (step, slot); counts how often each is asked."""

    def __init__(self, table: Mapping[tuple[str, str], Answers] | None = None) -> None:
        self.table = dict(table or {})
        self.asked: list[tuple[str, str]] = []

    def value(self, question: Question) -> object:
        self.asked.append((question.step.id, question.slot))
        path = tuple(loop.index for loop in reversed(question.loops()))
        document = question.extra or question.data
        try:
            return self.table[question.step.id, question.slot](json.loads(document), path)
        except Exception as error:
            kind = type(error)
            classes = tuple(f"{each.__module__}.{each.__qualname__}" for each in kind.__mro__)
            raise AskFailed(ErrorRecord("step_failed", str(error)), classes=classes) from error

    def check(self, fields: Patch, data: bytes) -> None:
        del data
        for name in fields.changed:
            if name.startswith("_wfe"):
                raise DataError(f"{name} is reserved")

    def child(self, request: ChildRequest) -> Start:
        changes = Changes(status="runnable", head=b"", wake_at=0, hold=False)
        return Start(
            id=request.id,
            definition=DefinitionKey(request.definition_id, 1, ""),
            digest=b"",
            changes=changes,
            parent=ParentLink("i", request.pointer, request.on_parent_end),
        )


class World:
    """One instance: what a store would keep of it, the state in memory, and the bodies that run."""

    def __init__(
        self,
        definition: WorkflowDefinition[Any],
        table: Mapping[tuple[str, str], Answers] | None = None,
        *,
        data: Mapping[str, object] | None = None,
        limits: Limits | None = None,
        start: bool = True,
        head: Head | None = None,
    ) -> None:
        self.definition: WorkflowDefinition[Any] | None = definition
        self.key = definition.key
        self.asker = TableAsker(table)
        self.now = T0
        self.limits = limits or Limits()
        document = encode_value(dict(data)) if data else EMPTY_DOCUMENT
        self.state = InstanceState("i", definition.key, data=document, created_at=T0, head=head)
        self.rows: dict[int, bytes] = {}
        self.items: dict[int, bytes] = {}
        self.running: set[int] = set()
        self.log: list[LogRecord] = []
        self.errors: list[ErrorRecord] = []
        self.subscriptions: dict[tuple[int, int], Subscribe] = {}
        self.children: list[Start] = []
        self.messages: list[tuple[str, bytes]] = []
        self.ended = False
        self.last: Transition | None = None
        self.sequence = 0
        if start:
            self.advance(Started())

    # Deciding

    def decide(self, *messages: Message) -> Transition:
        """Decide without applying."""
        return advance(self.definition, self.state, messages, now=self.now, asker=self.asker, limits=self.limits)

    def advance(self, *messages: Message) -> Transition:
        """Decide and apply, then check what must hold; as long as the decision asks for it, go on."""
        transition = self.once(*messages)
        for _ in range(100_000):
            if not transition.again:
                return transition
            transition = self.once(TimePassed())
        raise AssertionError("the engine asks to decide again for ever")

    def once(self, *messages: Message) -> Transition:
        """Decide and apply one transition."""
        transition = self.decide(*messages)
        changes = transition.changes
        for row in changes.pointers:
            self.rows[row.slot] = row.state
        for slot in changes.pointers_gone:
            del self.rows[slot]
        for item in changes.items:
            self.items[item.pointer] = item.items
        for number in changes.items_gone:
            del self.items[number]
        for gone in changes.unsubscribe:
            found = self.subscriptions.pop((gone.pointer, gone.wait), None)
            assert found is not None or not gone.required, "a required subscription is gone"
        for wait in changes.subscribe:
            self.subscriptions[wait.pointer, wait.wait] = wait
        assert changes.first_sequence == len(self.log) + 1
        assert changes.record_count == len(transition.notes)
        self.log.extend(transition.notes)
        self.errors.extend(msgspec.msgpack.decode(row.error, type=ErrorRecord) for row in changes.errors)
        self.children.extend(changes.children)
        self.messages.extend((each.instance_id, each.message) for each in changes.messages)
        self.running.difference_update(
            each.pointer for each in messages if isinstance(each, Answered | Failed | BodyStopped)
        )
        self.running.difference_update(transition.gone)
        self.state.apply(transition)
        self.running.update(transition.run)
        self.ended = changes.ended
        if self.ended:
            self.subscriptions.clear()
            self.items.clear()
        self.last = transition
        self.check()
        return transition

    def reload(self) -> None:
        """The host dies, another one loads the instance: bodies that were running run again."""
        head = self.head_bytes
        self.state = self.loaded(head)
        self.running = set(self.state.running) if self.status is WorkflowStatus.RUNNABLE else set()
        if self.status is WorkflowStatus.SUSPENDED and self.state.running:
            self.advance(*(BodyStopped(number) for number in sorted(self.state.running)))
        if not self.ended:
            self.advance(TimePassed())

    @property
    def head_bytes(self) -> bytes:
        assert self.last is not None
        return self.last.changes.head

    def loaded(self, head: bytes) -> InstanceState:
        """Give the state as a host that takes the instance loads it."""
        return InstanceState.loaded(
            LoadedInstance(
                id="i",
                definition=self.key,
                fence=1,
                revision=self.state.revision,
                run=1,
                head=head,
                data=self.state.data,
                values=self.state.values,
                created_at=self.state.created_at,
                pointers=list(self.rows.values()),
                items=[ItemsRow(number, text) for number, text in self.items.items()],
                inbox=(),
            )
        )

    # What must always hold

    def check(self) -> None:
        """Check the invariants of a state."""
        loaded = self.loaded(self.head_bytes)
        assert loaded.pointers == self.state.pointers, "the stored pointers are not those in memory (T10)"
        assert loaded.head == self.state.head
        assert loaded.running == self.state.running
        assert loaded.pending == self.state.pending
        assert loaded.timers.earliest() == self.state.timers.earliest()
        if not self.ended:
            assert loaded.items == self.state.items
            assert self.items.keys() <= self.state.pointers.keys(), "the items of a loop outlive it"
            assert self.state._split.keys() <= self.items.keys()
        slots = [pointer.slot for pointer in self.state.pointers.values()]
        assert len(slots) == len(set(slots)), "two pointers share a slot"
        assert all(slot < self.state.head.next_slot for slot in slots)
        if self.ended:
            assert all(pointer.status is PointerStatus.FAILED for pointer in self.state.pointers.values())
            return
        self._check_scopes()

    def _check_scopes(self) -> None:
        """Every scope counts exactly the branches in it that have not ended."""
        branches: dict[int, int] = {}
        for pointer in self.state.pointers.values():
            if pointer.status is not PointerStatus.FAILED or pointer.phase.startswith("held"):
                branches[pointer.scope] = branches.get(pointer.scope, 0) + 1
            assert pointer.scope == ROOT_SCOPE or pointer.scope in self.state.pointers, (
                "a branch has lost its container"
            )
        if self.state.head.stopping is None:
            assert self.state.head.open == branches.get(ROOT_SCOPE, 0), "the top counts other branches than there are"
        for pointer in self.state.pointers.values():
            if pointer.status is not PointerStatus.FAILED and self.state.head.stopping is None:
                assert pointer.open == branches.get(pointer.id, 0), (
                    f"{pointer.step} counts other branches than there are"
                )

    # What happens

    def answer(self, step: str | int, result: AnyResult = NEXT, **fields: object) -> Transition:
        """The body of a step answers, having set fields of its data."""
        return self.advance(self.answering(step, result, **fields))

    def answering(self, step: str | int, result: AnyResult = NEXT, **fields: object) -> Answered:
        """The message of a body that answers."""
        pointer = self.body(step)
        patch = Patch({name: json.dumps(value).encode() for name, value in fields.items()}) if fields else None
        persisted = b""
        items: tuple[bytes, ...] = ()
        data = getattr(result, "data", None)
        if data is not None:
            persisted = json.dumps(data).encode()
        if isinstance(result, Branch):
            items = tuple(json.dumps(value).encode() for value in result.values)
        return Answered(
            pointer.id, pointer.attempt, result, patch, self.state.revision, persisted=persisted, items=items
        )

    def fail(
        self, step: str | int, message: str = "no", *, retryable: bool = True, classes: Sequence[str] = ()
    ) -> Transition:
        """The body of a step fails."""
        pointer = self.body(step)
        names = tuple(classes) or ("builtins.ValueError", "builtins.Exception", "builtins.BaseException")
        return self.advance(Failed(pointer.id, pointer.attempt, ErrorRecord("step_failed", message), retryable, names))

    def event(self, payload: object = None, *, name: str | None = None) -> Transition:
        """The event comes that the earliest wait (of this name) waits for."""
        return self.advance(self.matching(payload, name=name))

    def matching(self, payload: object = None, *, name: str | None = None) -> EventMatched:
        """The message of an event that matched the earliest subscription (of this name)."""
        chosen = min(key for key, wait in self.subscriptions.items() if name is None or wait.name == name)
        wait = self.subscriptions.pop(chosen)
        self.sequence += 1
        return EventMatched(*chosen, self.sequence, json.dumps(payload).encode(), wait.name, wait.key)

    def child_ended(
        self, child_id: str, status: WorkflowStatus = WorkflowStatus.COMPLETE, *, error: str = "", **data: object
    ) -> Transition:
        """A child ends."""
        pointer = next(each for each in self.state.pointers.values() if each.child == child_id)
        record = ErrorRecord("step_failed", error) if error else None
        return self.advance(ChildEnded(pointer.id, child_id, status, json.dumps(data).encode(), record))

    def control(self, verb: ControlVerb, reason: str = "") -> Transition:
        """A caller asks for something."""
        return self.advance(Control(verb, reason))

    def pass_time(self, seconds: float | None = None) -> Transition:
        """Time passes: so many seconds, or until the earliest timer."""
        if seconds is None:
            wake = self.state.timers.earliest()
            assert wake is not None, "nothing waits for time"
            self.now = max(self.now, wake)
        else:
            self.now += int(seconds * SECOND)
        return self.advance(TimePassed())

    # What is there

    def pointer(self, step: str | int) -> Pointer:
        """The live pointer of this id, or the earliest on this step whose body runs (else the earliest at all)."""
        if isinstance(step, int):
            return self.state.pointers[step]
        found = sorted(
            (each for each in self.state.pointers.values() if each.step == step),
            key=lambda each: (each.id not in self.running, each.id),
        )
        assert found, f"no pointer is on {step!r}; live are {self.live}"
        return found[0]

    def body(self, step: str | int) -> Pointer:
        """The pointer whose body runs: of this id, or the earliest on this step."""
        pointer = self.pointer(step)
        assert pointer.id in self.running, f"no body of {step!r} runs; those of {self.runs} do"
        return pointer

    def path(self, pointer: Pointer) -> tuple[int, ...]:
        """The indices of the loops around a pointer, outer first."""
        found: list[int] = []
        scope, index = pointer.scope, pointer.index
        while scope != ROOT_SCOPE:
            if index >= 0:
                found.append(index)
            container = self.state.pointers[scope]
            scope, index = container.scope, container.index
        return tuple(reversed(found))

    @property
    def live(self) -> list[str]:
        """Steps with live pointers, in order of the pointers."""
        return [pointer.step for _, pointer in sorted(self.state.pointers.items())]

    @property
    def runs(self) -> list[str]:
        """Steps whose bodies run, in order of the pointers."""
        return [self.state.pointers[number].step for number in sorted(self.running)]

    def stands(self, status: WorkflowStatus) -> bool:
        """Whether this is the status now; the next move may change it."""
        return self.state.head.status is status

    @property
    def status(self) -> WorkflowStatus:
        return self.state.head.status

    @property
    def data(self) -> dict[str, Any]:
        plain = json.loads(self.state.data)
        assert isinstance(plain, dict)
        return plain

    def kinds(self, step: str | None = None) -> list[str]:
        """The kinds of what was announced, all or of one step, without the word before the blank for steps."""
        return [str(record.kind).removeprefix("step ") for record in self.log if step is None or record.step == step]

    def count(self, kind: LifecycleKind) -> int:
        return sum(record.kind is kind for record in self.log)


def loop_item(value: object, index: int) -> LoopItem:
    return LoopItem(json.dumps(value).encode(), index)


def terminal(records: Iterable[LogRecord]) -> list[LifecycleKind]:
    """The announcements of an end."""
    ends = {
        LifecycleKind.WORKFLOW_COMPLETED,
        LifecycleKind.WORKFLOW_FAILED,
        LifecycleKind.WORKFLOW_CANCELLED,
        LifecycleKind.WORKFLOW_TERMINATED,
        LifecycleKind.WORKFLOW_COMPENSATED,
    }
    return [record.kind for record in records if record.kind in ends]

"""Runs one attempt of one step body and turns what comes of it into a message for the engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec

from wfe.host.calling import Calling
from wfe.host.errors_of import class_names, message_of, record_of
from wfe.host.settings import checked_text
from wfe.model.context import UNTOUCHED, LoopFrame, StepExecutionContext, StepInfo, WorkflowInfo
from wfe.model.definition import Field
from wfe.model.document import EMPTY_DOCUMENT, Patch, decode_plain, encode_typed, patch_between
from wfe.model.errors import Cancelled, DataError, HostDied, WfeError
from wfe.model.instance import Heartbeat
from wfe.model.message import Answered, Failed
from wfe.model.moment import to_datetime
from wfe.model.policies import Retry
from wfe.model.result import NEXT, Branch, End, ExecutionResult, Failure, Next, Outcome, Persist, Sleep, SleepUntil
from wfe.model.result import WaitForEvent as WaitForEventResult
from wfe.model.step_body import StepBody, WithContext
from wfe.model.templates import resolve
from wfe.ports.executor import StepRequest

if TYPE_CHECKING:
    from wfe.engine.state import InstanceState
    from wfe.host.registry import Body, Registration
    from wfe.host.threads import ThreadPool
    from wfe.model.pointer import Pointer

__all__ = ["BodyRun", "BodySurroundings", "workflow_info"]

_KEEPS_DATA = (Persist, Sleep, SleepUntil, Branch, WaitForEventResult)
_HAS_OUTPUT = (Next, Outcome, End)


def workflow_info(state: InstanceState) -> WorkflowInfo:
    """Give what a body may know of its instance."""
    return WorkflowInfo(
        state.id,
        state.name,
        state.definition_key.id,
        state.definition_key.version,
        state.reference,
        state.head.status,
        to_datetime(state.created_at),
        state.head.run,
    )


class BodySurroundings:
    """What bodies need of their host."""

    def __init__(
        self,
        *,
        threads: ThreadPool,
        step_factory: Callable[[type], object] | None,
        log: Callable[[str, str, str, str], None],
        process_pool: Callable[[], Any],
        cancel_grace: float,
    ) -> None:
        self.cancel_grace = cancel_grace
        self.threads = threads
        self.step_factory = step_factory
        self.log = log
        """Takes (workflow id, step, stream, text)."""
        self.process_pool = process_pool


class BodyRun:
    """One attempt that is running. Its task ends with exactly one message, or with none when it was stopped."""

    __slots__ = (
        "_around",
        "_body",
        "_context",
        "_document",
        "_loops",
        "_pointer",
        "_registration",
        "_state",
        "_values",
        "base",
        "has_left",
        "heartbeat",
        "limited_as",
        "step",
        "stopping",
        "task",
    )

    def __init__(  # noqa: PLR0917 - made in one place, tens of thousands a second
        self,
        around: BodySurroundings,
        registration: Registration,
        body: Body,
        state: InstanceState,
        pointer: Pointer,
        loops: tuple[tuple[bytes, int], ...],
    ) -> None:
        self._around = around
        self._registration = registration
        self._body = body
        self._state = state
        self._pointer = pointer
        self._loops = loops
        self._context: StepExecutionContext[Any] | None = None
        self._document = self._values = EMPTY_DOCUMENT
        """The data and values that it sees."""
        self.base = state.revision
        self.step = pointer.step
        self.heartbeat: Heartbeat | None = None
        """The last one of this attempt."""
        self.limited_as = "" if body.concurrency is None else body.concurrency_key
        """Step type whose limit it counts for; empty: none."""
        self.has_left = False
        """Whether its place is free again."""
        self.stopping = False
        """Whether the host asked it to stop; what it answers then does not count as a failure of its own."""
        self.task: asyncio.Task[None] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether its task has taken its first step. One that is cancelled before takes none, and comes to no end."""
        return self._context is not None

    def stop(self) -> None:
        """Ask the body to end: its task is cancelled, its flag set; a thread is no longer waited for."""
        self.stopping = True
        if self._context is not None:
            self._context.cancelled.set()
        if self.task is not None:
            self.task.cancel()

    async def answer(self) -> Answered | Failed | None:
        """Run the body. None: it was stopped."""
        pointer, body = self._pointer, self._body
        try:
            context = self._make_context()
            if body.is_plain:  # most bodies: a coroutine function and nothing else to see to
                return self._answered(await body.function(context), context)  # type: ignore[misc]
            return await (self._call(context) if body.executor is None else self._execute())
        except asyncio.CancelledError:
            if self.stopping:
                return None
            error = RuntimeError("the body was cancelled from within")
            return Failed(pointer.id, pointer.attempt, record_of(error), classes=class_names(error))
        except BaseException as error:  # noqa: BLE001 - whatever a body raises is a failure of its step
            if self.stopping and isinstance(error, Cancelled):
                return None  # it learnt from a heartbeat that it shall end
            return await self._failed_unless_stopped(error)

    async def host_died(self) -> Failed | None:
        """Make the failure of the attempt, which another host had begun and did not end. None: it was stopped."""
        pointer = self._pointer
        error = HostDied(
            f"Attempt {pointer.attempt} of step {pointer.step!r} was begun and has no result: its host died, or lost "
            "its session."
        )
        try:
            self._make_context()
        except BaseException as second:  # noqa: BLE001 - what would have been the failure of the attempt
            return await self._failed_unless_stopped(second)
        return await self._failed_unless_stopped(error)

    def _make_context(self) -> StepExecutionContext[Any]:
        pointer, body, state = self._pointer, self._body, self._state
        # The copy is made of the state as it is now: later transitions of parallel branches do not change it.
        self._document, self._values, self.base = state.data, state.values, state.revision
        timeout = body.timeout
        self._context = context = StepExecutionContext(
            self,
            step=self._filled_info() if body.has_templates else body.info,
            pointer_id=str(pointer.id),
            attempt=pointer.failures + 1,
            deadline=None if timeout is None else datetime.now(UTC) + timeout,
            persisted=pointer.persisted,
            event=pointer.event,
        )
        return context

    # What the context asks for

    def load_data(self) -> object:
        """Give a fresh copy of the data."""
        return self._registration.codec.decode(self._document)

    def load_workflow(self) -> WorkflowInfo:
        """Give what is known of the instance."""
        return workflow_info(self._state)

    def load_values(self) -> dict[str, Any]:
        """Give a fresh copy of the values kept with the instance."""
        return _mapping(self._values) if self._values != EMPTY_DOCUMENT else {}

    def load_loops(self) -> Sequence[LoopFrame]:
        """Give the loops around the step, nearest first."""
        return [LoopFrame(item, index) for item, index in self._loops]

    def write_log(self, stream: str, text: str) -> None:
        """Take text for the step's log."""
        self._around.log(self._state.id, self.step, stream, text)

    def beat(self, details: object) -> None:
        """Keep the heartbeat, a copy: what the body does to its details afterwards is its own affair."""
        plain = decode_plain(encode_typed(details, path="$heartbeat"))
        self.heartbeat = Heartbeat(datetime.now(UTC), plain)

    # Calling

    def _filled_info(self) -> StepInfo:
        """Give the step with its settings filled in from the run; what has no value is null, and told in the log."""
        info, roots, missing = self._body.info, {**self._roots(), "data": _mapping(self._document)}, list[str]()
        config = {key: resolve(value, roots, missing.append) for key, value in info.config.items()}
        for path in dict.fromkeys(missing):
            self.write_log("stderr", f"wfe: {path} has no value; it is null, or empty in a text")
        return StepInfo(info.id, info.name, config)

    def _roots(self) -> dict[str, object]:
        """Give what settings may name besides the data."""
        state, key = self._state, self._state.definition_key
        roots: dict[str, object] = {
            "workflow": {
                "id": state.id,
                "name": state.name,
                "definition_id": key.id,
                "version": key.version,
                "reference": state.reference,
            }
        }
        if self._loops:
            item, index = self._loops[0]
            roots |= {"item": decode_plain(item), "index": index}
        return roots

    def _construct(self, body_class: Callable[..., Any]) -> object:
        factory = self._around.step_factory
        return factory(body_class) if factory is not None else body_class()  # type: ignore[arg-type]  # is_class says so

    async def _call(self, context: StepExecutionContext[Any]) -> Answered | Failed:
        body = self._body
        assert body.function is not None
        target: Any = self._construct(body.function) if body.is_class else body.function
        arguments = self._inputs(context) if body.inputs else {}
        if body.is_class:
            for name, value in arguments.items():
                setattr(target, name, value)
            arguments = {}
        calling = self._calling(context)
        answer = await calling.body(target, arguments)
        if isinstance(target, StepBody) and type(target).on_success is not StepBody.on_success:
            await calling.hook("on_success", target.on_success, context)
        if body.outputs:
            self._take_outputs(target, context)
        return self._answered(answer, context)

    def _calling(self, context: StepExecutionContext[Any] | None) -> Calling:
        return Calling(self._around, self._body, context, lambda: self.stopping)

    async def _execute(self) -> Answered:
        body, pointer, state = self._body, self._pointer, self._state
        assert body.executor is not None
        cancelled = asyncio.Event()
        data = _mapping(self._document)
        request = StepRequest(
            step_id=pointer.step,
            step_name=body.info.name,
            config=body.step.config,
            data=data,
            workflow_id=state.id,
            definition_id=state.definition_key.id,
            attempt=pointer.failures + 1,
            idempotency_key=f"{state.id}:{pointer.id}",
            log=self.write_log,
            cancelled=cancelled,
            timeout=body.timeout,
            values=self._roots(),
        )
        return self._message(await self._calling(None).executor(request, cancelled), None, None)

    def _inputs(self, context: StepExecutionContext[Any]) -> dict[str, object]:
        found: dict[str, object] = {}
        for slot in self._body.inputs:
            value = self._body.step.values[slot]
            code = self._registration.definition.code.get((self._pointer.step, slot))
            if code is not None:
                found[slot[6:]] = code(context.data, context) if isinstance(code, WithContext) else code(context.data)
            else:
                found[slot[6:]] = _plain_value(value, self._state.data)
        return found

    # What came of it

    def _answered(self, answer: object, context: StepExecutionContext[Any]) -> Answered | Failed:
        pointer = self._pointer
        result: Any
        output: Mapping[str, object] | None = None
        if answer is None:
            result = NEXT
        elif type(answer) is dict or isinstance(answer, Mapping):
            result, output = NEXT, answer
        elif isinstance(answer, ExecutionResult):
            result = answer
        else:
            msg = (
                f"Step {pointer.step!r} answered a {type(answer).__module__}.{type(answer).__qualname__}; a body "
                "answers an ExecutionResult, a mapping or None."
            )
            raise TypeError(msg)
        if isinstance(result, Failure):
            error = result.error if isinstance(result.error, BaseException) else WfeError(result.error)
            record = record_of(error, code="step_failed" if not isinstance(result.error, WfeError) else None)
            return Failed(pointer.id, pointer.attempt, record, result.retryable, class_names(error))
        data = context.taken_data
        patch = None if data is UNTOUCHED else self._registration.codec.patch(self._document, data)
        kept = context.taken_values
        values = None if kept is UNTOUCHED else patch_between(self._values, encode_typed(kept, path="$values"))
        if output is not None:
            merged = self._registration.codec.output(output, self._document) if output else None
            return Answered(pointer.id, pointer.failures + 1, NEXT, patch, self.base, merged, values)
        return self._message(result, patch, values)

    def _message(self, result: Any, patch: Patch | None, values: Patch | None) -> Answered:  # noqa: ANN401
        pointer = self._pointer
        output: Patch | None = None
        persisted = b""
        items: tuple[bytes, ...] = ()
        if isinstance(result, _HAS_OUTPUT):
            if result.output is not None:
                if not isinstance(cast("object", result.output), Mapping):
                    msg = f"The output of step {pointer.step!r} is a {type(result.output).__qualname__}, not a mapping."
                    raise TypeError(msg)
                output = self._registration.codec.output(result.output, self._document) if result.output else None
        elif isinstance(result, _KEEPS_DATA):
            if result.data is not None:
                persisted = encode_typed(result.data, path="$persistence_data")
            if isinstance(result, WaitForEventResult):
                checked_text(result.name, "event name")
                checked_text(result.key, "event key")
            if isinstance(result, Branch):
                items = tuple(encode_typed(value, path=f"$values[{n}]") for n, value in enumerate(result.values))
        return Answered(pointer.id, pointer.failures + 1, result, patch, self.base, output, values, persisted, items)

    def _take_outputs(self, target: object, context: StepExecutionContext[Any]) -> None:
        for slot in self._body.outputs:
            field = slot[7:]
            value = self._body.step.values[slot]
            code = self._registration.definition.code.get((self._pointer.step, slot))
            if code is not None:
                found = code(target)
            else:
                assert isinstance(value, Field)
                found = getattr(target, value.path)
            data = context.data
            if isinstance(data, dict):
                data[field] = found
            else:
                setattr(data, field, found)

    async def _failed_unless_stopped(self, error: BaseException) -> Failed | None:
        try:
            return await self._failed(error)
        except asyncio.CancelledError:  # in `on_failure`
            return None

    async def _failed(self, error: BaseException) -> Failed:
        pointer, body = self._pointer, self._body
        if isinstance(error, SystemExit | KeyboardInterrupt):
            prefix = f"The body of step {pointer.step!r} tried to end the program: {type(error).__name__} "
            return Failed(pointer.id, pointer.attempt, record_of(error, prefix=prefix), classes=class_names(error))
        notes: list[str] = []
        retryable = self._rule_allows(error, notes) and not isinstance(error, DataError)
        if body.is_class and issubclass(body.function, StepBody):  # type: ignore[arg-type]  # is_class says so
            retryable = await self._ask_body(error, notes) and retryable
        record = record_of(error)
        if notes:
            record = msgspec.structs.replace(record, message=f"{record.message} (and {'; '.join(notes)})")
        return Failed(pointer.id, pointer.attempt, record, retryable, class_names(error))

    def _rule_allows(self, error: BaseException, notes: list[str]) -> bool:
        """Ask the rule that decides on further attempts, and no other one, whether this error is worth one."""
        definition = self._registration.definition
        rule = definition.policies_of(self._pointer.step).attempts_rule(definition.default_policies)
        policy = rule.policy if isinstance(rule, Retry) else rule
        if policy is None or policy.retryable is None:
            return True
        try:
            return bool(policy.retryable(error))
        except BaseException as second:  # noqa: BLE001 - it must not hide the error of the body
            notes.append(_note("retryable", second))
            return True

    async def _ask_body(self, error: BaseException, notes: list[str]) -> bool:
        """Tell a fresh object of the body's class of the failure: the one that failed may still be at work."""
        retryable = True
        try:
            assert self._body.function is not None
            target = self._construct(self._body.function)
        except BaseException as second:  # noqa: BLE001 - often the very error that is told of
            if message_of(second) != message_of(error):
                notes.append(_note(self._body.step.step_type, second))
            return retryable
        assert isinstance(target, StepBody)
        try:
            retryable = bool(target.is_retryable(error))
        except BaseException as second:  # noqa: BLE001 - recorded beside the first
            notes.append(_note("is_retryable", second))
        if type(target).on_failure is not StepBody.on_failure and self._context is not None:
            try:
                await self._calling(self._context).hook("on_failure", target.on_failure, self._context, error)
            except BaseException as second:
                if self.stopping and isinstance(second, asyncio.CancelledError):
                    raise
                notes.append(_note("on_failure", second))
        return retryable


def _note(what: str, error: BaseException) -> str:
    name, message = type(error).__qualname__, message_of(error)
    return f"{what} failed: {message if message.startswith(name) else f'{name}: {message}'}"


def _mapping(document: bytes) -> dict[str, Any]:
    plain = decode_plain(document)
    return plain if isinstance(plain, dict) else {}


def _plain_value(value: object, data: bytes) -> object:
    from wfe.engine.asking import field_of
    from wfe.model.definition import ConditionTree, Literal

    if isinstance(value, Literal):
        return json.loads(json.dumps(value.value)) if isinstance(value.value, dict | list) else value.value
    if isinstance(value, Field):
        return field_of(decode_plain(data), value.path)
    assert isinstance(value, ConditionTree)
    msg = "a condition is no input"
    raise TypeError(msg)

"""What a step body is, and what it sees of the instance that it runs for."""

from __future__ import annotations

import inspect
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, cast, overload
from typing import Literal as OneOf

import msgspec

from wfe.model.document import decode_plain
from wfe.model.durations import DurationLike, to_timedelta
from wfe.model.errors import Cancelled, ContextValueNotFound, DataError
from wfe.model.generic import D
from wfe.model.policies import RetryPolicy
from wfe.model.result import ExecutionResult
from wfe.model.status import WorkflowStatus

__all__ = [
    "UNTOUCHED",
    "Answer",
    "CancelFlag",
    "ContextSource",
    "LoopFrame",
    "NoContext",
    "StepAttributes",
    "StepBody",
    "StepExecutionContext",
    "StepInfo",
    "Untouched",
    "WithContext",
    "WorkflowInfo",
    "body_name",
    "step",
    "step_attributes",
    "step_type_of",
]

Answer: TypeAlias = ExecutionResult | Mapping[str, object] | None
"""What a body may answer: an execution result, a mapping (= `next(output=mapping)`), or None (= `next()`)."""

_T = TypeVar("_T")
_D_co = TypeVar("_D_co", covariant=True)
_F = TypeVar("_F", bound=Callable[..., object])


class StepBody(ABC, Generic[D]):
    """The code of a step, as a class: a new object for every run of the step.

    The object is made without arguments, or by the host's `step_factory`. `run` may be `async`; a plain one runs on a
    thread. It may run more than once for one step (a retry, a crash before its answer was recorded), each time with the
    same `context.idempotency_key`.
    """

    @abstractmethod
    def run(self, context: StepExecutionContext[D]) -> Answer | Awaitable[Answer]:
        """Do the step's work on `context.data` and answer; an exception fails the attempt."""

    def is_retryable(self, error: BaseException) -> bool:
        """Tell whether another attempt may help after this error; False goes straight to the rule for final failure."""
        return True

    def on_success(self, context: StepExecutionContext[D]) -> Awaitable[None] | None:
        """Follow a successful `run`, before its answer is recorded; an error here fails the attempt."""
        return None

    def on_failure(self, context: StepExecutionContext[D], error: BaseException) -> Awaitable[None] | None:
        """Follow a failed `run`, before the failure is recorded; an error here is recorded beside the first."""
        return None


class WorkflowInfo(msgspec.Struct, frozen=True):
    """The instance that a body runs for."""

    id: str
    name: str | None
    definition_id: str
    version: int
    reference: str | None
    status: WorkflowStatus
    created_at: datetime
    run: int
    """1, and one more for every `retry_workflow`."""


class StepInfo(msgspec.Struct, frozen=True):
    """The step that a body runs for."""

    id: str
    name: str
    """The display name; the id where none was given."""
    config: Mapping[str, Any]
    """The author's own settings. Do not change them: all runs of the step share them."""


class Untouched(Enum):
    """The type of `UNTOUCHED`."""

    UNTOUCHED = "untouched"


UNTOUCHED: Final = Untouched.UNTOUCHED
"""Stands for a copy that the body has never asked for, so nothing in it can have changed."""


class LoopFrame:
    """One `for_each` around a step: the item and its index. The item is decoded when it is first looked at."""

    __slots__ = ("_encoded", "_item", "index")

    def __init__(self, encoded: bytes, index: int) -> None:
        self._encoded = encoded
        self._item: object = UNTOUCHED
        self.index = index
        """Place of the item in the collection, from 0."""

    @property
    def item(self) -> Any:  # noqa: ANN401 - a JSON value, whose shape only the author knows
        """The item as a JSON value: a copy of this step's own."""
        if self._item is UNTOUCHED:
            self._item = decode_plain(self._encoded)
        return self._item


# Guards the making of flags and of their events; taken once per flag, and only where somebody looks at it.
_flag_lock = threading.Lock()


class CancelFlag:
    """Tells a body that it shall end. The host sets it; asking is cheap and safe from any thread."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: threading.Event | None = None

    def is_set(self) -> bool:
        """Tell whether the body shall end."""
        return self._is_set

    def __bool__(self) -> bool:
        return self._is_set

    def wait(self, timeout: DurationLike | None = None) -> bool:
        """Block this thread until the body shall end or the time is over; tell whether it shall end.

        For bodies that run on a thread, where it replaces a sleep. Never for coroutines: those are cancelled, and sleep
        by `await asyncio.sleep(…)`.
        """
        with _flag_lock:
            if self._is_set:
                return True
            if self._event is None:
                self._event = threading.Event()
            event = self._event
        return event.wait(None if timeout is None else to_timedelta(timeout).total_seconds())

    def set(self) -> None:
        """Ask the body to end. For the host."""
        with _flag_lock:
            self._is_set = True
            if self._event is not None:
                self._event.set()


class ContextSource(Protocol[_D_co]):
    """Where a context gets what a body asks for; each is asked for once at most, when the body first looks at it."""

    def load_data(self) -> _D_co:
        """Give a fresh copy of the data."""
        ...

    def load_workflow(self) -> WorkflowInfo:
        """Give what is known of the instance."""
        ...

    def load_values(self) -> dict[str, Any]:
        """Give a fresh copy of the values kept with the instance."""
        ...

    def load_loops(self) -> Sequence[LoopFrame]:
        """Give the loops around the step, nearest first."""
        ...

    def write_log(self, stream: str, text: str) -> None:
        """Take text for the step's log; called from the body's thread."""
        ...

    def beat(self, details: object) -> None:
        """Take the details of a heartbeat; called from the body's thread."""
        ...


class StepExecutionContext(Generic[D]):
    """What a body sees of its instance, and how it speaks to it. Made by the host, one for every run of a body.

    Everything that has to be decoded is decoded when the body first looks at it.
    """

    __slots__ = (
        "_cancelled",
        "_data",
        "_event",
        "_event_data",
        "_loops",
        "_persisted",
        "_persistence_data",
        "_source",
        "_values",
        "_workflow",
        "attempt",
        "deadline",
        "pointer_id",
        "step",
    )

    step: StepInfo
    """The step: id, name and config."""
    pointer_id: str
    """Id of the execution pointer, unique within the instance."""
    attempt: int
    """Recorded failures of this step + 1; a repeat after a crash of the host has the same number."""
    deadline: datetime | None
    """When the time limit of this attempt is reached (UTC); None without a limit."""

    def __init__(
        self,
        source: ContextSource[D],
        *,
        step: StepInfo,
        pointer_id: str,
        attempt: int = 1,
        deadline: datetime | None = None,
        persisted: bytes = b"",
        event: bytes = b"",
    ) -> None:
        """Make a context.

        Args:
            source: Is asked for what the body looks at.
            persisted: JSON of what this step persisted last; empty: nothing.
            event: JSON of the payload that woke the step; empty: none.
        """
        self._source = source
        self.step = step
        self.pointer_id = pointer_id
        self.attempt = attempt
        self.deadline = deadline
        self._persisted = persisted
        self._event = event
        self._data: D | Untouched = UNTOUCHED
        self._values: dict[str, Any] | Untouched = UNTOUCHED
        self._workflow: WorkflowInfo | None = None
        self._cancelled: CancelFlag | None = None

    # -- the instance

    @property
    def data(self) -> D:
        """This body's own copy of the workflow's data.

        Fields that the body changes are merged when its answer is recorded. Assigning a new object replaces all fields.
        """
        if self._data is UNTOUCHED:
            self._data = self._source.load_data()
        return self._data

    @data.setter
    def data(self, data: D) -> None:
        self._data = data

    @property
    def values(self) -> dict[str, Any]:
        """JSON values kept with the instance beside its data, merged key by key. This body's own copy."""
        if self._values is UNTOUCHED:
            self._values = self._source.load_values()
        return self._values

    def value(self, name: str, type: type[_T]) -> _T:  # noqa: A002 - the public name
        """Give one of `values` as this type.

        Raises:
            ContextValueNotFound: Nobody has set it.
            DataError: It is not of this type; `path` names the place inside it.
        """
        try:
            found = self.values[name]
        except KeyError:
            raise ContextValueNotFound(name, list(self.values)) from None
        try:
            return msgspec.convert(found, type)
        except msgspec.ValidationError as error:
            msg = f"The value {name!r} kept with the instance is not of the type asked for: {error}"
            raise DataError(msg, path=f"$.{name}", reason="wrong_type") from error

    @property
    def workflow(self) -> WorkflowInfo:
        """The instance: id, name, definition id, version, reference, status, creation time and run."""
        if self._workflow is None:
            self._workflow = self._source.load_workflow()
        return self._workflow

    @property
    def idempotency_key(self) -> str:
        """The same text for every attempt of this pointer's step, also after a crash. Give it to outside systems.

        Another turn of a loop, another item and another instance each have another key.
        """
        return f"{self.workflow.id}:{self.pointer_id}"

    # -- loops

    @property
    def item(self) -> Any:  # noqa: ANN401 - a JSON value, whose shape only the author knows
        """The item of the nearest `for_each` around this step, or the value of its `branch`; None outside."""
        loops = self._all_loops()
        return loops[0].item if loops else None

    @property
    def index(self) -> int:
        """The place of `item` in its collection, from 0; -1 outside a loop."""
        loops = self._all_loops()
        return loops[0].index if loops else -1

    @property
    def parents(self) -> tuple[LoopFrame, ...]:
        """The loops around the nearest one, nearest first; each has `item` and `index`."""
        return self._all_loops()[1:]

    def _all_loops(self) -> tuple[LoopFrame, ...]:
        try:
            return self._loops
        except AttributeError:
            self._loops: tuple[LoopFrame, ...] = tuple(self._source.load_loops())
            return self._loops

    # -- earlier runs of this step

    @property
    def persistence_data(self) -> Any:  # noqa: ANN401 - a JSON value, whose shape only the author knows
        """What this step gave to `persist`, `sleep`, `branch` or `wait_for_event` last; None at its first run."""
        try:
            return self._persistence_data
        except AttributeError:
            self._persistence_data: Any = decode_plain(self._persisted) if self._persisted else None
            return self._persistence_data

    @property
    def event_data(self) -> Any:  # noqa: ANN401 - a JSON value, whose shape only the publisher knows
        """The payload of the event that woke this step; None when none did."""
        try:
            return self._event_data
        except AttributeError:
            self._event_data: Any = decode_plain(self._event) if self._event else None
            return self._event_data

    # -- while it runs

    @property
    def cancelled(self) -> CancelFlag:
        """Is set once this body shall end. Coroutines are cancelled besides; threads have to look here."""
        flag = self._cancelled
        if flag is None:
            with _flag_lock:
                flag = self._cancelled
                if flag is None:
                    flag = self._cancelled = CancelFlag()
        return flag

    def log(self, text: str, stream: str = "stdout") -> None:
        """Write text to the step's log.

        It goes at once to those who listen on the host that runs the step (`host.on_log`) and to the logger `wfe.step`.
        It is not stored. What a body in a process of its own writes comes when it has ended.
        """
        self._source.write_log(stream, text)

    def heartbeat(self, details: object = None) -> None:
        """Say that the body is alive, and how far it is (a JSON value); and learn whether it shall end.

        The last heartbeat is seen in `WorkflowInstance.steps` on the host that runs the step, while it runs. It is not
        stored, and prolongs no time limit.

        Raises:
            Cancelled: This body shall end (as `cancelled` says): let it pass. Not in a process of its own, which is
                killed instead.
            DataError: The details cannot be stored as JSON.
        """
        self._source.beat(details)
        if self._cancelled is not None and self._cancelled.is_set():
            msg = f"Step {self.step.name!r} shall end: it was cancelled, its time is over, or its host stops."
            raise Cancelled(msg)

    # -- for the host

    @property
    def taken_data(self) -> D | Untouched:
        """The copy as the body left it, or `UNTOUCHED` when it never asked for one. For the host."""
        return self._data

    @property
    def taken_values(self) -> dict[str, Any] | Untouched:
        """As `taken_data`, for `values`."""
        return self._values


@dataclass(frozen=True)
class StepAttributes:
    """What `@step` says about a body: defaults, which a builder or a pipeline may override."""

    name: str | None = None
    """Step type by which other definitions and `register_step` know the body."""
    timeout: timedelta | None = None
    """Limit of one attempt."""
    retry: RetryPolicy | None = None
    executor: OneOf["thread", "process"] = "thread"
    """Where the host runs a body that is not a coroutine."""
    concurrency: int | None = None
    """How many runs of this body a host allows at once; None: as many as it has room for."""
    count_crashes: bool = False
    """Whether the death of its host in the middle of an attempt is a failure of the attempt."""


NO_ATTRIBUTES: Final = StepAttributes()


@overload
def step(name: _F, /) -> _F: ...
@overload
def step(
    name: str | None = None,
    *,
    timeout: DurationLike | None = None,
    retry: RetryPolicy | None = None,
    executor: OneOf["thread", "process"] = "thread",
    concurrency: int | None = None,
    count_crashes: bool = False,
) -> Callable[[_F], _F]: ...
def step(
    name: _F | str | None = None,
    *,
    timeout: DurationLike | None = None,
    retry: RetryPolicy | None = None,
    executor: OneOf["thread", "process"] = "thread",
    concurrency: int | None = None,
    count_crashes: bool = False,
) -> _F | Callable[[_F], _F]:
    """Mark a function (or a `StepBody` class) as a step body, with a stable step type and defaults.

    `@step` alone is enough to make the function a body where a block is allowed.

    Args:
        name: The step type; `module:qualname` when left out, which changes when the function moves.
        timeout: Limit of one attempt, for steps that set none.
        retry: Retry policy for steps that set neither `retry` nor `on_error(Retry(…))`.
        executor: `process` runs a plain function in a process of its own pool, for work that holds the interpreter.
        concurrency: How many runs of the body a host allows at once.
        count_crashes: Count the death of the host in the middle of an attempt as a failure of it, for steps that do not
            say `count_crashes(…)` themselves.

    Raises:
        ValueError: A setting is not possible.
    """
    if name is not None and not isinstance(name, str):
        return _attach(name, StepAttributes())
    attributes = StepAttributes(name, _limit(timeout), retry, executor, concurrency, count_crashes)
    _check(attributes)
    return partial(_attach, attributes=attributes)


def step_attributes(body: object) -> StepAttributes:
    """Give what `@step` said about a body; defaults where it said nothing."""
    found = getattr(body, "__wfe_step__", None)
    return found if isinstance(found, StepAttributes) else NO_ATTRIBUTES


def step_type_of(body: Callable[..., object]) -> str:
    """Give the step type of a body: the name that `@step` gave to it, else `module:qualname`."""
    name = _own_attributes(body).name
    if name is not None:
        return name
    plain = _plain(body)
    return f"{_module_of(plain)}:{plain.__qualname__}"


def _module_of(body: type[object]) -> str:
    """Give the name of a body's module as other programs import it.

    A file that is run is `__main__` to itself. Its steps must not be other ones than those of the same file imported.
    """
    if body.__module__ != "__main__":
        return body.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return "__main__" if file is None else Path(file).stem


def body_name(body: Callable[..., object]) -> str:
    """Give a short name for a body: the name that `@step` gave to it, else its own; `step` for a lambda."""
    name = _own_attributes(body).name or _plain(body).__name__
    return "step" if name == "<lambda>" else name


@dataclass(frozen=True)
class WithContext:
    """A condition or mapping that takes (data, context). In `WorkflowDefinition.code`, others take the data alone."""

    function: Callable[..., object]

    def __call__(self, data: object, context: object) -> object:
        """Call the function."""
        return self.function(data, context)


@dataclass(frozen=True)
class NoContext:
    """A step body made of a function without parameters (`then_fn`). Coroutine functions are wrapped otherwise."""

    function: Callable[[], object]

    @property
    def __wfe_step__(self) -> StepAttributes:
        """What `@step` said about the function."""
        return step_attributes(self.function)

    def __call__(self, context: object) -> object:
        """Call the function."""
        del context
        return self.function()


def _attach(body: _F, attributes: StepAttributes) -> _F:
    if not callable(body):
        msg = f"@step marks a function or a StepBody class, got {body!r}"  # type: ignore[unreachable]  # untyped callers
        raise TypeError(msg)
    body.__wfe_step__ = attributes  # type: ignore[attr-defined]  # functions and classes take attributes
    return body


def _limit(timeout: DurationLike | None) -> timedelta | None:
    if timeout is None:
        return None
    limit = to_timedelta(timeout)
    if limit <= timedelta(0):
        msg = f"timeout must be above zero, got {timeout!r}"
        raise ValueError(msg)
    return limit


def _check(attributes: StepAttributes) -> None:
    if attributes.name is not None and not attributes.name.strip():
        msg = "the name of a step type must not be empty"
        raise ValueError(msg)
    if attributes.executor not in {"thread", "process"}:
        msg = f'executor must be "thread" or "process", got {attributes.executor!r}'
        raise ValueError(msg)
    if attributes.concurrency is not None and attributes.concurrency < 1:
        msg = f"concurrency must be at least 1, got {attributes.concurrency!r}"
        raise ValueError(msg)


def _own_attributes(body: object) -> StepAttributes:
    # A subclass inherits the defaults of a marked class, never its name: the two are different step types.
    if inspect.isclass(body) and "__wfe_step__" not in vars(body):
        return NO_ATTRIBUTES
    return step_attributes(body)


def _plain(body: object) -> type[object]:
    """Find what has a name: the function inside a partial or wrapper, the class of a callable object."""
    while True:
        if isinstance(body, partial):
            body = cast("partial[object]", body).func
        elif isinstance(body, NoContext | WithContext):
            body = body.function
        else:
            break
    return cast("type[object]", body if hasattr(body, "__qualname__") else type(body))

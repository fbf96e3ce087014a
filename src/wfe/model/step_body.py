"""What a step body is: a function or a class, and what `@step` says about it."""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar, cast, overload
from typing import Literal as OneOf

from wfe.model.context import StepExecutionContext
from wfe.model.durations import DurationLike, to_timedelta
from wfe.model.generic import D
from wfe.model.policies import RetryPolicy
from wfe.model.result import ExecutionResult

__all__ = [
    "Answer",
    "NoContext",
    "StepAttributes",
    "StepBody",
    "WithContext",
    "body_name",
    "step",
    "step_attributes",
    "step_type_of",
]

Answer: TypeAlias = ExecutionResult | Mapping[str, object] | None
"""What a body may answer: an execution result, a mapping (= `next(output=mapping)`), or None (= `next()`)."""

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

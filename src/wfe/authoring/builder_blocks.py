"""Body or block: tells what was handed to a builder, without ever calling it to find out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, cast, overload

from wfe.model.context import StepExecutionContext
from wfe.model.generic import D
from wfe.model.step_body import Answer, NoContext, StepAttributes, StepBody

if TYPE_CHECKING:
    from wfe.authoring.builder import WorkflowBuilder

__all__ = [
    "BlockOf",
    "BlockSource",
    "BodySource",
    "Refused",
    "block",
    "block_source",
    "body_source",
    "parameterless_source",
    "positional_parameters",
]


F = TypeVar("F", bound=Callable[[Any], object])
F_co = TypeVar("F_co", bound=Callable[[Any], object], covariant=True)


class KeywordBody(Protocol[D]):
    """A function that takes the context and, by `input`, further arguments."""

    def __call__(self, context: StepExecutionContext[D], /, *args: Any, **kwargs: Any) -> Answer | Awaitable[Answer]:  # noqa: ANN401
        """Do the step's work."""
        ...


class PlainBody(Protocol[D]):
    """A function that takes the context alone."""

    # Two overloads that come to the same: a checker that looks for the type of a lambda's parameter in the union
    # `Block` passes over overloaded protocols, and so finds the builder. (Of two plain ones pyright takes one by name.)
    @overload
    def __call__(self, context: _NarrowContext[D], /) -> Answer | Awaitable[Answer]: ...
    @overload
    def __call__(self, context: StepExecutionContext[D], /) -> Answer | Awaitable[Answer]: ...


class _NarrowContext(StepExecutionContext[D]):
    """For the overloads of `PlainBody` only."""


@dataclass(frozen=True)
class BlockOf(Generic[F_co]):
    """A function that is certainly a block builder; made by `block`."""

    function: F_co


def block(function: F) -> BlockOf[F]:
    """Say that a function is a block builder, where neither its form nor its annotations do."""
    return BlockOf(function)


if TYPE_CHECKING:
    Body: TypeAlias = (
        Callable[[StepExecutionContext[D]], Answer | Awaitable[Answer]] | KeywordBody[D] | type[StepBody[D]] | str
    )
    Block: TypeAlias = (
        Callable[[WorkflowBuilder[D]], object]
        | PlainBody[D]
        | type[StepBody[D]]
        | BlockOf[Callable[[WorkflowBuilder[D]], object]]
        | str
    )


@dataclass(frozen=True)
class BodySource:
    """A step body: a class, a function, or (as text) a step type that the host knows by `register_step`."""

    body: Callable[..., object] | str


@dataclass(frozen=True)
class Refused:
    """Neither a body nor a block; `problem` says why."""

    problem: str


BlockSource: TypeAlias = BodySource | BlockOf[Any] | Refused

_HOW_TO_TELL = (
    "name its first parameter `context` if it is a step body; annotate it with WorkflowBuilder or wrap it in block(…) "
    "if it builds a block"
)


def body_source(value: object) -> BodySource | Refused:  # noqa: PLR0911 - one line for each kind of mistake
    """Take a value where only bodies are allowed."""
    if isinstance(value, str):
        return BodySource(value) if value.strip() else Refused("a step type must not be empty")
    if isinstance(value, BlockOf):
        return Refused("block(…) stands where only a step body can; give the block to if_do, parallel, …")
    if isinstance(value, StepBody):
        name = type(cast("object", value)).__qualname__
        return Refused(f"expected the class {name}, got an object of it; a body is made anew for every run")
    if isinstance(value, type):
        return _class_source(cast("type[object]", value))
    if inspect.iscoroutine(value):
        value.close()  # or Python warns that nobody has awaited it
        return Refused(f"got what calling {value.__name__} gave; give the function itself, without calling it")
    if _yields(value):
        return Refused(f"{_named(value)} yields, and a body answers once: return instead")
    if not callable(value):
        return Refused(
            f"expected a step body: a StepBody class or a function that takes the context, got {value!r:.80}"
        )
    if _first_annotation_is(value, _builder_type()):
        return Refused(
            f"{_named(value)} builds a block where only a step body can stand; give it to if_do, parallel, …"
        )
    parameters = positional_parameters(value)
    if parameters == []:
        return Refused(f"{_named(value)} takes no argument, and a body takes the context; use then_fn({_named(value)})")
    return BodySource(value)


def block_source(value: object) -> BlockSource:  # noqa: PLR0911 - the rule is a list, in this order
    """Take a value where a block is allowed: a body, which is a block of one step, or a function that builds one."""
    if isinstance(value, BlockOf):
        return value  # pyright: ignore[reportUnknownVariableType] - of whatever data; the type checker has seen it
    if isinstance(value, str | StepBody) or inspect.isclass(value) or not callable(value) or _yields(value):
        return body_source(value)
    if isinstance(getattr(value, "__wfe_step__", None), StepAttributes) or _is_coroutine_function(value):
        return BodySource(value)
    if _first_annotation_is(value, _builder_type()):
        return BlockOf(value)
    parameters = positional_parameters(value)
    if _first_annotation_is(value, StepExecutionContext) or (parameters and parameters[0] in {"context", "ctx"}):
        return BodySource(value)
    if getattr(value, "__name__", "") == "<lambda>":
        return BlockOf(value)
    return Refused(f"{_named(value)} may be a step body or build a block: {_HOW_TO_TELL}")


def parameterless_source(function: object) -> BodySource | Refused:
    """Take the function of `then_fn`: without parameters, or with the context as its one parameter."""
    if not callable(function) or inspect.isclass(function):
        return Refused(f"then_fn takes a function, got {function!r:.80}")
    parameters = positional_parameters(function)
    if parameters is None or len(parameters) == 1:
        return BodySource(function)
    if parameters:
        return Refused(f"then_fn takes a function with at most one parameter; {_named(function)} has {len(parameters)}")
    if _is_coroutine_function(function):
        return BodySource(_without_context(cast("Callable[[], Awaitable[object]]", function)))
    return BodySource(NoContext(function))


def positional_parameters(function: Callable[..., object]) -> list[str] | None:
    """Give the names of the parameters that are given by position; None where Python cannot tell (some built-ins).

    One with a default does not count, unless its name says that it is the context.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [
        parameter.name
        for parameter in parameters
        if parameter.kind in positional
        and (parameter.default is inspect.Parameter.empty or parameter.name in {"context", "ctx"})
    ]
    if not names and any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return names


def _class_source(body: type[object]) -> BodySource | Refused:
    if issubclass(body, StepBody):
        return BodySource(body)
    return Refused(f"the class {body.__qualname__} does not inherit from StepBody, so it is no step body")


def _is_coroutine_function(value: object) -> bool:
    while isinstance(value, functools.partial):
        value = cast("functools.partial[object]", value).func
    if inspect.iscoroutinefunction(value):
        return True
    return not inspect.isroutine(value) and inspect.iscoroutinefunction(getattr(value, "__call__", None))  # noqa: B004


def _yields(value: object) -> bool:
    return inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value)


def _without_context(function: Callable[[], Awaitable[object]]) -> Callable[..., object]:
    @functools.wraps(function)
    async def body(context: object) -> object:
        del context
        return await function()

    # `wraps` would make the function look as if it took no parameter.
    del body.__wrapped__
    return body


def _builder_type() -> type[object]:
    from wfe.authoring.builder import WorkflowBuilder

    return WorkflowBuilder


def _first_annotation_is(function: Callable[..., object], wanted: type[object]) -> bool:
    """Whether the first parameter is annotated with a class, or with a generic form, an alias or a subclass of it."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    if not parameters or parameters[0].annotation is inspect.Parameter.empty:
        return False
    annotation: object = parameters[0].annotation
    if isinstance(annotation, str):
        # Under `from __future__ import annotations`. Its name is enough; evaluating it would run code of the author's,
        # and fails for what is imported for type checkers only.
        head = annotation.strip("\"' ").partition("[")[0].strip()
        if head.rpartition(".")[2] == wanted.__name__:
            return True
        annotation = _look_up(head, inspect.unwrap(function))
    origin = getattr(annotation, "__origin__", annotation)
    return inspect.isclass(origin) and issubclass(origin, wanted)


def _look_up(name: str, function: object) -> object:
    names: Mapping[str, object] = getattr(function, "__globals__", {})
    first, *rest = name.split(".")
    found = names.get(first)
    for attribute in rest:
        found = getattr(found, attribute, None)
    return found


def _named(value: object) -> str:
    name = str(getattr(value, "__qualname__", type(value).__qualname__))
    return "the function" if name.endswith("<lambda>") else name.rpartition("<locals>.")[2]

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from wfe.authoring import WorkflowBuilder, block
from wfe.model.context import StepExecutionContext
from wfe.model.definition import StepKind
from wfe.model.errors import DefinitionError
from wfe.model.step_body import StepBody, step

if TYPE_CHECKING:
    import wfe.model.context as only_for_checkers


class Validate(StepBody):
    def run(self, context: StepExecutionContext) -> None: ...


class NotABody:
    def run(self, context: object) -> None: ...


class CallableObject:
    async def __call__(self, data: object) -> None: ...


class OurBuilder(WorkflowBuilder[Any]): ...


class OurContext(StepExecutionContext[Any]): ...


Alias = StepExecutionContext[dict[str, Any]]


async def coroutine(data: object) -> None: ...


def by_name(context): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - the name alone decides


def by_short_name(ctx): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - the name alone decides


def by_annotation(run: StepExecutionContext[Any]) -> None: ...


def by_alias(run: Alias) -> None: ...


def by_subclass(run: OurContext) -> None: ...


def by_unresolvable_annotation(run: only_for_checkers.StepExecutionContext[Any]) -> None: ...


def by_quoted_annotation(run: "StepExecutionContext[Any]") -> None: ...  # noqa: UP037 - that is what is tested


@step
def marked(anything: object) -> None: ...


@step("billing.charge", timeout=5)
def named(anything: object) -> None: ...


def building(b: WorkflowBuilder[Any]) -> object:
    return b.start_with(Validate).then(by_name)


def building_by_subclass(b: OurBuilder) -> object:
    return b.start_with(Validate).then(by_name)


def undecided(thing: object) -> None:
    raise AssertionError("nothing is called in order to find out")


BODIES = [
    Validate,
    coroutine,
    CallableObject(),
    functools.partial(coroutine, 1),
    by_name,
    by_short_name,
    by_annotation,
    by_alias,
    by_subclass,
    by_unresolvable_annotation,
    by_quoted_annotation,
    marked,
    named,
    lambda context: None,
    "registered.later",
]
BLOCKS = [
    building,
    building_by_subclass,
    lambda b: b.start_with(Validate).then(by_name),
    block(lambda x: x.then(Validate).then(by_name)),
]


def _label(given: Any) -> str:
    """Name a case without its address, so that every run collects the same tests."""
    return given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)


@pytest.mark.parametrize("given", BODIES, ids=_label)
def test_bodies_are_recognised_where_a_block_is_allowed(given: Any) -> None:
    """A class, coroutine function, `@step` function, or a callable whose first parameter is the context is a body."""
    definition = WorkflowBuilder().parallel(given).build("w")

    (container,) = (each for each in definition.steps if each.kind is StepKind.PARALLEL)
    assert [each.kind for each in container.blocks[0].steps] == [StepKind.BODY]


@pytest.mark.parametrize("given", BLOCKS, ids=_label)
def test_block_builders_are_recognised(given: Any) -> None:
    """A lambda, a function annotated with a builder and `block(fn)` build a block."""
    definition = WorkflowBuilder().parallel(given).build("w")

    assert [each.id for each in definition.root.steps[0].blocks[0].steps] == ["Validate", "by_name"]


def test_an_undecided_function_is_refused_without_being_called() -> None:
    """A function that could be either is a problem that says how to tell, and it is not called."""
    builder = WorkflowBuilder().parallel(undecided)

    with pytest.raises(DefinitionError, match=r"undecided may be a step body or build a block.*context.*block\("):
        builder.build("w")


def test_block_builders_run_once_at_build() -> None:
    """A block builder is called at the first build, and not again by later ones."""
    calls: list[str] = []

    def build_block(b: WorkflowBuilder[dict[str, Any]]) -> None:
        calls.append("called")
        b.then(Validate)

    builder = WorkflowBuilder().parallel(build_block)
    before = list(calls)

    first, second = builder.build("w"), builder.build("w")

    assert before == []
    assert calls == ["called"]
    assert first == second


def test_an_error_in_a_block_builder_reaches_the_author() -> None:
    """An exception of a block builder passes through build, with a note of where it came from."""
    builder = WorkflowBuilder().parallel(lambda b: b.nonsense())  # type: ignore[attr-defined]  # planted

    with pytest.raises(AttributeError) as caught:
        builder.build("w")

    assert "block of a workflow" in "".join(caught.value.__notes__)


def yielding(context: object) -> Any:
    yield context


async def yielding_async(context: object) -> Any:
    yield context


def test_a_body_that_was_called_is_refused() -> None:
    """What calling an async function gives is no body; the problem names the function, and nothing is left behind."""

    async def pay(context: object) -> None:
        raise AssertionError(context)

    builder = WorkflowBuilder().then(pay(None))  # type: ignore[arg-type]  # planted

    with pytest.raises(DefinitionError, match="got what calling pay gave; give the function itself"):
        builder.build("w")


def test_a_generator_is_no_block_either() -> None:
    """Where a block may stand, too."""
    builder = WorkflowBuilder().parallel(yielding)

    with pytest.raises(DefinitionError, match="yielding yields"):
        builder.build("w")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Validate(), "expected the class Validate"),
        (NotABody, "does not inherit from StepBody"),
        (3, "expected a step body"),
        ("", "a step type must not be empty"),
        (lambda: None, "use then_fn"),
        (yielding, "yielding yields, and a body answers once"),
        (yielding_async, "yielding_async yields"),
        (block(lambda b: b), "block"),
        (building, "builds a block"),
    ],
)
def test_what_is_no_body_is_refused(given: Any, says: str) -> None:
    """`then` takes bodies only, and names what it got."""
    builder = WorkflowBuilder().then(given)

    with pytest.raises(DefinitionError, match=says):
        builder.build("w")


def test_a_block_that_answers_with_something_else_is_refused() -> None:
    """A lambda that was meant as a body answers with no builder: the problem says how to name its parameter."""
    builder = WorkflowBuilder().parallel(lambda b: {"answer": 1})

    with pytest.raises(DefinitionError, match="first parameter `context`"):
        builder.build("w")


def test_blocks_nest_without_limit() -> None:
    """Thousands of nested blocks build, hash, draw and pass through JSON."""
    inner: Any = Validate
    for _ in range(3000):
        inner = functools.partial(lambda within, b: b.if_do(lambda data: True, within), inner)
        inner = block(inner)

    definition = WorkflowBuilder().parallel(inner).build("deep")

    assert len(definition.steps) == 3002
    assert type(definition).from_json(definition.to_json()).hash == definition.hash
    assert definition.to_dot().count("subgraph") == definition.to_mermaid().count("subgraph") == 3001

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any

import pytest

from wfe.model.context import StepExecutionContext
from wfe.model.policies import RetryPolicy
from wfe.model.step_body import NoContext, StepAttributes, StepBody, body_name, step, step_attributes, step_type_of


class Body(StepBody):
    def run(self, context: StepExecutionContext) -> None: ...


@step("ours.marked", concurrency=2)
class Marked(StepBody):
    def run(self, context: StepExecutionContext) -> None: ...


class Child(Marked): ...


def function(context: object) -> None: ...


def test_attributes_are_kept_on_the_function() -> None:
    """The function itself comes back, with what was said about it in normal form."""
    policy = RetryPolicy(2)

    def body(context: object) -> None: ...

    marked = step("x", timeout="1m", retry=policy, executor="process", concurrency=3)(body)

    assert step_attributes(marked) == StepAttributes("x", timedelta(minutes=1), policy, "process", 3)
    assert marked is body


def test_a_bare_decorator_has_defaults() -> None:
    """`@step` without parentheses marks the function and says nothing else."""

    @step
    def marked(context: object) -> None: ...

    assert marked.__wfe_step__ == StepAttributes()  # type: ignore[attr-defined]  # set by the decorator


def test_step_types_are_labels() -> None:
    """The step type is the given name, else module and qualified name; wrappers show what they wrap."""
    assert step_type_of(Body) == f"{__name__}:Body"
    assert step_type_of(Marked) == "ours.marked"
    assert step_type_of(functools.partial(function, 1)) == f"{__name__}:function"
    assert step_type_of(NoContext(lambda: None)).endswith("<lambda>")
    assert body_name(lambda context: None) == "step"


def test_a_subclass_inherits_defaults_but_no_name() -> None:
    """A subclass of a marked body is another step type with the same settings."""
    assert step_type_of(Child) == f"{__name__}:Child"
    assert step_attributes(Child).concurrency == 2


@pytest.mark.parametrize(
    "settings", [{"timeout": 0}, {"timeout": "soon"}, {"executor": "fork"}, {"concurrency": 0}, {"name": " "}]
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    """A setting that cannot be met is a ValueError where it is written."""
    with pytest.raises(ValueError, match=r"must|not a duration"):
        step(**settings)


def test_only_callables_can_be_marked() -> None:
    """Marking anything else is a TypeError."""
    given: Any = 3
    with pytest.raises(TypeError, match="got 3"):
        step(given)


def test_hooks_do_nothing_by_default() -> None:
    """A body without hooks is retryable, and its hooks answer None."""
    body, context = Body(), None

    assert body.is_retryable(ValueError()) is True
    assert body.on_success(context) is body.on_failure(context, ValueError()) is None  # type: ignore[arg-type]  # unused


def test_a_body_must_define_run() -> None:
    """A StepBody without `run` cannot be made."""

    class Empty(StepBody): ...

    with pytest.raises(TypeError, match="run"):
        Empty()  # type: ignore[abstract]  # planted

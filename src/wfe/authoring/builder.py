"""The fluent way to write a workflow definition: chains that read from top to bottom, checked as a whole at `build`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, cast, overload

from wfe.authoring.builder_blocks import body_source, parameterless_source
from wfe.authoring.builder_chain import add_body
from wfe.authoring.builder_compile import Whole, compile_definition
from wfe.authoring.builder_drafts import BlockDraft
from wfe.authoring.builder_flow import ControlFlow
from wfe.authoring.builder_modifiers import StepModifiers, check_error_behavior, check_retry_policy
from wfe.authoring.builder_values import positive_duration
from wfe.model.context import StepExecutionContext
from wfe.model.definition import WorkflowDefinition
from wfe.model.durations import DurationLike
from wfe.model.errors import DefinitionError
from wfe.model.generic import D
from wfe.model.policies import ErrorBehavior, RetryPolicy
from wfe.model.step_body import Answer

if TYPE_CHECKING:
    from wfe.authoring.builder_blocks import Body

__all__ = ["WorkflowBuilder"]


class WorkflowBuilder(StepModifiers[D], ControlFlow[D]):
    """Writes a workflow definition step by step.

    Every method returns the builder, so that a chain reads from top to bottom. Where a block is allowed, a lambda gets
    a builder for that block (`lambda b: b.start_with(A).then(B)`); it is called once, at the first `build`. Mistakes do
    not raise where they are made: `build` reports all of them together.
    """

    @overload
    def __init__(
        self: WorkflowBuilder[dict[str, Any]],
        *,
        name: str | None = None,
        description: str | None = None,
        strict_data: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self,
        data_type: type[D],
        *,
        name: str | None = None,
        description: str | None = None,
        strict_data: bool = False,
    ) -> None: ...
    def __init__(
        self,
        data_type: type[Any] = dict,
        *,
        name: str | None = None,
        description: str | None = None,
        strict_data: bool = False,
    ) -> None:
        """Begin a definition.

        Args:
            data_type: Class of the data: `dict`, a dataclass, a Struct, an attrs or pydantic class, a TypedDict.
            name: Display name; the id when left out.
            strict_data: Make it an error that two parallel branches write one field.
        """
        super().__init__()
        self._whole = Whole(data_type, name or "", description or "", strict_data)
        self._is_block = False

    # -- bodies

    def start_with(self, body: Body[D]) -> Self:
        """Add the first step. The body is a `StepBody` class, a function of the context, or the name of a step type."""
        return self.then(body)

    def then(self, body: Body[D]) -> Self:
        """Add the next step. The body is a `StepBody` class, a function of the context, or the name of a step type."""
        add_body(self._block, body_source(body))
        return self

    def add_step(self, body: Body[D]) -> Self:
        """Add the next step: another word for `then`."""
        return self.then(body)

    @overload
    def then_fn(self, function: Callable[[], Answer | Awaitable[Answer]]) -> Self: ...
    @overload
    def then_fn(self, function: Callable[[StepExecutionContext[D]], Answer | Awaitable[Answer]]) -> Self: ...
    def then_fn(self, function: object) -> Self:
        """Add the next step from a function without parameters, or with the context as its only one."""
        add_body(self._block, parameterless_source(function))
        return self

    # -- the whole workflow

    def default_on_error(self, behavior: ErrorBehavior) -> Self:
        """Set the error rule of steps that have none of their own."""
        if self._may_set("default_on_error", self._whole.error) and check_error_behavior(
            behavior, self._block.problems, "default_on_error"
        ):
            self._whole.error = behavior
        return self

    def default_retry(self, policy: RetryPolicy) -> Self:
        """Set the retry policy of steps that have none of their own."""
        if self._may_set("default_retry", self._whole.retry) and check_retry_policy(
            policy, self._block.problems, "default_retry"
        ):
            self._whole.retry = policy
        return self

    def default_timeout(self, duration: DurationLike) -> Self:
        """Set the limit of one attempt for steps that have none of their own; a number is seconds."""
        if self._may_set("default_timeout", self._whole.timeout):
            self._whole.timeout = self._limit("default_timeout", duration)
        return self

    def workflow_timeout(self, duration: DurationLike) -> Self:
        """Set the limit of a whole run; when it has passed, the instance is FAILED with `WorkflowTimeout`."""
        if self._may_set("workflow_timeout", self._whole.workflow_timeout):
            self._whole.workflow_timeout = self._limit("workflow_timeout", duration)
        return self

    def build(self, id: str, version: int = 1) -> WorkflowDefinition[D]:  # noqa: A002 - the public name
        """Check everything and give the definition. May be called again, also after adding steps.

        Args:
            id: Unique name of the workflow on a host.
            version: Counts from 1. A change of structure needs a new one while instances of the old one are unfinished.

        Raises:
            DefinitionError: Something is wrong; `problems` has everything that is.
        """
        if self._is_block:
            raise DefinitionError("build() was called inside a block; a block is built together with its workflow")
        definition = compile_definition(self._block, self._whole, id, version, self._for_block)
        return cast("WorkflowDefinition[D]", definition)

    def _for_block(self, block: BlockDraft) -> WorkflowBuilder[Any]:
        inner = type(self).__new__(type(self))
        inner._become(block, self._whole)  # noqa: SLF001 - of this very class
        return inner

    def _become(self, block: BlockDraft, whole: Whole) -> None:
        self._block, self._whole, self._is_block = block, whole, True

    def _may_set(self, method: str, present: object) -> bool:
        if self._is_block:
            self._block.problems.append(f"{method}(…) is for the whole workflow; call it outside of the block")
        elif present is not None:
            self._block.problems.append(f"{method} is given twice")
        else:
            return True
        return False

    def _limit(self, what: str, duration: DurationLike) -> timedelta | None:
        try:
            return positive_duration(duration)
        except ValueError as error:
            self._block.problems.append(f"{what}: {error}")
            return None

"""Methods that speak of the step just added: its names, its values, its policies, where it leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self, overload

from wfe.authoring.builder_chain import Chain, attempt, block_draft, labelled_blocks, put
from wfe.authoring.builder_values import condition_slot, plain_json, positive_duration, source_slot, value_slot
from wfe.model.conditions import Condition
from wfe.model.context import StepExecutionContext
from wfe.model.definition import StepKind
from wfe.model.durations import DurationLike
from wfe.model.generic import D
from wfe.model.policies import ErrorBehavior, RetryPolicy

if TYPE_CHECKING:
    from wfe.authoring.builder_blocks import Block
    from wfe.authoring.builder_types import Plain

__all__ = ["StepModifiers", "check_error_behavior", "check_retry_policy"]


class StepModifiers(Chain[D]):
    """What can be said of the step just added."""

    def name(self, text: str) -> Self:
        """Give the step a display name. Ids are not derived from it, and the hash of the definition leaves it out."""
        draft = self._last("name")
        if draft.name is not None:
            draft.problems.append(f"it is named twice, {draft.name!r} and {text!r}")
        if not _is_text(text):
            draft.problems.append(f"a name must be text, and not empty, got {text!r}")
        draft.name = text
        return self

    def id(self, text: str) -> Self:
        """Give the step an id, unique in the workflow; stored state, `go_to` and other versions refer to it.

        Without one, the id is derived from the name of the body or the kind of step (`Validate`, `if`), with a number
        where that is taken (`Validate-2`), in the order in which the steps are written.
        """
        draft = self._last("id")
        if draft.id is not None:
            draft.problems.append(f"it is given two ids, {draft.id!r} and {text!r}")
        draft.id = text
        return self

    def config(self, **settings: object) -> Self:
        """Give the body settings of the author's own (JSON values): `context.step.config`."""
        draft = self._last("config")
        for name, value in settings.items():
            if name in draft.config:
                draft.problems.append(f"config {name!r} is given twice")
            draft.config[name] = attempt(draft, f"config {name!r}", partial(plain_json, value))
        return self

    @overload
    def when(self, condition: Callable[[D], bool] | Condition) -> Self: ...
    @overload
    def when(self, condition: Callable[[D, StepExecutionContext[D]], bool]) -> Self: ...
    def when(self, condition: object) -> Self:
        """Skip the step unless this is true. Evaluated once, when the step is reached."""
        put(self._last("when"), "when", "when", lambda: condition_slot(condition))
        return self

    @overload
    def input(self, field: str, value: Callable[[D], object] | Plain) -> Self: ...
    @overload
    def input(self, field: str, value: Callable[[D, StepExecutionContext[D]], object]) -> Self: ...
    def input(self, field: str, value: object) -> Self:
        """Set an attribute of the body object before it runs; of a function, a keyword argument.

        Args:
            value: A JSON literal, a field (`ref(".amount")`), or a callable of the data or of (data, context).
        """
        draft = self._last("input")
        _need_body(draft.kind, draft.problems, "input")
        if not _is_text(field) or not field.isidentifier():
            draft.problems.append(f"input: {field!r} is not the name of an attribute or argument")
            return self
        put(draft, f"input.{field}", f"input {field!r}", lambda: value_slot(value))
        return self

    def output(self, data_field: str, source: str | Callable[..., object]) -> Self:
        """Copy from the body object into the data after the run: the attribute of that name, or `source(body)`.

        For `StepBody` classes. A function writes to `context.data` or answers with a mapping.
        """
        draft = self._last("output")
        _need_body(draft.kind, draft.problems, "output")
        put(draft, f"output.{data_field}", f"output {data_field!r}", lambda: source_slot(source))
        return self

    def on_error(self, behavior: ErrorBehavior) -> Self:
        """Say what a failure of the step means: `Retry(…)`, `Fail()`, `Continue()`, `Suspend()` or `Terminate()`."""
        draft = self._last("on_error")
        if draft.error is not None:
            draft.problems.append("on_error is given twice")
        if check_error_behavior(behavior, draft.problems, "on_error"):
            draft.error = behavior
        return self

    def retry(self, policy: RetryPolicy) -> Self:
        """Try the step again by this policy before its error rule counts."""
        draft = self._last("retry")
        if draft.retry is not None:
            draft.problems.append("retry is given twice")
        if check_retry_policy(policy, draft.problems, "retry"):
            draft.retry = policy
        return self

    def timeout(self, duration: DurationLike) -> Self:
        """Limit each attempt of the step; a number is seconds. Reaching the limit is a failure of the attempt."""
        draft = self._last("timeout")
        if draft.timeout is not None:
            draft.problems.append("timeout is given twice")
        draft.timeout = attempt(draft, "timeout", lambda: positive_duration(duration))
        return self

    def count_crashes(self, count: bool = True) -> Self:  # noqa: FBT001, FBT002 - reads as what it sets
        """Count the death of the host in the middle of an attempt as a failure of the attempt (`HostDied`).

        Each attempt is recorded before its body begins, which is one more commit. Without it a crash is no failure,
        and the attempt is repeated by whoever takes the instance next.
        """
        draft = self._last("count_crashes")
        _need_body(draft.kind, draft.problems, "count_crashes")
        if draft.count_crashes is not None:
            draft.problems.append("count_crashes is given twice")
        if count not in {True, False}:
            draft.problems.append(f"count_crashes takes True or False, got {count!r:.80}")
        draft.count_crashes = count
        return self

    def outcomes(self, cases: Mapping[Any, Block[D]], default: Block[D] | None = None) -> Self:
        """Say where the body's `ExecutionResult.outcome(value)` leads; afterwards the chain goes on here.

        Without a matching value: to `default`; without that, on with the chain.
        """
        draft = self._last("outcomes")
        _need_body(draft.kind, draft.problems, "outcomes")
        if draft.blocks:
            draft.problems.append("outcomes are given twice; give all values in one mapping")
            return self
        draft.blocks = labelled_blocks(draft, cases, default, "outcomes")
        return self

    def do(self, block: Block[D]) -> Self:
        """Give the step children, which its body starts by `ExecutionResult.branch(values)`, once per value."""
        draft = self._last("do")
        _need_body(draft.kind, draft.problems, "do")
        if draft.children is not None:
            draft.problems.append("do is given twice; give one block with all steps")
            return self
        draft.children = block_draft(block)
        return self

    def go_to(self, id: str) -> Self:  # noqa: A002 - the public name
        """Go on at the step with this id, of this or an enclosing block, instead of the next one.

        At the beginning of a block it makes a step that does nothing but jump.
        """
        draft = self._block.steps[-1] if self._block.steps else self._add(StepKind.SEQUENCE, "go-to")
        if draft.go_to:
            draft.problems.append(f"go_to is given twice, {draft.go_to!r} and {id!r}")
        if not _is_text(id):
            draft.problems.append(f"go_to takes the id of a step, got {id!r}")
            return self
        draft.go_to = id
        return self


def check_error_behavior(behavior: object, problems: list[str], what: str) -> bool:
    """Whether this is an error rule; otherwise the problem is noted."""
    if isinstance(behavior, ErrorBehavior):
        return True
    if isinstance(behavior, type) and issubclass(behavior, ErrorBehavior):
        problems.append(f"{what}: expected an error rule, got the class; write {behavior.__name__}()")
    elif isinstance(behavior, RetryPolicy):
        problems.append(f"{what}: a RetryPolicy is given by retry(…); {what} takes Retry(…), Fail(), Continue(), …")
    else:
        problems.append(
            f"{what}: expected Retry(…), Fail(), Continue(), Suspend() or Terminate(), got {behavior!r:.80}"
        )
    return False


def check_retry_policy(policy: object, problems: list[str], what: str) -> bool:
    """Whether this is a retry policy; otherwise the problem is noted."""
    if isinstance(policy, RetryPolicy):
        return True
    problems.append(f"{what}: expected RetryPolicy(…), got {policy!r:.80}; Retry(…) is given by on_error")
    return False


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _need_body(kind: StepKind, problems: list[str], method: str) -> None:
    if kind is not StepKind.BODY:
        problems.append(f"{method}(…) is for steps with a body; this one is a {kind.value}")

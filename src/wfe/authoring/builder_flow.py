"""Methods that add control: conditions, loops, parallel branches, waits, children."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from wfe.authoring.builder_chain import Chain, attempt, block_draft, labelled_blocks, put
from wfe.authoring.builder_drafts import StepDraft
from wfe.authoring.builder_values import (
    as_of_slot,
    child_inputs_slot,
    child_outputs_slot,
    collection_slot,
    condition_slot,
    duration_slot,
    positive_duration,
    text_slot,
    value_slot,
)
from wfe.model.conditions import Condition, FieldRef
from wfe.model.context import StepExecutionContext
from wfe.model.definition import StepKind, WorkflowDefinition
from wfe.model.durations import DurationLike
from wfe.model.generic import D

if TYPE_CHECKING:
    from wfe.authoring.builder_blocks import Block
    from wfe.authoring.builder_types import Json, Plain

__all__ = ["ControlFlow"]


class ControlFlow(Chain[D]):
    """Steps that direct others."""

    def parallel(self, *blocks: Block[D], fail_fast: bool = False) -> Self:
        """Run all blocks at the same time, then go on.

        A failure in one lets the others finish and then fails this step; with `fail_fast` the others are cancelled.
        """
        draft = self._add(StepKind.PARALLEL, "parallel")
        draft.blocks = [block_draft(each) for each in blocks]
        _flag(draft, "fail_fast", fail_fast)
        return self

    @overload
    def if_do(
        self, condition: Callable[[D], bool] | Condition, block: Block[D], else_do: Block[D] | None = None
    ) -> Self: ...
    @overload
    def if_do(
        self, condition: Callable[[D, StepExecutionContext[D]], bool], block: Block[D], else_do: Block[D] | None = None
    ) -> Self: ...
    def if_do(self, condition: object, block: Block[D], else_do: Block[D] | None = None) -> Self:
        """Run the block when the condition is true, else `else_do` (if given); then go on."""
        draft = self._add(StepKind.IF, "if")
        put(draft, "condition", "the condition", lambda: condition_slot(condition))
        draft.blocks = [block_draft(block), *([] if else_do is None else [block_draft(else_do)])]
        return self

    @overload
    def while_do(self, condition: Callable[[D], bool] | Condition, block: Block[D]) -> Self: ...
    @overload
    def while_do(self, condition: Callable[[D, StepExecutionContext[D]], bool], block: Block[D]) -> Self: ...
    def while_do(self, condition: object, block: Block[D]) -> Self:
        """Run the block as long as the condition, read before each turn, is true."""
        draft = self._add(StepKind.WHILE, "while")
        put(draft, "condition", "the condition", lambda: condition_slot(condition))
        draft.blocks = [block_draft(block)]
        return self

    @overload
    def for_each(
        self,
        collection: Callable[[D], Iterable[object]] | str | Sequence[Json] | FieldRef,
        block: Block[D],
        *,
        parallel: bool = True,
        max_parallel: int | None = None,
        fail_fast: bool = False,
    ) -> Self: ...
    @overload
    def for_each(
        self,
        collection: Callable[[D, StepExecutionContext[D]], Iterable[object]],
        block: Block[D],
        *,
        parallel: bool = True,
        max_parallel: int | None = None,
        fail_fast: bool = False,
    ) -> Self: ...
    def for_each(
        self,
        collection: object,
        block: Block[D],
        *,
        parallel: bool = True,
        max_parallel: int | None = None,
        fail_fast: bool = False,
    ) -> Self:
        """Run the block once per item, with `context.item` and `context.index`; then go on.

        Args:
            collection: A list, the name or path of a data field, or a callable of the data; read once.
            parallel: False runs one item after the other.
            max_parallel: How many items at once; None: all.
            fail_fast: Cancel the other items when one fails.
        """
        draft = self._add(StepKind.FOR_EACH, "for-each")
        put(draft, "collection", "the collection", lambda: collection_slot(collection))
        draft.blocks = [block_draft(block)]
        if not parallel:
            draft.options["parallel"] = False
        if max_parallel is not None:
            _bound(draft, max_parallel, parallel=parallel)
        _flag(draft, "fail_fast", fail_fast)
        return self

    @overload
    def decide(
        self,
        selector: Callable[[D], object] | Plain,
        cases: Mapping[Any, Block[D]],
        default: Block[D] | None = None,
    ) -> Self: ...
    @overload
    def decide(
        self,
        selector: Callable[[D, StepExecutionContext[D]], object],
        cases: Mapping[Any, Block[D]],
        default: Block[D] | None = None,
    ) -> Self: ...
    def decide(self, selector: object, cases: Mapping[Any, Block[D]], default: Block[D] | None = None) -> Self:
        """Run the block whose value equals the selector's (5 equals 5.0), else `default`; then go on."""
        draft = self._add(StepKind.DECIDE, "decide")
        put(draft, "selector", "the selector", lambda: value_slot(selector))
        draft.blocks = labelled_blocks(draft, cases, default, "decide")
        return self

    @overload
    def delay(self, duration: DurationLike | datetime | FieldRef | Callable[[D], DurationLike | datetime]) -> Self: ...
    @overload
    def delay(self, duration: Callable[[D, StepExecutionContext[D]], DurationLike | datetime]) -> Self: ...
    def delay(self, duration: object) -> Self:
        """Pause durably: for a duration (a number is seconds), or until an aware datetime."""
        draft = self._add(StepKind.DELAY, "delay")
        put(draft, "duration", "the duration", lambda: duration_slot(duration))
        return self

    @overload
    def wait_for(
        self,
        event_name: str | FieldRef | Callable[[D], object],
        event_key: str | int | FieldRef | Callable[[D], object],
        *,
        as_of: datetime | Literal["any"] | Callable[[D], datetime | Literal["any"]] | None = None,
        timeout: DurationLike | None = None,
        output: str | None = None,
    ) -> Self: ...
    @overload
    def wait_for(
        self,
        event_name: str | FieldRef | Callable[[D], object],
        event_key: Callable[[D, StepExecutionContext[D]], object],
        *,
        as_of: datetime | Literal["any"] | Callable[[D], datetime | Literal["any"]] | None = None,
        timeout: DurationLike | None = None,
        output: str | None = None,
    ) -> Self: ...
    @overload
    def wait_for(
        self,
        event_name: Callable[[D, StepExecutionContext[D]], object],
        event_key: Callable[[D, StepExecutionContext[D]], object] | str | int,
        *,
        as_of: datetime | Literal["any"] | Callable[[D], datetime | Literal["any"]] | None = None,
        timeout: DurationLike | None = None,
        output: str | None = None,
    ) -> Self: ...
    def wait_for(
        self,
        event_name: object,
        event_key: object,
        *,
        as_of: object = None,
        timeout: DurationLike | None = None,
        output: str | None = None,
    ) -> Self:
        """Wait durably for an event of this name and key.

        Args:
            as_of: Events from this time on count; `"any"` takes stored ones too. None: those since the instance began,
                or since the event that it consumed last.
            timeout: When it passes first, `EventTimeout` goes to the step's error rule.
            output: The data field that takes the payload.
        """
        draft = self._add(StepKind.WAIT_FOR, "wait-for")
        put(draft, "event_name", "the event name", lambda: text_slot(event_name))
        put(draft, "event_key", "the event key", lambda: text_slot(event_key))
        if as_of is not None:
            put(draft, "as_of", "as_of", lambda: as_of_slot(as_of))
        if timeout is not None:
            draft.timeout = attempt(draft, "timeout", lambda: positive_duration(timeout))
        if output is not None:
            draft.options["output"] = output
        return self

    @overload
    def sub_workflow(
        self,
        definition_id: str | WorkflowDefinition[Any],
        *,
        version: int | None = None,
        inputs: Mapping[str, object] | Callable[[D], object] | None = None,
        outputs: Mapping[str, str | FieldRef | Callable[[Any], object]] | Callable[[Any], object] | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Self: ...
    @overload
    def sub_workflow(
        self,
        definition_id: str | WorkflowDefinition[Any],
        *,
        version: int | None = None,
        inputs: Callable[[D, StepExecutionContext[D]], object],
        outputs: Mapping[str, str | FieldRef | Callable[[Any], object]] | Callable[[Any], object] | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Self: ...
    def sub_workflow(
        self,
        definition_id: str | WorkflowDefinition[Any],
        *,
        version: int | None = None,
        inputs: object = None,
        outputs: object = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Self:
        """Start a child workflow and wait for its end; else than COMPLETE, the error rule gets `ChildWorkflowFailed`.

        Args:
            definition_id: The child's definition, or its id.
            version: None: the latest one registered when the step is reached (of a definition object: its own).
            inputs: The child's data: a mapping of literals and callables, or one callable of the data. None: a copy.
            outputs: Data field → field of the child's data, or callable of it; or one callable that gives a mapping.
                None: what the child declares.
            on_parent_end: `cancel` or `abandon` the child when this instance ends first.
        """
        draft = self._add(StepKind.SUB_WORKFLOW, "sub-workflow")
        if isinstance(definition_id, WorkflowDefinition):
            version = definition_id.version if version is None else version
            definition_id = definition_id.id
        _child_options(draft, definition_id, version, on_parent_end)
        if inputs is not None:
            put(draft, "inputs", "the inputs", lambda: child_inputs_slot(inputs))
        if outputs is not None:
            put(draft, "outputs", "the outputs", lambda: child_outputs_slot(outputs))
        return self

    def end_workflow(self) -> Self:
        """End the instance COMPLETE here; inside a block, too: other branches are cancelled, nothing further starts."""
        self._add(StepKind.END, "end")
        return self


def _flag(draft: StepDraft, name: str, value: object) -> None:
    if value:
        draft.options[name] = True


def _bound(draft: StepDraft, max_parallel: object, *, parallel: bool) -> None:
    if not isinstance(max_parallel, int) or isinstance(max_parallel, bool) or max_parallel < 1:
        draft.problems.append(f"max_parallel must be a whole number of at least 1, got {max_parallel!r}")
    elif not parallel:
        draft.problems.append("max_parallel bounds items that run at once; with parallel=False they run one by one")
    else:
        draft.options["max_parallel"] = max_parallel


def _child_options(draft: StepDraft, definition_id: object, version: object, on_parent_end: object) -> None:
    if not isinstance(definition_id, str) or not definition_id.strip():
        draft.problems.append(f"sub_workflow takes a definition or its id, got {definition_id!r:.80}")
    if version is not None and (not isinstance(version, int) or isinstance(version, bool) or version < 1):
        draft.problems.append(f"the version of a child is a whole number of at least 1, got {version!r}")
    if on_parent_end not in {"cancel", "abandon"}:
        draft.problems.append(f'on_parent_end must be "cancel" or "abandon", got {on_parent_end!r}')
    draft.options["definition_id"] = definition_id
    if version is not None:
        draft.options["version"] = version
    if on_parent_end != "cancel":
        draft.options["on_parent_end"] = on_parent_end

"""From drafts to a definition: asks the block builders, gives ids, checks everything, and freezes the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from wfe.authoring.builder_blocks import BlockOf
from wfe.authoring.builder_checks import check_steps, check_whole
from wfe.authoring.builder_drafts import BlockDraft, StepDraft, walk
from wfe.authoring.builder_ids import give_ids
from wfe.model.definition import NO_POLICIES, Block, Policies, Step, StepKind, WorkflowDefinition
from wfe.model.errors import DefinitionError
from wfe.model.moment import microseconds
from wfe.model.policies import ErrorBehavior, Retry, RetryPolicy
from wfe.model.step_body import StepAttributes, step_attributes

if TYPE_CHECKING:
    from wfe.authoring.builder import WorkflowBuilder

__all__ = ["Whole", "compile_definition"]


@dataclass
class Whole:
    """What is said of a whole workflow."""

    data_type: type[Any]
    name: str
    description: str
    strict_data: bool
    error: ErrorBehavior | None = None
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    workflow_timeout: timedelta | None = None


def compile_definition(
    root: BlockDraft,
    whole: Whole,
    definition_id: str,
    version: int,
    builder_for: Callable[[BlockDraft], WorkflowBuilder[Any]],
) -> WorkflowDefinition[Any]:
    """Give the definition.

    Raises:
        DefinitionError: With every problem found.
    """
    _expand(root, builder_for)
    places = list(walk(root))
    ids, problems = give_ids(places)
    problems = [
        *check_whole(definition_id, version, whole.data_type, whole.error, whole.retry),
        *problems,
        *check_steps(root, places, ids, whole.data_type),
    ]
    if problems:
        raise DefinitionError(problems, definition_id=str(definition_id))
    drafts = [place.step for place in places]
    return WorkflowDefinition(
        definition_id,
        version,
        _freeze(root, drafts, ids),
        name=whole.name or definition_id,
        description=whole.description,
        data_type=whole.data_type,
        policies={ids[draft]: policies for draft in drafts if (policies := _policies(draft)) is not None},
        default_policies=Policies(whole.error, whole.retry, whole.timeout),
        workflow_timeout=whole.workflow_timeout,
        code={(ids[draft], slot): function for draft in drafts for slot, function in draft.code.items()},
        strict_data=whole.strict_data,
        source="builder",
    )


def _expand(root: BlockDraft, builder_for: Callable[[BlockDraft], WorkflowBuilder[Any]]) -> None:
    """Ask every block builder for its steps, level by level: blocks nest without limit, Python's calls do not."""
    pending = [root]
    while pending:
        block = pending.pop()
        if isinstance(block.source, BlockOf) and not block.expanded:
            _ask(block, block.source, builder_for(block))
        for draft in block.steps:
            pending += draft.blocks
            if draft.children is not None:
                pending.append(draft.children)


def _ask(block: BlockDraft, source: BlockOf[Any], builder: WorkflowBuilder[Any]) -> None:
    block.steps.clear()
    block.problems.clear()
    try:
        answer = source.function(builder)
    except Exception as error:
        error.add_note("This happened in a function that was to build a block of a workflow.")
        raise
    block.expanded = True
    if answer is not None and answer is not builder:
        block.problems.append(
            f"its block builder answered with {answer!r:.80} instead of the builder that it was given; a function that "
            "is a step body, not a block builder, names its first parameter `context`"
        )


def _freeze(root: BlockDraft, drafts: list[StepDraft], ids: dict[StepDraft, str]) -> Block:
    done: dict[StepDraft, Step] = {}
    # Inner steps come after outer ones in the list, so from its end every block's steps are ready.
    for draft in reversed(drafts):
        done[draft] = Step(
            id=ids[draft],
            kind=draft.kind,
            name=draft.name or "",
            step_type=draft.step_type,
            blocks=tuple(_frozen(block, done) for block in draft.blocks),
            children=None if draft.children is None else _frozen(draft.children, done),
            values=dict(draft.values),
            options=_options(draft),
            config=dict(draft.config),
            go_to=draft.go_to,
        )
    return _frozen(root, done)


def _frozen(block: BlockDraft, done: dict[StepDraft, Step]) -> Block:
    return Block(tuple(done[draft] for draft in block.steps), block.label, block.is_default)


def _options(draft: StepDraft) -> dict[str, object]:
    if draft.kind is StepKind.WAIT_FOR and draft.timeout is not None:
        return {**draft.options, "timeout_us": microseconds(draft.timeout)}
    return dict(draft.options)


def _policies(draft: StepDraft) -> Policies | None:
    attributes = StepAttributes() if draft.body is None else step_attributes(draft.body)
    retry = draft.retry
    if retry is None and not isinstance(draft.error, Retry):
        retry = attributes.retry
    timeout = draft.timeout or attributes.timeout
    if draft.kind is StepKind.WAIT_FOR:
        timeout = None
    count_crashes = attributes.count_crashes if draft.count_crashes is None else draft.count_crashes
    policies = Policies(draft.error, retry, timeout, count_crashes)
    return None if policies == NO_POLICIES else policies

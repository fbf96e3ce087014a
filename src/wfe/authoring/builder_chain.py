"""What all parts of the builder share: the block that is being written, and where its problems go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic, TypeVar, cast

from wfe.authoring.builder_blocks import BlockOf, BodySource, Refused, block_source
from wfe.authoring.builder_drafts import BlockDraft, StepDraft
from wfe.authoring.builder_values import Slot, plain_json
from wfe.model.definition import StepKind
from wfe.model.generic import D
from wfe.model.step_body import body_name, step_type_of

__all__ = ["Chain", "add_body", "attempt", "block_draft", "labelled_blocks", "put"]

T = TypeVar("T")


class Chain(Generic[D]):
    """A block that is being written."""

    def __init__(self) -> None:
        self._block = BlockDraft()

    def _add(self, kind: StepKind, stem: str) -> StepDraft:
        draft = StepDraft(kind, stem)
        self._block.steps.append(draft)
        return draft

    def _last(self, method: str) -> StepDraft:
        """Give the step just added. Before any step: note the problem, and give a step that is thrown away."""
        if self._block.steps:
            return self._block.steps[-1]
        self._block.problems.append(f"{method}(…) stands before any step; it speaks of the step just added")
        return StepDraft(StepKind.BODY, "nothing", step_type="nothing")


def add_body(block: BlockDraft, source: BodySource | Refused) -> StepDraft:
    """Append a body step, or the problem with it in its place."""
    if isinstance(source, Refused):
        draft = StepDraft(StepKind.BODY, "step", problems=[source.problem])
    elif isinstance(source.body, str):
        draft = StepDraft(StepKind.BODY, source.body, step_type=source.body)
    else:
        draft = StepDraft(StepKind.BODY, body_name(source.body), step_type=step_type_of(source.body), body=source.body)
        draft.code["body"] = source.body
    block.steps.append(draft)
    return draft


def block_draft(value: object, *, label: object = None, is_default: bool = False) -> BlockDraft:
    """Make a block of whatever may stand for one; it is asked for its steps at build."""
    source = block_source(value)
    draft = BlockDraft(None, label, is_default)
    if isinstance(source, BlockOf):
        draft.source = source
    else:
        add_body(draft, source)
        draft.expanded = True
    return draft


def labelled_blocks(draft: StepDraft, cases: object, default: object, what: str) -> list[BlockDraft]:
    """Make the blocks of `{value: block}` and of the default."""
    blocks: list[BlockDraft] = []
    if not isinstance(cases, Mapping):
        draft.problems.append(f"{what}: expected a mapping of values to blocks, got {cases!r:.80}")
        return blocks
    for label, value in cast("Mapping[object, object]", cases).items():
        plain = attempt(draft, f"{what}: the value {label!r:.80}", partial(plain_json, label))
        blocks.append(block_draft(value, label=plain))
    if default is not None:
        blocks.append(block_draft(default, is_default=True))
    return blocks


def put(draft: StepDraft, slot: str, what: str, make: Callable[[], Slot]) -> None:
    """Fill a slot of a step; the problem with the value, or with filling it twice, is kept with the step."""
    if slot in draft.values:
        draft.problems.append(f"{what} is given twice")
        return
    made = attempt(draft, what, make)
    if made is None:
        draft.refused.add(slot)
    else:
        draft.values[slot] = made.value
        if made.code is not None:
            draft.code[slot] = made.code


def attempt(draft: StepDraft, what: str, make: Callable[[], T]) -> T | None:
    """Give what *make* gives; where it refuses, keep the problem with the step and give None."""
    try:
        return make()
    except ValueError as error:
        draft.problems.append(f"{what}: {error}")
        return None

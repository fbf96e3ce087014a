"""What a builder has been told so far: steps and blocks that are still open to change.

A problem is kept where it was found and reported at build, together with all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from wfe.authoring.builder_blocks import BlockSource
from wfe.model.definition import StepKind, Value
from wfe.model.policies import ErrorBehavior, RetryPolicy

__all__ = ["BlockDraft", "DraftPlace", "StepDraft", "walk"]


@dataclass(eq=False)
class BlockDraft:
    """A chain of steps; `source` makes them, where they are not added one by one."""

    source: BlockSource | None = None
    label: object = None
    is_default: bool = False
    steps: list[StepDraft] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    expanded: bool = False
    """Whether `source` has been asked: once, however often the workflow is built."""


@dataclass(eq=False)
class StepDraft:
    """One step. `stem` is what its id is derived from unless `id` is given."""

    kind: StepKind
    stem: str
    id: str | None = None
    name: str | None = None
    step_type: str = ""
    body: Callable[..., object] | None = None
    blocks: list[BlockDraft] = field(default_factory=list)
    children: BlockDraft | None = None
    values: dict[str, Value] = field(default_factory=dict)
    code: dict[str, Callable[..., object]] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    config: dict[str, object] = field(default_factory=dict)
    go_to: str = ""
    error: ErrorBehavior | None = None
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    count_crashes: bool | None = None
    problems: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    """Slots whose value is a problem already, so that their absence is none."""

    @property
    def runs_branches_apart(self) -> bool:
        """Whether a branch of it runs beside others, so that it cannot be left by a jump."""
        if self.kind is StepKind.FOR_EACH:
            return self.options.get("parallel", True) is True
        return self.kind is StepKind.PARALLEL


class DraftPlace(NamedTuple):
    """Where a draft stands."""

    step: StepDraft
    block: BlockDraft
    container: StepDraft | None


def walk(root: BlockDraft) -> Iterator[DraftPlace]:
    """Give all steps in the order in which they were written, outer before inner: the order of the finished plan."""
    # A stack of our own: blocks nest without limit, Python's call stack does not.
    stack: list[tuple[BlockDraft, StepDraft | None, int]] = [(root, None, 0)]
    while stack:
        block, container, at = stack.pop()
        if at >= len(block.steps):
            continue
        draft = block.steps[at]
        yield DraftPlace(draft, block, container)
        stack.append((block, container, at + 1))
        inner = [*draft.blocks, *([] if draft.children is None else [draft.children])]
        stack.extend((each, draft, 0) for each in reversed(inner))

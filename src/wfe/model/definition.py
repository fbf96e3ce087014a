"""Workflow definitions: the plan that every way of authoring compiles to.

A definition is a tree: a block is a chain of steps, and a step that contains others (a loop, a parallel) has blocks of
its own. The plan is plain data; the code it calls (bodies, conditions, mappings) is kept beside it in `code`, so that
the
plan can be stored, hashed, compared and drawn without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Generic, NamedTuple, TypeAlias

import msgspec

from wfe.model.errors import DefinitionError
from wfe.model.generic import D
from wfe.model.inputs import Input
from wfe.model.policies import ErrorBehavior, Retry, RetryPolicy

__all__ = [
    "Block",
    "Code",
    "ConditionTree",
    "DefinitionKey",
    "Field",
    "Literal",
    "Place",
    "Policies",
    "Step",
    "StepKind",
    "Value",
    "WorkflowDefinition",
]


class StepKind(StrEnum):
    """What a step does when it is reached."""

    BODY = "body"
    """Runs a body: a step class, a function, or the executor that the host has for `step_type`."""
    SEQUENCE = "sequence"
    """Runs its block, then goes on."""
    IF = "if"
    """Value `condition`: block 0 when true, block 1 (if there is one) when false."""
    WHILE = "while"
    """Runs block 0 as long as value `condition` is true."""
    FOR_EACH = "for_each"
    """Runs block 0 once per item of value `collection`; `parallel`, `max_parallel`, `fail_fast`."""
    PARALLEL = "parallel"
    """Runs all its blocks at the same time; `fail_fast`."""
    DECIDE = "decide"
    """Runs the block whose label equals value `selector`, else the block labelled `DEFAULT_LABEL`."""
    DELAY = "delay"
    """Sleeps for, or until, value `duration`."""
    WAIT_FOR = "wait_for"
    """Waits for an event: values `event_name`, `event_key`, `as_of`; `timeout` of `options`."""
    SUB_WORKFLOW = "sub_workflow"
    """Starts a child (`options`: definition_id, version, on_parent_end) and waits for its end."""
    END = "end"
    """Ends the instance COMPLETE."""


class DefinitionKey(NamedTuple):
    """Names exactly one plan: id, version and structural hash."""

    id: str
    version: int
    hash: str


class Literal(msgspec.Struct, frozen=True, tag="literal", tag_field="is"):
    """A value written into the definition. JSON values only."""

    value: object = None


class Field(msgspec.Struct, frozen=True, tag="field", tag_field="is"):
    """A field of the data, by name or dotted path (`order.lines`)."""

    path: str


class ConditionTree(msgspec.Struct, frozen=True, tag="condition", tag_field="is"):
    """A serialisable condition in its plain form (see `wfe.model.conditions`)."""

    plain: dict[str, object]


class Code(msgspec.Struct, frozen=True, tag="code", tag_field="is"):
    """A callable, found in `WorkflowDefinition.code`; `label` tells people which one."""

    label: str = ""


Value: TypeAlias = Literal | Field | ConditionTree | Code
"""How a step names a value that is found when the step is reached."""


class Block(msgspec.Struct, frozen=True, omit_defaults=True):
    """A chain of steps. `label` is what selects it (an outcome, a `decide` case)."""

    steps: tuple[Step, ...] = ()
    label: object = None
    is_default: bool = False
    """Whether it is taken when no label matches."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A named place in a definition."""

    id: str
    kind: StepKind = StepKind.BODY
    name: str = ""
    step_type: str = ""
    """For BODY: label of the body (`module:qualname` or the name given to it); key of `register_step` and YAML."""
    blocks: tuple[Block, ...] = ()
    """For containers: what they run. For BODY: its outcomes' blocks (labelled)."""
    children: Block | None = None
    """For BODY: what `branch(values)` runs (`do`)."""
    values: dict[str, Value] = {}
    """Slot → value.

    Slots: `when`, `condition`, `collection`, `selector`, `duration`, `event_name`, `event_key`, `as_of`,
    `inputs` / `outputs` (of a child), `input.<field>` and `output.<data field>` of a body."""
    options: dict[str, object] = {}
    """Settings of the kind.

    `parallel`, `max_parallel`, `fail_fast`, `timeout_us`, `output`, `definition_id`, `version`, …
    """
    config: dict[str, object] = {}
    """The author's own settings, given to the body as `context.step.config`."""
    go_to: str = ""
    """Id of the step to go on with instead of the next one of the block."""

    def option(self, name: str, default: object = None) -> object:
        """Give a setting of the kind, or `default`."""
        return self.options.get(name, default)


@dataclass(frozen=True)
class Policies:
    """When a step is tried again and what its final failure means. Not part of the hash."""

    error: ErrorBehavior | None = None
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    """Limit of one attempt."""
    count_crashes: bool = False
    """Whether each attempt is recorded before its body begins, so that the death of its host is a failure of it."""

    def attempts_rule(self, default: Policies) -> RetryPolicy | Retry | None:
        """Find what alone decides on further attempts of the step that these are the policies of; None: there are none.

        Args:
            default: What holds for steps that say nothing themselves.
        """
        if self.retry is not None:
            return self.retry
        if isinstance(self.error, Retry):
            return self.error
        if default.retry is not None:
            return default.retry
        rule = self.error if self.error is not None else default.error
        return rule if isinstance(rule, Retry) else None


class Place(NamedTuple):
    """Where a step stands in the plan."""

    step: Step
    container: str
    """Id of the step whose block it is in; empty at the top."""
    block: int
    """Index of that block in the container (-1: its `children`)."""
    next: str
    """Id of the step that follows in the block; empty at the end of it."""


NO_POLICIES = Policies()


@dataclass(frozen=True, eq=False)
class WorkflowDefinition(Generic[D]):
    """A versioned plan of steps and policies; it never changes once it is registered.

    Two definitions are equal when id, version and hash are. The hash covers ids, kinds, edges, scopes and step types,
    and
    leaves out policies, names and callables: those may be mended without a new version.
    """

    id: str
    version: int
    root: Block
    name: str = ""
    description: str = ""
    data_type: type[D] = field(default=dict)  # type: ignore[assignment]  # the default of D
    policies: Mapping[str, Policies] = field(default_factory=dict)
    """Step id → its policies."""
    default_policies: Policies = NO_POLICIES
    """What holds for steps that say nothing themselves."""
    workflow_timeout: timedelta | None = None
    code: Mapping[tuple[str, str], Callable[..., object]] = field(default_factory=dict)
    """(step id, slot) → callable. Slot `body` is the step's body: a class, a function or a factory."""
    strict_data: bool = False
    inputs: tuple[Input, ...] | None = None
    """What starts are checked against and filled up from; None: nothing is declared. Not part of the hash."""
    source: str = ""
    """Where it came from: `builder`, `dag`, `yaml`, or empty when read from JSON."""
    lacks: tuple[str, ...] = ()
    """What was lost when it was written as JSON, beside the code of its steps: the class of its data, callables of its
    policies. Empty when nothing was, and for a definition that was not read from JSON."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps in the order in which they were written, outer before inner."""
        return tuple(place.step for place in self.places.values())

    @property
    def key(self) -> DefinitionKey:
        """Id, version and hash."""
        return DefinitionKey(self.id, self.version, self.hash)

    @cached_property
    def places(self) -> dict[str, Place]:
        """Step id → where it stands."""
        return {place.step.id: place for place in _walk(self.root, "", 0)}

    @cached_property
    def starts_children(self) -> bool:
        """Whether instances of it may have children."""
        return any(place.step.kind is StepKind.SUB_WORKFLOW for place in self.places.values())

    @cached_property
    def hash(self) -> str:
        """Hex digest of the structure (32 characters)."""
        plain = msgspec.json.encode(_structure(self.root), order="deterministic")
        return hashlib.sha256(plain).hexdigest()[:32]

    def policies_of(self, step_id: str) -> Policies:
        """Give the step's own policies (empty ones where it has none)."""
        return self.policies.get(step_id, NO_POLICIES)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WorkflowDefinition) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def to_json(self) -> str:
        """Give the plan as JSON text; callables appear as labels only."""
        from wfe.model.definition_json import dump_definition

        return dump_definition(self)

    @staticmethod
    def from_json(text: str | bytes) -> WorkflowDefinition[dict[str, object]]:
        """Read a plan written by `to_json`.

        Its bodies are found by step type (`host.register_step`); conditions and mappings that were callables have to be
        given again by code, so an instance that reaches one is blocked until then.

        Raises:
            DefinitionError: The text is not a definition.
        """
        from wfe.model.definition_json import load_definition

        return load_definition(text)

    def to_mermaid(self) -> str:
        """Draw the plan as a Mermaid flowchart."""
        from wfe.model.drawing import to_mermaid

        return to_mermaid(self)

    def to_dot(self) -> str:
        """Draw the plan as a Graphviz digraph."""
        from wfe.model.drawing import to_dot

        return to_dot(self)

    def place(self, step_id: str) -> Place:
        """Give where a step stands.

        Raises:
            DefinitionError: There is no such step.
        """
        try:
            return self.places[step_id]
        except KeyError:
            msg = f"there is no step {step_id!r}; steps are {', '.join(map(repr, self.places))}"
            raise DefinitionError(msg, definition_id=self.id) from None


def _walk(block: Block, container: str, index: int) -> Iterator[Place]:
    # A stack of our own: blocks nest without limit, Python's call stack does not.
    stack: list[tuple[Block, str, int, int]] = [(block, container, index, 0)]
    while stack:
        block, container, index, at = stack.pop()
        if at >= len(block.steps):
            continue
        step = block.steps[at]
        following = block.steps[at + 1].id if at + 1 < len(block.steps) else ""
        yield Place(step, container, index, following)
        stack.append((block, container, index, at + 1))
        if step.children is not None:
            stack.append((step.children, step.id, -1, 0))
        stack.extend((step.blocks[number], step.id, number, 0) for number in range(len(step.blocks) - 1, -1, -1))


_BEHAVIOUR_OPTIONS = ("parallel", "definition_id", "version")


def _structure(root: Block) -> list[object]:
    """List what the hash covers, flat: one row a step, with its place."""
    rows: list[object] = []
    for place in _walk(root, "", 0):
        step = place.step
        rows.append(
            [
                step.id,
                step.kind,
                step.step_type,
                place.container,
                place.block,
                place.next,
                step.go_to,
                [[block.label, block.is_default] for block in step.blocks],
                step.children is not None,
                {name: step.options[name] for name in _BEHAVIOUR_OPTIONS if name in step.options},
            ]
        )
    return rows

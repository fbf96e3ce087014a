"""Definitions as JSON text, and back.

The text lists the steps flat, each with its place, because blocks nest without limit and JSON readers do not. Callables
appear as labels. Fields that a reader does not know are passed over, so that a newer wfe may add some; a change that an
older reader must not pass over raises `format`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, get_args, get_origin

import msgspec

from wfe.model.definition import Block, Step, StepKind, Value, WorkflowDefinition
from wfe.model.definition_policies import PlainPolicies, ask_code, policies_from_plain, policies_to_plain
from wfe.model.errors import DefinitionError
from wfe.model.inputs import Input
from wfe.model.moment import microseconds

__all__ = ["FORMAT", "dump_definition", "load_definition"]

FORMAT = 1
"""Version of the text's form."""

CHILDREN = -1
"""Block number of a body's `children`, as in `Place`."""


class _BlockRow(msgspec.Struct, frozen=True, omit_defaults=True):
    label: Any = None
    is_default: bool = False


class _StepRow(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    id: str
    kind: StepKind
    container: str = ""
    """Id of the step whose block it is in."""
    block: int = 0
    name: str = ""
    step_type: str = ""
    blocks: tuple[_BlockRow, ...] = ()
    children: _BlockRow | None = None
    values: dict[str, Value] = {}
    options: dict[str, Any] = {}
    config: dict[str, Any] = {}
    go_to: str = ""
    policies: PlainPolicies | None = None


class _Document(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    format: int
    id: str
    version: int
    name: str = ""
    description: str = ""
    data_type: str = ""
    strict_data: bool = False
    inputs: tuple[Input, ...] | None = None
    default_policies: PlainPolicies | None = None
    workflow_timeout_us: int | None = None
    steps: tuple[_StepRow, ...] = ()
    lacks: tuple[str, ...] = ()
    """What of the definition is not in the text, beside the code of its steps."""


class _Format(msgspec.Struct):
    format: int


_document_decoder = msgspec.json.Decoder(_Document)
_format_decoder = msgspec.json.Decoder(_Format)


def dump_definition(definition: WorkflowDefinition[Any]) -> str:
    """Give the plan as JSON text, the same for equal plans."""
    timeout = definition.workflow_timeout
    document = _Document(
        format=FORMAT,
        id=definition.id,
        version=definition.version,
        name=definition.name,
        description=definition.description,
        data_type=f"{definition.data_type.__module__}:{definition.data_type.__qualname__}",
        strict_data=definition.strict_data,
        inputs=definition.inputs,
        default_policies=policies_to_plain(definition.default_policies),
        workflow_timeout_us=None if timeout is None else microseconds(timeout),
        steps=tuple(_row(definition, step_id) for step_id in definition.places),
        lacks=tuple(_lacking(definition)),
    )
    return msgspec.json.encode(document).decode()


def load_definition(text: str | bytes) -> WorkflowDefinition[dict[str, Any]]:
    """Read a plan written by `dump_definition`. It has no code, and `dict` as its data type.

    Raises:
        DefinitionError: The text is not such a plan, or of a newer form.
    """
    document = _read(text)
    problems = list(_problems(document))
    if problems:
        raise DefinitionError(problems, definition_id=document.id)
    try:
        policies = {row.id: policies_from_plain(row.policies) for row in document.steps if row.policies is not None}
        defaults = policies_from_plain(document.default_policies)
    except ValueError as error:
        raise DefinitionError(f"a policy is not valid: {error}", definition_id=document.id) from error
    return WorkflowDefinition(
        document.id,
        document.version,
        _plant(document),
        name=document.name,
        description=document.description,
        policies=policies,
        default_policies=defaults,
        workflow_timeout=_timeout(document.workflow_timeout_us),
        strict_data=document.strict_data,
        lacks=document.lacks,
        inputs=document.inputs,
    )


def _lacking(definition: WorkflowDefinition[Any]) -> Iterator[str]:
    yield from definition.lacks
    if not _is_plain(definition.data_type):
        yield f"its data class {definition.data_type.__qualname__}"
    if ask_code(definition.default_policies):
        yield "`retryable` of its default policy"
    for step_id, policies in definition.policies.items():
        if ask_code(policies):
            yield f"`retryable` of step {step_id!r}"


def _is_plain(data_type: object) -> bool:
    """Tell whether data of a type are JSON objects of any form, as those of a plan read from JSON."""
    return data_type is dict or (get_origin(data_type) is dict and get_args(data_type)[1] in {object, Any})


def _row(definition: WorkflowDefinition[Any], step_id: str) -> _StepRow:
    step, container, block, _ = definition.places[step_id]
    return _StepRow(
        id=step.id,
        kind=step.kind,
        container=container,
        block=block,
        name=step.name,
        step_type=step.step_type,
        blocks=tuple(map(_block_row, step.blocks)),
        children=None if step.children is None else _block_row(step.children),
        values=step.values,
        options=step.options,
        config=step.config,
        go_to=step.go_to,
        policies=policies_to_plain(definition.policies_of(step_id)),
    )


def _block_row(block: Block) -> _BlockRow:
    return _BlockRow(block.label, block.is_default)


def _read(text: str | bytes) -> _Document:
    try:
        written = _format_decoder.decode(text).format
        if written > FORMAT:
            raise DefinitionError(
                f"the text has format {written}; this version of wfe reads formats up to {FORMAT}, so use a newer one"
            )
        return _document_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise DefinitionError(f"the text is not a definition in JSON: {error}") from error


def _problems(document: _Document) -> Iterator[str]:
    """Check that the rows make a tree whose steps have names of their own."""
    if not document.id:
        yield "the id of a definition must not be empty"
    if document.version < 1:
        yield f"a version is a whole number of at least 1, got {document.version}"
    seen: dict[str, _StepRow] = {}
    for row in document.steps:
        if not row.id or row.id in seen:
            yield f"the step id {row.id!r} is given twice" if row.id else "a step id must not be empty"
        if not _has_block(seen.get(row.container), row):
            yield f"step {row.id!r} stands in block {row.block} of {row.container!r}, which no step before it has"
        seen[row.id] = row
    for row in document.steps:
        if row.go_to and row.go_to not in seen:
            yield f"step {row.id!r} goes on at {row.go_to!r}, and there is no such step"


def _has_block(container: _StepRow | None, row: _StepRow) -> bool:
    if not row.container:
        return row.block == 0
    if container is None:
        return False
    return container.children is not None if row.block == CHILDREN else 0 <= row.block < len(container.blocks)


def _plant(document: _Document) -> Block:
    """Make the tree from its rows."""
    inside: dict[tuple[str, int], list[_StepRow]] = {}
    for row in document.steps:
        inside.setdefault((row.container, row.block), []).append(row)
    done: dict[str, Step] = {}
    # A container stands before what is in it, so from the end of the list every block's steps are ready.
    for row in reversed(document.steps):
        done[row.id] = Step(
            id=row.id,
            kind=row.kind,
            name=row.name,
            step_type=row.step_type,
            blocks=tuple(
                _block(block, _steps(inside, done, row.id, number)) for number, block in enumerate(row.blocks)
            ),
            children=None if row.children is None else _block(row.children, _steps(inside, done, row.id, CHILDREN)),
            values=row.values,
            options=row.options,
            config=row.config,
            go_to=row.go_to,
        )
    return Block(_steps(inside, done, "", 0))


def _steps(
    inside: dict[tuple[str, int], list[_StepRow]], done: dict[str, Step], container: str, block: int
) -> tuple[Step, ...]:
    return tuple(done[row.id] for row in inside.get((container, block), ()))


def _block(row: _BlockRow, steps: tuple[Step, ...]) -> Block:
    return Block(steps, row.label, row.is_default)


def _timeout(limit_us: int | None) -> timedelta | None:
    return None if limit_us is None else timedelta(microseconds=limit_us)

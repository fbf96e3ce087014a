"""Definitions as drawings, in the languages of Mermaid and Graphviz.

A container is a frame around its blocks with a node of its own inside, its head. Edges lead from the head into the
blocks; where the chain goes on after a container, its edge leaves from the head, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from wfe.model.definition import Block, Code, ConditionTree, Field, Literal, Place, Step, StepKind, WorkflowDefinition

__all__ = ["to_dot", "to_mermaid"]


class _Node(NamedTuple):
    name: str
    step: Step


class _Edge(NamedTuple):
    source: str
    target: str
    label: str
    jump: bool
    """Whether it is a `go_to`."""


class _Open(NamedTuple):
    """A frame begins here."""

    name: str
    label: str


class _Close(NamedTuple):
    """The frame that was opened last ends here."""


def to_mermaid(definition: WorkflowDefinition[Any]) -> str:
    """Draw a Mermaid flowchart."""
    lines = ["flowchart TD"]
    depth = 1
    for part in _parts(definition):
        depth -= isinstance(part, _Close)
        lines.append("    " * depth + _mermaid(part))
        depth += isinstance(part, _Open)
    return "\n".join(lines) + "\n"


def to_dot(definition: WorkflowDefinition[Any]) -> str:
    """Draw a Graphviz digraph."""
    lines = [f"digraph {_dot_text(definition.id)} {{", "    compound=true;", "    node [shape=box, style=rounded];"]
    depth = 1
    for part in _parts(definition):
        depth -= isinstance(part, _Close)
        lines.append("    " * depth + _dot(part))
        depth += isinstance(part, _Open)
    return "\n".join([*lines, "}"]) + "\n"


def _parts(definition: WorkflowDefinition[Any]) -> Iterator[_Node | _Edge | _Open | _Close]:
    """Give frames and nodes in the order of the plan, then all edges."""
    names = {step_id: f"n{number}" for number, step_id in enumerate(definition.places)}
    yield from _frames(definition, names)
    for place in definition.places.values():
        yield from _edges(place, names)


def _frames(definition: WorkflowDefinition[Any], names: dict[str, str]) -> Iterator[_Node | _Open | _Close]:
    frames: list[str] = []
    """Ids of the containers whose frames are open."""
    for place in definition.places.values():
        while frames and frames[-1] != place.container:
            frames.pop()
            yield _Close()
        step = place.step
        if _is_container(step):
            frames.append(step.id)
            yield _Open(names[step.id], _title(step))
        yield _Node(names[step.id], step)
    for _ in frames:
        yield _Close()


def _edges(place: Place, names: dict[str, str]) -> Iterator[_Edge]:
    step = place.step
    name = names[step.id]
    for number, block in enumerate(step.blocks):
        if block.steps:
            yield _Edge(name, names[block.steps[0].id], _block_label(step, block, number), jump=False)
    if step.children is not None and step.children.steps:
        yield _Edge(name, names[step.children.steps[0].id], "each", jump=False)
    if step.go_to:
        yield _Edge(name, names[step.go_to], "go to", jump=True)
    elif place.next and step.kind is not StepKind.END:
        yield _Edge(name, names[place.next], "", jump=False)


def _is_container(step: Step) -> bool:
    return bool(step.blocks) or step.children is not None


def _title(step: Step) -> str:
    return step.name or step.id


def _block_label(step: Step, block: Block, number: int) -> str:
    if step.kind is StepKind.IF:
        return "else" if number else "then"
    if step.kind in {StepKind.DECIDE, StepKind.BODY}:
        return "default" if block.is_default else str(block.label)
    return ""


def _text(step: Step) -> str:
    """Say what a step is and, in short, what it depends on."""
    lines = [_title(step)]
    details: dict[StepKind, Callable[[], str]] = {
        StepKind.IF: lambda: f"if {_value(step, 'condition')}",
        StepKind.WHILE: lambda: f"while {_value(step, 'condition')}",
        StepKind.FOR_EACH: lambda: f"for each of {_value(step, 'collection')}",
        StepKind.PARALLEL: lambda: "in parallel",
        StepKind.DECIDE: lambda: f"by {_value(step, 'selector')}",
        StepKind.DELAY: lambda: f"delay {_value(step, 'duration')}",
        StepKind.WAIT_FOR: lambda: f"wait for {_value(step, 'event_name')}",
        StepKind.SUB_WORKFLOW: lambda: f"workflow {step.option('definition_id')}",
        StepKind.END: lambda: "end",
    }
    if step.kind in details:
        lines.append(details[step.kind]())
    if "when" in step.values:
        lines.append(f"when {_value(step, 'when')}")
    return "\n".join(lines)


def _value(step: Step, slot: str) -> str:
    match step.values.get(slot):
        case Literal(value):
            return str(value)
        case Field(path):
            return path
        case ConditionTree(plain):
            return _condition(plain)
        case Code(label):
            return label.rpartition(":")[2].rpartition("<locals>.")[2]
        case None:
            return "?"


def _condition(plain: dict[str, object]) -> str:
    if "field" in plain:
        operator = next(key for key in plain if key != "field")
        return f"{plain['field']} {operator} {plain[operator]!r}"
    return next(iter(plain), "?") + " …"


# -- Mermaid

_MERMAID_ENTITIES = str.maketrans(
    {'"': "#quot;", "#": "#35;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;", "\\": "#92;", "\n": "<br/>"}
)
_MERMAID_SHAPES = {
    StepKind.IF: ("{{", "}}"),
    StepKind.WHILE: ("{{", "}}"),
    StepKind.DECIDE: ("{{", "}}"),
    StepKind.END: ("([", "])"),
    StepKind.DELAY: ("([", "])"),
    StepKind.WAIT_FOR: ("([", "])"),
    StepKind.SUB_WORKFLOW: ("[[", "]]"),
}


def _mermaid(part: _Node | _Edge | _Open | _Close) -> str:
    match part:
        case _Open(name, label):
            return f"subgraph s_{name} [{_mermaid_text(label)}]"
        case _Close():
            return "end"
        case _Node(name, step):
            opening, closing = _MERMAID_SHAPES.get(step.kind, ("[", "]"))
            return f"{name}{opening}{_mermaid_text(_text(step))}{closing}"
        case _Edge(source, target, label, jump):
            arrow = "-.->" if jump else "-->"
            return f"{source} {arrow}|{_mermaid_text(label)}| {target}" if label else f"{source} {arrow} {target}"


def _mermaid_text(text: str) -> str:
    return f'"{_clean(text).translate(_MERMAID_ENTITIES)}"'


# -- Graphviz

_DOT_SHAPES = {
    StepKind.IF: "diamond",
    StepKind.WHILE: "diamond",
    StepKind.DECIDE: "diamond",
    StepKind.END: "doublecircle",
    StepKind.DELAY: "oval",
    StepKind.WAIT_FOR: "oval",
    StepKind.SUB_WORKFLOW: "component",
}


def _dot(part: _Node | _Edge | _Open | _Close) -> str:
    match part:
        case _Open(name, label):
            return f"subgraph cluster_{name} {{ label={_dot_text(label)};"
        case _Close():
            return "}"
        case _Node(name, step):
            shape = _DOT_SHAPES.get(step.kind)
            return f"{name} [label={_dot_text(_text(step))}{f', shape={shape}' if shape else ''}];"
        case _Edge(source, target, label, jump):
            attributes = [f"label={_dot_text(label)}"] if label else []
            attributes += ["style=dashed"] if jump else []
            return f"{source} -> {target} [{', '.join(attributes)}];" if attributes else f"{source} -> {target};"


def _dot_text(text: str) -> str:
    escaped = _clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _clean(text: str) -> str:
    """Drop what neither language can hold: control characters other than the line end."""
    return "".join(letter if letter == "\n" or letter.isprintable() else " " for letter in text)

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.unit.authoring.plans import definitions
from wfe.authoring import WorkflowBuilder
from wfe.model.conditions import ref
from wfe.model.definition import WorkflowDefinition

_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"')


def pay(context: object) -> None: ...


def example() -> WorkflowDefinition[Any]:
    builder: WorkflowBuilder[dict[str, Any]] = WorkflowBuilder(name="Example")
    return (
        builder.then(pay)
        .name('say "hi" \\ <b>#1</b>')
        .if_do(ref("amount") > 100, lambda b: b.then(pay).go_to("pay"), else_do=pay)
        .parallel(pay, lambda b: b.for_each("lines", lambda b: b.then(pay)))
        .decide(lambda data: data["kind"], {"a": pay, 5: pay}, default=lambda b: b.end_workflow())
        .delay("1h")
        .wait_for("paid", "7")
        .sub_workflow("child")
        .then(pay)
        .do(pay)
        .build("example")
    )


def check_dot(text: str) -> tuple[set[str], list[tuple[str, str]]]:
    """Check that braces and quotes balance and statements have the known forms; give nodes and edges."""
    bare = _QUOTED.sub("Q", text)
    assert '"' not in bare
    depth = 0
    nodes: set[str] = set()
    edges: list[tuple[str, str]] = []
    for line in bare.splitlines():
        depth += line.count("{") - line.count("}")
        assert depth >= 0
        if match := re.fullmatch(r"\s*(n\d+) \[label=Q(?:, shape=\w+)?\];", line):
            nodes.add(match[1])
        elif match := re.fullmatch(r"\s*(n\d+) -> (n\d+)(?: \[[^\]]*\])?;", line):
            edges.append((match[1], match[2]))
        else:
            assert re.fullmatch(
                r"digraph Q \{|\s*subgraph cluster_n\d+ \{ label=Q;|\s*\}|    compound=true;|    node \[.*\];", line
            ), line
    assert depth == 0
    return nodes, edges


def check_mermaid(text: str) -> tuple[set[str], list[tuple[str, str]]]:
    """Check that frames are closed and lines have the known forms; give nodes and edges."""
    bare = re.sub(r'"[^"\n]*"', "Q", text)
    first, *lines = bare.splitlines()
    assert first == "flowchart TD"
    depth = 0
    nodes: set[str] = set()
    edges: list[tuple[str, str]] = []
    for line in map(str.strip, lines):
        if re.fullmatch(r"subgraph s_n\d+ \[Q\]", line):
            depth += 1
        elif line == "end":
            depth -= 1
            assert depth >= 0
        elif match := re.fullmatch(r"(n\d+)(?:\[Q\]|\{\{Q\}\}|\(\[Q\]\)|\[\[Q\]\])", line):
            nodes.add(match[1])
        else:
            match = re.fullmatch(r"(n\d+) (?:-->|-\.->)(?:\|Q\|)? (n\d+)", line)
            assert match, line
            edges.append((match[1], match[2]))
    assert depth == 0
    return nodes, edges


@pytest.mark.parametrize("drawing", ["dot", "mermaid"])
def test_the_example_is_drawn_whole(drawing: str) -> None:
    """Every step is a node, every way on an edge, every container a frame."""
    definition = example()

    nodes, edges = check_dot(definition.to_dot()) if drawing == "dot" else check_mermaid(definition.to_mermaid())

    ids = list(definition.places)
    named = {(ids[int(source[1:])], ids[int(target[1:])]) for source, target in edges}
    assert len(nodes) == len(definition.steps)
    assert {("pay", "if"), ("if", "pay-2"), ("if", "pay-3"), ("pay-2", "pay"), ("parallel", "for-each")} <= named
    assert {("decide", "end"), ("decide", "delay"), ("wait-for", "sub-workflow"), ("pay-8", "pay-9")} <= named


@given(definition=definitions())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_plan_gives_a_well_formed_drawing(definition: WorkflowDefinition[Any]) -> None:
    """Whatever names, labels and values a plan has, the drawing stays well-formed and complete."""
    dot_nodes, dot_edges = check_dot(definition.to_dot())
    mermaid_nodes, mermaid_edges = check_mermaid(definition.to_mermaid())

    assert dot_nodes == mermaid_nodes
    assert dot_edges == mermaid_edges
    assert len(dot_nodes) == len(definition.steps)


def test_labels_are_escaped() -> None:
    """Quotes, backslashes, markup and line ends of a name stay text in both languages."""
    definition = example()

    assert r'"say \"hi\" \\ <b>#1</b>"' in definition.to_dot()
    assert '"say #quot;hi#quot; #92; #lt;b#gt;#35;1#lt;/b#gt;"' in definition.to_mermaid()


def test_labels_say_what_a_step_depends_on() -> None:
    """Conditions, durations, events and children are named in the drawing; jumps are dashed."""
    text = example().to_dot()

    for part in (".amount gt 100", "delay 3600", "wait for paid", "workflow child", 'label="go to", style=dashed'):
        assert part in text

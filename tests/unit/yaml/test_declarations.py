"""Declared inputs and outputs, defaults, and types of steps: what would have no effect, or break a run, is told."""

from __future__ import annotations

import pytest

from wfe.authoring.yaml import load_workflow, load_workflows
from wfe.model.errors import YamlError
from wfe.model.inputs import Input

STEPS = "steps: [{name: a, config: {run: x}}]"


def workflow(*lines: str, steps: str = STEPS) -> str:
    """A workflow whose further keys begin at line 4, column 3."""
    return "workflow:\n  id: w\n  version: 1\n" + "".join(f"  {line}\n" for line in (*lines, steps))


def errors_of(text: str) -> list[str]:
    with pytest.raises(YamlError) as caught:
        load_workflows(text)
    return list(caught.value.problems)


def warnings_of(text: str) -> list[str]:
    return [str(warning) for warning in load_workflow(text).warnings]


def test_inputs_become_part_of_the_definition() -> None:
    """Names, types, defaults and descriptions, as starts need them."""
    text = workflow(
        "inputs:",
        "  branch: string",
        "  version: {type: string, default: 1.10, description: what to ship}",
        "  sizes: {type: 'list<int>', default: [1, 2.0]}",
        "  any:",
    )

    definition = load_workflow(text).definition

    assert definition.inputs == (
        Input("branch", "string"),
        Input("version", "string", has_default=True, default="1.10", description="what to ship"),
        Input("sizes", "list<int>", has_default=True, default=[1, 2]),
        Input("any"),
    )
    assert load_workflow(workflow()).definition.inputs is None


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ("{type: integer, default: many}", "expected an integer, got 'many'"),
        ("{type: integer, default: '5'}", "expected an integer, got '5'"),
        ("{type: integer, default: 1.5}", "expected an integer, got 1.5"),
        ("{type: bool, default: yes}", "expected true or false, got 'yes'"),
        ("{type: string, default: null}", "expected text, got null"),
        ("{type: string, default: [a]}", "expected text, got ['a']"),
        ("{type: list<int>, default: [1, x]}", "expected an integer, got 'x'"),
        ("{type: list<int>, default: 1}", "expected a list, got 1"),
        ("{type: map<int>, default: {a: x}}", "expected an integer, got 'x'"),
    ],
)
def test_a_default_has_to_be_of_its_type(declared: str, problem: str) -> None:
    """Else no start without that input could succeed; the place of the default is told."""
    column = declared.index("default: ") + len("  inputs: {n: ") + len("default: ") + 1

    found = errors_of(workflow(f"inputs: {{n: {declared}}}"))

    type_name = declared.partition("type: ")[2].partition(",")[0]
    where = f"<text>:4:{column}: workflow.inputs.n.default: "
    assert found == [f"{where}the default is not of the type {type_name}: {problem}"]


@pytest.mark.parametrize(
    ("declared", "default"),
    [
        ("{type: string?, default: null}", None),
        ("{type: number, default: 2}", 2),
        ("{type: any, default: '5'}", "5"),
        ("{type: integer, default: ((var.n))}", 7),
        ("{default: [a, 1]}", ["a", 1]),
    ],
)
def test_defaults_that_fit(declared: str, default: object) -> None:
    """Null where null is allowed, whole numbers for numbers, and config, which comes as text, read as the type."""
    (found,) = load_workflow(workflow(f"inputs: {{n: {declared}}}"), {"n": "7"}).definition.inputs or ()

    assert found.default == default


def test_a_wrong_expression_in_a_default_is_told_once() -> None:
    """It has no value, so nothing more is said of its type."""
    (found,) = errors_of(workflow("inputs: {n: {type: integer, default: ((var.none))}}"))

    assert "none" in found
    assert "not of the type" not in found


def test_a_default_of_an_output_is_refused() -> None:
    """Outputs are what steps give; a default would be passed over."""
    (found,) = errors_of(
        workflow(
            "outputs: {n: {type: integer, default: 1}}", steps="steps: [{name: a, outputs: [n], config: {run: x}}]"
        )
    )

    assert found.startswith("<text>:4:32: workflow.outputs.n.default: a declared output has no key 'default'")


def test_defaults_of_a_type_that_no_step_has_are_refused() -> None:
    """A slip in the type's name would leave every step without them."""
    found = errors_of(workflow("defaults: {shel: {env: {A: 1}}}"))

    problem = "no step has the type 'shel', so these defaults have no effect"
    expected = "expected one of the types that steps have: shell; did you mean 'shell'?"
    assert found == [f"<text>:4:14: workflow.defaults.shel: {problem}; {expected}"]


@pytest.mark.parametrize("rule", ["{type: compensate}", "{type: retry, then: compensate}"])
def test_a_rule_that_is_not_carried_out_is_refused(rule: str) -> None:
    """Compensation does not exist yet; to fail in its place, without a word, would be another rule."""
    found = errors_of(workflow(steps=f"steps: [{{name: a, config: {{run: x}}, error_behavior: {rule}}}]"))

    assert len(found) == 1
    assert "the rule 'compensate' is not supported by this version" in found[0]


def test_a_mistake_in_defaults_is_told_where_it_stands() -> None:
    """Once, at its own place, though every step of the type takes it over."""
    found = errors_of(
        workflow(
            "defaults: {shell: {envv: {A: 1}}}",
            steps="steps: [{name: a, config: {run: x}}, {name: b, config: {run: y}}]",
        )
    )

    assert len(found) == 1
    assert found[0].startswith("<text>:4:22: workflow.defaults.shell.envv: ")


@pytest.mark.parametrize(
    ("type_name", "why"),
    [
        ("deno", "this version has nothing that runs it"),
        ("kubernetes", "this version has nothing that runs it"),
        ("mail", "the language has no such type"),
        ("shel", "the language has no such type"),
    ],
)
def test_types_that_a_program_has_to_register_are_warned_of(type_name: str, why: str) -> None:
    """The file is valid, since any host may register any type; `wfe run` alone could not run it."""
    nearest = "; did you mean 'shell'?" if type_name == "shel" else ""

    found = warnings_of(workflow(steps=f"steps: [{{name: a, type: {type_name}, config: {{x: 1}}}}]"))

    problem = (
        f"steps of type {type_name!r}: {why}, so a program has to register it: host.register_step({type_name!r}, body)"
    )
    assert found == [f"<text>:4:27: workflow.steps[0].type: {problem}{nearest}"]

# ruff: noqa: E501 - documents and messages stand in one piece, as users see them
from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from wfe.authoring.yaml import CompiledWorkflow, load_workflow, load_workflows
from wfe.model.definition import ConditionTree, Policies, StepKind
from wfe.model.errors import DefinitionError, YamlError
from wfe.model.policies import Continue, Exponential, Linear, Retry, RetryPolicy, Suspend

HEAD = "workflow:\n  id: w\n  version: 1\n  steps:\n"


def load(text: str, **config: object) -> CompiledWorkflow:
    return load_workflow(text, config)


def load_steps(steps: str, **config: object) -> CompiledWorkflow:
    """Load a workflow of these steps; the first of them begins at line 5, column 5."""
    return load(HEAD + "".join(f"    {line}\n" for line in steps.splitlines()), **config)


def errors_of(text: str, *, strict: bool = True) -> list[str]:
    with pytest.raises(YamlError) as caught:
        load_workflows(text, strict=strict)
    return list(caught.value.problems)


def errors_of_steps(steps: str) -> list[str]:
    return errors_of(HEAD + "".join(f"    {line}\n" for line in steps.splitlines()))


def policies_of(keys: str) -> Policies:
    return load_steps(f"- name: a\n  config: {{run: x}}\n{keys}").definition.policies_of("a")


def test_a_pipeline_as_written_for_the_forerunner() -> None:
    """Steps with config alone are shell steps; timeouts may be quoted."""
    steps = "- name: Lint\n  config:\n    run: cargo clippy\n    timeout: '120s'\n- name: Test\n  config: {run: make test}\n"

    definition = load_steps(steps).definition

    assert (definition.id, definition.version, definition.source) == ("w", 1, "yaml")
    assert [(step.id, step.kind, step.step_type) for step in definition.steps] == [
        ("Lint", StepKind.BODY, "shell"),
        ("Test", StepKind.BODY, "shell"),
    ]
    assert definition.steps[0].config == {"run": "cargo clippy", "timeout_ms": 120_000}


def test_nested_containers() -> None:
    """`parallel` gives a branch per step, `steps` a chain; both nest."""
    steps = (
        "- name: all\n  parallel:\n    - name: one\n      config: {run: 'true'}\n"
        "    - name: chain\n      steps:\n        - {name: b1, config: {run: x}}\n        - {name: b2, config: {run: y}}\n"
    )

    definition = load_steps(steps).definition

    (outer,) = definition.root.steps
    assert outer.kind is StepKind.PARALLEL
    assert [[step.id for step in block.steps] for block in outer.blocks] == [["one"], ["chain"]]
    chain = definition.place("chain").step
    assert chain.kind is StepKind.SEQUENCE
    assert [step.id for step in chain.blocks[0].steps] == ["b1", "b2"]


def test_numbers_and_booleans_are_taken_as_text() -> None:
    """Keys that want text accept what YAML reads as something else."""
    definition = load_steps("- name: 5\n  config: {run: true, env: {PORT: 5432, ON: yes, OFF: false}}").definition

    assert definition.steps[0].id == "5"
    assert definition.steps[0].config["run"] == "true"
    assert definition.steps[0].config["env"] == {"PORT": 5432, "ON": "yes", "OFF": False}


def test_free_keys_hold_anchors() -> None:
    """Keys beginning with `_` or `x-` mean nothing to the language."""
    text = "x-base: &base {run: make}\nworkflow:\n  _note: x\n  id: w\n  version: 1\n  steps: [{name: a, config: {<<: *base}}]\n"

    assert load(text).definition.steps[0].config == {"run": "make"}


def test_defaults_and_env_are_joined() -> None:
    """A step's config lies over the workflow's defaults, its variables over the workflow's."""
    text = (
        "workflow:\n  id: w\n  version: 1\n  env: {A: 1, B: 1}\n  defaults: {shell: {shell: bash, env: {B: 2, C: 2}}}\n"
        "  steps: [{name: a, config: {run: x, env: {C: 3}}}, {name: b, type: other, config: {k: 1}}]\n"
    )

    steps = load(text).definition.steps

    assert steps[0].config == {"run": "x", "shell": "bash", "env": {"A": 1, "B": 2, "C": 3}}
    assert steps[1].config == {"k": 1}


def test_expressions_become_templates() -> None:
    """Config is filled in at once; what the run knows is named by its path in the data."""
    text = (
        "workflow:\n  id: w\n  version: 1\n  inputs: {branch: string}\n  steps:\n"
        "    - name: a\n      config: {run: 'echo ((inputs.branch)) ((var.who))', working_dir: 'd/((branch))', env: {W: ((who))}}\n"
        "    - name: b\n      config: {run: 'echo ((steps.a.stdout))'}\n"
    )

    first, second = load(text, who=7).definition.steps

    assert first.config == {
        "run": 'echo "${WFE_EXPR_1}" "${WFE_EXPR_2}"',
        "expressions": {"WFE_EXPR_1": {"$wfe": {"path": ["data", "branch"]}}, "WFE_EXPR_2": 7},
        "working_dir": {"$wfe": ["d/", {"path": ["data", "branch"]}]},
        "env": {"W": 7},
        "inputs": ["branch"],
        "record": ["stdout"],
    }
    assert second.config["expressions"] == {"WFE_EXPR_1": {"$wfe": {"path": ["data", "steps.a", "stdout"]}}}


def test_config_values_fill_typed_keys() -> None:
    """Config may stand wherever a value stands, also given as text on a command line."""
    steps = "- name: a\n  config: {run: x}\n  timeout: ((var.limit))\n  retry: ((var.retries))"

    policies = load_steps(steps, limit="2m", retries="4").definition.policies_of("a")

    assert policies.timeout == timedelta(minutes=2)
    assert policies.retry == RetryPolicy(5, Exponential(1))


def test_outputs_printed_by_a_script_are_known() -> None:
    """An output that a script prints under a literal name needs no declaration to be referred to."""
    steps = '- name: a\n  config: {run: \'echo "##wfe[output version=1.10]"\'}\n- name: b\n  config: {run: "echo ((version))"}'

    assert load_steps(steps).warnings == ()


@pytest.mark.parametrize(
    ("keys", "policies"),
    [
        ("  retry: 3", Policies(retry=RetryPolicy(4, Exponential(1)))),
        ("  retry: {max_retries: 1, interval: 5s, backoff: linear}", Policies(retry=RetryPolicy(2, Linear(5)))),
        ("  error_behavior: {type: suspend}", Policies(error=Suspend())),
        ("  retry: 1\n  error_behavior: {type: continue}", Policies(Continue(), RetryPolicy(2, Exponential(1)))),
        ("  timeout: 1h30m", Policies(timeout=timedelta(minutes=90))),
        ("  timeout: 250", Policies(timeout=timedelta(milliseconds=250))),
    ],
)
def test_rules(keys: str, policies: Policies) -> None:
    """Retry, error_behavior and timeout become policies of the step."""
    assert policies_of(keys) == policies


def test_retry_rule_in_full() -> None:
    """Every key of a retry rule has its effect."""
    keys = (
        "  error_behavior: {type: retry, interval: 2s, max_retries: 5, backoff: exponential, max_interval: 1m, "
        "jitter: 0.5, then: continue}"
    )

    rule = policies_of(keys).error

    assert isinstance(rule, Retry)
    assert (rule.max_attempts, rule.delay(1), rule.delay(10)) == (6, timedelta(seconds=2), timedelta(minutes=1))
    assert (rule.jitter, rule.then) == (0.5, Continue())


def test_a_bare_integer_as_duration_is_pointed_out() -> None:
    """Milliseconds without a unit are allowed and warned of."""
    (warning,) = load_steps("- {name: a, config: {run: x}, timeout: 250}").warnings

    assert str(warning) == (
        "<text>:5:44: workflow.steps[0].timeout: 250 without a unit means 250 milliseconds; expected a unit, such as 250ms"
    )


@pytest.mark.parametrize(
    ("when", "plain"),
    [
        ("{field: .outputs.n, gt: 3}", {"field": ".n", "gt": 3}),
        ("{field: inputs.n, equals: x}", {"field": ".n", "equals": "x"}),
        ("{field: .n.deep, exists: false}", {"field": ".n.deep", "exists": False}),
        ("{not: {field: n, is_null: true}}", {"not": {"field": ".n", "is_null": True}}),
        (
            "{all: [{field: n, contains: a}, {any: [{field: n, matches: '^a'}]}]}",
            {"all": [{"field": ".n", "contains": "a"}, {"any": [{"field": ".n", "matches": "^a"}]}]},
        ),
        ("{field: var.mode, equals: fast}", {"all": []}),
        ("{field: var.mode, equals: slow}", {"any": []}),
        ("{field: n, equals: ((var.mode))}", {"field": ".n", "equals": "fast"}),
    ],
)
def test_conditions(when: str, plain: dict[str, object]) -> None:
    """A tree of operators becomes a condition on the data; config is decided at once."""
    steps = f"- name: a\n  config: {{run: x}}\n  outputs: [n]\n- name: b\n  config: {{run: x}}\n  when: {when}"

    definition = load_steps(steps, mode="fast").definition

    assert definition.place("b").step.values["when"] == ConditionTree(plain)


def test_a_step_asked_in_a_condition_is_recorded() -> None:
    """`steps.<name>.exit_code` in a condition makes that step record it."""
    steps = "- {name: a, config: {run: x}}\n- {name: b, config: {run: x}, when: {field: steps.a.exit_code, equals: 0}}"

    first, second = load_steps(steps).definition.steps

    assert first.config["record"] == ["exit_code"]
    assert second.values["when"] == ConditionTree({"field": '."steps.a".exit_code', "equals": 0})


BAD = [
    (
        "- name: a\n  config: {run: x}\n  retyr: 2",
        "7:7: workflow.steps[0].retyr: a step has no key 'retyr'; did you mean 'retry'?",
    ),
    (
        "- name: a\n  config: {rn: x}",
        "6:15: workflow.steps[0].config: the step has neither 'run' nor 'file'; expected one of them",
        "6:16: workflow.steps[0].config.rn: the config of a shell step has no key 'rn'; did you mean 'run'?",
    ),
    (
        "- config: {run: x}",
        "5:7: workflow.steps[0]: the key 'name' is missing; expected name: text",
    ),
    (
        "- name: a",
        "5:7: workflow.steps[0]: the step says nothing of what to do; expected one of config (with type), parallel, steps",
    ),
    (
        "- {name: a, config: {run: x}, parallel: []}",
        "5:7: workflow.steps[0]: the step has parallel and config; expected one of config (with type), parallel, steps",
        "5:45: workflow.steps[0].parallel: the list is empty; expected at least one step",
    ),
    (
        "- {name: a, config: {run: x}}\n- {name: a, config: {run: y}}",
        (
            "6:7: workflow.steps[1].name: the name 'a' is used twice; first by the step at line 5, column 7; "
            "expected names that are unique in the workflow"
        ),
    ),
    (
        "- {name: a, config: {run: x}, timeout: soon}",
        (
            "5:44: workflow.steps[0].timeout: the text 'soon' is not right here; expected a duration such as 250ms, 30s, 5m, 2h, "
            "1d or 1h30m, or an integer of milliseconds"
        ),
    ),
    (
        "- {name: a, config: [run]}",
        "5:25: workflow.steps[0].config: a list is not right here; expected a map",
    ),
    (
        "- {name: a, config: {run: x}, for_each: [1]}",
        "5:35: workflow.steps[0].for_each: the key 'for_each' is not supported by this version",
    ),
    (
        "- {name: a, config: {run: x}, error_behavior: {type: rety}}",
        (
            "5:58: workflow.steps[0].error_behavior.type: 'rety' is not one of the choices; expected one of retry, suspend, "
            "terminate, fail, compensate, continue; did you mean 'retry'?"
        ),
    ),
    (
        "- {name: a, config: {run: x}, error_behavior: {type: fail, interval: 1s}}",
        "5:64: workflow.steps[0].error_behavior.interval: the key 'interval' belongs to rules of type retry",
    ),
    (
        "- {name: a, config: {run: x}, retry: 1, error_behavior: {type: retry}}",
        "5:35: workflow.steps[0].retry: the step has both 'retry' and an error_behavior of type retry; expected one of the two",
    ),
    (
        "- {name: a, config: {run: x}, when: {field: .n}}",
        (
            "5:41: workflow.steps[0].when: the condition has field; expected 'field' and exactly one of equals, not_equals, gt, gte, "
            "lt, lte, contains, is_null, is_not_null, exists, matches"
        ),
    ),
    (
        "- {name: a, config: {run: x}, when: {field: .n, eqals: 1}}",
        "5:53: workflow.steps[0].when.eqals: a condition has no key 'eqals'; did you mean 'equals'?",
    ),
    (
        "- {name: a, config: {run: x}, when: {field: .n, gt: [1]}}",
        "5:57: workflow.steps[0].when.gt: gt takes a number or text, got [1]",
    ),
    (
        "- {name: a, config: {run: x, env: {A: ((inputs))}}}",
        "5:43: workflow.steps[0].config.env.A: 'inputs' needs a name; expected inputs.<name>",
    ),
    (
        "- {name: a, config: {run: x}, timeout: ((inputs.t))}",
        "5:44: workflow.steps[0].timeout: ((inputs.t)) is known only when the step runs; expected config values (var.<name>) here",
    ),
    (
        "- name: a\n  config:\n    run: |\n      cat <<'E'\n      ((steps.a.stdout))\n      E",
        (
            "7:14: workflow.steps[0].config.run: line 2 of the script: ((steps.a.stdout)) stands in a here-document whose delimiter "
            "is quoted, where no value can be put safely; expected the value to be put into a variable first, as in value=((name)), "
            'and "$value" here'
        ),
    ),
]


@pytest.mark.parametrize("case", BAD, ids=[case[0][:40] for case in BAD])
def test_bad_steps(case: tuple[str, ...]) -> None:
    """Each problem says where, what, what is expected, and the nearest name."""
    steps, *expected = case

    found = [error.removeprefix("<text>:") for error in errors_of_steps(steps)]

    # Problems of a step are alone, but for warnings of fields that nothing declares.
    assert found == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("wokflow: {}", "<text>:1:1: wokflow: a file has no key 'wokflow'; did you mean 'workflow'?"),
        ("- a", "<text>:1:1: a list where a file is meant; expected a map"),
        ("x", "<text>:1:1: the text 'x' where a file is meant; expected a map"),
        ("workflows: []", "<text>:1:12: workflows: the list is empty; expected at least one workflow"),
        (
            "workflow: {id: w, version: one, steps: [{name: a, config: {run: x}}]}",
            "<text>:1:28: workflow.version: the text 'one' is not right here; expected an integer of at least 1",
        ),
        (
            "workflow: {id: w, version: 1, outputs: {n: int}, steps: [{name: a, config: {run: x}}]}",
            "<text>:1:41: workflow.outputs.n: no step has an output 'n'; expected it to be named under the outputs of a step",
        ),
        (
            "workflow: {id: w, version: 1, inputs: {n: intt}, steps: [{name: a, config: {run: x}}]}",
            (
                "<text>:1:43: workflow.inputs.n: 'intt' is not a type; expected string, number, integer, bool, any, list<T> or "
                "map<T>, each with ? for 'or null'; did you mean 'int'?"
            ),
        ),
        (
            (
                "workflows:\n- {id: w, version: 1, steps: [{name: a, config: {run: x}}]}\n"
                "- {id: w, version: 1, steps: [{name: a, config: {run: x}}]}"
            ),
            "<text>:3:3: workflows[1]: id 'w' with version 1 is also that of workflows[0]; expected unique ids",
        ),
    ],
)
def test_bad_files(text: str, error: str) -> None:
    """A file that is wrong at the top says so."""
    assert error in errors_of(text)


def test_all_problems_are_told_at_once() -> None:
    """One run of the author's patience suffices: problems come together, in the order of the file."""
    errors = errors_of(
        "workflow:\n  idd: w\n  version: 0\n  steps:\n    - {nam: a, config: {run: 'echo ((var.x))'}}\n    - 5\n"
    )

    assert [error.split(": ")[0] for error in errors] == [
        "<text>:2:3",
        "<text>:2:3",
        "<text>:3:12",
        "<text>:5:7",
        "<text>:5:8",
        "<text>:5:30",
        "<text>:6:7",
    ]


def test_problems_of_values_behind_an_alias_name_the_anchor() -> None:
    """A bad value that comes by alias is told where it is written."""
    errors = errors_of("x-t: &t soon\nworkflow: {id: w, version: 1, steps: [{name: a, config: {run: x}, timeout: *t}]}")

    assert errors[0].startswith("<text>:1:6: workflow.steps[0].timeout: the text 'soon' is not right here")


def test_lenient_loading_warns_of_unknown_keys() -> None:
    """Without strict, unknown keys are warnings and the rest holds."""
    (compiled,) = load_workflows(
        "workflow: {id: w, version: 1, foo: 1, steps: [{name: a, config: {run: x}}]}", strict=False
    )

    assert [str(warning) for warning in compiled.warnings] == [
        (
            "<text>:1:31: workflow.foo: a workflow has no key 'foo'; expected one of id, version, name, description, inputs, outputs, "
            "strict_outputs, error_behavior, timeout, env, defaults, services, shared_volume, concurrency, triggers, steps"
        )
    ]


def test_a_file_is_given_as_a_path(tmp_path: Path) -> None:
    """A path object is a file, whose name stands in its problems; a file's name as text is refused with that advice."""
    file = tmp_path / "w.yaml"
    file.write_text("workflow: {id: w, version: 1, steps: [{name: a, config: {run: x}}]}", "utf-8")

    assert load_workflow(file).definition.id == "w"
    with pytest.raises(YamlError, match=r"is the name of a file; expected YAML text, or a path object for a file"):
        load_workflow(str(file))


def test_problems_name_their_file(tmp_path: Path) -> None:
    """Each problem begins with file, line and column."""
    file = tmp_path / "w.yaml"
    file.write_text("workflow: []", "utf-8")

    with pytest.raises(YamlError) as caught:
        load_workflow(file)

    assert str(caught.value) == f"{file}:1:11: workflow: a list is not right here; expected a map"


def test_several_workflows() -> None:
    """A file may hold several; `load_workflow` wants exactly one."""
    text = "workflows:\n- {id: v, version: 1, steps: [{name: a, config: {run: x}}]}\n- {id: w, version: 1, steps: [{name: a, config: {run: x}}]}"

    assert [workflow.definition.id for workflow in load_workflows(text)] == ["v", "w"]
    with pytest.raises(DefinitionError, match=r"the file has 2 workflows \(v, w\)"):
        load_workflow(text)


def test_the_same_text_gives_equal_definitions() -> None:
    """Loading is a function of text and config; the hash does not depend on the config of steps."""
    text = HEAD + "    - {name: a, config: {run: 'echo ((var.x))'}}\n"

    assert load(text, x=1).definition == load(text, x=2).definition

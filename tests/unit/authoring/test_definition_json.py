from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.unit.authoring.plans import definitions
from wfe.authoring import WorkflowBuilder
from wfe.model.conditions import ref
from wfe.model.definition import Code, Policies, WorkflowDefinition
from wfe.model.errors import DefinitionError
from wfe.model.policies import Fixed, Retry, RetryPolicy


def pay(context: object) -> None: ...


@given(definition=definitions())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_plan_comes_back_from_json(definition: WorkflowDefinition[Any]) -> None:
    """Reading what was written gives the same plan, hash and policies, and writing that gives the same text."""
    text = definition.to_json()

    again = WorkflowDefinition.from_json(text)

    assert again.hash == definition.hash
    assert again.root == definition.root
    assert again.default_policies == definition.default_policies
    assert {each.id: again.policies_of(each.id) for each in again.steps} == {
        each.id: definition.policies_of(each.id) for each in definition.steps
    }
    assert (again.name, again.description, again.version) == (
        definition.name,
        definition.description,
        definition.version,
    )
    assert (again.workflow_timeout, again.strict_data) == (definition.workflow_timeout, definition.strict_data)
    assert again.to_json() == text


def test_callables_are_labels() -> None:
    """Code does not travel: a body is its step type, a mapping its label; conditions as data do."""
    definition = WorkflowBuilder().then(pay).when(ref("a") > 1).input("x", lambda data: 1)
    with pytest.raises(DefinitionError):
        definition.build("w")  # the function has no argument x
    built = WorkflowBuilder().then("named").when(ref("a") > 1).input("x", lambda data: 1).build("w")

    (step,) = WorkflowDefinition.from_json(built.to_json()).steps

    assert step.step_type == "named"
    assert step.values["when"] == built.steps[0].values["when"]
    assert isinstance(step.values["input.x"], Code)
    assert "lambda" in step.values["input.x"].label


def test_exception_classes_become_names() -> None:
    """Classes in an error rule are written as names, a predicate of a retry policy is left out."""
    definition = (
        WorkflowBuilder()
        .then(pay)
        .on_error(Retry(on=(ValueError, "OtherError")))
        .then(pay)
        .retry(RetryPolicy(2, Fixed(1), retryable=lambda error: True))
        .build("w")
    )

    again = WorkflowDefinition.from_json(definition.to_json())

    assert again.policies_of("pay") == Policies(Retry(on=("builtins.ValueError", "OtherError")))
    assert again.policies_of("pay-2") == Policies(retry=RetryPolicy(2, Fixed(1)))


def test_unknown_fields_are_passed_over() -> None:
    """A newer writer may add fields."""
    plain = json.loads(WorkflowBuilder().then(pay).build("w").to_json())
    plain["colour"] = plain["steps"][0]["colour"] = "red"

    assert WorkflowDefinition.from_json(json.dumps(plain)).steps[0].id == "pay"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format 2"),
        ({"format": "x"}, "not a definition"),
        ({"version": 0}, "version"),
        ({"id": ""}, "must not be empty"),
        ({"steps": [{"id": "a", "kind": "nonsense"}]}, "nonsense"),
        ({"steps": [{"id": "a", "kind": "body"}, {"id": "a", "kind": "body"}]}, "given twice"),
        ({"steps": [{"id": "", "kind": "body"}]}, "must not be empty"),
        ({"steps": [{"id": "a", "kind": "body", "container": "b"}]}, "which no step before it has"),
        ({"steps": [{"id": "a", "kind": "body", "container": "a"}]}, "which no step before it has"),
        ({"steps": [{"id": "a", "kind": "body", "block": 3}]}, "block 3"),
        ({"steps": [{"id": "a", "kind": "body", "go_to": "b"}]}, "no such step"),
        ({"default_policies": {"error": {"type": "simple", "rule": "explode"}}}, "no error rule 'explode'"),
        (
            {"default_policies": {"retry": {"max_attempts": 0, "backoff": {"type": "fixed", "interval_us": 1}}}},
            "at least 1",
        ),
    ],
)
def test_what_is_no_plan_is_refused(change: dict[str, Any], says: str) -> None:
    """Text of another form is a DefinitionError that says what is wrong."""
    plain = {"format": 1, "id": "w", "version": 1} | change

    with pytest.raises(DefinitionError, match=says):
        WorkflowDefinition.from_json(json.dumps(plain))


@pytest.mark.parametrize("text", ["", "[]", "{", b"\xff", "3"])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    """Text that is no JSON object is a DefinitionError."""
    with pytest.raises(DefinitionError, match="not a definition in JSON"):
        WorkflowDefinition.from_json(text)

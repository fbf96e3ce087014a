"""Declared inputs: every start checks them and fills in defaults, whoever starts."""

from __future__ import annotations

import pytest

from tests.scenarios.stage import SECONDS, Context
from wfe import DataError, WorkflowBuilder, WorkflowDefinition, WorkflowHost, WorkflowStatus, load_workflow

TEXT = """
workflow:
  id: deploy
  version: 1
  inputs:
    target: {type: string, default: staging}
    files: list<string>
    retries: {type: integer, default: 2}
    note: string?
  steps:
    - name: go
      type: go
"""


async def go(context: Context) -> None:
    context.data["done"] = True


@pytest.fixture
def deploy(host: WorkflowHost) -> str:
    """A workflow with declared inputs."""
    host.register_step("go", go)
    host.register(load_workflow(TEXT))
    return "deploy"


async def test_a_start_fills_in_defaults(host: WorkflowHost, deploy: str) -> None:
    """What is not given has its default, or null where null is allowed; what is not declared is kept."""
    result = await host.run(deploy, {"files": ["a"], "more": 1}, timeout=SECONDS)

    assert result.data == {
        "target": "staging",
        "files": ["a"],
        "retries": 2,
        "note": None,
        "more": 1,
        "done": True,
    }


async def test_a_start_names_all_wrong_inputs(host: WorkflowHost, deploy: str) -> None:
    """Missing ones and ones of another type stand in one error, and nothing is started."""
    with pytest.raises(DataError) as caught:
        await host.start_workflow(deploy, {"target": 1, "retries": "2"})

    assert str(caught.value) == (
        "The inputs of 'deploy' are not valid, so nothing was started:\n"
        "  - input 'target' (string): expected text, got 1\n"
        "  - input 'files' (list<string>) is missing\n"
        "  - input 'retries' (integer): expected an integer, got '2'"
    )
    assert (caught.value.path, caught.value.reason) == ("$.target", "input")
    assert len(await host.list_workflows()) == 0


async def test_a_start_of_many_checks_each(host: WorkflowHost, deploy: str) -> None:
    """If the inputs of one are wrong, none is started."""
    with pytest.raises(DataError, match="'files'"):
        await host.start_workflows(deploy, [{"files": []}, {}])

    assert len(await host.list_workflows()) == 0


async def test_a_repeated_start_may_leave_out_what_is_the_default(host: WorkflowHost, deploy: str) -> None:
    """The same id with equal inputs is the same start, whether defaults are written out or not."""
    first = await host.start_workflow(deploy, {"files": []}, id="one")

    again = await host.start_workflow(deploy, {"files": [], "target": "staging"}, id="one")

    assert first == again == "one"


async def test_a_child_is_held_to_its_inputs(host: WorkflowHost, deploy: str) -> None:
    """Inputs of a child are checked too: a wrong one fails the step of the parent, naming the input."""
    parent = WorkflowBuilder().sub_workflow(deploy, inputs={"files": ["a"]}, outputs={"target": "target"}).build("good")
    wrong = WorkflowBuilder().sub_workflow(deploy, inputs={"files": "a"}).build("wrong")

    good = await host.run(parent, {}, timeout=SECONDS)
    bad = await host.run(wrong, {}, timeout=SECONDS)

    assert (good.status, good.data["target"]) == (WorkflowStatus.COMPLETE, "staging")
    assert bad.status is WorkflowStatus.FAILED
    assert "input 'files' (list<string>): expected a list, got 'a'" in str(bad.error)


async def test_settings_of_a_python_step_are_filled_in(host: WorkflowHost) -> None:
    """Expressions in the config of a registered step have their values when it runs; nothing leads to null."""
    seen: list[object] = []

    async def mail(context: Context) -> None:
        seen.append(dict(context.step.config))

    host.register_step("mail", mail)
    host.register(
        load_workflow(
            "workflow: {id: w, version: 1, inputs: {to: string, list: any?}, steps: [{name: send, type: mail, config: "
            "{subject: 'For ((to))', copies: ((list)), nested: {of: [((workflow.definition_id))]}, plain: 1}}]}"
        )
    )

    await host.run("w", {"to": "Ann", "list": [1, 2]}, timeout=SECONDS)

    assert seen == [{"subject": "For Ann", "copies": [1, 2], "nested": {"of": ["w"]}, "plain": 1}]


async def test_a_plan_read_from_the_store_declares_the_same(host: WorkflowHost) -> None:
    """Inputs are part of the plan's text, so that a start from it checks them as well."""
    host.register_step("go", go)
    definition = WorkflowDefinition.from_json(load_workflow(TEXT).definition.to_json())

    with pytest.raises(DataError, match="'files'"):
        await host.start_workflow(definition, {})

    result = await host.run(definition, {"files": []}, timeout=SECONDS)
    assert result.data["target"] == "staging"

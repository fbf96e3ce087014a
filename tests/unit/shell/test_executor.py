# ruff: noqa: E501 - documents and messages stand in one piece, as users see them
from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from wfe.authoring.yaml import load_workflow
from wfe.executors.shell import ShellStepError, ShellStepExecutor
from wfe.model.errors import StepFailed, StepTimeout
from wfe.ports.executor import StepExecutor, StepRequest


class Step:
    """A shell step as a host would run it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.executor: StepExecutor = ShellStepExecutor(grace=timedelta(seconds=0.2))
        self.log: list[tuple[str, str]] = []
        self.cancelled = asyncio.Event()

    async def run(
        self, config: Mapping[str, object], data: Mapping[str, object] | None = None, timeout: timedelta | None = None
    ) -> Mapping[str, object]:
        request = StepRequest(
            step_id="s1",
            step_name="build",
            config=config,
            data=data or {},
            workflow_id="w-1",
            definition_id="ci",
            attempt=1,
            idempotency_key="w-1:4",
            log=lambda stream, text: self.log.append((stream, text)),
            cancelled=self.cancelled,
            timeout=timeout,
        )
        return await self.executor.execute(request)


@pytest.fixture
def step(tmp_path: Path) -> Step:
    return Step(tmp_path)


def config_of(step: str, **config: object) -> dict[str, object]:
    text = f"workflow:\n  id: w\n  version: 1\n  inputs: {{branch: string}}\n  steps:\n    - {step}\n"
    return load_workflow(text, config).definition.steps[0].config


async def test_outputs_are_what_is_merged(step: Step) -> None:
    """What the script gave becomes data, typed by form."""
    answer = await step.run({"run": "echo '##wfe[output n=5]'; echo v=1.10 >> \"$WFE_OUTPUT\""})

    assert answer == {"n": 5, "v": "1.10"}


async def test_declared_outputs_select_and_type(step: Step) -> None:
    """With declared outputs only these are handed on; a missing one is null and told."""
    config = config_of(
        '{name: a, config: {run: "echo v=1.10 >> $WFE_OUTPUT; echo w=1 >> $WFE_OUTPUT"}, outputs: [{name: v, type: number}, q]}'
    )

    answer = await step.run(config)

    assert answer == {"v": 1.1, "q": None}
    assert ("stderr", "wfe: the step gave no output 'q'; it is null") in step.log


async def test_an_output_of_the_wrong_type_fails(step: Step) -> None:
    """A declared type is a promise to the following steps."""
    with pytest.raises(
        ShellStepError, match=r"The output 'v' is not of its declared type number: expected a number, got 'x'"
    ):
        await step.run({"run": 'echo v=x >> "$WFE_OUTPUT"', "outputs": {"v": "number"}})


async def test_data_reach_the_script_by_variable_and_expression(step: Step) -> None:
    """Data are variables, declared inputs have a prefix, expressions keep any value in one word."""
    script = 'printf "%s|" "$BRANCH" "$INPUT_BRANCH" ((inputs.branch)) "$GREETING"'
    config = config_of(f"{{name: a, config: {{run: '{script}', env: {{GREETING: 'hi ((branch))'}}}}}}")

    await step.run(config, {"branch": "a  b; exit 9 *"})

    assert step.log == [("stdout", "a  b; exit 9 *|a  b; exit 9 *|a  b; exit 9 *|hi a  b; exit 9 *|")]


async def test_a_missing_value_is_empty_and_told(step: Step) -> None:
    """An expression without a value is empty text, which the log says."""
    config = config_of("{name: a, config: {run: 'echo [((inputs.branch))]'}}")

    await step.run(config)

    assert step.log == [("stderr", "wfe: branch has no value; it is passed as empty"), ("stdout", "[]")]


async def test_recorded_fields(step: Step) -> None:
    """What other steps ask of this one is recorded under its name."""
    answer = await step.run(
        {
            "run": "echo out; echo err >&2; echo '##wfe[output a=1]'",
            "record": ["exit_code", "outputs", "stderr", "stdout"],
        }
    )

    assert answer == {
        "a": 1,
        "steps.build": {"exit_code": 0, "outputs": {"a": 1}, "stderr": "err", "stdout": "out\n##wfe[output a=1]"},
    }


async def test_recorded_text_is_bounded(step: Step) -> None:
    """Only the ends of a long text go into the data."""
    answer = await step.run({"run": "head -c 500000 /dev/zero | tr '\\0' x", "record": ["stdout"]})

    recorded = answer["steps.build"]
    assert isinstance(recorded, dict)
    assert len(recorded["stdout"]) < 70_000
    assert "… 434464 characters left out …" in recorded["stdout"]


async def test_the_engines_own_variables(step: Step) -> None:
    """A script can tell which step of which instance it is, and tell repeats by the key."""
    await step.run({"run": 'echo "$WFE_WORKFLOW_ID $WFE_DEFINITION_ID $WFE_STEP $WFE_ATTEMPT $WFE_IDEMPOTENCY_KEY"'})

    assert step.log == [("stdout", "w-1 ci build 1 w-1:4")]


async def test_a_failure_shows_the_last_lines(step: Step) -> None:
    """The message has the exit code and the end of what the script printed."""
    with pytest.raises(ShellStepError) as caught:
        await step.run({"run": "for i in $(seq 100); do echo line $i >&2; done; exit 4"})

    assert caught.value.exit_code == 4
    assert caught.value.code == "command_failed"
    assert str(caught.value).startswith("The command exited with code 4. Its last lines were:\n  line 81\n")
    assert str(caught.value).endswith("  line 100")


@pytest.mark.parametrize(("limit", "own"), [(timedelta(seconds=0.1), None), (None, 100), (timedelta(hours=1), 100)])
async def test_a_timeout_is_an_error_of_its_own(step: Step, limit: timedelta | None, own: int | None) -> None:
    """The shorter of the step's two limits holds."""
    config: dict[str, object] = {"run": "echo begun; sleep 1000"} | ({"timeout_ms": own} if own else {})

    ended = r"its command was ended( \(\d+ process(es)? killed\))?\."
    with pytest.raises(StepTimeout, match=rf"Step 'build' timed out after 100ms; {ended}"):
        await step.run(config, timeout=limit)


async def test_cancel_is_a_failure(step: Step) -> None:
    """A step that was told to end does not count as done."""
    step.cancelled.set()

    with pytest.raises(StepFailed, match="because the step was cancelled"):
        await step.run({"run": "sleep 1000"})


async def test_reserved_data_names_are_noted_once(step: Step) -> None:
    """What is not exported is said in the step's log."""
    await step.run({"run": "echo $LD_PRELOAD."}, {"ld_preload": "/x", "path": "/y"})

    notes = [text for stream, text in step.log if stream == "stderr"]
    assert len(notes) == 1
    assert "'ld_preload', 'path'" in notes[0]
    assert ("stdout", ".") in step.log

"""What newcomers stumbled over."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from wfe import (
    ConfigurationError,
    StepExecutionContext,
    WaitTimeout,
    WorkflowBuilder,
    WorkflowHost,
    WorkflowStatus,
    load_workflow,
    run_workflow_sync,
)
from wfe.model.context import CancelFlag

PIPELINE = """
workflow:
  id: pipeline
  version: 1
  steps:
    - {name: count, config: {run: "echo '##wfe[output found=3]'"}}
"""


def test_a_compiled_pipeline_runs_without_further_ado() -> None:
    """A host that is given a pipeline with shell steps brings the executor for them."""
    result = run_workflow_sync("memory:", load_workflow(PIPELINE), timeout=20)  # type: ignore[arg-type]  # a compiled one will do

    assert result.status is WorkflowStatus.COMPLETE
    assert result.data == {"found": 3}


def test_a_cancel_flag_is_false_until_it_is_set() -> None:
    """`while not context.cancelled` means what it says."""
    flag = CancelFlag()

    before = bool(flag)
    flag.set()

    assert (before, bool(flag)) == (False, True)


async def test_overwritten_fields_are_logged(host: WorkflowHost, caplog: pytest.LogCaptureFixture) -> None:
    """Parallel branches that write one field leave a warning in the log which names field and step."""

    async def count(context: StepExecutionContext) -> None:
        context.data["n"] += 1

    definition = WorkflowBuilder().for_each([1, 2], lambda b: b.start_with(count)).build("counting")

    with caplog.at_level(logging.WARNING, "wfe.host"):
        await host.run(definition, {"n": 0}, timeout=10)

    assert any("overwrote 'n'" in message for message in caplog.messages)


async def test_a_duration_that_is_none_is_an_error_of_wfe(host: WorkflowHost) -> None:
    """A timeout that cannot be read is refused with what is expected."""
    with pytest.raises(ConfigurationError, match="expected a timedelta"):
        await host.wait("anything", timeout="5 parsecs")


async def test_a_status_that_is_none_is_an_error_of_wfe(host: WorkflowHost) -> None:
    """A status that does not exist is refused with those that do."""
    with pytest.raises(ConfigurationError, match="statuses are runnable, suspended"):
        await host.list_workflows(status="faild")


async def test_a_wait_that_was_too_short_says_how_the_instance_stands(host: WorkflowHost) -> None:
    """The message names the time that was given and the present status."""
    instance_id = await host.start_workflow(WorkflowBuilder().delay("1d").build("long"))

    with pytest.raises(WaitTimeout, match=r"has not ended within 50ms\. It is runnable\."):
        await host.wait(instance_id, timeout=0.05)


def test_a_program_that_is_run_has_the_step_types_of_its_module(tmp_path: Path) -> None:
    """The plan of `python defs.py` is the plan of `import defs`: one store serves both."""
    (tmp_path / "defs.py").write_text(
        "from wfe import WorkflowBuilder\n"
        "def work(context): ...\n"
        "plan = WorkflowBuilder().start_with(work).build('w')\n"
        "if __name__ == '__main__': print(plan.hash)\n"
    )

    run = [subprocess.check_output([sys.executable, *how], cwd=tmp_path) for how in (
        ["defs.py"], ["-m", "defs"], ["-c", "import defs; print(defs.plan.hash)"],
    )]  # fmt: skip

    assert len(set(run)) == 1

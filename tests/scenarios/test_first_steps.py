"""What newcomers stumbled over."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.stage import StartHost
from wfe import (
    ConfigurationError,
    DefinitionError,
    StepExecutionContext,
    WaitTimeout,
    WorkflowBuilder,
    WorkflowHost,
    WorkflowStatus,
    load_workflow,
    run_workflow_sync,
    step,
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
    result = run_workflow_sync("memory:", load_workflow(PIPELINE), timeout=20)  # type: ignore[call-overload]  # a compiled one will do

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


async def test_a_single_status_will_do_for_until(host: WorkflowHost) -> None:
    """`until` takes one status as well as several."""
    instance_id = await host.start_workflow(WorkflowBuilder().delay("1d").build("long"))
    await host.suspend_workflow(instance_id)

    result = await host.wait(instance_id, timeout=10, until=WorkflowStatus.SUSPENDED)

    assert result.status is WorkflowStatus.SUSPENDED


async def test_a_place_of_a_limited_type_goes_to_the_next_that_wants_it(host: WorkflowHost) -> None:
    """A body that was cancelled while it waited for a place of its type does not keep the place from the next one."""
    gate = asyncio.Event()

    @step(concurrency=1)
    async def one_at_a_time(context: StepExecutionContext) -> None:
        await gate.wait()

    definition = WorkflowBuilder().start_with(one_at_a_time).build("limited")
    first, second, third = [await host.start_workflow(definition) for _ in range(3)]
    await host.cancel_workflow(second)

    gate.set()

    results = [await host.wait(each, timeout=10) for each in (first, third)]
    assert [result.status for result in results] == [WorkflowStatus.COMPLETE] * 2


async def test_a_changed_structure_is_refused_while_the_host_runs(start_host: StartHost) -> None:
    """Every start of a definition whose id and version unfinished instances use otherwise is refused."""
    host = await start_host(WorkflowBuilder().delay("1d").build("changing"))
    await host.start_workflow("changing")
    host.deregister("changing", 1)
    changed = WorkflowBuilder().delay("1d").delay("1d").build("changing")
    host.register(changed)

    starts = await asyncio.gather(*(host.start_workflow(changed) for _ in range(4)), return_exceptions=True)

    assert [type(outcome) for outcome in starts] == [DefinitionError] * 4

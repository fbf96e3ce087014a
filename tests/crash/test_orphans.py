"""What a host has started dies with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.crash.waiting import until
from wfe import StepExecutionContext, step

pytestmark = [pytest.mark.crash, pytest.mark.slow]

_ROOT = Path(__file__).parents[2]
_GONE_SECONDS = 5.0
_PROGRAM = """
import asyncio, sys
from tests.crash.test_orphans import hang
from wfe import WorkflowBuilder, WorkflowHost

async def main():
    async with WorkflowHost(sys.argv[1]) as host:
        definition = WorkflowBuilder().start_with(hang).build("hangs")
        await host.wait(await host.start_workflow(definition, {"note": sys.argv[2]}))

if __name__ == "__main__":
    asyncio.run(main())
"""


@step(executor="process")
def hang(context: StepExecutionContext[dict[str, Any]]) -> None:
    """Tell the process id, and stay."""
    Path(context.data["note"]).write_text(str(os.getpid()))
    time.sleep(600)


def test_process_of_a_body_dies_with_its_host(tmp_path: Path) -> None:
    """When a host is killed (SIGKILL), the process in which a body of it runs is gone within five seconds."""
    program, note = tmp_path / "program.py", tmp_path / "pid"
    program.write_text(_PROGRAM)
    command = [sys.executable, str(program), f"sqlite:///{tmp_path}/wfe.db", str(note)]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(_ROOT)]))
    host = subprocess.Popen(command, cwd=_ROOT, env=os.environ | {"PYTHONPATH": path})
    try:
        until(lambda: note.exists() and note.read_text().isdigit(), "the body runs")
        body = int(note.read_text())
        assert _is_there(body)
    finally:
        host.kill()
        host.wait()

    until(lambda: not _is_there(body), "the process of the body is gone", seconds=_GONE_SECONDS)


def _is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"

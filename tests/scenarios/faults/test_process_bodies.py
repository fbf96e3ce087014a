"""Bodies in processes of their own that die, hang or answer what cannot be sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.scenarios.faults import process_bodies
from tests.scenarios.faults.conftest import StartHost
from wfe import WorkflowBuilder, WorkflowStatus

pytestmark = pytest.mark.slow

_BODIES = [
    process_bodies.exits,
    process_bodies.is_killed,
    process_bodies.raises,
    process_bodies.gives_an_object,
]


@pytest.mark.parametrize("body", _BODIES)
async def test_dead_process_fails_its_step_alone(start_host: StartHost, body: Callable[..., Any]) -> None:
    """A body whose process dies, or whose error or answer cannot be sent, fails its step; later ones run."""
    bad = WorkflowBuilder().start_with(body).build("bad")
    good = WorkflowBuilder().start_with(process_bodies.fine).build("good")
    host = await start_host(bad, good, max_processes=1)

    result = await host.run(bad, timeout=20)
    after = await host.run(good, timeout=20)

    assert result.status is WorkflowStatus.FAILED
    assert (after.status, after.data) == (WorkflowStatus.COMPLETE, {"fine": True})


async def test_hanging_process_fails_at_its_limit(start_host: StartHost) -> None:
    """A body that hangs in a process fails at its time limit, and the host can be stopped at once."""
    bad = WorkflowBuilder().start_with(process_bodies.hangs).timeout(1).build("bad")
    good = WorkflowBuilder().start_with(process_bodies.fine).build("good")
    host = await start_host(bad, good, max_processes=1)

    result = await host.run(bad, timeout=20)
    after = await host.run(good, timeout=20)

    assert result.error is not None
    assert result.error.code == "step_timeout"
    assert after.status is WorkflowStatus.COMPLETE


@pytest.mark.parametrize("fails", [False, True])
async def test_lines_of_a_process_are_handed_over(start_host: StartHost, *, fails: bool) -> None:
    """What a body in a process logs reaches those who listen when it has ended, however it ended."""
    definition = WorkflowBuilder().start_with(process_bodies.talks).id("talks").config(fails=fails).build("w")
    host = await start_host(definition)
    lines: list[tuple[str, str, str, str]] = []
    host.on_log(lambda *line: lines.append(line))

    result = await host.run(definition, timeout=20)

    assert (str(result.error) == "broken") is fails
    assert lines == [(result.id, "talks", "stdout", "hello"), (result.id, "talks", "stderr", "oops")]

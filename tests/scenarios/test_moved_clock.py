"""A host whose clock is moved by hand: what is due comes at once, and nobody takes the move for a silence."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import pytest

from tests.scenarios.stage import SECONDS, Gate, put
from wfe import MemoryProvider, SQLiteProvider, WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.ports.provider import Provider
from wfe.testing import TestClock

DELAYED = WorkflowBuilder().delay("3d").then(put("after", after=True)).build("delayed")


@pytest.fixture(params=["memory", "sqlite", "sqlite in memory", "memory provider", "sqlite provider"])
def clocked(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str | Provider, TestClock]:
    """A place and the clock for its host; a provider object is made with that clock, too."""
    clock = TestClock()
    places: dict[str, str | Provider] = {
        "memory": "memory:",
        "sqlite": f"sqlite:///{tmp_path / 'wfe.db'}",
        "sqlite in memory": "sqlite:///:memory:",
        "memory provider": MemoryProvider(clock=clock),
        "sqlite provider": SQLiteProvider(tmp_path / "wfe.db", clock=clock),
    }
    return places[request.param], clock


async def test_a_delay_ends_when_the_clock_is_moved(
    clocked: tuple[str | Provider, TestClock], caplog: pytest.LogCaptureFixture
) -> None:
    """Three days pass when the test says so, not before; the session goes on, and nothing stood still."""
    place, clock = clocked
    async with WorkflowHost(place, clock=clock, sweep_interval=0.05) as host:
        instance_id = await host.start_workflow(DELAYED)
        clock.advance(timedelta(days=2))
        await asyncio.sleep(1.2)  # longer than the session's watch takes for a round
        before = await host.get_workflow(instance_id)
        clock.advance(timedelta(days=2))
        result = await host.wait(instance_id, timeout=SECONDS)

    assert (before.status, before.data) == (WorkflowStatus.RUNNABLE, {})
    assert result.data == {"after": True}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_limit_of_what_is_held_comes_when_the_clock_is_moved(
    clocked: tuple[str | Provider, TestClock],
) -> None:
    """The timer of an instance whose body runs rings, too, when the wall clock alone is set forward."""
    place, clock = clocked
    gate = Gate()
    limited = WorkflowBuilder().start_with(gate.body).workflow_timeout("1d").build("limited")
    async with WorkflowHost(place, clock=clock, sweep_interval=0.05, cancel_grace=0.1) as host:
        instance_id = await host.start_workflow(limited)
        await gate.entered()
        clock.set_wall(clock.wall + timedelta(days=2))
        result = await host.wait(instance_id, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert result.error.code == "workflow_timeout"

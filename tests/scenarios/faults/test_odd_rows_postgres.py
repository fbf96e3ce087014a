"""Rows that are missing on PostgreSQL: the instance is seen with the reason, all others end, and the check names it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.scenarios.faults.conftest import eventually
from tests.servers.databases import DatabasePool, execute_sql
from wfe import StepExecutionContext, WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.testing import fsck

Context = StepExecutionContext[dict[str, Any]]

pytestmark = [pytest.mark.postgres, pytest.mark.unsound(reason="what the tests damage is kept as it is")]


async def _count(context: Context) -> None:
    context.data["count"] = 1


_WAITING = WorkflowBuilder().wait_for("go", "now").then(_count).build("waiting")
_OF_BAD = "WHERE n = (SELECT n FROM wfe.instance WHERE id = 'bad')"


async def _two_with_their_event(url: str) -> None:
    async with WorkflowHost(url) as host:
        host.register(_WAITING)
        for each in ("bad", "good"):
            await host.start_workflow("waiting", id=each)
    async with WorkflowHost(url) as without_code:
        await without_code.publish_event("go", "now")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(f"DELETE FROM wfe.document {_OF_BAD}", id="data gone"),
        pytest.param(f"UPDATE wfe.instance SET plan = 999 {_OF_BAD}", id="definition another"),
        pytest.param(f"UPDATE wfe.instance SET plan = 999, wake_at = 5 {_OF_BAD}", id="definition another, and due"),
    ],
)
async def test_a_missing_row_stops_one_instance_alone(postgres_databases: DatabasePool, damage: str) -> None:
    """An instance of which a row is missing is listed with the reason and does not run; the other one ends."""
    url = postgres_databases.take()
    await _two_with_their_event(url)
    await asyncio.to_thread(execute_sql, url, damage)

    async with WorkflowHost(url, sweep_interval=0.1) as host:
        host.register(_WAITING)
        good = await host.wait("good", timeout=10)
        bad = await eventually(lambda: host.get_workflow("bad"), lambda found: bool(found.blocked_reason))
        listed = {each.id: each.blocked_reason for each in await host.list_workflows()}

    assert good.status is WorkflowStatus.COMPLETE
    assert (bad.blocked_reason or "").startswith("state_corrupt")
    assert not bad.status.is_terminal
    assert listed == {"good": None, "bad": bad.blocked_reason}
    assert {finding.instance_id for finding in await fsck(url)} == {"bad"}


@pytest.mark.parametrize("what", ["INDEX wfe.instance_due", "INDEX wfe.event_sequence", "FUNCTION wfe.take_v1"])
async def test_what_is_missing_of_the_schema_is_found(postgres_databases: DatabasePool, what: str) -> None:
    """The check names what somebody has dropped from the schema."""
    url = postgres_databases.take()
    await _two_with_their_event(url)
    assert await fsck(url) == []

    await asyncio.to_thread(execute_sql, url, f"DROP {what}")

    name = what.rpartition(".")[2]
    findings = await fsck(url)
    assert [finding.rule for finding in findings] == ["T10"]
    assert name in findings[0].what

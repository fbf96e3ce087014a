"""Columns that hold what nobody of us writes: one row suffers, is shown with the reason, and the check names it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.faults.conftest import StartHost, eventually
from wfe import DataError, StepExecutionContext, WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.testing import fsck

Context = StepExecutionContext[dict[str, Any]]

pytestmark = pytest.mark.unsound(reason="what the tests damage is kept as it is")


class _Gate:
    """Keeps bodies from ending while it is closed."""

    begun = 0
    is_open = False


async def _count(context: Context) -> None:
    _Gate.begun += 1
    if not _Gate.is_open:
        await asyncio.sleep(3600)  # its host is stopped by force before that
    context.data["count"] = context.data["i"] + 1


_DEFINITION = WorkflowBuilder().start_with(_count).build("counting")
_IDS = [f"i-{number}" for number in range(5)]
_OF_BAD = "WHERE n = (SELECT n FROM instance WHERE id = 'i-2')"
_NOT_UTF8 = "cast(x'ff41' AS text)"

_STUCK = {
    "data gone": f"DELETE FROM document {_OF_BAD}",
    "values gone": f"DELETE FROM context {_OF_BAD}",
    "data a text": f"UPDATE document SET data = '[1]' {_OF_BAD}",
    "pointer a text": f"UPDATE pointer SET state = 'text' {_OF_BAD}",
    "name no UTF-8": f"UPDATE instance SET name = {_NOT_UTF8} {_OF_BAD}",
    "reference no UTF-8": f"UPDATE instance SET reference = {_NOT_UTF8} {_OF_BAD}",
    "parent no UTF-8": f"UPDATE instance SET parent_id = {_NOT_UTF8} {_OF_BAD}",
    "wake time a text": f"UPDATE instance SET wake_at = 'soon' {_OF_BAD}",
    "wake time bytes": f"UPDATE instance SET wake_at = x'00' {_OF_BAD}",
    "wake time beyond all": f"UPDATE instance SET wake_at = 9223372036854775807 {_OF_BAD}",
    "activations a text": f"UPDATE instance SET activations = 'many' {_OF_BAD}",
    "revision a text": f"UPDATE instance SET revision = 'many' {_OF_BAD}",
    "beginning a text": f"UPDATE instance SET created_at = 'yesterday' {_OF_BAD}",
    "definition another": f"UPDATE instance SET definition = 999 {_OF_BAD}",
}
"""What damages one instance so that it cannot go on."""

_HARMLESS = {
    "plan no UTF-8": f"UPDATE definition SET plan = {_NOT_UTF8}",
    "status unknown": f"UPDATE instance SET status = 'dancing' {_OF_BAD}",
    "beginning beyond all": f"UPDATE instance SET created_at = 9223372036854775807 {_OF_BAD}",
    "session ends at a text": "INSERT INTO session (id, name, expires_at, locked) VALUES ('zz', 'n', 'never', 1)",
    "store time a text": "UPDATE batch SET now = 'noon'",
    "markers gone": "DELETE FROM batch",
    "future event at a text": "INSERT INTO future VALUES (7, 'f', 'n', 'k', x'31', 'soon')",
    "name of a future event": f"INSERT INTO future VALUES (7, 'f', {_NOT_UTF8}, 'k', x'31', 5)",
    "holder is nobody": f"UPDATE instance SET owner = 12345 {_OF_BAD}",
}
"""What does not keep any instance from its end."""


async def _five_due(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave five instances that are due: their host was stopped while their bodies ran."""
    monkeypatch.setattr(_Gate, "begun", 0)
    monkeypatch.setattr(_Gate, "is_open", False)
    host = await start_host(_DEFINITION)
    for number, each in enumerate(_IDS):
        await host.start_workflow("counting", {"i": number}, id=each, name=f"n-{number}", reference="r")
    async with asyncio.timeout(20):
        while _Gate.begun < len(_IDS):  # noqa: ASYNC110 - counted by the bodies
            await asyncio.sleep(0.005)
    await host.stop(force=True)
    monkeypatch.setattr(_Gate, "is_open", True)


def _change(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute(statement).rowcount > 0


async def _others_end(host: WorkflowHost, others: list[str]) -> None:
    for each in others:
        end = await host.wait(each, timeout=10)
        assert (end.status, end.data["count"]) == (WorkflowStatus.COMPLETE, end.data["i"] + 1)
    new = await host.start_workflow("counting", {"i": 7})
    assert (await host.wait(new, timeout=10)).status is WorkflowStatus.COMPLETE


def _failed_sweeps(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "sweep" in record.getMessage()]


@pytest.mark.parametrize("what", _STUCK)
async def test_a_damaged_row_stops_one_instance_alone(
    start_host: StartHost,
    database: Path,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever a column holds: its instance shows the reason and does not run, others end, and the check names it."""
    await _five_due(start_host, monkeypatch)
    _change(database, _STUCK[what])

    host = await start_host(_DEFINITION)
    await _others_end(host, [each for each in _IDS if each != "i-2"])
    bad = await eventually(lambda: host.get_workflow("i-2"), lambda found: bool(found.blocked_reason))

    assert (bad.blocked_reason or "").startswith("state_corrupt"), bad.blocked_reason
    assert not bad.status.is_terminal
    assert [each.blocked_reason for each in await host.list_workflows() if each.id == "i-2"] == [bad.blocked_reason]
    assert {finding.instance_id for finding in await fsck(f"sqlite:///{database}")} == {"i-2"}
    assert _failed_sweeps(caplog) == []


@pytest.mark.parametrize("what", _HARMLESS)
async def test_a_damaged_row_that_keeps_nobody_from_going_on(
    start_host: StartHost,
    database: Path,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What does not matter for running keeps nobody from it. The check has named it before."""
    await _five_due(start_host, monkeypatch)
    _change(database, _HARMLESS[what])
    findings = await fsck(f"sqlite:///{database}")

    host = await start_host(_DEFINITION)
    await _others_end(host, _IDS)

    assert findings != []
    assert len(await host.list_workflows()) == len(_IDS) + 1
    assert _failed_sweeps(caplog) == []


@pytest.mark.parametrize("value", [_NOT_UTF8, "x'ff41'"], ids=["no UTF-8", "bytes"])
async def test_an_id_that_is_no_text(
    start_host: StartHost, database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """An instance whose id cannot be read is listed with the reason, under what can be shown of its id."""
    await _five_due(start_host, monkeypatch)
    _change(database, f"UPDATE instance SET id = {value} {_OF_BAD}")

    host = await start_host(_DEFINITION)
    await _others_end(host, [each for each in _IDS if each != "i-2"])
    listed = {each.id: each for each in await host.list_workflows()}

    assert (listed["\\xffA"].blocked_reason or "").startswith("state_corrupt")
    assert {finding.instance_id for finding in await fsck(f"sqlite:///{database}")} == {"\\xffA"}
    assert _failed_sweeps(caplog) == []
    await host.stop()
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT owner FROM instance WHERE n = 3").fetchone() == (None,)


async def test_an_event_passes_by_an_id_that_is_no_text(
    start_host: StartHost, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that reaches an instance whose id cannot be read reaches the others all the same."""
    waiting = WorkflowBuilder().wait_for("go", "now").build("waiting")
    first = await start_host(waiting)
    for each in ("i-1", "i-2", "i-3"):
        await first.start_workflow("waiting", id=each)
    await first.stop()
    _change(database, f"UPDATE instance SET id = {_NOT_UTF8} {_OF_BAD}")

    host = await start_host(waiting)
    other = await start_host()
    await other.publish_event("go", "now")
    ends = [await host.wait(each, timeout=10) for each in ("i-1", "i-3")]
    await eventually(host.list_workflows, lambda page: any(each.blocked_reason for each in page))
    await host.publish_event("go", "now")

    assert [end.status for end in ends] == [WorkflowStatus.COMPLETE] * 2
    assert [record.getMessage() for record in caplog.records if "failed" in record.getMessage()] == []


async def test_a_damaged_status_of_an_ended_instance(
    start_host: StartHost, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for an instance whose end cannot be read is told so, by an error of ours."""
    await _five_due(start_host, monkeypatch)
    host = await start_host(_DEFINITION)
    await _others_end(host, _IDS)
    await host.stop()
    _change(database, f"UPDATE instance SET status = 'dancing' {_OF_BAD}")

    again = await start_host(_DEFINITION)
    with pytest.raises(DataError, match="state_corrupt"):
        await again.wait("i-2", timeout=10)

    assert "dancing" in ((await again.get_workflow("i-2")).blocked_reason or "")

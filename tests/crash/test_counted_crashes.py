"""A step that counts crashes is tried as often as its retry policy says, though each attempt kills its process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.crash.flows import definitions
from tests.crash.ledger import read_ledger
from tests.crash.rounds import Bench, seed_of_run
from tests.crash.snapshot import take_snapshot
from tests.crash.waiting import until
from wfe import StepError, WorkflowHost, WorkflowStatus

pytestmark = [pytest.mark.crash, pytest.mark.slow]


async def _plant(bench: Bench) -> None:
    host = WorkflowHost(bench.url, sweep_interval=60)
    host.register(*definitions())
    async with host:
        later = datetime.now(UTC) + timedelta(seconds=0.3)  # when this host has stopped
        await host.start_workflow("counted", id="counted", start_at=later)


def _has_ended(bench: Bench) -> bool:
    return asyncio.run(take_snapshot(bench.url, bench.ledger)).instances["counted"].status.is_terminal


async def _errors(bench: Bench) -> list[StepError]:
    async with WorkflowHost(bench.url) as host:
        return await host.errors("counted")


def test_sigkill_is_a_failed_attempt(tmp_path: Path) -> None:
    """SIGKILL in the middle of attempts 1 and 2: each counts, the next has the next number, and attempt 3 ends."""
    bench = Bench(f"sqlite:///{tmp_path}/wfe.db", tmp_path, seed_of_run())
    asyncio.run(_plant(bench))

    for _ in range(2):
        with bench.spawn(work=False) as process:
            until(process.has_ended, "the body kills its process", seconds=30)
    with bench.spawn(work=False) as process:
        until(lambda: _has_ended(bench), "the third attempt ends", seconds=30)
        process.finish()

    begun = [entry for entry in read_ledger(bench.ledger) if (entry.what, entry.step) == ("begin", "counted")]
    stored = asyncio.run(take_snapshot(bench.url, bench.ledger)).instances["counted"]
    errors = asyncio.run(_errors(bench))
    assert [entry.attempt for entry in begun] == [1, 2, 3]
    assert len({entry.key for entry in begun}) == 1
    assert (stored.status, stored.data) == (WorkflowStatus.COMPLETE, {"count": 2})
    assert [(error.code, error.attempt) for error in errors] == [("host_died", 1), ("host_died", 2)]

"""An instance whose body kills its host again and again is quarantined."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.crash.flows import CAREFUL, definitions, use_ledger
from tests.crash.ledger import Ledger, read_ledger
from tests.crash.rounds import Bench, seed_of_run
from tests.crash.snapshot import Snapshot, take_snapshot
from tests.crash.waiting import until
from wfe import WorkflowHost, WorkflowStatus
from wfe.host.trials import QUARANTINE_AFTER

pytestmark = [pytest.mark.crash, pytest.mark.slow]

_INNOCENT = 3
_MOST_LIVES = 12


async def _plant(bench: Bench, innocent: int) -> None:
    host = WorkflowHost(bench.url, sweep_interval=60)
    host.register(*definitions())
    async with host:
        later = datetime.now(UTC) + timedelta(seconds=0.5)  # when this host has stopped
        await host.start_workflow("poison", id="poison", start_at=later)
        for number in range(innocent):
            await host.start_workflow("slow", id=f"slow-{number}", start_at=later)


def _look(bench: Bench) -> Snapshot:
    return asyncio.run(take_snapshot(bench.url, bench.ledger))


async def _resume(bench: Bench) -> None:
    ledger = Ledger(bench.ledger, CAREFUL)
    use_ledger(ledger)
    host = WorkflowHost(bench.url, sweep_interval=0.1)
    host.register(*definitions())
    async with host:
        assert await host.resume_workflow("poison")
        assert (await host.wait("poison", timeout=10)).status is WorkflowStatus.COMPLETE
    ledger.close()


def _is_over(bench: Bench) -> bool:
    """Whether the poison is quarantined and the others have ended."""
    stored = _look(bench).instances
    return stored["poison"].status is WorkflowStatus.SUSPENDED and all(
        instance.status.is_terminal for name, instance in stored.items() if name != "poison"
    )


def _live_on(bench: Bench) -> None:
    """Start processes, one after another, until one of them does not die."""
    for _ in range(_MOST_LIVES):
        with bench.spawn(work=False) as process:
            until(
                lambda: process.has_ended() or _is_over(bench),
                "the poison works, or is quarantined and the others end",
                seconds=60,
            )
            if not process.has_ended():
                process.finish()
                return


def test_poison_is_quarantined(tmp_path: Path) -> None:
    """A body that ends its process, as SIGKILL or the memory killer do, does so a few times at most.

    The pauses between grow; then its instance is suspended with the reason, and hosts live. Resumed where it does
    no harm, it ends.
    """
    bench = Bench(f"sqlite:///{tmp_path}/wfe.db", tmp_path, seed_of_run())
    asyncio.run(_plant(bench, innocent=0))

    _live_on(bench)

    poison = _look(bench).instances["poison"]
    begun = [entry for entry in read_ledger(bench.ledger) if entry.what == "begin"]
    assert poison.status is WorkflowStatus.SUSPENDED
    assert any("quarantined" in (event.detail or "") for event in poison.history)
    assert 1 < len(begun) <= QUARANTINE_AFTER + 1
    asyncio.run(_resume(bench))


def test_the_innocent_are_not_quarantined(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Instances that run beside one that kills its hosts are not taken for the culprit: they end as planned."""
    if not pytestconfig.getoption("--full"):
        pytest.skip("takes a minute, so it runs with --full alone, as `make crash` does")
    bench = Bench(f"sqlite:///{tmp_path}/wfe.db", tmp_path, seed_of_run())
    asyncio.run(_plant(bench, innocent=_INNOCENT))

    _live_on(bench)

    stored = _look(bench).instances
    assert [stored[f"slow-{n}"].status for n in range(_INNOCENT)] == [WorkflowStatus.COMPLETE] * _INNOCENT

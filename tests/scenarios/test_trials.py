"""Hosts that die: who killed them is found out, and nobody who was held beside it suffers for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Context, Gate, StartHost, eventually, stands
from wfe import WorkflowBuilder, WorkflowDefinition, WorkflowHost, WorkflowStatus
from wfe.host.trials import QUARANTINE_AFTER, SUSPECT_FROM

_MOST_LIVES = 20


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pauses before further activations, and with groups of a size that few instances fill."""
    monkeypatch.setattr("wfe.host.core.pause_before", lambda _: 0)
    monkeypatch.setattr("wfe.host.trials.pause_before", lambda _: 0)
    monkeypatch.setattr("wfe.host.trials._TOGETHER", {2: 4, 3: 2})


class _Deadly:
    """A body that kills its host; others take a while, so that what they do is lost with the host."""

    def __init__(self) -> None:
        self.kills = asyncio.Event()
        self.begun: Counter[str] = Counter()

    async def poison(self, context: Context) -> None:
        self.begun[context.workflow.id] += 1
        self.kills.set()
        await asyncio.Event().wait()

    async def slow(self, context: Context) -> None:
        self.begun[context.workflow.id] += 1
        await asyncio.sleep(0.05)

    def definitions(self) -> tuple[WorkflowDefinition[Any], ...]:
        return (
            WorkflowBuilder().start_with(self.poison).build("poison"),
            WorkflowBuilder().start_with(self.slow).build("slow"),
        )


async def _die(host: WorkflowHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """End a host as its death does: nothing more is written, and nothing is given back."""

    async def nothing(session: str, holds: object) -> None:
        del session, holds

    monkeypatch.setattr(host._life.core().store, "release", nothing)
    await host.stop(force=True)


@pytest.mark.parametrize("poisons", [1, 2])
async def test_who_is_held_beside_a_poison_instance_ends(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch, poisons: int
) -> None:
    """The culprits alone are quarantined; the others, which never got to a commit beside them, complete."""
    deadly = _Deadly()
    host = await start_host(*deadly.definitions(), sweep_interval=0.02)
    culprits = await host.start_workflows("poison", [{} for _ in range(poisons)])
    innocent = await host.start_workflows("slow", [{} for _ in range(7)])

    async def is_over() -> bool:
        statuses = {each.id: each.status for each in await host.list_workflows()}
        return all(statuses[each] is WorkflowStatus.SUSPENDED for each in culprits) and all(
            statuses[each] is WorkflowStatus.COMPLETE for each in innocent
        )

    async def has_died_or_is_over() -> bool:
        return deadly.kills.is_set() or await is_over()

    for _ in range(_MOST_LIVES):
        await eventually(has_died_or_is_over)
        if not deadly.kills.is_set():
            break
        await _die(host, monkeypatch)
        deadly.kills.clear()
        host = await start_host(*deadly.definitions(), sweep_interval=0.02)

    assert await is_over()
    assert all(deadly.begun[each] <= QUARANTINE_AFTER + 1 for each in culprits)  # one more where they were started
    reasons = [(await host.get_workflow(each)).blocked_reason or "" for each in culprits]
    assert ["quarantined" in each for each in reasons] == [True] * poisons


async def test_a_suspect_waits_visibly_while_another_is_tried(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its reason; an event does not bring it back before its turn, and is not lost."""
    monkeypatch.setattr("wfe.host.trials._TOGETHER", {})
    gate = Gate()
    definition = WorkflowBuilder().start_with(gate.body).build("long")
    waiting = WorkflowBuilder().parallel(gate.body, lambda b: b.wait_for("go", "k", output="got")).build("waits")
    host = await start_host(definition, waiting, sweep_interval=0.02)
    one, two = await host.start_workflow("long"), await host.start_workflow("waits")

    async def both_run() -> bool:
        return gate.runs == 2

    for _ in range(SUSPECT_FROM + 1):
        await eventually(both_run)
        await _die(host, monkeypatch)
        gate.runs = 0
        host = await start_host(definition, waiting, sweep_interval=0.02)

    async def one_is_suspected() -> bool:
        reasons = [(await host.get_workflow(each)).blocked_reason or "" for each in (one, two)]
        return sum("suspected" in reason for reason in reasons) == 1

    await eventually(one_is_suspected)
    await host.publish_event("go", "k", "news")

    assert gate.runs == len(host._life.core().runners) == 1
    gate.open()
    assert (await host.wait(one, timeout=SECONDS)).status is WorkflowStatus.COMPLETE
    assert (await host.wait(two, timeout=SECONDS)).data == {"got": "news"}


async def test_a_suspect_takes_requests(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it waits for its trial."""
    gate = Gate()
    definition = WorkflowBuilder().start_with(gate.body).build("long")
    host = await start_host(definition, sweep_interval=0.02)
    ids = await host.start_workflows("long", [{} for _ in range(6)])
    for _ in range(3):
        await gate.entered()
        await _die(host, monkeypatch)
        gate.again()
        host = await start_host(definition, sweep_interval=0.02)

    for each in ids:
        assert await host.cancel_workflow(each)

    for each in ids:
        await stands(host, each, WorkflowStatus.CANCELLED)

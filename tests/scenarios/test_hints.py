"""What other hosts tell is believed by nobody: it makes a host look, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.scenarios.stage import SECONDS, Gate, StartHost, put, stands
from wfe import WorkflowBuilder, WorkflowStatus
from wfe.ports.hints import Hint, HintKind

_NEVER = 3600
"""Seconds between two sweeps: what a host does, it does for a hint."""


@pytest.mark.parametrize("kind", HintKind)
async def test_a_forged_hint_stops_no_other(
    start_host: StartHost, caplog: pytest.LogCaptureFixture, kind: HintKind
) -> None:
    """Ids that nobody has, or that no store could keep, are forgotten; the host follows the next hint as before."""
    odd = ("nobody", "", "a\x00b", "\ud800", "x" * 100_000, "it~1.2")
    definition = WorkflowBuilder().wait_for("go", "k").then(put("b", done=True)).build("waits")
    here = await start_host(definition, sweep_interval=_NEVER)
    instance_id = await here.start_workflow(definition)
    await here.stop()
    blind = await start_host()  # without the code: it publishes, and leaves the instance to others
    here = await start_host(definition, sweep_interval=_NEVER)
    core = here._life.core()

    for each in odd:
        core.incoming.hear(Hint(kind, (each,)))
    await blind.publish_event("go", "k")
    core.incoming.hear(Hint(HintKind.WORK, (*odd, instance_id)))
    result = await here.wait(instance_id, timeout=SECONDS)

    assert result.data == {"done": True}
    assert not [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]


async def test_a_forged_hint_takes_nothing_that_is_not_due(start_host: StartHost) -> None:
    """Told that what waits, or what another host holds, has work or has ended, a host looks and leaves it as it is."""
    gate = Gate()
    waits = WorkflowBuilder().wait_for("go", "k").build("waits")
    runs = WorkflowBuilder().start_with(gate.body).build("runs")
    one = await start_host(waits, runs, sweep_interval=_NEVER)
    two = await start_host(waits, runs, sweep_interval=_NEVER)
    held, idle = await one.start_workflow(runs), await one.start_workflow(waits)
    await gate.entered()
    core = two._life.core()
    rows = [await core.store.get(each) for each in (held, idle)]

    for kind in HintKind:
        for ids in ((held,), (idle, held, idle), ()):
            core.incoming.hear(Hint(kind, ids))
    while core.tasks:
        await next(iter(core.tasks))

    assert core.runners == {}
    assert [await core.store.get(each) for each in (held, idle)] == rows
    gate.open()
    await stands(one, held, WorkflowStatus.COMPLETE)
    await two.publish_event("go", "k")
    await stands(two, idle, WorkflowStatus.COMPLETE)
    assert gate.runs == 1


async def test_a_hint_meets_what_is_being_given_back(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told of something for an instance that it is just giving back, a host takes it again when that is done."""
    definition = WorkflowBuilder().wait_for("go", "k").then(put("b", done=True)).build("waits")
    here = await start_host(definition, sweep_interval=_NEVER)
    instance_id = await here.start_workflow(definition)
    core = here._life.core()
    release, asked, gate = core.store.release, asyncio.Event(), asyncio.Event()

    async def slow(session: str, holds: Sequence[tuple[str, int]]) -> None:
        asked.set()
        await gate.wait()
        await release(session, holds)

    monkeypatch.setattr(core.store, "release", slow)
    blind = await start_host(sweep_interval=_NEVER)  # without the code; it makes the first give back what waits
    await asyncio.wait_for(asked.wait(), SECONDS)
    hear, heard = core.incoming.hear, asyncio.Event()

    def listen(hint: Hint) -> None:
        hear(hint)
        if instance_id in hint.ids:
            heard.set()

    monkeypatch.setattr(core.incoming, "hear", listen)
    await blind.publish_event("go", "k")
    await asyncio.wait_for(heard.wait(), SECONDS)
    gate.set()

    assert (await here.wait(instance_id, timeout=SECONDS)).data == {"done": True}

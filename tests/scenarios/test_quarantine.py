"""Instances that cannot be decided: what becomes of them, and of what was on its way to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Gate, StartHost, eventually, put, stands, waits
from wfe import WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.engine.advance import advance
from wfe.engine.state import InstanceState
from wfe.model.message import EventMatched, Message

_WAITING = WorkflowBuilder().wait_for("go", "k", output="got").then(put("after", after=True)).build("waits")


class _Broken:
    """The engine cannot decide on events for one instance, until it is mended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, also_suspended: bool = False) -> None:
        self.instance_id = ""
        self._also_suspended = also_suspended
        monkeypatch.setattr("wfe.host.runner.advance", self._advance)
        monkeypatch.setattr("wfe.host.troubles.QUARANTINE_AFTER", 2)  # or the pauses between the attempts would be long

    def _advance(self, definition: Any, state: InstanceState, messages: Sequence[Message], **named: Any) -> Any:
        is_meant = state.id == self.instance_id and any(type(each) is EventMatched for each in messages)
        if is_meant and (self._also_suspended or state.head.status is WorkflowStatus.RUNNABLE):
            raise RuntimeError("cannot be decided")
        return advance(definition, state, messages, **named)

    def mend(self) -> None:
        self.instance_id = ""


async def _history(host: WorkflowHost, instance_id: str) -> list[str]:
    return [str(event.kind) for event in await host.history(instance_id)]


async def test_a_quarantine_loses_no_event(host: WorkflowHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance that cannot be decided is suspended with the reason; resumed, it gets what it could not take."""
    broken = _Broken(monkeypatch)
    broken.instance_id = await host.start_workflow(_WAITING)
    instance_id = broken.instance_id
    await waits(host, instance_id)

    await host.publish_event("go", "k", "news")
    await stands(host, instance_id, WorkflowStatus.SUSPENDED)
    reason = (await host.get_workflow(instance_id)).blocked_reason
    broken.mend()
    assert await host.resume_workflow(instance_id)
    result = await host.wait(instance_id, timeout=SECONDS)

    assert reason == "quarantined: it could not go on: cannot be decided"
    assert result.data == {"got": "news", "after": True}
    assert (await _history(host, instance_id)).count("workflow suspended") == 1


async def test_what_cannot_even_be_suspended_is_kept_aside(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host keeps it without trying all the time, and runs others; the next start of one tries again."""
    broken = _Broken(monkeypatch, also_suspended=True)
    first = await start_host(_WAITING)
    broken.instance_id = await first.start_workflow(_WAITING)
    instance_id = broken.instance_id
    await waits(first, instance_id)
    await first.publish_event("go", "k", "news")
    core = first._life.core()

    async def is_kept_aside() -> bool:
        return instance_id in core.parked

    await eventually(is_kept_aside)
    held = await core.store.held(core.session_id)
    for _ in range(2):
        core.strays._doubt_until = core.monotonic() + 1
        await core.strays.look()

    assert await core.store.held(core.session_id) == held
    assert instance_id in dict(held)
    assert (await first.run(WorkflowBuilder().delay(0.01).build("other"), timeout=SECONDS)).data == {}
    await first.stop()
    broken.mend()
    second = await start_host(_WAITING)
    assert await second.resume_workflow(instance_id)
    assert (await second.wait(instance_id, timeout=SECONDS)).data == {"got": "news", "after": True}


async def test_a_long_body_shows_that_its_instance_is_harmless(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its body has run for long the activation is made to count as good, although nothing has changed."""
    monkeypatch.setattr("wfe.host.sweeper._LONG_ACTIVATION", 0.05)
    gate = Gate()
    definition = WorkflowBuilder().start_with(gate.body).build("long")
    first = await start_host(definition, sweep_interval=3600)
    instance_id = await first.start_workflow(definition)
    await gate.entered()
    await first.stop(force=True)
    gate.again()
    second = await start_host(definition)
    store = second._life.core().store

    async def counts_as_good() -> bool:
        row = await store.get(instance_id)
        return row is not None and row.owner is not None and row.activations == 0

    await gate.entered()
    await eventually(counts_as_good)
    gate.open()

    assert (await second.wait(instance_id, timeout=SECONDS)).status is WorkflowStatus.COMPLETE

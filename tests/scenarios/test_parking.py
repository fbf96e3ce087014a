"""Parked instances: kept aside by their host as nothing of them can be written; tried again later, and for requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, StartHost, eventually, put, waits
from wfe import InvalidStateTransition, WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.engine.inbox import unpack
from wfe.model.errors import ProviderUnavailable, WfeError
from wfe.model.message import EventMatched
from wfe.ports.store import Batch, CommitReply, TransitionWrite

_WAITING = WorkflowBuilder().wait_for("go", "k", output="got").then(put("after", after=True)).build("waits")


class _Refusing:
    """In front of a store's `commit`: refuses batches with transitions of one instance, until it is mended."""

    def __init__(self, host: WorkflowHost, monkeypatch: pytest.MonkeyPatch) -> None:
        self.instance_id = ""
        self.refused = 0
        self.refuses: Callable[[TransitionWrite], bool] = lambda write: True
        store = host._life.core().store
        self._commit = store.commit
        monkeypatch.setattr(store, "commit", self)
        monkeypatch.setattr("wfe.host.troubles.QUARANTINE_AFTER", 2)  # or the pauses between the attempts would be long

    async def __call__(self, batch: Batch) -> CommitReply:
        if any(write.instance_id == self.instance_id and self.refuses(write) for write in batch.transitions):
            self.refused += 1
            raise WfeError("this row cannot be written")
        return await self._commit(batch)

    def mend(self) -> None:
        self.instance_id = ""


async def _parked(host: WorkflowHost, monkeypatch: pytest.MonkeyPatch) -> tuple[_Refusing, str]:
    """Park an instance that waits for an event, when the event has come."""
    store = _Refusing(host, monkeypatch)
    instance_id = await host.start_workflow(_WAITING)
    await waits(host, instance_id)
    store.instance_id = instance_id
    await host.publish_event("go", "k", "news")
    await _is_parked(host, instance_id)
    return store, instance_id


async def _is_parked(host: WorkflowHost, instance_id: str) -> None:
    core = host._life.core()

    async def look() -> bool:
        return instance_id in core.parked

    await eventually(look)


async def test_what_is_parked_is_tried_again(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the store takes it, the instance goes on with a sweep, without a new start of its host."""
    monkeypatch.setattr("wfe.host.parking._FIRST_PAUSE", 0.0)
    host = await start_host(sweep_interval=3600)
    store, instance_id = await _parked(host, monkeypatch)

    store.mend()
    host._life.look_around()

    result = await host.wait(instance_id, timeout=SECONDS)
    assert result.data == {"got": "news", "after": True}
    assert instance_id not in host._life.core().parked


async def test_what_is_parked_waits_for_its_time(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep before that does not try it."""
    host = await start_host(sweep_interval=3600)
    store, instance_id = await _parked(host, monkeypatch)
    tried = store.refused

    await host._life.core().parked.look()

    assert instance_id in host._life.core().parked
    assert store.refused == tried
    store.mend()


async def test_a_parked_instance_is_tried_at_growing_intervals(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each failure doubles the pause, up to the longest, and the log tells the same reason as an error once."""
    monkeypatch.setattr("wfe.host.parking._LONGEST_PAUSE", 200.0)
    host = await start_host(sweep_interval=3600)
    with caplog.at_level(logging.INFO, logger="wfe.host"):
        store, instance_id = await _parked(host, monkeypatch)
        for _ in range(3):
            await host._life.core().parked.try_now(instance_id)
            await _is_parked(host, instance_id)

    told = [record for record in caplog.records if "is tried again in" in record.getMessage()]
    pauses = [float(record.getMessage().partition("again in ")[2].partition(" s")[0]) for record in told]
    assert [record.levelno for record in told] == [logging.ERROR] + [logging.INFO] * 3
    assert "this row cannot be written" in told[0].getMessage()
    assert pauses == [60.0, 120.0, 200.0, 200.0]
    store.mend()


async def test_a_parked_child_takes_its_parents_cancel(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a parent reaches a child that is parked by the same host at once, not when it is tried again."""
    parent = WorkflowBuilder().sub_workflow("waits").build("parent")
    host = await start_host(_WAITING, parent, sweep_interval=3600)
    store = _Refusing(host, monkeypatch)
    parent_id = await host.start_workflow(parent)
    child_id = await _child_of(host, parent_id)
    await waits(host, child_id)
    store.instance_id = child_id
    await host.publish_event("go", "k", "news")
    await _is_parked(host, child_id)

    store.mend()
    await host.cancel_workflow(parent_id)

    assert (await host.wait(child_id, timeout=SECONDS)).status is WorkflowStatus.CANCELLED


async def _child_of(host: WorkflowHost, parent_id: str) -> str:
    found: list[str] = []

    async def look() -> bool:
        found[:] = [each.id for each in await host.list_workflows() if each.parent_id == parent_id]
        return bool(found)

    await eventually(look)
    return found[0]


async def test_two_tries_at_once_lose_no_instance(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one of them parks again stays known, though the other has begun with the parking before it."""
    host = await start_host(sweep_interval=3600)
    store, instance_id = await _parked(host, monkeypatch)
    core = host._life.core()
    release, again, gate = core.store.release, asyncio.Event(), asyncio.Event()
    asked: list[int] = []

    async def late(session: str, holds: Sequence[tuple[str, int]]) -> None:
        asked.append(1)
        is_second = len(asked) == 2
        await asyncio.sleep(0)  # both have begun before one of them goes on
        await release(session, holds)
        if is_second:
            again.set()
            await gate.wait()

    with monkeypatch.context() as slow:
        slow.setattr(core.store, "release", late)
        tries = [asyncio.create_task(core.parked.try_now(instance_id)) for _ in range(2)]
        await again.wait()
        await tries[0]
        await _is_parked(host, instance_id)
        gate.set()
        await tries[1]

    assert dict(core.holds()) == dict(await core.store.held(core.session_id))
    store.mend()


async def test_what_is_parked_stays_so_while_the_store_is_away(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try that the store does not answer loses neither the instance nor its reason."""
    host = await start_host(sweep_interval=3600)
    store, instance_id = await _parked(host, monkeypatch)
    core = host._life.core()

    async def away(*_: Any) -> None:
        raise ProviderUnavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(core.store, "release", away)
        with pytest.raises(ProviderUnavailable):
            await core.parked.try_now(instance_id)
    assert instance_id in core.parked

    store.mend()
    await core.parked.try_now(instance_id)
    assert (await host.wait(instance_id, timeout=SECONDS)).data == {"got": "news", "after": True}


async def test_why_it_is_parked_is_seen(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host that keeps it aside shows the reason, also in lists."""
    host = await start_host()
    store, instance_id = await _parked(host, monkeypatch)

    shown = await host.get_workflow(instance_id)
    (listed,) = await host.list_workflows()

    assert shown.blocked_reason == "it could not go on: this row cannot be written"
    assert listed.blocked_reason == shown.blocked_reason
    store.mend()


@pytest.mark.parametrize(
    ("verb", "status"),
    [
        ("cancel_workflow", WorkflowStatus.CANCELLED),
        ("terminate_workflow", WorkflowStatus.TERMINATED),
        ("suspend_workflow", WorkflowStatus.SUSPENDED),
    ],
)
async def test_requests_reach_a_parked_instance(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch, verb: str, status: WorkflowStatus
) -> None:
    """What is in the way is an event; a request behind it is applied all the same, before the event."""
    host = await start_host()
    store, instance_id = await _parked(host, monkeypatch)
    core = host._life.core()
    (event,) = await core.store.inbox([instance_id])
    assert isinstance(unpack(event), EventMatched)
    store.refuses = lambda write: event.id in write.changes.consumed or not write.changes.consumed

    assert await getattr(host, verb)(instance_id)

    assert (await host.get_workflow(instance_id)).status is status
    store.mend()
    if status is WorkflowStatus.SUSPENDED:
        assert await host.resume_workflow(instance_id)
        assert (await host.wait(instance_id, timeout=SECONDS)).data == {"got": "news", "after": True}


async def test_requests_from_another_host_reach_a_parked_instance(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks: the host that keeps it aside is told, and applies the request."""
    first = await start_host(sweep_interval=3600)
    store, instance_id = await _parked(first, monkeypatch)
    (event,) = await first._life.core().store.inbox([instance_id])
    store.refuses = lambda write: event.id in write.changes.consumed or not write.changes.consumed
    second = await start_host()

    assert await asyncio.wait_for(second.terminate_workflow(instance_id), SECONDS)

    assert (await second.get_workflow(instance_id)).status is WorkflowStatus.TERMINATED


async def test_a_request_that_cannot_be_written_is_refused_soon(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once, and the caller learns the reason; it stays queued, and is applied with the next try."""
    host = await start_host()
    store, instance_id = await _parked(host, monkeypatch)

    with pytest.raises(InvalidStateTransition, match="stays queued: it could not go on: this row cannot be written"):
        await asyncio.wait_for(host.terminate_workflow(instance_id), SECONDS)

    store.mend()
    await host._life.core().parked.try_now(instance_id)
    assert (await host.wait(instance_id, timeout=SECONDS)).status is WorkflowStatus.TERMINATED


async def test_parked_instances_are_given_back(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that stops keeps nothing aside: the next one goes on at once."""
    host = await start_host()
    _, instance_id = await _parked(host, monkeypatch)
    await host.stop()
    monkeypatch.undo()

    second: Any = await start_host(_WAITING)

    assert (await second.wait(instance_id, timeout=SECONDS)).data == {"got": "news", "after": True}

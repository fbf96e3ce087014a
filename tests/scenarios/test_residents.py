"""Waiting instances that a host which is alone keeps in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Context, Gate, StartHost, eventually, put, waits
from wfe import WorkflowBuilder, WorkflowDefinition, WorkflowHost, WorkflowStatus
from wfe.host import residents
from wfe.ports.store import Batch, CommitReply, InboxRow

_WAITING = WorkflowBuilder().wait_for("go", lambda data: data["key"], output="got").build("waits")


async def _start(host: WorkflowHost, key: str = "k") -> str:
    instance_id = await host.start_workflow(_WAITING, {"key": key})
    await waits(host, instance_id)
    return instance_id


def _held(host: WorkflowHost) -> dict[str, int]:
    """Ids and fences of what a host holds."""
    return dict(host._life.core().holds())


async def _is_given_back(host: WorkflowHost, instance_id: str) -> None:
    async def look() -> bool:
        return instance_id not in _held(host)

    await eventually(look)


async def test_what_waits_is_met_in_memory(host: WorkflowHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event goes on with the instance that its host has kept: nothing is taken for it."""
    instance_id = await _start(host)
    core, taken = host._life.core(), list[str]()
    assert instance_id in _held(host)
    monkeypatch.setattr(core, "activate", lambda loaded: taken.append(loaded.id))

    await host.publish_event("go", "k", 7)
    result = await host.wait(instance_id, timeout=SECONDS)

    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"key": "k", "got": 7})
    assert taken == []


async def test_what_waits_is_given_back_when_another_host_comes(start_host: StartHost) -> None:
    """With two hosts on a store, an event that one of them publishes does not need the other one."""
    first = await start_host(_WAITING)
    instance_id = await _start(first)
    assert instance_id in _held(first)

    second = await start_host(_WAITING)
    await _is_given_back(first, instance_id)
    other = await _start(second, "other")

    assert other not in _held(second)
    await second.publish_event("go", "k", 7)
    assert (await second.wait(instance_id, timeout=SECONDS)).data == {"key": "k", "got": 7}


async def test_what_waits_for_long_is_given_back(host: WorkflowHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is kept for a while, and goes on all the same after that."""
    instance_id = await _start(host)
    monkeypatch.setattr(residents, "_LONGEST_SECONDS", 0.0)

    await _is_given_back(host, instance_id)

    await host.publish_event("go", "k", 7)
    assert (await host.wait(instance_id, timeout=SECONDS)).data == {"key": "k", "got": 7}


async def test_a_limited_number_is_kept(host: WorkflowHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, the memory for those that are kept has a bound."""
    monkeypatch.setattr(residents, "_MOST", 2)

    started = [await _start(host, str(number)) for number in range(5)]

    assert list(_held(host)) == started[:2]


async def test_what_is_large_is_not_kept(host: WorkflowHost) -> None:
    """The memory for what is kept has a bound in bytes, too: large data, and many branches, are given back."""
    branches = WorkflowBuilder()
    branches.parallel(*(lambda b, n=number: b.wait_for("go", str(n)) for number in range(200)))
    host.register(_WAITING)

    large = await host.start_workflow(_WAITING, {"key": "large", "more": "x" * 100_000})
    await waits(host, large)
    wide = await host.start_workflow(branches.build("wide"))
    small = await _start(host)
    await _is_given_back(host, wide)

    assert large not in _held(host)
    assert small in _held(host)
    await host.publish_event("go", "k", 7)
    assert (await host.wait(small, timeout=SECONDS)).data == {"key": "k", "got": 7}


async def test_what_is_registered_again_runs_the_new_code(host: WorkflowHost) -> None:
    """What waits goes on with the code that is registered when its event comes, kept or not."""

    def flow(code: str) -> WorkflowDefinition[Any]:
        async def body(context: Context) -> None:
            context.data["ran"] = code

        return WorkflowBuilder().wait_for("go", "k").then(body).id("runs").build("w")

    old, new = flow("old"), flow("new")
    assert old.key == new.key
    instance_id = await host.start_workflow(old, {})
    await waits(host, instance_id)

    host.register(new)
    await host.publish_event("go", "k")

    assert (await host.wait(instance_id, timeout=SECONDS)).data == {"ran": "new"}


async def test_an_event_overtakes_the_answer_to_a_start(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that finds the new instance before its host has heard that it exists is read once it has."""
    gate = Gate()
    both = WorkflowBuilder().parallel(
        lambda b: b.wait_for("go", "k", output="got"), lambda b: b.start_with(gate.body).id("gate")
    )
    for definition in (_WAITING, both.build("both")):
        host = await start_host(definition, sweep_interval=3600)
        store, written, told = host._life.core().store, asyncio.Event(), asyncio.Event()
        commit = store.commit

        async def late(
            batch: Batch,
            commit: Callable[[Batch], Awaitable[CommitReply]] = commit,
            written: asyncio.Event = written,
            told: asyncio.Event = told,
        ) -> CommitReply:
            reply = await commit(batch)
            if batch.starts:
                written.set()
                await told.wait()
            return reply

        monkeypatch.setattr(store, "commit", late)
        monkeypatch.setattr(host._life.core().committer, "_in_flight", 2)
        starting = asyncio.create_task(host.start_workflow(definition, {"key": "k"}))
        await written.wait()
        await host.publish_event("go", "k", 7)
        told.set()
        instance_id = await starting

        async def has_got(host: WorkflowHost = host, instance_id: str = instance_id) -> bool:
            return bool((await host.get_workflow(instance_id)).data.get("got") == 7)

        await eventually(has_got)
        gate.open()
        assert (await host.wait(instance_id, timeout=SECONDS)).status is WorkflowStatus.COMPLETE
        await host.stop()


async def test_a_start_that_waits_reads_no_inbox(host: WorkflowHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where something has come meanwhile is an inbox read for what was started."""
    store, read = host._life.core().store, list[str]()
    inbox = store.inbox

    async def counted(ids: Sequence[str]) -> Sequence[InboxRow]:
        read.extend(ids)
        return await inbox(ids)

    monkeypatch.setattr(store, "inbox", counted)
    started = [await _start(host, str(number)) for number in range(5)]

    assert not set(read) & set(started)


async def test_what_waits_leaves_room(start_host: StartHost) -> None:
    """Those that wait take half of the places at most, and none from what could run."""
    host = await start_host(_WAITING, max_active=4)

    started = [await _start(host, str(number)) for number in range(5)]

    assert set(_held(host)) < set(started)
    assert len(_held(host)) <= 3
    for number, instance_id in enumerate(started):
        await host.publish_event("go", str(number), 7)
        assert (await host.wait(instance_id, timeout=SECONDS)).status is WorkflowStatus.COMPLETE


async def test_what_waits_does_not_go_on_without_its_definition(host: WorkflowHost) -> None:
    """A definition that is taken away blocks what waits for an event of it, kept or not."""
    instance_id = await _start(host)

    assert host.deregister("waits", 1)
    await _is_given_back(host, instance_id)
    await host.publish_event("go", "k", 7)

    async def is_blocked() -> bool:
        return bool((await host.get_workflow(instance_id)).blocked_reason)

    await eventually(is_blocked)
    host.register(_WAITING)
    assert (await host.wait(instance_id, timeout=SECONDS)).data == {"key": "k", "got": 7}


@pytest.mark.parametrize("limit", [timedelta(minutes=30), timedelta(days=1)])
async def test_nothing_watches_the_time_of_what_is_kept(host: WorkflowHost, limit: timedelta) -> None:
    """What has a timer soon is not kept; for what is, no alarm is set, or they would pile up."""
    definition = WorkflowBuilder().wait_for("go", "k", timeout=limit).build("limited")
    core = host._life.core()

    instance_id = await host.start_workflow(definition)
    await waits(host, instance_id)

    assert (instance_id in _held(host)) == (limit > timedelta(hours=1))
    assert [each for _, each in core.alarms._heap if each == instance_id and instance_id in _held(host)] == []
    await host.publish_event("go", "k")
    assert (await host.wait(instance_id, timeout=SECONDS)).status is WorkflowStatus.COMPLETE


async def test_a_full_host_makes_room_at_once(start_host: StartHost) -> None:
    """What could run does not wait for a sweep while places are taken by what only waits."""
    host = await start_host(_WAITING, max_active=2, sweep_interval=60)
    for number in range(3):
        await _start(host, str(number))

    result = await host.run(WorkflowBuilder().then(put("a", n=1)).build("quick"), timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE


async def test_an_event_meets_what_is_being_given_back(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that comes while its waiter is given back takes it as soon as that is done."""
    host = await start_host(_WAITING, sweep_interval=60)  # no sweep finds it
    instance_id = await _start(host)
    core = host._life.core()
    release, gate = core.store.release, asyncio.Event()

    async def slow(session: str, holds: Sequence[tuple[str, int]]) -> None:
        await gate.wait()
        await release(session, holds)

    monkeypatch.setattr(core.store, "release", slow)
    core.residents.give_back_all()
    await host.publish_event("go", "k", 7)
    gate.set()

    assert (await host.wait(instance_id, timeout=SECONDS)).data == {"key": "k", "got": 7}


async def test_what_is_started_while_its_definition_goes_is_not_kept(
    host: WorkflowHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that is being written when its definition is taken away does not run on with it."""
    host.register(_WAITING)
    store, entered, gate = host._life.core().store, asyncio.Event(), asyncio.Event()
    commit = store.commit

    async def slow(batch: Batch) -> CommitReply:
        entered.set()
        await gate.wait()
        return await commit(batch)

    monkeypatch.setattr(store, "commit", slow)
    starting = asyncio.create_task(host.start_workflow(_WAITING, {"key": "k"}))
    await entered.wait()
    assert host.deregister("waits", 1)
    gate.set()

    await _is_given_back(host, await starting)


async def test_what_waits_is_given_back_by_a_stop(start_host: StartHost) -> None:
    """After an orderly stop the next host goes on at once."""
    first = await start_host(_WAITING)
    instance_id = await _start(first)
    await first.stop()
    second = await start_host(_WAITING)

    await second.publish_event("go", "k", 7)

    assert (await second.wait(instance_id, timeout=SECONDS)).data == {"key": "k", "got": 7}

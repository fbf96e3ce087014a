"""Waiting instances that a host which is alone keeps in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.scenarios.stage import SECONDS, StartHost, eventually, waits
from wfe import WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.host import residents

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


async def test_a_timer_of_what_is_kept_rings(host: WorkflowHost) -> None:
    """The time limit of a wait ends it in memory, too."""
    definition = WorkflowBuilder().wait_for("go", "never", timeout=timedelta(milliseconds=50)).build("limited")

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED


async def test_what_waits_is_given_back_by_a_stop(start_host: StartHost) -> None:
    """After an orderly stop the next host goes on at once."""
    first = await start_host(_WAITING)
    instance_id = await _start(first)
    await first.stop()
    second = await start_host(_WAITING)

    await second.publish_event("go", "k", 7)

    assert (await second.wait(instance_id, timeout=SECONDS)).data == {"key": "k", "got": 7}

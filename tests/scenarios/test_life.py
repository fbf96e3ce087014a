"""How a host begins and ends, whoever gives up, asks twice or fails meanwhile. What it was must be gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Gate, Place, StartHost, put
from wfe import LifecycleEvent, ProviderUnavailable, ShuttingDown, WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.host.connect import connect
from wfe.ports.hints import Hint
from wfe.ports.lease import Lease
from wfe.ports.provider import Provider
from wfe.testing import Fault, FaultyStore

LONG = 3600


class _Hints:
    """Hints of which it is known whether they are open."""

    def __init__(self, inner: Provider) -> None:
        self._inner = inner.hints
        self.is_open = False
        self.error: Exception | None = None
        """What closing them ends in, once they are closed."""

    async def open(self, session: str, receive: Callable[[Hint], None]) -> None:
        self.is_open = True
        await self._inner.open(session, receive)

    async def send(self, session: str | None, hints: Collection[Hint]) -> None:
        await self._inner.send(session, hints)

    async def close(self) -> None:
        await self._inner.close()
        self.is_open = False
        if self.error is not None:
            raise self.error


class _Store(FaultyStore):
    """A store of which it is known whether it is open."""

    is_open = False

    async def open(self) -> None:
        await super().open()
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False
        await super().close()


class Stage:
    """One host that has its store for itself, and what is known of it from outside."""

    def __init__(self, place: Place) -> None:
        inner = connect(place())
        self.url, self.lifecycle = inner.url, inner.lifecycle
        self.lease: Lease = inner.lease
        self.hints = _Hints(inner)
        self.store = _Store(inner.store)
        self.host = WorkflowHost(self, lease_ttl=LONG, sweep_interval=0.1, cancel_grace=1)
        self.goes_on = asyncio.Event()
        """Set it, and a call that hangs comes to its end."""
        self._place = place
        self._threads = set(threading.enumerate())
        self._tasks = asyncio.all_tasks()

    def hangs(self, method: str) -> asyncio.Event:
        """Let the next call of a method of the store hang; what is given back is set when it does."""
        entered = asyncio.Event()

        async def hang() -> None:
            entered.set()
            await self.goes_on.wait()

        self._strikes(method, Fault(hook=hang, error=None))
        return entered

    def fails(self, method: str) -> None:
        """Let the next call of a method of the store fail."""
        self._strikes(method, Fault(error=lambda: ProviderUnavailable("the test says so")))

    def _strikes(self, method: str, fault: Fault) -> None:
        self.store.plan[method, self.store.calls.get(method, 0) + 1] = fault

    async def is_gone(self) -> bool:
        """Tell whether nothing of the host is left: here, and in the store, as others see it."""
        other = connect(self._place())
        await other.store.open()
        try:
            sessions = await other.lease.alive()
        finally:
            await other.store.close()
        threads = [each.name for each in set(threading.enumerate()) - self._threads if each.name.startswith("wfe")]
        assert (list(sessions), threads) == ([], [])
        return not (self.host.is_running or self.hints.is_open or self.store.is_open)

    def cancel_all(self) -> set[asyncio.Task[Any]]:
        """Cancel every task that has begun since, as `asyncio.run` does at its end."""
        tasks = asyncio.all_tasks() - self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        return tasks


@pytest.fixture
async def stage(place: Place) -> AsyncIterator[Stage]:
    """A host that has not been started."""
    stage = Stage(place)
    yield stage
    stage.goes_on.set()
    await stage.host.stop(force=True)


async def _begun(stage: Stage, gate: Gate) -> str:
    """Start the host and a body that waits at a gate."""
    definition = WorkflowBuilder().start_with(gate.body).build("w")
    stage.host.register(definition)
    await stage.host.start()
    instance_id = await stage.host.start_workflow(definition)
    await gate.entered()
    return instance_id


async def _within(work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, SECONDS)


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Wait for tasks, without a look at how they ended."""
    _, running = await asyncio.wait(tasks, timeout=SECONDS)
    assert not running


def _stopping(stage: Stage, **how: Any) -> asyncio.Task[None]:
    return asyncio.create_task(stage.host.stop(**({"timeout": LONG} | how)))


# Stopping


async def test_a_stop_that_is_cancelled_is_carried_through(stage: Stage, start_host: StartHost) -> None:
    """Whoever gives up waiting for a stop hastens it: another host goes on at once, long before the session expires."""
    gate = Gate()
    instance_id = await _begun(stage, gate)
    stopping = _stopping(stage)
    await asyncio.sleep(0)

    stopping.cancel()
    await _ended(stopping)

    assert stopping.cancelled()
    assert await stage.is_gone()
    gate.open()
    following = await start_host(WorkflowBuilder().start_with(gate.body).build("w"))
    assert (await following.wait(instance_id, timeout=SECONDS)).status is WorkflowStatus.COMPLETE
    assert (gate.runs, gate.cancelled) == (2, 1)


async def test_a_second_cancellation_of_a_stop_passes_on_at_once(stage: Stage) -> None:
    """Whoever insists does not wait for the store; the stop goes on by itself, and can be waited for again."""
    await _begun(stage, Gate())
    hangs = stage.hangs("release")
    stopping = _stopping(stage)
    await asyncio.sleep(0)
    stopping.cancel()
    await _within(hangs.wait())

    stopping.cancel()
    await _ended(stopping)
    again = _stopping(stage)
    stage.goes_on.set()
    await _ended(again)

    assert stopping.cancelled()
    assert not again.cancelled()
    assert await stage.is_gone()


@pytest.mark.parametrize("method", ["", "release", "close"])
async def test_a_stop_in_a_loop_that_ends(stage: Stage, method: str) -> None:
    """When the loop cancels all its tasks, whatever the stop has come to, what is left of it is done."""
    await _begun(stage, Gate())
    hangs = stage.hangs(method) if method else asyncio.Event()
    stopping = _stopping(stage, force=bool(method))
    if method:
        await _within(hangs.wait())
    else:
        await asyncio.sleep(0)  # it has begun, but its first step is to come

    tasks = stage.cancel_all()
    await _ended(*tasks)

    assert stopping in tasks
    assert stage.store.calls["close"] == 1
    await stage.store.close()  # that was cut short itself, perhaps
    assert await stage.is_gone()


async def test_a_second_stop_waits_for_the_first(stage: Stage) -> None:
    """All who stop a host know that it has stopped when they go on."""
    gate = Gate()
    await _begun(stage, gate)
    first, second = _stopping(stage), _stopping(stage, timeout=0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert not second.done()
    gate.open()
    await _ended(second)

    assert gate.cancelled == 0
    assert await stage.is_gone()
    await _ended(first)


async def test_a_second_stop_by_force_hastens_the_first(stage: Stage) -> None:
    """Bodies that a stop waits for are cut off when somebody has lost patience."""
    gate = Gate()
    await _begun(stage, gate)
    first = _stopping(stage)
    await asyncio.sleep(0)

    await _within(stage.host.stop(force=True))

    assert gate.cancelled == 1
    assert await stage.is_gone()
    await _within(first)


async def test_a_start_waits_for_the_stop_before_it(stage: Stage) -> None:
    """A host that is started while it stops runs afterwards."""
    gate = Gate()
    await _begun(stage, gate)
    stopping = _stopping(stage)
    await asyncio.sleep(0)
    starting = asyncio.create_task(stage.host.start())
    await asyncio.sleep(0)

    assert not starting.done()
    gate.open()
    await _within(asyncio.gather(stopping, starting))

    assert (await stage.host.run("w", timeout=SECONDS)).status is WorkflowStatus.COMPLETE


@pytest.mark.parametrize("stops_in", ["a subscriber", "a body"])
async def test_what_a_host_runs_may_stop_it(stage: Stage, stops_in: str) -> None:
    """A subscriber, or a body, that stops its host neither waits for itself nor leaves the host halfway."""

    async def stop(_: object) -> None:
        await stage.host.stop(timeout=LONG)

    async def on_event(event: LifecycleEvent) -> None:
        if event.kind == "completed":
            await stop(event)

    body = stop if stops_in == "a body" else put("a")
    stage.host.register(WorkflowBuilder().start_with(body).build("w"))
    await stage.host.start()
    await stage.host.events.subscribe(on_event).ready()
    instance_id = await stage.host.start_workflow("w")

    with contextlib.suppress(ShuttingDown):
        await stage.host.wait(instance_id)
    await _within(stage.host.stop(timeout=LONG))

    assert await stage.is_gone()


async def test_a_part_that_cannot_be_closed_leaves_no_other_open(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """A stop goes on after an error of one part, and tells of it."""
    await _begun(stage, Gate())
    stage.hints.error = OSError("the socket is stuck")

    await stage.host.stop(force=True)

    assert await stage.is_gone()
    assert "the socket is stuck" in caplog.text


async def test_bodies_stop_when_a_host_that_stops_loses_its_session(stage: Stage) -> None:
    """A host that waits for its bodies, and loses its session, stops them: others may run them now."""
    gate = Gate()
    await _begun(stage, gate)
    membership = stage.host._life._membership
    assert membership is not None
    stopping = _stopping(stage)
    await asyncio.sleep(0)

    membership.lost("the test says so")
    await _within(stopping)

    assert gate.cancelled == 1
    assert await stage.is_gone()


async def test_a_session_that_was_lost_is_ended_by_a_stop(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is stopped before it has a new session ends the one that it lost: what it held is free at once."""
    await _begun(stage, Gate())
    membership = stage.host._life._membership
    assert membership is not None
    entered = asyncio.Event()

    async def never_begins(*_: object, **__: object) -> None:
        entered.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(stage.lease, "begin", never_begins)
    membership.lost("the test says so")
    await _within(entered.wait())

    await stage.host.stop()

    assert await stage.is_gone()


# Starting


@pytest.mark.parametrize("method", ["save_definition", "claim"])
async def test_a_start_that_fails_leaves_nothing(stage: Stage, method: str) -> None:
    """When the store fails while a host starts, everything that was opened is closed; it can start again."""
    stage.host.register(WorkflowBuilder().then(put("a")).build("w"))
    stage.fails(method)

    with pytest.raises(ProviderUnavailable, match="the test says so"):
        await stage.host.start()

    assert await stage.is_gone()
    await stage.host.start()
    assert (await stage.host.run("w", timeout=SECONDS)).status is WorkflowStatus.COMPLETE


@pytest.mark.parametrize("method", ["open", "save_definition", "claim"])
async def test_a_start_that_is_cancelled_leaves_nothing(stage: Stage, method: str) -> None:
    """Wherever a start is cancelled, everything that was opened is closed."""
    stage.host.register(WorkflowBuilder().then(put("a")).build("w"))
    hangs = stage.hangs(method)
    starting = asyncio.create_task(stage.host.start())
    await _within(hangs.wait())

    starting.cancel()
    await _ended(starting)

    assert starting.cancelled()
    assert await stage.is_gone()


async def test_two_starts_at_once_are_one(stage: Stage) -> None:
    """A second call waits until the first has started the host, and begins nothing itself."""
    hangs = stage.hangs("open")
    first, second = asyncio.create_task(stage.host.start()), asyncio.create_task(stage.host.start())
    await _within(hangs.wait())
    await asyncio.sleep(0)

    assert not second.done()
    stage.goes_on.set()
    await _within(asyncio.gather(first, second))

    assert stage.store.calls["open"] == 1
    assert len(await stage.lease.alive()) == 1


async def test_a_second_start_tries_what_the_first_has_failed_in(stage: Stage) -> None:
    """Whoever calls second has a host that runs, or an error of their own; a cancelled call is not theirs."""
    hangs = stage.hangs("claim")
    first, second = asyncio.create_task(stage.host.start()), asyncio.create_task(stage.host.start())
    await _within(hangs.wait())

    first.cancel()
    await _within(second)

    assert first.cancelled()
    assert stage.host.is_running
    assert len(await stage.lease.alive()) == 1


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("method", ["open", "claim"])
async def test_a_stop_gives_a_start_up(stage: Stage, method: str, force: bool) -> None:
    """A host that is stopped while it starts does not run afterwards; who started it is told, and may do it again."""
    hangs = stage.hangs(method)
    starting = asyncio.create_task(stage.host.start())
    await _within(hangs.wait())

    await _within(stage.host.stop(force=force))
    with pytest.raises(ShuttingDown, match="stopped while it started"):
        await _within(starting)

    assert await stage.is_gone()
    await stage.host.start()
    assert stage.host.is_running


# Meanwhile


async def test_housekeeping_goes_on_after_any_error(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody foresaw is told, and the host looks again whether it is alone."""
    host = await start_host(lease_ttl=3)
    lease, again = host._life._lease, asyncio.Event()
    alive, asked = lease.alive, 0

    async def fails_once() -> Collection[str]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise RuntimeError("a fault of the provider")
        again.set()
        return await alive()

    monkeypatch.setattr(lease, "alive", fails_once)
    await _within(again.wait())

    assert "a fault of the provider" in caplog.text


async def test_a_session_is_begun_anew_after_any_error(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A host that has lost its session goes on trying, also after an error that nobody foresaw."""
    gate = Gate()
    instance_id = await _begun(stage, gate)
    membership = stage.host._life._membership
    assert membership is not None
    begin, tries = stage.lease.begin, 0

    async def fails_once(session: str, **named: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("a fault of the provider")
        await begin(session, **named)

    monkeypatch.setattr(stage.lease, "begin", fails_once)
    gate.again()
    membership.lost("the test says so")
    await gate.entered()
    gate.open()

    assert (await stage.host.wait(instance_id, timeout=SECONDS)).status is WorkflowStatus.COMPLETE
    assert "a fault of the provider" in caplog.text
    assert len(await stage.lease.alive()) == 1

"""Subscriptions to lifecycle events when what they are read from fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Place, StartHost, eventually, put
from wfe import (
    ConfigurationError,
    LifecycleEvent,
    LifecycleKind,
    LoggingSubscriber,
    ProviderUnavailable,
    ShuttingDown,
    WorkflowBuilder,
    WorkflowHost,
)
from wfe.host.connect import connect
from wfe.ports.lifecycle import LifecyclePublisher
from wfe.ports.provider import Provider

_STEPS = WorkflowBuilder().then(put("a", a=1)).then(put("b", b=1)).build("steps")


class _Failing:
    """A publisher that fails before it gives any event, then after each event, so many times; then it is well."""

    def __init__(self, inner: LifecyclePublisher, error: Callable[[], Exception], times: int) -> None:
        self._inner = inner
        self._error = error
        self.left = times
        self.failed = asyncio.Event()
        """Set with the first failure."""

    async def position(self) -> str:
        return await self._inner.position()

    def wake(self) -> None:
        self._inner.wake()

    async def subscribe(
        self, *, workflow_id: str | None = None, since: str | None = None
    ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
        self._fail()
        async for found in self._inner.subscribe(workflow_id=workflow_id, since=since):
            yield found
            self._fail()

    def _fail(self) -> None:
        if self.left:
            self.left -= 1
            self.failed.set()
            raise self._error()


class _Unwell:
    """A provider whose announcements fail."""

    def __init__(self, inner: Provider, error: Callable[[], Exception], times: int) -> None:
        self.url, self.store, self.lease, self.hints = inner.url, inner.store, inner.lease, inner.hints
        self.lifecycle = _Failing(inner.lifecycle, error, times)


def _gone() -> Exception:
    return ProviderUnavailable("gone, as planned")


async def _until_completed(told: list[LifecycleEvent]) -> None:
    async def so() -> bool:
        return any(event.kind is LifecycleKind.WORKFLOW_COMPLETED for event in told)

    await eventually(so)


@pytest.mark.parametrize("error", [_gone, lambda: RuntimeError("nobody foresaw this")], ids=["away", "foreign"])
async def test_a_callback_is_told_of_everything(
    place: Place, caplog: pytest.LogCaptureFixture, error: Callable[[], Exception]
) -> None:
    """Whatever the announcements fail with, before the first event or after any, the callback misses none of them.

    Each failure is logged.
    """
    provider = _Unwell(connect(place()), error, times=4)
    told: list[LifecycleEvent] = []
    caplog.set_level(logging.WARNING, "wfe.lifecycle")

    async with WorkflowHost(provider) as host:
        await host.events.subscribe(told.append).ready()
        result = await host.run(_STEPS, timeout=SECONDS)
        await _until_completed(told)
        history = await host.history(result.id)

    assert provider.lifecycle.left == 0
    seen = list(dict.fromkeys(event.sequence for event in told))
    assert seen == [event.sequence for event in history]
    warnings = [record.getMessage() for record in caplog.records]
    assert len([text for text in warnings if "trying again" in text]) == 4


async def test_a_logging_subscriber_logs_on(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """`LoggingSubscriber` survives a failure as any other subscriber."""
    caplog.set_level(logging.INFO, "wfe.lifecycle")

    async with WorkflowHost(_Unwell(connect(place()), _gone, times=2)) as host:
        await host.events.subscribe(LoggingSubscriber()).ready()
        result = await host.run(_STEPS, timeout=SECONDS)

        async def so() -> bool:
            return f"{result.id} workflow completed" in caplog.messages

        await eventually(so)

    assert f"{result.id} workflow started" in caplog.messages


async def test_an_iterator_goes_on_when_the_backend_is_back(place: Place) -> None:
    """`host.subscribe()` waits for a backend that does not answer, and goes on where it was."""
    provider = _Unwell(connect(place()), _gone, times=3)
    told: list[LifecycleEvent] = []

    async def follow(host: WorkflowHost) -> None:
        async for event in host.subscribe():
            told.append(event)  # noqa: PERF401 - others look at it meanwhile

    async with WorkflowHost(provider) as host:
        following = asyncio.create_task(follow(host))
        await provider.lifecycle.failed.wait()
        result = await host.run(_STEPS, timeout=SECONDS)
        await _until_completed(told)
        following.cancel()
        history = await host.history(result.id)

    assert list(dict.fromkeys(event.sequence for event in told)) == [event.sequence for event in history]


async def test_an_iterator_raises_what_waiting_does_not_mend(place: Place) -> None:
    """Other errors than that of a backend which does not answer reach who iterates."""
    async with WorkflowHost(_Unwell(connect(place()), lambda: RuntimeError("damaged"), times=1)) as host:
        events = host.subscribe()

        with pytest.raises(RuntimeError, match="damaged"):
            await anext(events)


async def test_a_wrong_cursor_is_told(host: WorkflowHost) -> None:
    """A subscription with a cursor of somewhere else does not begin; `ready` says so."""
    subscription = host.events.subscribe(print, since="nonsense")

    with pytest.raises(ConfigurationError, match="nonsense"):
        await subscription.ready()


async def test_subscribing_needs_a_running_host(start_host: StartHost) -> None:
    """Before the start and after the stop of a host there is nothing to subscribe to."""
    host = await start_host()
    await host.stop()

    for call in (lambda: host.events.subscribe(print), host.subscribe):
        with pytest.raises(ShuttingDown):
            call()


async def test_what_follows_ready_is_told(host: WorkflowHost) -> None:
    """After `ready`, not one event is missed, and none from before comes."""
    before = await host.run(_STEPS, timeout=SECONDS)
    told: list[Any] = []
    await host.events.subscribe(told.append).ready()
    result = await host.run(_STEPS, timeout=SECONDS)
    await _until_completed(told)

    assert before.id not in {event.workflow_id for event in told}
    assert [event.sequence for event in told] == [event.sequence for event in await host.history(result.id)]

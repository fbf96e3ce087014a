"""Subscriptions to lifecycle events: iterators, callbacks, and a logger."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from wfe.model.lifecycle import LifecycleEvent

if TYPE_CHECKING:
    from wfe.ports.lifecycle import LifecyclePublisher

__all__ = ["Events", "LoggingSubscriber", "Subscriber", "Subscription"]

_log = logging.getLogger("wfe.lifecycle")


@runtime_checkable
class Subscriber(Protocol):
    """An object that is told of lifecycle events."""

    def on_event(self, event: LifecycleEvent) -> Any:  # noqa: ANN401 - None or an awaitable
        """Be told of one event. May be a coroutine function; an exception is logged and does not stop the others."""
        ...


class LoggingSubscriber:
    """Logs each lifecycle event."""

    def __init__(self, logger: logging.Logger | None = None, level: int = logging.INFO) -> None:
        self._logger = logger or _log
        self._level = level

    def on_event(self, event: LifecycleEvent) -> None:
        """Log one event."""
        where = f" step {event.step!r}" if event.step else ""
        why = f": {event.error}" if event.error else ""
        self._logger.log(self._level, "%s %s%s%s", event.workflow_id, event.kind, where, why)


class Subscription:
    """A running subscription."""

    def __init__(self, task: asyncio.Task[None], ready: asyncio.Event) -> None:
        self._task = task
        self._ready = ready

    async def ready(self) -> None:
        """Return once everything that happens from now on will be told."""
        await self._ready.wait()

    def cancel(self) -> None:
        """Be told no more."""
        self._task.cancel()


class Events:
    """Hands lifecycle events to callbacks and objects with `on_event`, in order per instance."""

    def __init__(self, publisher: LifecyclePublisher) -> None:
        self._publisher = publisher
        self._waiting: list[tuple[Callable[[LifecycleEvent], Any], str | None, str | None]] = []
        self._running: dict[Subscription, asyncio.Task[None]] = {}

    def subscribe(
        self,
        subscriber: Callable[[LifecycleEvent], Any] | Subscriber,
        *,
        workflow_id: str | None = None,
        since: str | None = None,
    ) -> Subscription:
        """Tell a callable, or an object with `on_event`, of every event from now on (or from a cursor on).

        The host must run.

        Raises:
            ConfigurationError: The cursor is not one of these events'.
            ProviderUnavailable: The store did not answer; nothing was subscribed.
        """
        tell = subscriber.on_event if isinstance(subscriber, Subscriber) else subscriber
        # Asked here and not in the task: whoever subscribes learns of a cursor that is none.
        events = self._publisher.subscribe(workflow_id=workflow_id, since=since)
        ready = asyncio.Event()
        ready.set()
        task = asyncio.get_running_loop().create_task(self._feed(tell, events))
        subscription = Subscription(task, ready)
        self._running[subscription] = task
        task.add_done_callback(lambda _: self._ended(subscription))
        return subscription

    def _ended(self, subscription: Subscription) -> None:
        task = self._running.pop(subscription, None)
        if task is not None and not task.cancelled() and task.exception() is not None:
            _log.error("A lifecycle subscription has ended: %s", task.exception())

    async def _feed(
        self, tell: Callable[[LifecycleEvent], Any], events: AsyncIterator[tuple[str, LifecycleEvent]]
    ) -> None:
        async for cursor, event in events:
            try:
                answer = tell(replace(event, cursor=cursor))
                if inspect.isawaitable(answer):
                    await answer
            except Exception:  # noqa: BLE001 - a subscriber is user code
                _log.exception("A lifecycle subscriber failed on %s of %s", event.kind, event.workflow_id)

    def iterate(self, *, workflow_id: str | None, since: str | None) -> AsyncIterator[LifecycleEvent]:
        """Iterate over events."""
        return self._iterate(workflow_id, since)

    async def _iterate(self, workflow_id: str | None, since: str | None) -> AsyncIterator[LifecycleEvent]:
        async for cursor, event in self._publisher.subscribe(workflow_id=workflow_id, since=since):
            yield replace(event, cursor=cursor)

    async def close(self) -> None:
        """End all subscriptions."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

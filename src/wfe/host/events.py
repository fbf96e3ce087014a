"""Subscriptions to lifecycle events: iterators, callbacks, and a logger."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from wfe.model.errors import ConfigurationError, ProviderUnavailable, ShuttingDown, WfeError
from wfe.model.lifecycle import LifecycleEvent

if TYPE_CHECKING:
    from wfe.ports.lifecycle import LifecyclePublisher

__all__ = ["Events", "LoggingSubscriber", "Subscriber", "Subscription"]

_log = logging.getLogger("wfe.lifecycle")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0


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

    def __init__(self, task: asyncio.Task[None], ready: asyncio.Future[None]) -> None:
        self._task = task
        self._ready = ready

    async def ready(self) -> None:
        """Return once everything that happens from now on will be told.

        Raises:
            ConfigurationError: `since` is no cursor of this store's; nothing is told.
        """
        await asyncio.shield(self._ready)

    def cancel(self) -> None:
        """Be told no more."""
        self._task.cancel()


class Events:
    """Hands lifecycle events to callbacks and objects with `on_event`, in order per instance.

    A publisher that fails is asked again, from the last event that was handed on: nothing is lost.
    """

    def __init__(self, publisher: LifecyclePublisher) -> None:
        self._publisher = publisher
        self._running: set[asyncio.Task[None]] = set()
        self._is_open = False

    def open(self) -> None:
        """The host runs."""
        self._is_open = True

    async def close(self, callers: Collection[object] = ()) -> None:
        """End all subscriptions.

        Args:
            callers: Tasks that wait for this. A subscriber may stop the host that tells it.
        """
        self._is_open = False
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(task for task in tasks if task not in callers), return_exceptions=True)

    def subscribe(
        self,
        subscriber: Callable[[LifecycleEvent], Any] | Subscriber,
        *,
        workflow_id: str | None = None,
        since: str | None = None,
    ) -> Subscription:
        """Tell a callable, or an object with `on_event`, of every event from now on (or from a cursor on).

        It ends with the host's stop.

        Raises:
            ShuttingDown: The host does not run.
        """
        if not self._is_open:
            raise _stopped()
        tell = subscriber.on_event if isinstance(subscriber, Subscriber) else subscriber
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        task = loop.create_task(self._feed(tell, workflow_id, since, ready))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: ready.cancel())
        return Subscription(task, ready)

    async def _feed(
        self,
        tell: Callable[[LifecycleEvent], Any],
        workflow_id: str | None,
        since: str | None,
        ready: asyncio.Future[None],
    ) -> None:
        def began() -> None:
            if not ready.done():
                ready.set_result(None)

        try:
            async for event in self._follow(workflow_id, since, retried=Exception, began=began):
                await _told(tell, event)
        except ConfigurationError as error:
            _log.error("A subscription to lifecycle events could not begin: %s", error)
            ready.set_exception(error)
            ready.exception()  # who awaits it gets it; if nobody does, it is in the log

    def iterate(self, *, workflow_id: str | None, since: str | None) -> AsyncIterator[LifecycleEvent]:
        """Iterate over events. A backend that does not answer is waited for; other errors are raised."""
        return self._follow(workflow_id, since, retried=ProviderUnavailable)

    async def _follow(
        self,
        workflow_id: str | None,
        since: str | None,
        *,
        retried: type[Exception],
        began: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[LifecycleEvent]:
        cursor, pause = since, _FIRST_PAUSE
        while True:
            try:
                if cursor is None:
                    # "Now" as a cursor, so that a failure before the first event does not move it.
                    cursor = await self._publisher.position()
                announced = self._publisher.subscribe(workflow_id=workflow_id, since=cursor)
                began()
                async for cursor, event in announced:
                    pause = _FIRST_PAUSE
                    yield replace(event, cursor=cursor)
            except ConfigurationError:
                raise
            except retried as error:
                _log.warning(
                    "Lifecycle events could not be read, trying again in %s s: %s",
                    pause,
                    error,
                    exc_info=_foreign(error),
                )
            if not self._is_open:
                raise _stopped()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


async def _told(tell: Callable[[LifecycleEvent], Any], event: LifecycleEvent) -> None:
    try:
        answer = tell(event)
        if inspect.isawaitable(answer):
            await answer
    except Exception:  # noqa: BLE001 - a subscriber is user code
        _log.exception("A lifecycle subscriber failed on %s of %s", event.kind, event.workflow_id)


def _stopped() -> ShuttingDown:
    return ShuttingDown("The host does not run, so it tells of no lifecycle events.")


def _foreign(error: Exception) -> Exception | None:
    """Give an error whose traceback is worth logging: one that nobody foresaw."""
    return None if isinstance(error, WfeError) else error

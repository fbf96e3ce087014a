"""A blocking view of a host, and a function for scripts and tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from wfe.host.workflow_host import WorkflowHost
from wfe.model.errors import ConfigurationError, ShuttingDown

if TYPE_CHECKING:
    from wfe.model.definition import WorkflowDefinition
    from wfe.model.durations import DurationLike
    from wfe.model.instance import WorkflowResult
    from wfe.model.lifecycle import LifecycleEvent
    from wfe.model.status import WorkflowStatus

__all__ = ["BlockingHost", "run_workflow_sync"]

D = TypeVar("D")
_T = TypeVar("_T")
_P = ParamSpec("_P")


class _Awaited(Generic[_P, _T]):
    """A verb that hosts have as a coroutine function, with the same parameters and what it gives."""

    def __init__(self, verb: Callable[Concatenate[WorkflowHost, _P], Coroutine[Any, Any, _T]]) -> None:
        self._name = verb.__name__
        self.__doc__ = verb.__doc__

    @overload
    def __get__(self, blocking: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, blocking: BlockingHost, owner: type[object]) -> Callable[_P, _T]: ...
    def __get__(self, blocking: BlockingHost | None, owner: type[object]) -> Self | Callable[_P, _T]:
        if blocking is None:
            return self

        def call(*arguments: _P.args, **named: _P.kwargs) -> _T:
            found: _T = blocking.call(self._name, *arguments, **named)
            return found

        return call


class _Direct(Generic[_P, _T]):
    """A verb that hosts have as a plain function; it is called in the loop, once that runs."""

    def __init__(self, verb: Callable[Concatenate[WorkflowHost, _P], _T]) -> None:
        self._name = verb.__name__
        self.__doc__ = verb.__doc__

    @overload
    def __get__(self, blocking: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, blocking: BlockingHost, owner: type[object]) -> Callable[_P, _T]: ...
    def __get__(self, blocking: BlockingHost | None, owner: type[object]) -> Self | Callable[_P, _T]:
        if blocking is None:
            return self

        def call(*arguments: _P.args, **named: _P.kwargs) -> _T:
            found: _T = blocking.call_directly(self._name, *arguments, **named)
            return found

        return call


class BlockingHost:
    """The verbs of a host as plain functions.

    It owns a loop in a thread, started with the first call or by `with host.sync:`. It may be used from any thread that
    runs no event loop.

    Raises:
        ConfigurationError: Any verb may raise it: the calling thread runs an event loop, or the host runs in another
            one.
    """

    def __init__(self, host: WorkflowHost) -> None:
        self._host = host
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    # Life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.stop(force=error is not None)

    @property
    def is_running(self) -> bool:
        """Whether the host has been started and not stopped."""
        return self._host.is_running

    def start(self) -> None:
        """Start the host, unless it runs."""
        _refuse_inside_loop("start")
        with self._lock:
            if self._loop is None:
                self._begin()

    def _begin(self) -> None:
        if self._host.is_running:
            msg = (
                "This host runs in an event loop that host.sync does not own (it was started by `async with host` or "
                "`await host.start()`). Use `await host.run(…)` and the other verbs there; from another thread, "
                "`asyncio.run_coroutine_threadsafe(host.run(…), loop).result()`. Or let host.sync start the host."
            )
            raise ConfigurationError(msg)
        loop = asyncio.new_event_loop()
        self._loop = loop
        self._thread = threading.Thread(target=loop.run_forever, name="wfe-loop", daemon=True)
        self._thread.start()
        try:
            _outcome(self._host.start(), loop)
        except BaseException:
            self._end_loop()
            raise

    def stop(self, timeout: DurationLike = 30, *, force: bool = False) -> None:
        """Stop the host and end the loop."""
        _refuse_inside_loop("stop")
        with self._lock:
            if self._loop is None:
                return
            try:
                _outcome(self._host.stop(timeout, force=force), self._loop)
            finally:
                self._end_loop()

    def _end_loop(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            _outcome(_cancel_others(), loop)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    # Verbs. Those with overloads are written out, since no type says "the same, but awaited" of several signatures.

    register = _Direct(WorkflowHost.register)
    register_step = _Direct(WorkflowHost.register_step)
    register_executor = _Direct(WorkflowHost.register_executor)
    register_workflow = _Direct(WorkflowHost.register_workflow)
    deregister = _Direct(WorkflowHost.deregister)
    definitions = _Direct(WorkflowHost.definitions)
    on_log = _Direct(WorkflowHost.on_log)

    start_workflows = _Awaited(WorkflowHost.start_workflows)
    get_workflow = _Awaited(WorkflowHost.get_workflow)
    list_workflows = _Awaited(WorkflowHost.list_workflows)
    history = _Awaited(WorkflowHost.history)
    errors = _Awaited(WorkflowHost.errors)
    publish_event = _Awaited(WorkflowHost.publish_event)
    suspend_workflow = _Awaited(WorkflowHost.suspend_workflow)
    resume_workflow = _Awaited(WorkflowHost.resume_workflow)
    cancel_workflow = _Awaited(WorkflowHost.cancel_workflow)
    terminate_workflow = _Awaited(WorkflowHost.terminate_workflow)

    @overload
    def start_workflow(
        self,
        definition_id: WorkflowDefinition[D],
        data: D | Mapping[str, object] | None = None,
        *,
        version: int | None = None,
        name: str | None = None,
        reference: str | None = None,
        id: str | None = None,
        start_at: datetime | None = None,
    ) -> str: ...
    @overload
    def start_workflow(
        self,
        definition_id: str,
        data: object = None,
        *,
        version: int | None = None,
        name: str | None = None,
        reference: str | None = None,
        id: str | None = None,
        start_at: datetime | None = None,
    ) -> str: ...
    def start_workflow(self, definition_id: object, data: object = None, **named: object) -> str:
        """Start an instance and return its id, once it is durable; see `WorkflowHost.start_workflow`."""
        found: str = self.call("start_workflow", definition_id, data, **named)
        return found

    @overload
    def wait(
        self,
        id: str,
        timeout: DurationLike | None = None,
        until: WorkflowStatus | Collection[WorkflowStatus] | None = None,
        *,
        of: WorkflowDefinition[D],
    ) -> WorkflowResult[D]: ...
    @overload
    def wait(
        self,
        id: str,
        timeout: DurationLike | None = None,
        until: WorkflowStatus | Collection[WorkflowStatus] | None = None,
        of: None = None,
    ) -> WorkflowResult[Any]: ...
    def wait(self, id: str, *arguments: object, **named: object) -> WorkflowResult[Any]:  # noqa: A002 - the public name
        """Wait for the end of an instance; see `WorkflowHost.wait`."""
        found: WorkflowResult[Any] = self.call("wait", id, *arguments, **named)
        return found

    @overload
    def run(
        self,
        definition: WorkflowDefinition[D],
        data: D | Mapping[str, object] | None = None,
        *,
        timeout: DurationLike | None = None,
    ) -> WorkflowResult[D]: ...
    @overload
    def run(
        self, definition: str, data: object = None, *, timeout: DurationLike | None = None
    ) -> WorkflowResult[Any]: ...
    def run(self, definition: object, data: object = None, **named: object) -> WorkflowResult[Any]:
        """Start an instance and wait for its end."""
        found: WorkflowResult[Any] = self.call("run", definition, data, **named)
        return found

    def subscribe(self, *, workflow_id: str | None = None, since: str | None = None) -> Iterator[LifecycleEvent]:
        """Iterate over lifecycle events, from the first look at the iterator on (or from a cursor on).

        It blocks until there is one, and raises ShuttingDown when the host is stopped.
        """
        self.start()
        events = self.call_directly("subscribe", workflow_id=workflow_id, since=since)
        return self._iterate(events)

    def _iterate(self, events: AsyncIterator[LifecycleEvent]) -> Iterator[LifecycleEvent]:
        while True:
            yield self._wait(_next_of(events))

    # Calling

    def call(self, verb: str, *arguments: object, **named: object) -> Any:  # noqa: ANN401 - what the verb gives
        """Start the host, unless it runs, and wait for what a coroutine function of it gives."""
        _refuse_inside_loop(verb)
        self.start()
        return self._wait(getattr(self._host, verb)(*arguments, **named))

    def call_directly(self, verb: str, *arguments: object, **named: object) -> Any:  # noqa: ANN401 - what the verb gives
        """Call a plain function of the host: in the loop, if that runs."""
        _refuse_inside_loop(verb)
        function = getattr(self._host, verb)
        if self._loop is None:
            return function(*arguments, **named)
        return self._wait(_called(lambda: function(*arguments, **named)))

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        loop = self._loop
        if loop is None:
            work.close()
            raise _stopped()
        return _outcome(work, loop)


def _outcome(work: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop) -> _T:
    try:
        return asyncio.run_coroutine_threadsafe(work, loop).result()
    except CancelledError:
        raise _stopped() from None


def _stopped() -> ShuttingDown:
    return ShuttingDown("host.sync was stopped while this call waited.")


async def _called(function: Callable[[], _T]) -> _T:
    return function()


async def _next_of(events: AsyncIterator[_T]) -> _T:
    return await anext(events)


async def _cancel_others() -> None:
    """End what is still awaited by other threads; they are told that the host was stopped."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _refuse_inside_loop(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    msg = f"host.sync.{name}(…) would block the running event loop. Use `await host.{name}(…)` here."
    raise ConfigurationError(msg)


@overload
def run_workflow_sync(
    host_or_url: WorkflowHost | str,
    definition: WorkflowDefinition[D],
    data: D | Mapping[str, object] | None = None,
    timeout: DurationLike | None = None,
) -> WorkflowResult[D]: ...
@overload
def run_workflow_sync(
    host_or_url: WorkflowHost | str, definition: str, data: object = None, timeout: DurationLike | None = None
) -> WorkflowResult[Any]: ...
def run_workflow_sync(
    host_or_url: WorkflowHost | str,
    definition: WorkflowDefinition[Any] | str,
    data: Any = None,
    timeout: DurationLike | None = None,
) -> WorkflowResult[Any]:
    """Run one instance to its end and return the result; for scripts and tests.

    A host that is not running is started for the call and stopped after it.

    Raises:
        WaitTimeout: It has not ended in time.
        ConfigurationError: There is a running event loop, here or where the host runs; use `await host.run(…)` there.
    """
    _refuse_inside_loop("run")
    host = WorkflowHost(host_or_url) if isinstance(host_or_url, str) else host_or_url
    was_running = host.is_running
    try:
        return host.sync.run(definition, data, timeout=timeout)
    finally:
        if not was_running:
            host.sync.stop()

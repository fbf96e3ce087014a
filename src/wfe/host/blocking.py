"""A blocking view of a host, and a function for scripts and tests."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Self, TypeVar

from wfe.host.workflow_host import WorkflowHost
from wfe.model.errors import ConfigurationError

if TYPE_CHECKING:
    from wfe.model.definition import WorkflowDefinition
    from wfe.model.durations import DurationLike
    from wfe.model.instance import WorkflowResult

__all__ = ["BlockingHost", "run_workflow_sync"]

_T = TypeVar("_T")


class BlockingHost:
    """The verbs of a host as plain functions.

    It owns a loop in a thread, started with the first call or by `with host.sync:`.
    """

    def __init__(self, host: WorkflowHost) -> None:
        self._host = host
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.stop(force=error is not None)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._host, name)
        if name.startswith("_") or not callable(verb):
            msg = f"A blocking host has no attribute {name!r}"
            raise AttributeError(msg)

        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - those of the verb
            _refuse_inside_loop(name)
            if inspect.iscoroutinefunction(verb):
                self.start()
                return self._wait(verb(*args, **kwargs))
            if self._loop is None:
                return verb(*args, **kwargs)
            return self._wait(_called(verb, args, kwargs))

        return call

    def start(self) -> None:
        """Start the host, unless it runs."""
        _refuse_inside_loop("start")
        if self._loop is None:
            loop = asyncio.new_event_loop()
            self._loop = loop
            self._thread = threading.Thread(target=loop.run_forever, name="wfe-loop", daemon=True)
            self._thread.start()
            try:
                self._wait(self._host.start())
            except BaseException:
                self._end_loop()
                raise

    def stop(self, timeout: DurationLike = 30, *, force: bool = False) -> None:
        """Stop the host and end the loop."""
        if self._loop is None:
            return
        try:
            self._wait(self._host.stop(timeout, force=force))
        finally:
            self._end_loop()

    def _end_loop(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _called(verb: Callable[..., _T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> _T:
    return verb(*args, **kwargs)


def _refuse_inside_loop(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    msg = f"host.sync.{name}(…) would block the running event loop. Use `await host.{name}(…)` here."
    raise ConfigurationError(msg)


def run_workflow_sync(
    host_or_url: WorkflowHost | str,
    definition: WorkflowDefinition[Any] | str,
    data: Any = None,  # noqa: ANN401 - an object of the definition's data class, or a mapping
    timeout: DurationLike | None = None,
) -> WorkflowResult[Any]:
    """Run one instance to its end and return the result; for scripts and tests.

    A host that is not running is started for the call and stopped after it.

    Raises:
        WaitTimeout: It has not ended in time.
        ConfigurationError: There is a running event loop; use `await host.run(…)` there.
    """
    _refuse_inside_loop("run")
    host = WorkflowHost(host_or_url) if isinstance(host_or_url, str) else host_or_url
    blocking = host.sync
    was_running = host.is_running
    try:
        return blocking.run(definition, data, timeout=timeout)  # type: ignore[no-any-return]  # as `WorkflowHost.run`
    finally:
        if not was_running:
            blocking.stop()

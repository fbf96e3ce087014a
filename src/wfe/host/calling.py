"""Calls the code of one step where it belongs: on the loop, on a thread or in a process, within its time limit."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from wfe.host.time_limit import Overrun, TimeLimit, run_within
from wfe.model.durations import format_duration
from wfe.model.errors import StepTimeout
from wfe.model.result import Next

if TYPE_CHECKING:
    from wfe.host.bodies import BodySurroundings
    from wfe.host.registry import Body
    from wfe.host.threads import Call
    from wfe.model.context import StepExecutionContext
    from wfe.ports.executor import StepRequest

__all__ = ["Calling"]

_T = TypeVar("_T")


class Calling:
    """The calls of one attempt: its body, then its hooks."""

    __slots__ = ("_around", "_body", "_context", "_is_stopping")

    def __init__(
        self,
        around: BodySurroundings,
        body: Body,
        context: StepExecutionContext[Any] | None,
        is_stopping: Callable[[], bool],
    ) -> None:
        """Prepare to call.

        Args:
            context: What the body sees; None for a step that an executor runs.
            is_stopping: Whether the host has asked the attempt to end.
        """
        self._around = around
        self._body = body
        self._context = context
        self._is_stopping = is_stopping

    async def body(self, target: Any, arguments: Mapping[str, object]) -> object:  # noqa: ANN401 - a function or an object with `run`
        """Call the body.

        Raises:
            StepTimeout: It took longer than its time limit.
        """
        context = self._context
        assert context is not None
        function: Callable[..., Any] = target.run if self._body.is_class else target

        async def call(limit: TimeLimit | None) -> object:
            if self._body.is_async:
                return await self._on_loop(lambda: function(context, **arguments), limit)
            if self._body.attributes.executor == "process":
                from wfe.host.processes import call_in_process

                return await call_in_process(self._around.process_pool(), function, context, arguments, limit)
            return await self._on_thread(lambda: function(context, **arguments), limit)

        return await self._within_limit(call, "Step")

    async def hook(self, name: str, function: Callable[..., object], *arguments: object) -> None:
        """Call a hook of the body. It is user code like the body itself, and has as long as one attempt.

        Raises:
            StepTimeout: It took longer.
        """

        async def call(limit: TimeLimit | None) -> object:
            if inspect.iscoroutinefunction(function):
                return await self._on_loop(lambda: function(*arguments), limit)
            return await self._on_thread(lambda: function(*arguments), limit)

        await self._within_limit(call, f"{name} of step")

    async def executor(self, request: StepRequest, cancelled: asyncio.Event) -> Next:
        """Let an executor run the step.

        Raises:
            StepTimeout: It took longer than its time limit, and did not see to that itself.
        """
        executor = self._body.executor
        assert executor is not None

        async def call(limit: TimeLimit | None) -> Mapping[str, object]:
            try:
                if limit is not None:
                    limit.begin()
                return await executor.execute(request)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        # The executor ends its work at the limit itself; the grace is for one that does not.
        return Next(await self._within_limit(call, "Step", extra=self._around.cancel_grace, over=cancelled.set))

    async def _within_limit(
        self,
        call: Callable[[TimeLimit | None], Coroutine[Any, Any, _T]],
        subject: str,
        *,
        extra: float = 0,
        over: Callable[[], None] | None = None,
    ) -> _T:
        timeout = self._body.timeout
        if timeout is None:
            return await call(None)
        limit = TimeLimit(timeout + timedelta(seconds=extra), begun=self._set_deadline)
        try:
            return await run_within(limit, call(limit), grace=self._around.cancel_grace, over=over or self._set_flag)
        except Overrun:
            pass
        msg = f"{subject} {self._body.info.name!r} timed out after {format_duration(timeout)}."
        raise StepTimeout(msg)

    def _set_deadline(self) -> None:
        if self._context is not None and self._body.timeout is not None:
            self._context.deadline = datetime.now(UTC) + self._body.timeout

    def _set_flag(self) -> None:
        if self._context is not None:
            self._context.cancelled.set()

    @staticmethod
    async def _on_loop(function: Callable[[], Any], limit: TimeLimit | None) -> Any:  # noqa: ANN401 - what it gives
        if limit is not None:
            limit.begin()
        return await function()

    async def _on_thread(self, function: Callable[[], Any], limit: TimeLimit | None) -> object:
        def begin_and_call() -> object:
            assert limit is not None
            limit.begin_from_thread()
            return function()

        threads, loop = self._around.threads, asyncio.get_running_loop()
        answer, error = await self._outcome(threads.submit(function if limit is None else begin_and_call, loop))
        if error is not None:
            raise error
        # A plain function that gives a coroutine (a partial, a wrapper) meant to be a coroutine function.
        return await answer if inspect.isawaitable(answer) else answer

    async def _outcome(self, call: Call) -> tuple[Any, BaseException | None]:
        try:
            # Shielded: cancelling the task that waits would cancel the outcome too, and nothing would be left to wait
            # for.
            return await asyncio.shield(call.done)
        except asyncio.CancelledError:
            self._set_flag()
            if self._is_stopping() and await self._ends_in_its_grace(call):
                return call.done.result()
            call.abandon()
            raise

    async def _ends_in_its_grace(self, call: Call) -> bool:
        """A thread cannot be interrupted. It sees the flag, and what it still answers in its time counts."""
        try:
            done, _ = await asyncio.wait([call.done], timeout=self._around.cancel_grace)
        except asyncio.CancelledError:  # the host ends now
            call.abandon()
            raise
        return bool(done)

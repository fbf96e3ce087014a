"""Bodies that tests can watch and hold, and waiting for what shall come to pass."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from wfe import LifecycleEvent, StepExecutionContext, WorkflowHost, WorkflowStatus
from wfe.ports.provider import Provider

__all__ = [
    "SECONDS",
    "Context",
    "Gate",
    "Place",
    "StartHost",
    "ThreadGate",
    "eventually",
    "failing",
    "note",
    "put",
    "stands",
    "steps",
    "waits",
]

Context: TypeAlias = StepExecutionContext[Any]
Body: TypeAlias = Callable[[Context], Awaitable[None]]
Place: TypeAlias = Callable[[], "str | Provider"]
StartHost: TypeAlias = Callable[..., Awaitable[WorkflowHost]]

SECONDS = 20
"""How long a test waits for anything, at most."""


def note(name: str, trace: list[Any]) -> Body:
    """A body that notes its name."""

    async def body(context: Context) -> None:
        trace.append(name)

    body.__name__ = body.__qualname__ = name
    return body


def put(name: str, **fields: object) -> Body:
    """A body that sets fields of the data."""

    async def body(context: Context) -> None:
        for field, value in fields.items():
            if isinstance(context.data, dict):
                context.data[field] = value
            else:
                setattr(context.data, field, value)

    body.__name__ = body.__qualname__ = name
    return body


def failing(
    name: str, times: int = 1_000, *, error: type[Exception] = ValueError, trace: list[Any] | None = None
) -> Body:
    """A body that raises in its first attempts of each pointer."""

    async def body(context: Context) -> None:
        if trace is not None:
            trace.append((name, context.attempt))
        if context.attempt <= times:
            context.data["dirty"] = True
            raise error(f"{name} {context.attempt}")

    body.__name__ = body.__qualname__ = name
    return body


class Gate:
    """A body that waits until it is opened."""

    def __init__(self, name: str = "gate", **fields: object) -> None:
        self.name = name
        self.runs = 0
        self.cancelled = 0
        self._fields = fields
        self._entered = asyncio.Event()
        self._open = asyncio.Event()

    @property
    def body(self) -> Body:
        async def body(context: Context) -> None:
            self.runs += 1
            self._entered.set()
            try:
                await self._open.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            for field, value in self._fields.items():
                context.data[field] = value

        body.__name__ = body.__qualname__ = self.name
        return body

    async def entered(self) -> None:
        """Wait until the body runs."""
        async with asyncio.timeout(SECONDS):
            await self._entered.wait()

    def open(self) -> None:
        """Let the body go on."""
        self._open.set()

    def again(self) -> None:
        """Forget that it was entered."""
        self._entered.clear()


class ThreadGate:
    """As `Gate`, for a plain body on a thread."""

    def __init__(self, name: str = "thread_gate", **fields: object) -> None:
        self.name = name
        self._fields = fields
        self._entered = threading.Event()
        self._open = threading.Event()
        self.saw_cancel = threading.Event()

    @property
    def body(self) -> Callable[[Context], None]:
        def body(context: Context) -> None:
            self._entered.set()
            while not self._open.wait(0.005):
                if context.cancelled.is_set():
                    self.saw_cancel.set()
                    return
            context.data.update(self._fields)

        body.__name__ = body.__qualname__ = self.name
        return body

    async def entered(self) -> None:
        """Wait until the body runs."""
        assert await asyncio.to_thread(self._entered.wait, SECONDS)

    def open(self) -> None:
        """Let the body go on."""
        self._open.set()


async def eventually(what: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until it is so."""
    async with asyncio.timeout(SECONDS):
        while not await what():  # noqa: ASYNC110 - asked through the public API, which has no event for it
            await asyncio.sleep(0.005)


async def stands(host: WorkflowHost, instance_id: str, status: WorkflowStatus) -> None:
    """Wait until the instance has a status."""

    async def so() -> bool:
        return (await host.get_workflow(instance_id)).status is status

    await eventually(so)


async def waits(host: WorkflowHost, instance_id: str, *step: str) -> None:
    """Wait until steps of the instance sleep or wait for an event."""

    async def so() -> bool:
        found = {
            each.id
            for each in (await host.get_workflow(instance_id)).steps
            if each.status in {"sleeping", "waiting_for_event"}
        }
        return found >= set(step) if step else bool(found)

    await eventually(so)


def steps(history: list[LifecycleEvent], *kinds: str) -> list[str]:
    """The steps of these kinds of event, in order."""
    return [event.step or "" for event in history if str(event.kind).removeprefix("step ") in kinds]

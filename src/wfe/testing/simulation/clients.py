"""The clients of a run, and the two helpers that keep it going.

One feeds events to waits, one resumes what is suspended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wfe.host.workflow_host import WorkflowHost
from wfe.model.errors import ProviderUnavailable, ShuttingDown, StartConflict, WfeError
from wfe.model.moment import to_datetime
from wfe.testing.simulation.building import EVENT
from wfe.testing.simulation.ledger import Operation
from wfe.testing.simulation.machines import HostGone

if TYPE_CHECKING:
    from wfe.testing.simulation.scenario import ControlOp, EventOp, StartOp
    from wfe.testing.simulation.world import World

__all__ = ["Clients", "payload_of"]

_TRIES = 40


def payload_of(event_id: str) -> object:
    """Give the payload of an event: the same for every copy."""
    return {"event": event_id}


@dataclass(frozen=True)
class _Said:
    """What came of one attempt."""

    outcome: str
    answer: object = None


class Clients:
    """Does what a scenario's clients do, and writes down what they were told."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._feeding: dict[str, asyncio.Task[None]] = {}
        self._fed: dict[str, int] = {}
        self.busy: set[asyncio.Task[None]] = set()
        self._helpers: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Let all clients begin."""
        scenario = self._world.scenario
        for start in scenario.starts:
            self._go(self._start(start))
        by_instance: dict[str, list[ControlOp]] = {}
        for control in scenario.controls:
            by_instance.setdefault(control.id, []).append(control)
        for controls in by_instance.values():
            self._go(self._control(controls))
        for event in scenario.events:
            for copy in range(event.copies):
                self._go(self._publish(event, copy))
        self._helpers = [asyncio.create_task(self._feed()), asyncio.create_task(self._resume())]

    def _go(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task: asyncio.Task[None] = asyncio.create_task(work)
        self.busy.add(task)
        task.add_done_callback(self.busy.discard)

    def end(self) -> None:
        """Stop the helpers."""
        for task in [*self._helpers, *self._feeding.values()]:
            task.cancel()

    # Asking

    async def _ask(
        self,
        verb: str,
        instance: str,
        call: Callable[[WorkflowHost], Awaitable[object]],
        *,
        host: int,
        argument: object = None,
        timeout: float = 60.0,
    ) -> Operation:
        """Ask once and write down what was said."""
        world = self._world
        operation = Operation(world.loop.time(), verb, instance, argument)
        world.ledger.history.append(operation)
        said = await self._said(call, host, timeout)
        operation.ended = world.loop.time()
        operation.outcome, operation.answer = said.outcome, said.answer
        world.trace.note("client", f"{verb} {instance}: {said.outcome} {said.answer}")
        return operation

    async def _said(self, call: Callable[[WorkflowHost], Awaitable[object]], host: int, timeout: float) -> _Said:
        life = self._world.life(host)
        if life is None:
            return _Said("fail", "no host is up")
        try:
            return _Said("ok", await life.ask(call, timeout=timeout))
        except HostGone as error:
            return _Said("unknown", f"host gone: {error}")
        except ProviderUnavailable as error:
            return _Said("unknown", f"{error}")
        except ShuttingDown as error:
            return _Said("unknown", f"{error}")
        except WfeError as error:
            return _Said("fail", error)

    async def _start(self, op: StartOp) -> None:
        await asyncio.sleep(op.at)
        data = {"x": op.x, "key": op.id}
        when = None
        if op.delay:
            moment = self._world.tables.now() + int(op.delay * 1e6)
            when = to_datetime(moment)

        def call(host: WorkflowHost) -> Awaitable[object]:
            return host.start_workflow(op.definition, data, id=op.id if op.named else None, start_at=when)

        instance = op.id if op.named else ""
        for _ in range(_TRIES if op.stubborn else 1):
            done = await self._ask("start", op.id if op.named else "", call, host=op.host, argument=op)
            if done.outcome == "ok":
                instance = str(done.answer)
                break
            if done.outcome == "fail" and isinstance(done.answer, StartConflict):
                return
            await asyncio.sleep(0.7)
        if op.waits and instance:
            await self._wait(instance, op.host)

    async def _wait(self, instance: str, host: int) -> None:
        for _ in range(_TRIES):
            done = await self._ask("wait", instance, lambda host: host.wait(instance, 30), host=host, timeout=50)
            if done.outcome == "ok":
                return
            await asyncio.sleep(0.5)

    async def _control(self, controls: list[ControlOp]) -> None:
        for op in controls:
            await asyncio.sleep(max(0.0, op.at - self._world.loop.time()))
            await self._ask(op.verb, op.id, lambda host, op=op: _request(host, op.verb, op.id), host=op.host)  # type: ignore[misc]

    async def _publish(self, op: EventOp, copy: int) -> None:
        await asyncio.sleep(op.at + copy * 0.001)
        when = to_datetime(self._world.tables.now() + int(op.delay * 1e6)) if op.delay else None
        await self._publish_until_known(op.id, op.key, op.host + copy, when)

    async def _publish_until_known(self, event_id: str, key: str, host: int, when: Any = None) -> None:  # noqa: ANN401
        def call(host: WorkflowHost) -> Awaitable[object]:
            return host.publish_event(EVENT, key, payload_of(event_id), id=event_id, effective_at=when)

        for number in range(_TRIES):
            done = await self._ask("publish", event_id, call, host=host + number, argument=key)
            if done.outcome == "ok":
                return
            await asyncio.sleep(0.5)

    # Helpers

    async def _feed(self) -> None:
        """Publish an event for each key that somebody waits for, a little later."""
        random = self._world.random("feeding")
        while True:
            await asyncio.sleep(0.5)
            for _, key in list(self._world.tables.waiting):
                if key not in self._feeding:
                    self._feeding[key] = asyncio.create_task(self._feed_one(key, random.random() * 3))

    async def _feed_one(self, key: str, pause: float) -> None:
        await asyncio.sleep(pause)
        number = self._fed[key] = self._fed.get(key, 0) + 1
        try:
            await self._publish_until_known(f"fed:{key}:{number}", key, number)
        finally:
            self._feeding.pop(key, None)

    async def _resume(self) -> None:
        """Resume what is suspended, now and then; what clients have suspended only after the faults have ended."""
        world = self._world
        held = {op.id for op in world.scenario.controls if op.verb == "suspend"}
        while True:
            await asyncio.sleep(2.0)
            for instance in world.suspended():
                if world.is_healed or instance not in held:
                    await self._ask("resume", instance, lambda host, i=instance: host.resume_workflow(i), host=0)  # type: ignore[misc]


def _request(host: WorkflowHost, verb: str, instance: str) -> Awaitable[bool]:
    match verb:
        case "suspend":
            return host.suspend_workflow(instance)
        case "resume":
            return host.resume_workflow(instance)
        case "cancel":
            return host.cancel_workflow(instance)
        case _:
            return host.terminate_workflow(instance)

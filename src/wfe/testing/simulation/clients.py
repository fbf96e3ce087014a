"""The clients of a run, and the two helpers that keep it going.

One feeds events to waits, one resumes what is suspended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wfe.engine.state import decode_pointers
from wfe.host.workflow_host import WorkflowHost
from wfe.model.errors import ProviderUnavailable, ShuttingDown, StartConflict, WfeError
from wfe.model.lifecycle import LifecycleEvent
from wfe.model.moment import to_datetime
from wfe.testing.simulation.building import EVENT
from wfe.testing.simulation.ledger import Operation
from wfe.testing.simulation.machines import HostGone

if TYPE_CHECKING:
    from wfe.providers.memory.tables import Subscription
    from wfe.testing.simulation.scenario import ControlOp, EventOp, StartOp
    from wfe.testing.simulation.world import World

__all__ = ["Clients", "inputs_of", "payload_of"]

_TRIES = 40
_HEARD_WITHIN = 8.0
"""Virtual seconds of calm after which who follows has heard everything: it may pause after errors, five at most."""


def payload_of(event_id: str) -> object:
    """Give the payload of an event: the same for every copy."""
    return {"event": event_id}


def inputs_of(op: StartOp) -> list[dict[str, object]]:
    """Give the data of the instances that are started."""
    if op.many == 1:
        return [{"x": op.x, "key": op.id}]
    return [{"x": op.x, "key": f"{op.id}.{number}"} for number in range(op.many)]


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
        self._is_following = False

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
        if scenario.follower >= 0:
            self._helpers.append(asyncio.create_task(self._follow(scenario.follower)))

    def _go(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task: asyncio.Task[None] = asyncio.create_task(work)
        self.busy.add(task)
        task.add_done_callback(self.busy.discard)

    async def end(self) -> None:
        """Stop the helpers, once the one who follows has heard the last announcements."""
        await asyncio.sleep(1.5)
        until = self._world.loop.time() + _HEARD_WITHIN
        while self._is_following and self._world.loop.time() < until and not self._has_heard_all():  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        self._world.follows_to_the_end = self._is_following
        for task in [*self._helpers, *self._feeding.values()]:
            task.cancel()

    def _has_heard_all(self) -> bool:
        announced = sum(row.count for row in self._world.tables.log.values())
        return len(self._world.ledger.heard) >= announced

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
        world.seen[f"{verb} {said.outcome}"] += 1
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
        inputs = inputs_of(op)
        when = None
        if op.delay:
            moment = self._world.tables.now() + int(op.delay * 1e6)
            when = to_datetime(moment)

        def call(host: WorkflowHost) -> Awaitable[object]:
            if len(inputs) > 1:
                return host.start_workflows(op.definition, inputs)
            return host.start_workflow(op.definition, inputs[0], id=op.id if op.named else None, start_at=when)

        instances = [op.id] if op.named else []
        for _ in range(_TRIES if op.stubborn else 1):
            done = await self._ask("start", op.id if op.named else "", call, host=op.host, argument=op)
            if done.outcome == "ok":
                instances = list(done.answer) if isinstance(done.answer, list) else [str(done.answer)]
                break
            if done.outcome == "fail" and isinstance(done.answer, StartConflict):
                return
            await asyncio.sleep(0.7)
        for instance in instances if op.waits else ():
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
        if op.named:
            await self._publish_until_known(op.id, op.key, op.host + copy, when)
            return
        payload = payload_of(f"{op.id}.{copy}")
        await self._ask(
            "publish", "", lambda host: host.publish_event(EVENT, op.key, payload, effective_at=when), host=op.host
        )

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
            for (_, key), waiting in list(self._world.tables.waiting.items()):
                if key not in self._feeding:
                    pause = random.random() * 3
                    until = self._timeout_of(next(iter(waiting.values()))) if random.random() < 0.7 else 0.0
                    if until > 0:
                        pause = max(0.0, until + 0.005 - random.random() * 0.02)  # a race of event and timeout
                    self._feeding[key] = asyncio.create_task(self._feed_one(key, pause))

    def _timeout_of(self, wait: Subscription) -> float:
        """Give the seconds until a wait ends by time; 0.0: it does not."""
        tables = self._world.tables
        pointer = decode_pointers(tables.instances[wait.instance_id].packed_pointers()).get(wait.pointer)
        return 0.0 if pointer is None or not pointer.wake else (pointer.wake - tables.now()) / 1_000_000

    async def _feed_one(self, key: str, pause: float) -> None:
        await asyncio.sleep(pause)
        number = self._fed[key] = self._fed.get(key, 0) + 1
        try:
            await self._publish_until_known(f"fed:{key}:{number}", key, number)
        finally:
            self._feeding.pop(key, None)

    async def _follow(self, host: int) -> None:
        """Listen to all announcements, and go on from the last one heard when the host has gone."""
        world = self._world
        heard = world.ledger.heard
        while True:
            life = world.life(host)
            if life is not None:
                listening = world.loop.spawn(life.process, _listen(life.host, heard))
                self._is_following = True
                world.seen["follower resumed" if heard else "follower began"] += 1
                while not (life.has_ended or listening.done()):  # noqa: ASYNC110 - virtual time
                    await asyncio.sleep(0.5)
                self._is_following = False
            await asyncio.sleep(0.5)

    async def _resume(self) -> None:
        """Resume what is suspended, now and then; what clients have suspended only after the faults have ended."""
        world = self._world
        held = {op.id for op in world.scenario.controls if op.verb == "suspend"}
        while True:
            await asyncio.sleep(2.0)
            for instance in world.suspended():
                if world.is_healed or instance not in held:
                    await self._ask("resume", instance, lambda host, i=instance: host.resume_workflow(i), host=0)  # type: ignore[misc]


async def _listen(host: WorkflowHost, heard: list[LifecycleEvent]) -> None:
    with contextlib.suppress(ShuttingDown):
        async for event in host.subscribe(since=heard[-1].cursor if heard else "start"):
            heard.append(event)  # noqa: PERF401 - each as it comes


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

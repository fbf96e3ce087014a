"""Simulated machines: each runs one host after another, and things happen to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, TypeVar, cast

from wfe.host.core import HostCore
from wfe.host.workflow_host import WorkflowHost
from wfe.model.context import StepExecutionContext
from wfe.model.errors import WfeError
from wfe.testing.simulation.clocks import SeededEntropy, SkewedClock
from wfe.testing.simulation.loop import Process
from wfe.testing.simulation.network import HostGone
from wfe.testing.simulation.provider import SimulatedProvider

if TYPE_CHECKING:
    from wfe.model.moment import Moment
    from wfe.ports.provider import Provider
    from wfe.testing.simulation.building import Data
    from wfe.testing.simulation.scenario import Machine
    from wfe.testing.simulation.world import World

__all__ = ["CANCEL_GRACE", "SWEEP_INTERVAL", "HostGone", "Life", "SimulatedMachine", "TaskRenewal"]

SWEEP_INTERVAL = 1.0
CANCEL_GRACE = 1.5
_STOPS_WITHIN = 8

_T = TypeVar("_T")


class TaskRenewal:
    """Goes through the rounds of a renewal as a task of the host's own loop: a simulation has no threads."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self, rounds: Generator[float, None, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._go(rounds))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @staticmethod
    async def _go(rounds: Generator[float, None, None]) -> None:
        with contextlib.closing(rounds):
            for pause in rounds:
                await asyncio.sleep(pause)


class Life:
    """One process with one host, from its start to its end."""

    def __init__(self, world: World, machine: int, number: int, settings: Machine, clock: SkewedClock) -> None:
        self.world = world
        self.machine = machine
        self.settings = settings
        self.name = f"h{machine}.{number}"
        self.clock = clock
        self.process = world.loop.process(self.name)
        self.process.owner = self
        self.asked: dict[asyncio.Future[object], None] = {}
        self.was_poisoned = False
        """A body has killed it, and nobody has started the next one yet."""
        self.session = ""
        """The latest session that it has begun."""
        self.is_undisturbed = True
        """Nothing has kept it from renewing its session since it last did: no pause, no request that failed, no lie."""
        self.is_lied_to = False
        """Its last renewal was none, and it does not know."""
        self.trap = ""
        """What its next request springs: `crash before commit`, `crash after commit` or `crash after claim`."""
        self.jumped = False
        """Its clock has been set, and it has had no answer from the store since."""
        provider = SimulatedProvider(
            world.memory.share(),
            world.network,
            world.exchange,
            world,
            url="postgresql://simulated" if settings.pipelined else "memory:",
        )
        self.host = WorkflowHost(
            cast("Provider", provider),
            clock=clock,
            entropy=SeededEntropy(f"{world.scenario.seed}:{self.name}"),
            name="host",  # all have the same: a name is a label
            max_concurrency=settings.max_concurrency,
            max_active=settings.max_active,
            lease_ttl=settings.lease_ttl,
            sweep_interval=SWEEP_INTERVAL,
            cancel_grace=CANCEL_GRACE,
        )
        self.host._life.renewal = TaskRenewal  # noqa: SLF001 - there are no threads here  # pyright: ignore[reportPrivateUsage]
        self.is_up = False
        self.has_ended = False

    @property
    def core(self) -> HostCore | None:
        """The inside of the host, while it runs."""
        return self.host._life._core  # noqa: SLF001 - checks look inside  # pyright: ignore[reportPrivateUsage]

    @property
    def bodies(self) -> int:
        """How many bodies run there."""
        core = self.core
        return 0 if core is None else core.bodies.active

    def misled(self) -> str:
        """Tell what makes it believe what is not so of time and lease; empty: nothing."""
        if self.is_lied_to:
            return "a lying lease"
        return "a wrong clock" if abs(self.clock.offset) > self.settings.lease_ttl else ""

    def boot(self) -> None:
        """Start the host in its process."""
        for definition in self.world.definitions:
            if definition not in self.world.withheld:
                self.host.register(definition)
        self.world.loop.spawn(self.process, self._boot())

    async def _boot(self) -> None:
        try:
            await self.host.start()
        except WfeError as error:
            self.world.trace.note(self.name, f"could not start: {error}")
            self.has_ended = True
            return
        self.is_up = True
        self.world.trace.note(self.name, "is up")

    async def stop(self, *, force: bool) -> None:
        """End the host in good order."""
        self.is_up = False
        self.world.ownership.stops(self)
        with contextlib.suppress(HostGone):
            await self.ask(lambda host: host.stop(_STOPS_WITHIN, force=force))
        self.kill("stopped")  # what it held has been given back, or is found as after a crash

    def pause(self) -> None:
        """Let the process stand still."""
        self.process.paused = True
        self.is_undisturbed = False

    def kill(self, why: str) -> None:
        """End the process at once."""
        if self.has_ended:
            return
        self.is_up = False
        self.has_ended = True
        self.world.host_died(self)
        self.world.trace.note(self.name, why)
        self.process.kill()
        for future in self.asked:
            if not future.done():
                future.set_exception(HostGone(self.name))
        self.asked.clear()

    async def ask(self, verb: Callable[[WorkflowHost], Awaitable[_T]], *, timeout: float = 60.0) -> _T:
        """Let the host do something, as its program would.

        Raises:
            HostGone: The process ended before it answered, or it did not answer in time.
        """
        future: asyncio.Future[_T] = self.world.loop.create_future()

        async def run() -> None:
            try:
                value = await verb(self.host)
            except Exception as error:  # noqa: BLE001 - handed to who asked
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(value)

        if self.has_ended:
            raise HostGone(self.name)
        known = cast("asyncio.Future[object]", future)
        self.asked[known] = None
        self.world.loop.spawn(self.process, run())
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise HostGone(f"{self.name} has not answered") from None
        finally:
            self.asked.pop(known, None)

    # What bodies tell

    def begun(self, context: StepExecutionContext[Data], step: str, kills: int) -> None:
        self.world.body_begun(self, context, step)
        if self.world.body_kills(context, kills):
            self.was_poisoned = True
            self.kill(f"killed by {step} of {context.workflow.id}")

    def store_time(self) -> Moment:
        return self.world.tables.now()

    def ended(self, context: StepExecutionContext[Data], step: str, how: str) -> None:
        self.world.body_ended(self, context, step, how)


class SimulatedMachine:
    """A place where hosts live, one after another."""

    def __init__(self, world: World, index: int, settings: Machine) -> None:
        self._world = world
        self.index = index
        self._settings = settings
        self.clock = SkewedClock(world.loop, offset=settings.offset, drift=settings.drift)
        self._count = 0
        self.life = self.begin()

    @property
    def process(self) -> Process:
        """The present process."""
        return self.life.process

    def begin(self) -> Life:
        """Start a host."""
        self._count += 1
        self.life = Life(self._world, self.index, self._count, self._settings, self.clock)
        self.life.boot()
        return self.life

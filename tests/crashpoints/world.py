"""One run: hosts on one store, a client, and a gate that all calls of the hosts lead through."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from wfe import StepExecutionContext, WorkflowHost
from wfe.model.errors import DefinitionNotFound, ProviderUnavailable, ShuttingDown
from wfe.ports import gaps
from wfe.ports.store import ListFilter
from wfe.testing.failpoints import FailpointProvider, Gate
from wfe.testing.simulation.clocks import SeededEntropy
from wfe.testing.simulation.loop import PROCESS
from wfe.testing.simulation.machines import HostGone

if TYPE_CHECKING:
    from tests.crashpoints.places import Place
    from tests.crashpoints.scenario import Scenario
    from wfe.ports.gaps import Gap
    from wfe.ports.provider import Provider
    from wfe.ports.store import InstanceRow

__all__ = ["BODY_BEGUN", "BODY_ENDED", "Begin", "Life", "World", "present_life"]

BODY_BEGUN = "body.begun"
BODY_ENDED = "body.ended"
"""A body has had its effect; the engine has not its answer."""
LEASE_TTL = 6.0
_SWEEP = 1.0
_GRACE = 1.0
_DOWN_FOR = 0.5
_ASK_AGAIN = 0.2
_ANSWER_WITHIN = 30.0
_REAL_LIMIT = 40.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class Begin:
    """A body has begun."""

    instance: str
    step: str
    key: str
    attempt: int
    stage: str
    """Tells the runs of one attempt apart: what the body persisted, and the event that it got."""
    life: str


def present_life() -> Life:
    """Give the process that the present callback belongs to."""
    return cast("Life", PROCESS.get().owner)


class Life:
    """One process with one host, from its start to its end."""

    def __init__(self, world: World, machine: int, number: int) -> None:
        self.world = world
        self.machine = machine
        self.name = f"h{machine}.{number}"
        self.process = world.place.process(self.name)
        self.process.owner = self
        self._has_begun = False
        self.is_over = False
        """It was stopped in good order, or it died."""
        self.backend: Provider = world.place.connect()
        self.provider = FailpointProvider(
            self.backend, world.gate, self, url="postgresql://" if world.scenario.pipelined else ""
        )
        self._asked: set[asyncio.Future[object]] = set()
        pace = world.pace
        self.host = WorkflowHost(
            cast("Provider", self.provider),
            clock=world.place.clock,
            entropy=SeededEntropy(f"{world.scenario.name}:{self.name}"),
            name=self.name,
            lease_ttl=LEASE_TTL if world.place.is_virtual else 15,
            sweep_interval=_SWEEP * pace,
            cancel_grace=_GRACE * pace,
            event_retention=world.scenario.event_retention * pace,
        )
        world.place.prepare(self.host)

    @property
    def is_dead(self) -> bool:
        """Whether the process has died."""
        return self.process.dead

    @property
    def is_up(self) -> bool:
        """Whether its host has started, and nothing has begun to end it."""
        return self._has_begun and not self.is_over

    def boot(self) -> None:
        """Start the host in its process."""
        for definition in self.world.definitions_of(self.machine):
            self.host.register(definition)
        self.spawn(self._boot())

    async def _boot(self) -> None:
        while True:
            try:
                await self.host.start()
            except ProviderUnavailable:
                await asyncio.sleep(_ASK_AGAIN * self.world.pace)  # as a program's supervisor would
            except Exception as error:
                self.world.problems.append(f"{self.name} could not start: {error!r}")
                raise
            else:
                self._has_begun = True
                return

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run a coroutine in the process."""
        return self.world.place.loop.create_task(work, context=self.world.place.context_of(self.process))

    def die(self, why: str) -> None:
        """End the process at once, and let another one take its place a little later. In any thread of it."""
        if self.is_over:
            return
        self.is_over = True
        self.process.kill()
        self.world.place.in_loop(lambda: self._has_died(why))

    def _has_died(self, why: str) -> None:
        for future in self._asked:
            if not future.done():
                future.set_exception(HostGone(f"{self.name}: {why}"))
        self.world.has_died(self)

    async def ask(self, verb: Callable[[WorkflowHost], Awaitable[_T]]) -> _T:
        """Let the host do something, as its program would.

        Raises:
            HostGone: The process died, or did not answer in time.
        """
        if self.is_over:
            raise HostGone(self.name)
        future: asyncio.Future[_T] = self.world.place.loop.create_future()

        async def run() -> None:
            try:
                value = await verb(self.host)
            except Exception as error:  # noqa: BLE001 - handed to who asked
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(value)

        known = cast("asyncio.Future[object]", future)
        self._asked.add(known)
        self.spawn(run())
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                return await future
        except TimeoutError:
            raise HostGone(f"{self.name} has not answered") from None
        finally:
            self._asked.discard(known)

    async def stop(self) -> None:
        """End it in good order."""
        self._has_begun = False
        try:
            await self.ask(lambda host: host.stop(3 * self.world.pace))
        except HostGone:
            return  # it died on the way
        self.is_over = True
        self.process.kill()


@dataclass
class World:
    """All that a run consists of."""

    place: Place
    scenario: Scenario
    gate: Gate
    begun: list[Begin] = field(default_factory=list)
    """Every body that began, in order."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What a scenario wants compared besides what is stored."""
    flags: set[str] = field(default_factory=set)
    """What bodies are told by the client, past the engine."""
    died: list[Life] = field(default_factory=list)
    """Processes that have died."""
    problems: list[str] = field(default_factory=list)
    """What no fault explains."""
    learned: list[Any] = field(default_factory=list)
    """Definitions that hosts begun from now on register, too."""

    def __post_init__(self) -> None:
        self.lives: list[Life] = []
        self._counts: Counter[int] = Counter()
        self._retired: set[int] = set()
        self._coming: set[asyncio.Task[None]] = set()
        self.admin: Provider = self.place.connect()

    @property
    def pace(self) -> float:
        """Seconds of this place for one second of a scenario."""
        return self.place.pace

    def definitions_of(self, machine: int) -> list[Any]:
        """Build what a machine's host registers."""
        return [*self.scenario.definitions_of(self.pace, machine), *self.learned]

    async def run(self) -> None:
        """Let the scenario happen, and everybody go home."""
        await self.admin.store.open()
        with self._watching_gaps():
            async with asyncio.timeout(self.scenario.limit if self.place.is_virtual else _REAL_LIMIT):
                self.lives = [self._begin(machine) for machine in range(self.scenario.hosts)]
                if not self.place.is_virtual:
                    # Else chance says which host is up first, and gets what was meant for another one.
                    for machine in range(self.scenario.hosts):
                        await self._until_up(machine)
                await self.scenario.drive(Client(self))
                for machine in range(self.scenario.hosts):
                    if machine not in self._retired:
                        await self.retire(machine)

    def _begin(self, machine: int) -> Life:
        self._counts[machine] += 1
        life = Life(self, machine, self._counts[machine])
        life.boot()
        return life

    def has_died(self, life: Life) -> None:
        """Bury a process, and start another one in its place."""
        self.died.append(life)
        task = self.place.loop.create_task(self._replace(life), context=self.place.root_context())
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)

    async def _replace(self, life: Life) -> None:
        await self.place.bury(life.backend)
        await asyncio.sleep(_DOWN_FOR * self.pace)
        if life.machine not in self._retired:
            self.lives[life.machine] = self._begin(life.machine)

    async def _until_up(self, machine: int) -> None:
        while not self.lives[machine].is_up:  # noqa: ASYNC110 - looked at in the time of the run
            await asyncio.sleep(_ASK_AGAIN * self.pace)

    async def retire(self, machine: int) -> None:
        """Stop a machine's host in good order; it does not come back."""
        await self._until_up(machine)
        self._retired.add(machine)
        await self.lives[machine].stop()

    def life(self, machine: int) -> Life | None:
        """Give the life of a machine, or else of the next one that has one; None if none is up."""
        for step in range(self.scenario.hosts):
            life = self.lives[(machine + step) % self.scenario.hosts]
            if life.is_up:
                return life
        return None

    async def children(self) -> list[InstanceRow]:
        """List the instances that have a parent."""
        rows, _ = await self.admin.store.list_instances(ListFilter(), 100)
        return [row for row in rows if row.parent_id is not None]

    async def children_wait(self) -> bool:
        """Tell whether there are children, and all of them wait for something."""
        children = await self.children()
        return bool(children) and all([await self.place.waits(self.admin, row.id, 1) for row in children])

    @contextmanager
    def _watching_gaps(self) -> Generator[None, None, None]:
        def reached(gap: Gap) -> None:
            process = PROCESS.get(None)
            if process is not None and isinstance(process.owner, Life):
                self.gate.pass_by(process.owner, gap)

        gaps.reached = reached
        try:
            yield
        finally:
            gaps.reached = None

    # What bodies tell

    def body_begins(self, life: Life, context: StepExecutionContext[Any]) -> None:
        self.gate.pass_by(life, BODY_BEGUN)
        stage = f"{context.persistence_data} {context.event_data}"
        self.begun.append(
            Begin(context.workflow.id, context.step.id, context.idempotency_key, context.attempt, stage, life.name)
        )

    def body_ends(self, life: Life) -> None:
        self.gate.pass_by(life, BODY_ENDED)


class Client:
    """What a program outside wants. It asks again until it has an answer; what it asks for is idempotent."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def sleep(self, seconds: float) -> None:
        """Wait, in seconds of the scenario."""
        await asyncio.sleep(seconds * self.world.pace)

    async def ask(self, verb: Callable[[WorkflowHost], Awaitable[_T]], *, host: int = 0) -> _T:
        """Ask a host, or another one if it is away, until there is an answer."""
        while True:
            life = self.world.life(host)
            if life is not None:
                try:
                    return await life.ask(verb)
                except (HostGone, ProviderUnavailable, ShuttingDown, DefinitionNotFound):
                    pass  # perhaps the one that was asked instead of another does not know the definition
            await self.sleep(_ASK_AGAIN)

    async def start(self, definition: str, id: str, data: object = None, *, host: int = 0, **more: Any) -> str:  # noqa: A002
        """Start an instance."""
        return await self.ask(lambda each: each.start_workflow(definition, data or {}, id=id, **more), host=host)

    async def publish(self, id: str, key: str, data: object = None, *, host: int = 0, **more: Any) -> None:  # noqa: A002
        """Publish an event named `news`."""
        await self.ask(lambda each: each.publish_event("news", key, data, id=id, **more), host=host)

    async def control(self, verb: str, id: str, *, host: int = 0) -> None:  # noqa: A002
        """Suspend, resume, cancel or terminate."""
        await self.ask(lambda each: cast("Awaitable[bool]", getattr(each, f"{verb}_workflow")(id)), host=host)

    async def end(self, *ids: str, host: int = 0) -> None:
        """Wait for ends."""
        for each in ids:
            await self.ask(lambda host, each=each: host.wait(each), host=host)  # type: ignore[misc]

    async def until(self, reached: Callable[[], Awaitable[bool]]) -> None:
        """Look until it is so."""
        while not await reached():
            await self.sleep(0.1)

    async def waits(self, id: str, count: int = 1) -> None:  # noqa: A002
        """Wait until so many pointers of an instance sleep or wait."""
        await self.until(lambda: self.world.place.waits(self.world.admin, id, count))

    async def stands(self, id: str, *statuses: str) -> None:  # noqa: A002
        """Wait until an instance has one of the statuses."""

        async def so() -> bool:
            row = await self.world.admin.store.get(id)
            return row is not None and row.status in statuses

        await self.until(so)

    async def begun(self, step: str, times: int = 1) -> None:
        """Wait until bodies of a step have begun for so many pointers."""

        async def so() -> bool:
            return len({begin.key for begin in self.world.begun if begin.step == step}) >= times

        await self.until(so)

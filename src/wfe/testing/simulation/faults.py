"""Makes things happen to hosts, as a scenario says, and makes them good again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from wfe.ports.hints import Hint, HintKind
from wfe.testing.simulation.network import CALM

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from random import Random

    from wfe.model.definition import WorkflowDefinition
    from wfe.testing.simulation.building import Data
    from wfe.testing.simulation.machines import Life, SimulatedMachine
    from wfe.testing.simulation.scenario import FaultOp
    from wfe.testing.simulation.world import World

__all__ = ["Faults"]

_FUSE_BURNS_FOR = 4.0
"""Virtual seconds after which a process that has not done as many callbacks as its fuse is long gets none."""
_WORK_COMES_WITHIN = 3.0
"""Virtual seconds for which a fault waits for a host that runs something."""
_LONG = 0.55
"""Seconds after which a body may well outlast a short lease; who ends a host in good order prefers to wait for it."""
_TRAP_STAYS = 5.0
"""Virtual seconds for which a trap at a host's requests is set at least."""
_SHOWS_WITHIN = 5.0
"""Virtual seconds of calm after which an instance without code has to say so: two sweeps, and their latencies."""


class Faults:
    """The director of a run's misfortunes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: list[asyncio.Task[None]] = []
        self._reviving: asyncio.Task[None] | None = None
        self._random: Random = world.random("faults")
        self._strikes: Mapping[str, Callable[[SimulatedMachine, FaultOp], Awaitable[None]]] = {
            "crash": self._crash,
            "crash between awaits": self._crash_between_awaits,
            "crash before commit": self._crash_at_request,
            "crash after commit": self._crash_at_request,
            "crash after claim": self._crash_at_request,
            "pause": self._pause,
            "pause between awaits": self._pause_between_awaits,
            "stop": self._stop,
            "force stop": self._stop,
            "cut": self._cut,
            "outage": self._outage,
            "evict": self._evict,
            "lying lease": self._lie,
            "forged hints": self._forge,
            "clock jump": self._jump,
            "store clock back": self._set_back,
            "store clock forth": self._set_forth,
            "forget": self._forget,
            "forget everywhere": self._withhold,
        }

    def begin(self) -> None:
        """Let misfortune take its course."""
        self._tasks = [asyncio.create_task(self._strike(fault)) for fault in self._world.scenario.faults]
        self._reviving = asyncio.create_task(self._revive())

    def end(self) -> None:
        """No host comes back any more."""
        assert self._reviving is not None
        self._reviving.cancel()

    async def heal(self) -> None:
        """End all faults: every machine has a host that runs, and the network is calm."""
        world = self._world
        await asyncio.gather(*self._tasks)
        weather = world.network.weather
        world.network.weather = replace(CALM, hint_lost=weather.hint_lost) if weather.hints_stay_lost else CALM
        world.network.cut.clear()
        world.network.is_down = False
        for machine in world.machines:
            machine.life.trap = ""
            machine.process.fuse = 0
            machine.process.go_on()
        while not all(machine.life.is_up for machine in world.machines):
            for machine in world.machines:
                if machine.life.has_ended:
                    machine.begin()
            await asyncio.sleep(0.1)
        world.set_store_clock_right()
        world.is_healed = True
        world.healed_at = world.loop.time()
        world.trace.note("world", "healed")
        if world.withheld:
            await self._bring_code_late()

    async def _strike(self, fault: FaultOp) -> None:
        await asyncio.sleep(fault.at)
        world = self._world
        machine = world.machines[fault.host]
        if fault.patient:
            machine = await self._busy(machine)
        world.trace.note(machine.life.name, f"fault: {fault.kind} for {fault.length} s")
        await self._strikes[fault.kind](machine, fault)

    def _bites(self, fault: FaultOp) -> None:
        """Note that a fault is felt. Those that are felt by requests are noted where these are executed."""
        self._world.bitten(fault.kind)

    # Hosts

    async def _crash(self, machine: SimulatedMachine, fault: FaultOp) -> None:
        if machine.life.bodies:
            self._bites(fault)
        machine.life.kill("killed")
        await self._come_back(machine, fault.length)

    async def _crash_between_awaits(self, machine: SimulatedMachine, fault: FaultOp) -> None:
        life = machine.life

        def burnt() -> None:
            self._bites(fault)
            life.kill("killed between two awaits")

        await self._light(life, fault.turns, burnt)
        if life.has_ended:
            await self._come_back(machine, fault.length)

    async def _crash_at_request(self, machine: SimulatedMachine, fault: FaultOp) -> None:
        life = machine.life
        life.trap = fault.kind
        until = self._world.loop.time() + max(fault.length, _TRAP_STAYS)
        while life.trap and not life.has_ended and self._world.loop.time() < until:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)
        life.trap = ""
        if life.has_ended:
            await self._come_back(machine, 0.5)

    async def _pause(self, machine: SimulatedMachine, fault: FaultOp) -> None:
        life = machine.life
        if life.bodies and fault.length > life.settings.lease_ttl:
            self._bites(fault)
        life.pause()
        await asyncio.sleep(fault.length)
        life.process.go_on()

    async def _pause_between_awaits(self, machine: SimulatedMachine, fault: FaultOp) -> None:
        life = machine.life

        def burnt() -> None:
            self._bites(fault)
            life.pause()

        await self._light(life, fault.turns, burnt)
        await asyncio.sleep(fault.length)
        life.process.go_on()

    async def _stop(self, machine: SimulatedMachine, fault: FaultOp) -> None:
        machine = await self._busy(machine, since=_LONG)
        if machine.life.is_up:
            if machine.life.bodies:
                self._bites(fault)
            await machine.life.stop(force=fault.kind == "force stop")
            await self._come_back(machine, fault.length)

    async def _busy(self, machine: SimulatedMachine, *, since: float = 0.0) -> SimulatedMachine:
        """Give a machine whose host runs a body, this one first; wait for some while that none does.

        Args:
            since: Seconds for which the body should have been running; then one with a short lease comes first.
        """
        others, until = self._world.machines, self._world.loop.time() + (3 if since else 1) * _WORK_COMES_WITHIN
        order = [*others[machine.index :], *others[: machine.index]]
        if since:
            order.sort(key=lambda each: each.life.settings.lease_ttl)
        while self._world.loop.time() < until:
            for each in order:
                if each.life.is_up and each.life.bodies and self._world.watching.runs_since(each.life.name) >= since:
                    return each
            await asyncio.sleep(0.05)
        return machine

    async def _light(self, life: Life, turns: int, burnt: Callable[[], None]) -> None:
        """Give a process so many callbacks more; wait until they have run, or it is clear that they will not."""
        process = life.process
        process.burnt = burnt
        process.fuse = max(1, turns)
        until = self._world.loop.time() + _FUSE_BURNS_FOR
        while process.fuse and not life.has_ended and self._world.loop.time() < until:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.2)
        process.fuse = 0

    async def _come_back(self, machine: SimulatedMachine, pause: float) -> None:
        await asyncio.sleep(pause)
        if machine.life.has_ended:
            machine.begin()

    async def _revive(self) -> None:
        """Start hosts again that bodies have killed; that goes on when all faults are over."""
        while True:
            await asyncio.sleep(0.4)
            for machine in self._world.machines:
                if machine.life.was_poisoned:
                    machine.begin()

    # Network and leases

    async def _cut(self, machine: SimulatedMachine, fault: FaultOp) -> None:
        name = machine.life.name
        self._world.network.cut.add(name)
        await asyncio.sleep(fault.length)
        self._world.network.cut.discard(name)

    async def _outage(self, _: SimulatedMachine, fault: FaultOp) -> None:
        self._world.network.is_down = True
        await asyncio.sleep(fault.length)
        self._world.network.is_down = False

    async def _evict(self, machine: SimulatedMachine, fault: FaultOp) -> None:
        life, tables = machine.life, self._world.tables
        life.is_undisturbed = False
        if not life.has_ended and any(tables.holder(each) == life.session for each in tables.live.values()):
            self._bites(fault)
        tables.sessions.pop(life.session, None)

    async def _lie(self, machine: SimulatedMachine, fault: FaultOp) -> None:
        """The lease service says yes to a host whose session is over: others take what it believes to hold."""
        life = (await self._busy(machine)).life
        self._world.network.lying.add(life.name)
        life.is_lied_to = True
        life.is_undisturbed = False
        self._world.tables.sessions.pop(life.session, None)
        await asyncio.sleep(fault.length)
        self._world.network.lying.discard(life.name)

    async def _forge(self, machine: SimulatedMachine, fault: FaultOp) -> None:
        """Send a host hints that nobody meant."""
        life, world = machine.life, self._world
        ids = [*world.tables.instances, "nobody", "i0~1.1", "", "\0", "\ud800", "i0" * 1000]
        for process, receive in list(world.exchange.receivers.values()):
            if process is life.process:
                for kind in HintKind:
                    chosen = tuple(self._random.sample(ids, self._random.randint(0, len(ids))))
                    told = partial(self._tell, fault, receive, Hint(kind, chosen))
                    world.loop.call_later(0.001, told, context=world.loop.context_of(process))

    def _tell(self, fault: FaultOp, receive: Callable[[Hint], None], hint: Hint) -> None:
        self._bites(fault)
        receive(hint)

    # Clocks

    async def _jump(self, machine: SimulatedMachine, fault: FaultOp) -> None:
        machine.clock.offset += fault.length - 4.0
        machine.life.jumped = not machine.life.has_ended

    async def _set_back(self, _: SimulatedMachine, fault: FaultOp) -> None:
        self._world.store_clock.offset -= fault.length
        self._world.moved = fault.kind
        # Until its next reply a host goes by what it knew: early by the step at most (M5).
        self._world.watching.tolerance += int(fault.length * 1_000_000)

    async def _set_forth(self, _: SimulatedMachine, fault: FaultOp) -> None:
        self._world.store_clock.offset += fault.length
        self._world.moved = fault.kind

    # Code that is not there

    async def _forget(self, machine: SimulatedMachine, fault: FaultOp) -> None:
        """A host is without the code of one definition for a while."""
        life = machine.life
        definition = await self._wanted()
        if definition is None or life.has_ended:
            return
        self._bites(fault)
        self._deregister(life, definition)
        await asyncio.sleep(fault.length)
        if not life.has_ended:
            context = self._world.loop.context_of(life.process)
            context.run(life.host.register, definition)

    def _deregister(self, life: Life, definition: WorkflowDefinition[Data]) -> None:
        context = self._world.loop.context_of(life.process)
        context.run(life.host.deregister, definition.id, definition.version)

    async def _withhold(self, _: SimulatedMachine, __: FaultOp) -> None:
        """No host has the code of one definition, until all other faults have ended."""
        world = self._world
        definition = await self._wanted()
        if definition is None or definition in world.withheld:
            return
        world.withheld.append(definition)
        for machine in world.machines:
            if not machine.life.has_ended:
                self._deregister(machine.life, definition)

    async def _wanted(self) -> WorkflowDefinition[Data] | None:
        """Draw a definition that something unfinished runs by; wait for some while that there is one."""
        world, until = self._world, self._world.loop.time() + _WORK_COMES_WITHIN
        while world.loop.time() < until:
            used = {each.definition for each in world.unfinished()}
            wanted = [definition for definition in world.roots if definition.key in used]
            if wanted:
                return self._random.choice(wanted)
            await asyncio.sleep(0.05)
        return None

    async def _bring_code_late(self) -> None:
        """What has no code must say so by now (V2); then the code comes."""
        world = self._world
        known = {definition.key for definition in world.withheld}
        due = {each.id: each.fence for each in world.idle() if each.definition in known}
        await asyncio.sleep(_SHOWS_WITHIN)
        for each in world.idle():
            if due.get(each.id) == each.fence:  # taken meanwhile for a message, it has two sweeps again to say so
                world.seen["blocked"] += 1
                world.bitten("forget everywhere")
                if not each.blocked_reason:
                    world.watching.broken("V2", f"{each.id} is due, no host has its code, and it gives no reason")
        for definition in world.withheld:
            world.trace.note("world", f"the code of {definition.id} is here")
            for machine in world.machines:
                if not machine.life.has_ended:
                    world.loop.context_of(machine.process).run(machine.life.host.register, definition)
        world.withheld.clear()
        world.healed_at = world.loop.time()

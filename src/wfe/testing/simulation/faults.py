"""Makes things happen to hosts, as a scenario says, and makes them good again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wfe.testing.simulation.network import CALM

if TYPE_CHECKING:
    from wfe.testing.simulation.machines import SimulatedMachine
    from wfe.testing.simulation.scenario import FaultOp
    from wfe.testing.simulation.world import World

__all__ = ["Faults"]


class Faults:
    """The director of a run's misfortunes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Let misfortune take its course."""
        self._tasks = [asyncio.create_task(self._strike(fault)) for fault in self._world.scenario.faults]

    async def heal(self) -> None:
        """End all faults: every machine has a host that runs, and the network is calm."""
        world = self._world
        await asyncio.gather(*self._tasks)
        world.network.weather = CALM
        world.network.cut.clear()
        for machine in world.machines:
            machine.life.trap = ""
            machine.process.paused = False
        while not all(machine.life.is_up for machine in world.machines):
            for machine in world.machines:
                if machine.life.has_ended:
                    machine.begin()
            await asyncio.sleep(0.1)
        world.is_healed = True
        world.healed_at = world.loop.time()
        world.trace.note("world", "healed")

    async def _strike(self, fault: FaultOp) -> None:
        await asyncio.sleep(fault.at)
        machine = self._world.machines[fault.host]
        life = machine.life
        self._world.trace.note(life.name, f"fault: {fault.kind} for {fault.length} s")
        match fault.kind:
            case "crash":
                life.kill("killed")
                await self._come_back(machine, fault.length)
            case "crash before commit" | "crash after commit" | "crash after claim":
                life.trap = fault.kind.removeprefix("crash ")
                await asyncio.sleep(fault.length)
                life.trap = ""
                if life.has_ended:
                    await self._come_back(machine, 0.5)
            case "pause":
                life.process.paused = True
                await asyncio.sleep(fault.length)
                life.process.paused = False
            case "cut":
                self._world.network.cut.add(life.name)
                await asyncio.sleep(fault.length)
                self._world.network.cut.discard(life.name)
            case "evict":
                core = life.core
                if core is not None:
                    self._world.tables.sessions.pop(core.session_id, None)
            case "stop" | "force stop":
                if life.is_up:
                    await life.stop(force=fault.kind == "force stop")
                    await self._come_back(machine, fault.length)
            case "jump":
                machine.clock.offset += fault.length - 4.0
            case "forget":
                await self._forget(machine, fault.length)
            case _:
                raise ValueError(fault.kind)

    async def _come_back(self, machine: SimulatedMachine, pause: float) -> None:
        await asyncio.sleep(pause)
        if machine.life.has_ended:
            machine.begin()

    async def _forget(self, machine: SimulatedMachine, length: float) -> None:
        """A host is without the code of its last definition for a while."""
        life = machine.life
        definition = self._world.definitions[-1]  # no child of another one
        life.host.deregister(definition.id, definition.version)
        await asyncio.sleep(length)
        if not life.has_ended:
            context = self._world.loop.context_of(life.process)
            context.run(life.host.register, definition)

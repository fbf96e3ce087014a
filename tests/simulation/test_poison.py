"""How much the others get done while some instances are poison: counted in virtual time, so each run says the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

import pytest

from wfe import WorkflowHost
from wfe.host.trials import QUARANTINE_AFTER
from wfe.model.errors import WfeError
from wfe.model.status import WorkflowStatus
from wfe.testing import fsck
from wfe.testing.simulation.faults import Faults
from wfe.testing.simulation.loop import SimulatedLoop
from wfe.testing.simulation.machines import HostGone
from wfe.testing.simulation.network import CALM
from wfe.testing.simulation.scenario import Machine, Scenario
from wfe.testing.simulation.shapes import Plan, Wait, Work
from wfe.testing.simulation.world import World

_POISONED = 3
_CLIENTS = 9
_BEGINS = 20.0
"""Virtual seconds after which the poison comes."""
_MINUTES = 10
_SETTLED = 150.0
"""Virtual seconds after which all that kills its hosts is found."""
_LOOKS = 4
"""At once, and after one, three and seven minutes."""
_PLANS = (
    Plan("fine", (Work("one", slow=5.0), Work("two", slow=5.0))),
    Plan("deadly", (Work("kill", kills=20, slow=0.1),)),
    Plan("damaged", (Wait("wait"),)),
)


@dataclass
class _Run:
    """What was done in one run."""

    ends: list[float] = field(default_factory=list[float])
    """Virtual times at which instances that are no poison have ended."""
    deaths: int = 0
    """How many hosts poison has killed."""
    takings: list[int] = field(default_factory=list[int])
    """How often each of the poisoned was taken."""
    statuses: list[str] = field(default_factory=list[str])
    """Of the poisoned, in the end."""
    findings: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    """What the check of the store finds in the end: rule and instance."""

    def between(self, begin: float, end: float) -> int:
        """Count the ends within a time."""
        return sum(begin <= each < end for each in self.ends)


class _Stage:
    """Three hosts, clients that start one instance after the other, and poison."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._loop = SimulatedLoop(Random(1), max_turns=10**7)
        scenario = Scenario(
            seed=1, plans=_PLANS, machines=(Machine(),) * 3, weather=CALM, starts=(), controls=(), events=(), faults=(),
            length=0.0,
        )  # fmt: skip
        self._world = World(self._loop, scenario)
        self.run = _Run()

    def play(self) -> _Run:
        try:
            self._loop.run_until_complete(self._play())
        finally:
            self._loop.dispose()
        assert self._world.watching.violations == []
        return self.run

    async def _play(self) -> None:
        world = self._world
        world.boot()
        faults = Faults(world)
        faults.begin()
        clients = [asyncio.create_task(self._client(number)) for number in range(_CLIENTS)]
        await asyncio.sleep(_BEGINS)
        if self._kind:
            await asyncio.gather(*(self._poison(number) for number in range(_POISONED)))
        before = Counter(world.watching.taken)
        await asyncio.sleep(_MINUTES * 60)
        for task in clients:
            task.cancel()
        faults.end()
        poisoned = [world.tables.instances[f"poison{number}"] for number in range(_POISONED)] if self._kind else []
        self.run.statuses = [each.status for each in poisoned]
        self.run.takings = [world.watching.taken[each.id] - before[each.id] for each in poisoned]
        self.run.deaths = world.killed
        self.run.findings = [(each.rule, each.instance_id) for each in await fsck(world.memory)]

    async def _client(self, number: int) -> None:
        for count in range(10**6):
            await self._run_one(f"client{number}.{count}", number)
            self.run.ends.append(self._loop.time())

    async def _run_one(self, instance_id: str, host: int) -> None:
        data = {"x": 1, "key": instance_id}
        await self._ask(host, lambda host: host.start_workflow("fine", data, id=instance_id))
        await self._ask(host, lambda host: host.wait(instance_id))

    async def _ask(self, host: int, verb: Callable[[WorkflowHost], Awaitable[Any]]) -> None:
        """Ask until some host has answered."""
        while True:
            life = self._world.life(host % 3)
            try:
                if life is not None:
                    await life.ask(verb, timeout=600)
                    return
            except (HostGone, WfeError):
                pass
            await asyncio.sleep(0.1)

    async def _poison(self, number: int) -> None:
        poison, data = f"poison{number}", {"x": 1, "key": f"poison{number}"}
        await self._ask(number, lambda host: host.start_workflow(self._kind, data, id=poison))
        if self._kind == "damaged":
            await asyncio.sleep(1)
            tables = self._world.tables
            instance = tables.stirring[poison] = tables.instances[poison]
            instance.head, instance.wake_at = b"\xc1", 0


@cache
def _played(kind: str) -> _Run:
    return _Stage(kind).play()


@pytest.mark.parametrize("kind", ["deadly", "damaged"])
def test_the_others_keep_their_throughput(kind: str) -> None:
    """Of the ten minutes from when the poison comes, the others lose less than a tenth of their work.

    All of that at the beginning, and only to what kills its hosts: here all three of them at once.
    """
    calm, found = _played(""), _played(kind)

    came, settled, end = _BEGINS, _BEGINS + _SETTLED, _BEGINS + 60 * _MINUTES
    assert calm.between(came, end) > 500
    assert found.between(came, end) >= 0.9 * calm.between(came, end)
    assert found.between(settled, end) >= 0.98 * calm.between(settled, end)


@pytest.mark.parametrize("kind", ["", "deadly"])
def test_the_store_stays_sound(kind: str) -> None:
    """Hosts that die of poison leave nothing behind that breaks a rule."""
    assert _played(kind).findings == []


def test_nothing_but_what_is_damaged_is_found() -> None:
    """Instances whose rows cannot be read do no harm to others."""
    assert {instance_id for _, instance_id in _played("damaged").findings} == {
        f"poison{number}" for number in range(_POISONED)
    }


def test_each_takes_six_hosts_at_most() -> None:
    """An instance that kills its hosts is suspended after the activations that the quarantine lets it have."""
    found = _played("deadly")

    assert found.statuses == [WorkflowStatus.SUSPENDED] * _POISONED
    assert _POISONED < found.deaths <= _POISONED * (QUARANTINE_AFTER + 1)


def test_what_is_damaged_is_looked_at_ever_more_rarely() -> None:
    """An instance whose rows cannot be read is taken again after a minute, and each time after twice as long."""
    found = _played("damaged")

    assert found.statuses == [WorkflowStatus.RUNNABLE] * _POISONED
    assert found.takings == [_LOOKS] * _POISONED

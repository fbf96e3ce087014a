"""Runs one scenario from its beginning to a verdict."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random

from wfe.host.fsck import check_store
from wfe.host.trials import SUSPECT_FROM
from wfe.model.errors import WfeError
from wfe.testing.simulation.announced import Announcements
from wfe.testing.simulation.clients import Clients
from wfe.testing.simulation.coverage import note_seen
from wfe.testing.simulation.faults import Faults
from wfe.testing.simulation.loop import SimulatedLoop, SimulationStuck, is_of_the_dead, last_words
from wfe.testing.simulation.machines import SWEEP_INTERVAL
from wfe.testing.simulation.redeciding import decided_twice
from wfe.testing.simulation.scenario import Scenario, draw_scenario
from wfe.testing.simulation.trace import Trace
from wfe.testing.simulation.verdict import said_by, verdict
from wfe.testing.simulation.world import World

__all__ = ["Outcome", "simulate", "simulate_seed"]

_DECIDE_TWICE_EVERY = 4
_TAKEN_WITHIN = 6 + 3 * SWEEP_INTERVAL
"""Virtual seconds after the end of all faults, within which a host that has room takes what is due and nobody's: a
request to take it may have been lost, and what it took is given back after a while."""
_STUCK_AFTER = 100.0
"""Virtual seconds without a transition or the death of a host, after which what has not ended is stuck.

That is longer than any pause of a definition, a lease and the searches of a host take together."""
_BAD_WORDS = ("could not go on", "committer failed", "sweep failed", "cannot be read", "unreadable inbox")


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    scenario: Scenario
    violations: tuple[str, ...]
    digest: str
    trace: Trace
    seconds: float
    """Virtual time that passed."""
    accepted: int
    fenced: int
    instances: int
    seen: Mapping[str, int]
    """How often what happened: faults, traffic, constructs."""
    killed: int
    """Processes that ended before the run did."""

    @property
    def rules(self) -> frozenset[str]:
        """Names of the rules that were broken."""
        return frozenset(text.partition(":")[0] for text in self.violations)


def simulate_seed(seed: int) -> Outcome:
    """Run what a seed stands for."""
    return simulate(draw_scenario(seed))


def simulate(scenario: Scenario) -> Outcome:
    """Run a scenario."""
    loop = SimulatedLoop(Random(f"{scenario.seed}:turns"))  # noqa: S311 - repeatable on purpose
    violations: list[str] = []
    with _listening(violations), _garbage_kept() as collect:
        world = World(loop, scenario)
        try:
            with decided_twice(world.watching, every=_DECIDE_TWICE_EVERY):
                loop.run_until_complete(_run(world))
        except SimulationStuck as error:
            violations.append(f"W1: {error}")
        except Exception as error:  # noqa: BLE001 - a checker's, a client's or a fault's: a finding with its seed
            violations.append(f"crash: the run raised {type(error).__name__}: {error}")
        violations += world.watching.violations
        violations += said_by(partial(verdict, world))
        violations += said_by(partial(_announced, world))
        collect()
        violations += [f"crash: {text}" for text in loop.problems]
        violations += [f"crash: {last_words(task)}, and nobody has asked" for task in loop.unheard()]
        outcome = Outcome(
            scenario,
            tuple(dict.fromkeys(violations)),
            world.trace.digest(),
            world.trace,
            loop.time(),
            world.watching.accepted,
            world.watching.fenced,
            len(world.tables.instances),
            world.seen,
            world.killed,
        )
        loop.dispose()
    return outcome


def _announced(world: World) -> list[str]:
    announcements = Announcements(world)
    broken = announcements.verdict()
    note_seen(world, announcements)
    return broken


async def _run(world: World) -> None:
    world.boot()
    clients, faults = Clients(world), Faults(world)
    clients.begin()
    faults.begin()
    await asyncio.sleep(world.scenario.length)
    await faults.heal()
    await _come_to_rest(world, clients)
    await _check_store(world)
    await clients.end()
    faults.end()


async def _come_to_rest(world: World, clients: Clients) -> None:
    """Wait until everything has ended, or nothing has moved for long."""
    begun_at = moved_at = check_at = world.loop.time()
    seen = (-1, 0)
    due_since: dict[str, float] = {}
    world.ownership.rest_begins()
    while clients.busy or world.unfinished() or world.tables.future:
        await asyncio.sleep(1.0)
        has_room = any(machine.life.core is not None and machine.life.core.room for machine in world.machines)
        _check_due(world, due_since, has_room=has_room)
        world.ownership.look(has_room=has_room)
        now = world.loop.time()
        if seen != (world.tables.last_log, world.killed):
            moved_at, seen = now, (world.tables.last_log, world.killed)
            if now >= check_at:  # ever more rarely: a hundred instances that kill their hosts take a quarter of an hour
                await _check_store(world)
                check_at = now + (now - begun_at) / 10
        if world.loop.time() - moved_at > _STUCK_AFTER:
            return


async def _check_store(world: World) -> None:
    """Every rule that can be seen in the rows. The memory store shows them without a turn of the loop."""
    for finding in (await check_store(world.memory.store)).findings:
        world.watching.broken(finding.rule, str(finding).partition(" ")[2])


def _check_due(world: World, since: dict[str, float], *, has_room: bool) -> None:
    """W1, Q2: what is due is taken in time, by hints or without, if any host has room."""
    now = world.loop.time()
    # Suspects are tried one group after the other, however long that takes.
    due = {each.id for each in world.idle() if each.activations < SUSPECT_FROM}
    for instance_id in [*since]:
        if instance_id not in due or not has_room:
            del since[instance_id]
    for instance_id in due if has_room else ():
        if now - since.setdefault(instance_id, now) > _TAKEN_WITHIN:
            world.watching.broken(
                "Q2", f"{instance_id} has been due since {since[instance_id]:.1f}, and nobody takes it"
            )


class _Listener(logging.Handler):
    """Hears what hosts log, and notes what no run may make them say."""

    def __init__(self, violations: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._violations = violations

    def emit(self, record: logging.LogRecord) -> None:
        if is_of_the_dead():
            return
        text = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        is_programs = error is not None and not isinstance(error, WfeError)
        if is_programs or any(words in text for words in _BAD_WORDS):
            self._violations.append(f"log: {text} ({type(error).__name__}: {error})")


@contextmanager
def _garbage_kept() -> Generator[Callable[[], object]]:
    """Collect no garbage for a while, then on demand what has gathered since.

    An error that nobody asked for is reported when its future is collected, which must not depend on what ran before.
    """
    was_enabled = gc.isenabled()
    gc.collect(0)
    gc.disable()
    try:
        yield lambda: gc.collect(0)
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _listening(violations: list[str]) -> Generator[None, None, None]:
    log = logging.getLogger("wfe")
    listener = _Listener(violations)
    level, propagates = log.level, log.propagate
    log.addHandler(listener)
    log.setLevel(logging.ERROR)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(listener)
        log.setLevel(level)
        log.propagate = propagates

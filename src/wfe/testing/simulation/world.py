"""One simulated world: machines with hosts, one store, clients, faults - and what is seen of it all."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from wfe.model.status import WorkflowStatus
from wfe.providers.memory import MemoryProvider
from wfe.testing.simulation.building import build
from wfe.testing.simulation.clocks import SkewedClock
from wfe.testing.simulation.ledger import BodyEntry, Ledger
from wfe.testing.simulation.loop import Process, SimulatedLoop
from wfe.testing.simulation.machines import HostGone, Life, SimulatedMachine
from wfe.testing.simulation.network import Network
from wfe.testing.simulation.ownership import Ownership
from wfe.testing.simulation.provider import Exchange
from wfe.testing.simulation.shapes import Work, nodes_of
from wfe.testing.simulation.trace import Trace
from wfe.testing.simulation.watching import Watching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wfe.model.context import StepExecutionContext
    from wfe.model.definition import WorkflowDefinition
    from wfe.ports.store import Batch, ClaimReply, CommitReply
    from wfe.providers.memory.tables import Instance, Tables
    from wfe.testing.simulation.building import Data
    from wfe.testing.simulation.scenario import Scenario

__all__ = ["World"]


class World:
    """Everything that a run consists of. It is what requests and bodies report to."""

    def __init__(self, loop: SimulatedLoop, scenario: Scenario) -> None:
        self.loop = loop
        self.scenario = scenario
        self.trace = Trace(loop)
        self.seen: Counter[str] = Counter()
        """How often what happened, for the check that everything does in many seeds."""
        self.store_clock = SkewedClock(loop)
        self.memory = MemoryProvider(clock=self.store_clock)
        self.network = Network(loop, f"{scenario.seed}:network", scenario.weather, self.trace, self.seen)
        self.exchange = Exchange()
        self.ledger = Ledger()
        drifts = any(machine.drift > 0 for machine in scenario.machines)
        tolerance = 0.005 + (2 * scenario.weather.usual if drifts else 0.0)
        self.watching = Watching(self.tables, int(tolerance * 1_000_000), loop.time, self.seen)
        self.ownership = Ownership(self.tables, self.watching.broken, loop.time, self.seen)
        self.definitions = [build(plan) for plan in scenario.plans]
        self.plans = {plan.id: plan for plan in scenario.plans}
        children = {child for plan in scenario.plans for child in plan.children}
        self.roots = [definition for definition in self.definitions if definition.id not in children]
        """Definitions that are no child of another one."""
        self.withheld: list[WorkflowDefinition[Data]] = []
        """Definitions that no host gets."""
        self.machines: list[SimulatedMachine] = []
        self.is_healed = False
        self.healed_at = 0.0
        self.follows_to_the_end = False
        """Whether a client has heard all announcements."""
        self.killed = 0
        self.moved = ""
        """Which way the store's clock was set, as long as no reply has told a host of it."""
        self._deaths: Counter[tuple[str, str]] = Counter()
        """How many hosts each poisonous pointer has killed."""
        self._last_renewed: dict[str, float] = {}

    def bitten(self, fault: str) -> None:
        """Note that a fault of some kind is felt, not merely there."""
        self.seen[f"fault {fault}"] += 1

    def random(self, name: str) -> Random:
        """Make a generator of its own, so that one part's draws do not move those of the others."""
        return Random(f"{self.scenario.seed}:{name}")  # noqa: S311 - repeatable on purpose

    def boot(self) -> None:
        """Start all machines."""
        self.machines = [SimulatedMachine(self, index, each) for index, each in enumerate(self.scenario.machines)]

    @property
    def tables(self) -> Tables:
        """What is stored: the truth."""
        return self.memory._tables  # noqa: SLF001 - the simulation is omniscient  # pyright: ignore[reportPrivateUsage]

    def life(self, machine: int) -> Life | None:
        """Give the host of a machine, or else of the next one that has one; None if none is up."""
        count = len(self.machines)
        for step in range(count):
            life = self.machines[(machine + step) % count].life
            if life.is_up and not life.process.paused:
                return life
        return None

    def unfinished(self) -> list[Instance]:
        """List the instances that have not ended."""
        return list(self.tables.live.values())

    def idle(self) -> list[Instance]:
        """List the instances that are due, and that no living session holds."""
        tables = self.tables
        now = tables.now()
        return [each for each in tables.stirring.values() if each.is_due(now) and tables.holder(each) is None]

    def set_store_clock_right(self) -> None:
        """End the effects of a store clock that was set back: store time runs again."""
        behind = self.tables.now() - self.store_clock.now()
        self.store_clock.offset += max(0, behind) / 1_000_000

    def host_died(self, life: Life) -> None:
        """Note the end of a process, whatever ended it."""
        self.killed += 1
        self.ownership.died(life)
        core = life.core
        if core is not None:
            self.watching.died(core.session_id)
        if self.is_healed:
            self.healed_at = self.loop.time()

    def body_kills(self, context: StepExecutionContext[Data], kills: int) -> bool:
        """Tell whether a body takes its host down; so many do, for each pointer."""
        place = (context.workflow.id, context.pointer_id)
        if self._deaths[place] >= kills:
            return False
        self._deaths[place] += 1
        self.seen["poison"] += 1
        self.watching.killed(context.workflow.id)
        return True

    def suspended(self) -> list[str]:
        """List the instances that are suspended."""
        return [each.id for each in self.tables.live.values() if each.status == WorkflowStatus.SUSPENDED]

    # What requests tell

    def before_commit(self, process: Process, batch: Batch) -> None:
        life = _life(process)
        if life.trap == "crash before commit":
            self._spring(life, "killed before a commit")
            raise HostGone(life.name)
        self.ownership.requested(batch.session)
        self.ownership.before_taking()
        self.watching.before_commit(life, batch)

    def after_commit(self, process: Process, batch: Batch, reply: CommitReply) -> None:
        life = _life(process)
        outcomes = [*reply.transitions, *reply.starts, *(each.outcome for each in reply.publishes), *reply.inbox]
        self.trace.note(life.name, f"committed: {' '.join(str(getattr(each, 'value', each)) for each in outcomes)}")
        self._tell_time(life)
        self.watching.after_commit(batch, reply, misled=life.misled())
        self.ownership.after_taking(batch.session, [each.id for each in reply.taken])
        self.seen.update(f"commit {getattr(each, 'value', each)}" for each in outcomes)
        if life.trap == "crash after commit":
            self._spring(life, "killed after a commit")
        elif life.trap == "crash after claim" and reply.taken:
            self._spring(life, "killed after a commit that has taken something")

    def before_claim(self, ids: Sequence[str] | None) -> None:
        self.ownership.before_taking(ids)

    def after_claim(self, process: Process, session: str, reply: ClaimReply, *, even_idle: bool) -> None:
        life = _life(process)
        if reply.instances:
            self.trace.note(life.name, f"took {' '.join(f'{each.id}/{each.fence}' for each in reply.instances)}")
        self._tell_time(life)
        self.watching.after_claim(reply)
        self.ownership.after_taking(session, [each.id for each in reply.instances], even_idle=even_idle)
        if life.trap == "crash after claim" and reply.instances:
            self._spring(life, "killed after a claim")

    def _spring(self, life: Life, why: str) -> None:
        self.bitten(life.trap)
        life.trap = ""
        life.kill(why)

    def _tell_time(self, life: Life) -> None:
        """Note that a reply tells a host the time: by it, it sees that its clock or the store's was set."""
        if life.jumped:
            life.jumped = False
            self.bitten("clock jump")
        # A clock that was set back shows as time that stands still.
        if self.moved and (self.moved != "store clock back" or self.tables.now() > self.store_clock.now()):
            self.bitten(self.moved)
            self.moved = ""

    def after_release(self, session: str, ids: Sequence[str]) -> None:
        self.ownership.requested(session)
        self.watching.released(ids)

    def renewed(self, process: Process, *, truly: bool = True) -> None:
        life = _life(process)
        life.is_lied_to = not truly
        life.is_undisturbed = truly
        if not truly:
            self.bitten("lying lease")
        self._last_renewed[life.name] = life.clock.monotonic()

    def session_begun(self, process: Process, session: str) -> None:
        self.renewed(process)
        _life(process).session = session
        self.watching.session_begun(_life(process).name, session)

    def not_renewed(self, process: Process) -> None:
        _life(process).is_undisturbed = False

    def session_ends(self, session: str) -> None:
        self.ownership.session_ends(session)

    # What bodies tell

    def body_begun(self, life: Life, context: StepExecutionContext[Data], step: str) -> None:
        entry = self._entry("begin", life, context, step)
        self.ledger.bodies.append(entry)
        self.trace.note(life.name, f"body {step} of {entry.instance} begins, pointer {entry.pointer}.{entry.attempt}")
        last = self._last_renewed.get(life.name, 0.0)
        limit = self.scenario.machines[life.machine].max_concurrency
        # A body with a time limit is a task of a task.
        was_ready = life.process.was_just_paused(2 if self._is_limited(context, step) else 1)
        self.watching.begun(
            life, entry, last_renewed=last, ttl=life.settings.lease_ttl, limit=limit, was_ready=was_ready
        )

    def _is_limited(self, context: StepExecutionContext[Data], step: str) -> bool:
        plan, work = self.plans[context.workflow.definition_id], self._work_of(context, step)
        return plan.patience is not None or (work is not None and work.hangs > 0)

    def _work_of(self, context: StepExecutionContext[Data], step: str) -> Work | None:
        nodes = nodes_of(self.plans[context.workflow.definition_id].root)
        return next((node for node in nodes if isinstance(node, Work) and node.id == step), None)

    def body_ended(self, life: Life, context: StepExecutionContext[Data], step: str, how: str) -> None:
        entry = self._entry(how, life, context, step)
        self.ledger.bodies.append(entry)
        self.trace.note(life.name, f"body {step} of {entry.instance} ends: {how}")
        self.watching.ended(entry)

    def _entry(self, what: str, life: Life, context: StepExecutionContext[Data], step: str) -> BodyEntry:
        instance_id = context.workflow.id
        core = life.core
        session = life.session if core is None else core.session_id  # a host that ends keeps it for some while
        work = self._work_of(context, step)
        return BodyEntry(
            at=self.loop.time(),
            what=what,
            host=life.name,
            session=session,
            instance=instance_id,
            pointer=int(context.pointer_id),
            step=step,
            attempt=context.attempt,
            key=context.idempotency_key,
            lives=self.tables.is_alive(session),
            counts=work is not None and work.counts,
        )


def _life(process: Process) -> Life:
    assert isinstance(process.owner, Life)
    return process.owner

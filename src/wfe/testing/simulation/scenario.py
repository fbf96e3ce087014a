"""What one run does, drawn from its seed: definitions, clients, weather and faults.

All plain values, so it can be shrunk.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from random import Random

from wfe.testing.simulation.network import Weather
from wfe.testing.simulation.shapes import Plan, Wait, Work, draw_plans, nodes_of

__all__ = ["FAULTS", "ControlOp", "EventOp", "FaultOp", "Machine", "Scenario", "StartOp", "compact", "draw_scenario"]

FAULTS = (
    "crash", "crash", "crash between awaits", "crash between awaits", "crash before commit", "crash after commit",
    "crash after claim", "crash after claim", "pause", "pause", "pause", "pause between awaits",
    "pause between awaits", "cut", "outage", "evict", "evict", "evict", "lying lease", "lying lease", "lying lease",
    "lying lease", "forged hints", "stop", "stop", "stop", "stop", "force stop", "force stop", "clock jump",
    "clock jump", "store clock back", "store clock forth", "forget", "forget everywhere",
)  # fmt: skip
"""What may happen to hosts; some of it often."""
_LASTING = [0.5, 1.0, 3.0, 5.0, 9.0]
_LENGTHS = {
    "pause": [0.1, 1.0, 3.0, 9.0, 9.0, 9.0],
    **dict.fromkeys(["cut", "outage", "store clock back", "store clock forth", "forget"], _LASTING),
}
"""How long it may last, in seconds, where that is not as usual."""


@dataclass(frozen=True)
class StartOp:
    """A client starts an instance, and tries again until it knows the outcome if it is `stubborn`."""

    at: float
    id: str
    definition: str
    x: int
    host: int
    stubborn: bool = True
    named: bool = True
    """False: the host gives the id."""
    delay: float = 0.0
    """Seconds until it is to begin (`start_at`)."""
    waits: bool = False
    """The client waits for the end, too."""
    many: int = 1
    """How many it starts together, if the host gives the ids."""


@dataclass(frozen=True)
class ControlOp:
    """A client asks something of an instance."""

    at: float
    id: str
    verb: str
    host: int


@dataclass(frozen=True)
class EventOp:
    """A client publishes an event that nobody may be waiting for yet; `copies` clients send the same one."""

    at: float
    id: str
    key: str
    host: int
    copies: int = 1
    delay: float = 0.0
    """Seconds until it is effective."""
    named: bool = True
    """False: the host gives the id, and the client tries once."""


@dataclass(frozen=True)
class FaultOp:
    """Something happens to a host, for so many seconds."""

    at: float
    kind: str
    host: int
    length: float
    turns: int = 0
    """Of `… between awaits`: after how many of its callbacks."""
    patient: bool = False
    """It waits for some while for a host that runs something, this one or another one."""


@dataclass(frozen=True)
class Machine:
    """Where a host runs, and its settings."""

    offset: float = 0.0
    drift: float = 0.0
    pipelined: bool = False
    """Two batches may be on their way at once, as on PostgreSQL."""
    max_concurrency: int = 1000
    max_active: int = 10_000
    lease_ttl: float = 6.0
    """Seconds for which its sessions live without being renewed."""


@dataclass(frozen=True)
class Scenario:
    """Everything that is decided beforehand."""

    seed: int
    plans: tuple[Plan, ...]
    machines: tuple[Machine, ...]
    weather: Weather
    starts: tuple[StartOp, ...]
    controls: tuple[ControlOp, ...]
    events: tuple[EventOp, ...]
    faults: tuple[FaultOp, ...]
    length: float
    """Seconds after which all faults end."""
    follower: int = -1
    """The host on which a client follows all announcements; -1: nobody does."""

    def describe(self) -> list[str]:
        """Say what it does, for people."""
        lines = [f"seed {self.seed}, {len(self.machines)} hosts, faults end at {self.length:.1f} s"]
        lines += [compact(each) for each in (self.weather, *self.machines)]
        used = {start.definition for start in self.starts}
        lines += [
            compact(plan) for plan in self.plans if plan.id in used or any(plan.id in p.children for p in self.plans)
        ]
        operations: list[StartOp | ControlOp | EventOp | FaultOp] = [
            *self.starts, *self.controls, *self.events, *self.faults,
        ]  # fmt: skip
        lines += [compact(operation) for operation in sorted(operations, key=lambda operation: operation.at)]
        return lines


def compact(value: object) -> str:
    """Give a plain value as Python text, without what is as usual."""
    if isinstance(value, tuple):
        inner = ", ".join(compact(each) for each in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if not is_dataclass(value):
        return f"{value:.6g}" if isinstance(value, float) else repr(value)
    named = [(each.name, each.default, getattr(value, each.name)) for each in fields(value)]
    inner = ", ".join(f"{name}={compact(mine)}" for name, usual, mine in named if usual is MISSING or mine != usual)
    return f"{type(value).__name__}({inner})"


def draw_scenario(seed: int) -> Scenario:
    """Draw what a seed stands for."""
    random = Random(f"{seed}:scenario")  # noqa: S311 - repeatable on purpose
    length = random.choice([5.0, 12.0, 25.0])
    hosts = random.choice([1, 2, 2, 3, 3, 4])
    plans = tuple(draw_plans(random, random.randint(1, 4)))
    starts = _starts(random, plans, hosts, length)
    leases = Random(f"{seed}:leases")  # noqa: S311 - repeatable on purpose
    return Scenario(
        seed=seed,
        plans=plans,
        machines=tuple(_machine(random, leases) for _ in range(hosts)),
        weather=_weather(random),
        starts=starts,
        controls=_controls(random, starts, hosts, length),
        events=_events(random, plans, starts, hosts, length),
        faults=_faults(random, hosts, length),
        length=length,
        follower=random.choice([-1, -1, random.randrange(hosts)]),
    )


def _machine(random: Random, leases: Random) -> Machine:
    return Machine(
        offset=random.choice([0.0, random.uniform(-3, 3), random.uniform(-7200, 7200)]),
        drift=random.choice([0.0, 0.0, random.uniform(-1e-4, 1e-4)]),
        pipelined=random.random() < 0.5,
        max_concurrency=random.choice([1000, 1000, 1, 3]),
        max_active=random.choice([10_000, 10_000, 2, 5]),
        lease_ttl=leases.choice([6.0, 6.0, 0.5, 1.0, 1.0, 20.0]),
    )


def _weather(random: Random) -> Weather:
    kind = random.choice(["calm", "usual", "usual", "usual", "bad", "bad", "hints", "hell"])
    if kind == "calm":
        return Weather(usual=random.choice([0.0003, 0.004, 0.1]))
    if kind == "hints":
        return Weather(
            hint_lost=random.choice([0.5, 1.0, 1.0]), hint_doubled=0.3, hints_stay_lost=random.random() < 0.5
        )
    worse = {"bad": 4, "hell": 12}.get(kind, 1)
    return Weather(
        refused=0.02 * worse * random.random(),
        reply_lost=0.02 * worse * random.random(),
        late=0.02 * worse * random.random(),
        slow=0.05 * worse * random.random(),
        usual=random.choice([0.004, 0.03]),
        hint_lost=min(1.0, 0.2 * random.random() * worse),
        hint_doubled=0.2 * random.random(),
    )


def _starts(random: Random, plans: tuple[Plan, ...], hosts: int, length: float) -> tuple[StartOp, ...]:
    starts: list[StartOp] = []
    for number in range(random.choice([1, 2, 4, 7, 10])):
        op = StartOp(
            at=random.random() * length * 0.7,
            id=f"i{number}",
            definition=random.choice(plans).id,
            x=random.randint(0, 3),
            host=random.randrange(hosts),
            stubborn=random.random() < 0.8,
            named=random.random() < 0.85,
            delay=random.choice([0.0] * 8 + [0.5, 3.0]),
            waits=random.random() < 0.4,
        )
        if not op.named and random.random() < 0.5:
            op = replace(op, many=random.randint(2, 4), delay=0.0)
        starts.append(op)
        if op.named and random.random() < 0.25:
            conflicting = random.random() < 0.3
            starts.append(
                StartOp(
                    at=max(0.0, op.at + random.choice([0.0, 0.001, -0.5, 1.0, 4.0])),
                    id=op.id,
                    definition=op.definition,
                    x=op.x + 10 if conflicting else op.x,
                    host=random.randrange(hosts),
                    stubborn=random.random() < 0.5,
                    waits=random.random() < 0.3,
                )
            )
    return tuple(starts)


def _controls(random: Random, starts: tuple[StartOp, ...], hosts: int, length: float) -> tuple[ControlOp, ...]:
    controls: list[ControlOp] = []
    if random.random() < 0.4:
        return ()
    for start in starts:
        if random.random() > 0.4:
            continue
        at = start.at
        for _ in range(random.randint(1, 4)):
            at += random.choice([0.001, 0.01, 0.05, 0.3, 1.0, random.random() * 5])
            verb = random.choice(["suspend", "suspend", "resume", "resume", "cancel", "terminate"])
            controls.append(ControlOp(min(at, length), start.id, verb, random.randrange(hosts)))
    return tuple(controls)


def _events(
    random: Random, plans: tuple[Plan, ...], starts: tuple[StartOp, ...], hosts: int, length: float
) -> tuple[EventOp, ...]:
    events: list[EventOp] = []
    waits = {
        plan.id: [
            node.id
            for node in nodes_of(plan.root)
            if isinstance(node, Wait) or (isinstance(node, Work) and node.answer == "wait")
        ]
        for plan in plans
    }
    for number, start in enumerate(starts):
        for step in waits[start.definition]:
            for copy in range(random.choice([0, 0, 1, 1, 2])):
                key = random.choice([f"{start.id}/{step}@", f"{start.id}/{step}@", f"{start.id}/{step}@0", "common"])
                events.append(
                    EventOp(
                        at=max(0.0, min(length, start.at + random.uniform(-1, 5))),
                        id=f"e{number}-{step}-{copy}",
                        key=key,
                        host=random.randrange(hosts),
                        copies=random.choice([1, 1, 1, 2]),
                        delay=random.choice([0.0] * 6 + [0.7, 4.0]),
                        named=random.random() < 0.9,
                    )
                )
    return tuple(events)


def _faults(random: Random, hosts: int, length: float) -> tuple[FaultOp, ...]:
    count = random.choice([0, 1, 3, 5, 8])
    return tuple(_fault(random, hosts, length) for _ in range(count))


def _fault(random: Random, hosts: int, length: float) -> FaultOp:
    kind = random.choice(FAULTS)
    # What lasts no time would not be felt, and a pause that a lease outlasts is felt by few rules.
    lengths = _LENGTHS.get(kind, [0.0, 0.1, 1.0, 3.0, 5.0, 9.0])
    return FaultOp(
        at=random.random() * length,
        kind=kind,
        host=random.randrange(hosts),
        length=random.choice(lengths),
        turns=random.choice([1, 5, 30, 200, random.randint(1, 600)]),
        patient=random.random() < 0.75,
    )

"""What the simulation has found: each workload, made small, that broke a rule before it was mended.

They are plain data, because what a seed stands for changes with the generator.
"""

from __future__ import annotations

import pytest

from wfe.testing.simulation import Scenario, simulate
from wfe.testing.simulation.network import Weather
from wfe.testing.simulation.scenario import ControlOp, FaultOp, Machine, StartOp
from wfe.testing.simulation.shapes import Fork, Plan, Rule, Wait, Work

WORK = Plan("flow0", (Work("work1", slow=0.1),))

UNASKED_START = Scenario(
    seed=0,
    plans=(WORK,),
    machines=(Machine(),),
    weather=Weather(),
    starts=(StartOp(1.0, "i0", "flow0", x=0, host=0, named=False, many=3),),
    controls=(),
    events=(),
    faults=(FaultOp(0.9, "outage", host=0, length=1.0),),
    length=3.0,
)
"""Several starts failed together, and the errors of all but the first were asked for by nobody. (Seed 82.)"""

HELD_TOO_LATE = Scenario(
    seed=11171,
    plans=(
        Plan(
            "flow0",
            (
                Fork(
                    "fork7",
                    (
                        (
                            Wait("wait1", shared=True),
                            Work("work2", slow=0.05, claims=True),
                            Work("work3", answer="sleep", times=0, slow=0),
                        ),
                        (
                            Work("work5", answer="sleep", times=2, slow=0.05),
                            Work(
                                "work6",
                                fails=1,
                                hangs=1,
                                rule=Rule(attempts=2, final="suspend", backoff="exponential"),
                                slow=0.01,
                            ),
                        ),
                    ),
                ),
                Work("work9", fails=3, how="not on", rule=Rule(attempts=3, way="retry", backoff="exponential"), slow=0),
            ),
        ),
    ),
    machines=(Machine(), Machine()),
    weather=Weather(refused=0.0293838, reply_lost=0.0388772, late=0.0317981, slow=0.0512806),
    starts=(
        StartOp(4.62223, "i3", "flow0", x=2, host=2, stubborn=False, named=False, waits=True, many=2),
        StartOp(2.04582, "i4", "flow0", x=1, host=0, waits=True),
    ),
    controls=(),
    events=(),
    faults=(),
    length=12.0,
)
"""One decision resumed an instance and suspended it again. What it had made ready was held only after the next request
to resume, which was there already; so it waited for ever. (Seed 11171.)"""

BEGUN_WHILE_SUSPENDED = Scenario(
    seed=152,
    plans=(WORK,),
    machines=(Machine(max_concurrency=1, pipelined=True), Machine()),
    weather=Weather(slow=0.15),
    starts=tuple(StartOp(0.5, f"i{number}", "flow0", x=0, host=0) for number in range(12)),
    controls=tuple(ControlOp(0.55 + 0.02 * number, f"i{number}", "suspend", host=1) for number in range(12)),
    events=(),
    faults=(),
    length=5.0,
)
"""A body that waited for room began while the transition that suspended its instance was committed, and known to who
had asked for it, but not yet to its host. (Seed 11157.)"""

LEAKING_ROOM = Scenario(
    seed=11325,
    plans=(Plan("flow3", (Work("work1", slow=3.0),)),),
    machines=(Machine(), Machine(offset=1.03582, max_concurrency=1)),
    weather=Weather(slow=0.0703268),
    starts=(StartOp(0.0223696, "i3", "flow3", x=0, host=2, named=False, waits=True, many=3),),
    controls=(),
    events=(),
    faults=(
        FaultOp(0.235589, "lying lease", host=1, length=5.0, turns=5),
        FaultOp(2.27051, "pause", host=1, length=5.0, turns=535),
    ),
    length=5.0,
)
"""A body was handed to the loop, and its instance was lost before it had taken its first step: its place on the host
was never free again. (Seed 11325.)"""

ENDLESS_HINTS = Scenario(
    seed=247,
    plans=(Plan("flow0", (Work("work1", slow=3.0),)),),
    machines=(Machine(max_active=1), Machine(max_active=1), Machine(max_active=1)),
    weather=Weather(),
    starts=tuple(StartOp(0.5 + 0.1 * number, f"i{number}", "flow0", x=0, host=number % 3) for number in range(9)),
    controls=(),
    events=(),
    faults=(),
    length=3.0,
)
"""Hosts without room told each other of work, and each that was told told all others again. (Seed 247.)"""


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(UNASKED_START, id="unasked start"),
        pytest.param(HELD_TOO_LATE, id="held too late"),
        pytest.param(BEGUN_WHILE_SUSPENDED, id="begun while suspended"),
        pytest.param(LEAKING_ROOM, id="leaking room"),
        pytest.param(ENDLESS_HINTS, id="endless hints"),
    ],
)
def test_what_was_found_is_mended(scenario: Scenario) -> None:
    """Each workload that once broke a rule breaks none."""
    outcome = simulate(scenario)

    assert not outcome.violations

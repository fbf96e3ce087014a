"""Who follows the announcements reads them across the same network as everybody else."""

from __future__ import annotations

from wfe.testing.simulation import Scenario, simulate
from wfe.testing.simulation.network import CALM
from wfe.testing.simulation.scenario import FaultOp, Machine, StartOp
from wfe.testing.simulation.shapes import Plan, Work

_SCENE = Scenario(
    seed=0,
    plans=(Plan("flow0", (Work("first", slow=0.5), Work("second", slow=0.5))),),
    machines=(Machine(), Machine()),
    weather=CALM,
    starts=tuple(StartOp(0.5 + number, f"i{number}", "flow0", x=0, host=number % 2) for number in range(6)),
    controls=(),
    events=(),
    faults=(FaultOp(1.0, "cut", host=0, length=2.0), FaultOp(4.0, "outage", host=0, length=1.0)),
    length=8.0,
    follower=0,
)


def test_a_follower_that_is_cut_off_misses_nothing() -> None:
    """Cut off from the store twice, it goes on where it was: each announcement is heard once, in order (H1)."""
    outcome = simulate(_SCENE)

    assert not outcome.violations
    assert outcome.seen["follower cut off"] >= 2

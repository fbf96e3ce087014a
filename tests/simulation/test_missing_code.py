"""Hosts that lose the code of what sleeps: its instances say so, and end when the code is back."""

from __future__ import annotations

from wfe.testing.simulation import Scenario, simulate
from wfe.testing.simulation.network import CALM
from wfe.testing.simulation.scenario import FaultOp, Machine, StartOp
from wfe.testing.simulation.shapes import Pause, Plan, Work

_SCENE = Scenario(
    seed=0,
    plans=(Plan("flow0", (Pause("sleep", 4.0), Work("after", slow=0.1))),),
    machines=(Machine(), Machine()),
    weather=CALM,
    starts=tuple(StartOp(0.5, f"i{number}", "flow0", x=0, host=number % 2) for number in range(4)),
    controls=(),
    events=(),
    faults=(FaultOp(2.0, "forget everywhere", host=0, length=0.0),),
    length=6.0,
)


def test_who_has_no_code_says_so_and_ends_when_it_comes() -> None:
    """What comes due while no host has its code shows the reason, is not failed, and goes on later (V2)."""
    outcome = simulate(_SCENE)

    assert not outcome.violations
    assert outcome.seen["blocked"] == 4

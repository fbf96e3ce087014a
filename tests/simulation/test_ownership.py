"""Hosts that believe what is not so, stop or die while they hold something: what then happens, and that it does."""

from __future__ import annotations

import pytest

from wfe.testing.simulation import Scenario, simulate
from wfe.testing.simulation.network import CALM
from wfe.testing.simulation.scenario import FaultOp, Machine, StartOp
from wfe.testing.simulation.shapes import Plan, Work

_LONG = Plan("flow0", (Work("long", slow=9.0), Work("short", slow=0.1)))


def _scene(fault: FaultOp, *machines: Machine) -> Scenario:
    """Two hosts; the first one starts ten instances whose bodies take up to nine seconds, and meets with a fault."""
    return Scenario(
        seed=0,
        plans=(_LONG,),
        machines=machines,
        weather=CALM,
        starts=tuple(StartOp(0.5, f"i{number}", "flow0", x=0, host=0) for number in range(10)),
        controls=(),
        events=(),
        faults=(fault,),
        length=12.0,
    )


@pytest.mark.parametrize(
    ("scene", "happens"),
    [
        pytest.param(
            _scene(FaultOp(0.7, "lying lease", host=0, length=9.0), Machine(lease_ttl=20), Machine()),
            "fenced despite a lying lease",
            id="lied to",
        ),
        pytest.param(
            _scene(
                FaultOp(2.5, "evict", host=0, length=0.0), Machine(offset=-7200, lease_ttl=20), Machine(offset=3600)
            ),
            "fenced despite a wrong clock",
            id="wrong clocks",
        ),
        pytest.param(
            _scene(FaultOp(0.7, "stop", host=0, length=3.0), Machine(lease_ttl=1), Machine()),
            "drained for longer than its lease",
            id="stops",
        ),
        pytest.param(
            _scene(FaultOp(2.5, "crash", host=0, length=9.0), Machine(lease_ttl=20), Machine()),
            "taken over from the dead",
            id="dies",
        ),
        pytest.param(
            _scene(FaultOp(0.7, "forged hints", host=1, length=0.0), Machine(), Machine()),
            "asked for nothing",
            id="misinformed",
        ),
    ],
)
def test_what_a_host_holds_goes_to_one_other_in_time(scene: Scenario, happens: str) -> None:
    """The rules of ownership hold, and what they speak of has happened: L1 to L3, L6, L7 and Q3."""
    outcome = simulate(scene)

    assert not outcome.violations
    assert outcome.seen[happens]

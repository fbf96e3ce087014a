"""Failpoints: every call of every port, and every gap around a commit, as a place where a process may die.

`failpoints` lists them, `FailpointProvider` leads each call of a provider through a `Gate`, and the gate lets one
`Blow` fall. How a process is made to die is for the test to say (`Victim`).
"""

from wfe.testing.failpoints.gate import Blow, Crashed, Gate, Victim
from wfe.testing.failpoints.points import PORTS, Failpoint, Mode, failpoints
from wfe.testing.failpoints.provider import FailpointProvider

__all__ = [
    "PORTS",
    "Blow",
    "Crashed",
    "Failpoint",
    "FailpointProvider",
    "Gate",
    "Mode",
    "Victim",
    "failpoints",
]

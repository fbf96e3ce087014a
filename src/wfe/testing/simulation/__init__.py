"""Deterministic simulation: real hosts on a simulated network, in virtual time, with everything decided by a seed."""

from __future__ import annotations

from wfe.testing.simulation.running import Outcome, simulate, simulate_seed
from wfe.testing.simulation.scenario import Scenario, draw_scenario

__all__ = ["Outcome", "Scenario", "draw_scenario", "simulate", "simulate_seed"]

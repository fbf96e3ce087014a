"""Makes a failing scenario small: leaves out what it does not need to fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TypeVar

from wfe.testing.simulation.network import CALM, Weather
from wfe.testing.simulation.running import Outcome, simulate
from wfe.testing.simulation.scenario import Machine, Scenario
from wfe.testing.simulation.shapes import Block, Plan, Rule, Work, inner_blocks, with_block

__all__ = ["shrink"]

_T = TypeVar("_T")


def shrink(outcome: Outcome, *, tries: int = 200) -> Outcome:
    """Give a run that breaks one of the same rules with as little as was found in so many tries."""
    best = outcome
    left = tries
    progress = True
    while progress and left > 0:
        progress = False
        for smaller in _smaller(best.scenario):
            if left <= 0:
                break
            left -= 1
            found = simulate(smaller)
            if found.rules & outcome.rules:
                best, progress = found, True
                break
    return best


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Give scenarios with a little less, the larger steps first."""
    yield from (replace(scenario, faults=less) for less in _halves(scenario.faults))
    yield from (replace(scenario, starts=less) for less in _halves(scenario.starts))
    yield from (replace(scenario, controls=less) for less in _halves(scenario.controls))
    yield from (replace(scenario, events=less) for less in _halves(scenario.events))
    yield from (replace(scenario, faults=less) for less in _without_one(scenario.faults))
    yield from (replace(scenario, starts=less) for less in _without_one(scenario.starts))
    yield from (replace(scenario, controls=less) for less in _without_one(scenario.controls))
    yield from (replace(scenario, events=less) for less in _without_one(scenario.events))
    if scenario.follower >= 0:
        yield replace(scenario, follower=-1)
    if len(scenario.machines) > 1:
        kept = len(scenario.machines) - 1
        faults = tuple(fault for fault in scenario.faults if fault.host < kept)
        yield replace(scenario, machines=scenario.machines[:kept], faults=faults)
    for weather in _calmer(scenario.weather):
        yield replace(scenario, weather=weather)
    for number, machine in enumerate(scenario.machines):
        if machine != Machine():
            machines = (*scenario.machines[:number], Machine(), *scenario.machines[number + 1 :])
            yield replace(scenario, machines=machines)
    for number, plan in enumerate(scenario.plans):
        for less in _shorter(plan):
            yield replace(scenario, plans=(*scenario.plans[:number], less, *scenario.plans[number + 1 :]))


def _halves(items: tuple[_T, ...]) -> Iterator[tuple[_T, ...]]:
    if len(items) > 1:
        yield ()
        yield items[: len(items) // 2]
        yield items[len(items) // 2 :]


def _without_one(items: tuple[_T, ...]) -> Iterator[tuple[_T, ...]]:
    for number in range(len(items)):
        yield (*items[:number], *items[number + 1 :])


def _calmer(weather: Weather) -> Iterator[Weather]:
    if weather != CALM:
        yield CALM
    for each in fields(weather):
        if getattr(weather, each.name) != getattr(CALM, each.name):
            yield replace(weather, **{each.name: getattr(CALM, each.name)})


def _shorter(plan: Plan) -> Iterator[Plan]:
    if plan.limit is not None:
        yield replace(plan, limit=None)
    if plan.patience is not None:
        yield replace(plan, patience=None)
    if plan.default != Rule():
        yield replace(plan, default=Rule())
    yield from (replace(plan, root=root) for root in _less(plan.root) if root)


def _less(block: Block) -> Iterator[Block]:
    """Give blocks with one node less, or with less in one."""
    targets = {node.back_to for node in block if isinstance(node, Work)}
    for number, node in enumerate(block):
        before, after = block[:number], block[number + 1 :]
        if node.id not in targets:
            yield (*before, *after)
            yield from ((*before, *inner, *after) for inner in inner_blocks(node))
        for inner in inner_blocks(node):
            yield from ((*before, with_block(node, inner, less), *after) for less in _less(inner) if less)

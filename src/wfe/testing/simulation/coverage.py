"""What has to happen in many seeds: every construct, every fault, every kind of traffic, every outcome.

A generator rots in silence: a construct that it no longer reaches is one that no rule is checked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from wfe.model.status import LifecycleKind
from wfe.testing.simulation.scenario import FAULTS
from wfe.testing.simulation.shapes import (
    Child,
    Choice,
    Each,
    End,
    Fork,
    If,
    Node,
    Pause,
    Wait,
    While,
    Work,
    inner_blocks,
)

if TYPE_CHECKING:
    from wfe.model.lifecycle import LogRecord
    from wfe.testing.simulation.announced import Announcements
    from wfe.testing.simulation.shapes import Block, Plan
    from wfe.testing.simulation.world import World

__all__ = ["CONSTRUCTS", "OUTCOMES", "TRAFFIC", "TROUBLES", "happened", "missing", "note_seen"]

CONSTRUCTS = (
    "body", "output", "when", "skip", "end_workflow", "end by a body", "if", "if not", "else", "while", "while never",
    "for_each", "for_each in order", "for_each max_parallel", "for_each fail_fast", "for_each of nothing", "parallel",
    "parallel fail_fast", "decide", "decide default", "decide nothing", "outcomes", "branch", "branch in order",
    "go_to", "delay", "delay until", "sleep", "sleep_until", "persist", "wait_for", "wait_for shared key",
    "wait_for as_of any", "wait_for as_of time", "wait_for timeout", "wait by a body", "wait by a body timeout",
    "sub_workflow", "sub_workflow abandon", "nested three deep", "default_retry", "default_on_error",
    "default_timeout", "workflow_timeout", "retry fixed", "retry linear", "retry exponential", "on_error retry",
    "fails by answer", "fails fatal", "fails not on", "fails raise", "timeout", "poison",
    "count_crashes",
)  # fmt: skip
"""Of definitions: counted when an instance has reached it."""

OUTCOMES = (
    "workflow completed", "workflow failed", "workflow cancelled", "workflow terminated", "workflow suspended",
    "workflow resumed", "step started", "step succeeded", "step failed", "step retrying", "step skipped",
    "step sleeping", "step waiting", "step cancelled", "data overwritten", "error event_timeout", "error step_timeout",
    "error workflow_timeout", "error host_died", "error child_workflow_failed", "then fail", "then continue",
    "then suspend", "then terminate",
    "commit accepted", "commit fenced", "commit stale", "commit wait_gone", "commit created", "commit exists",
    "commit conflict", "quarantined", "blocked",
)  # fmt: skip
"""Of instances, steps, and of what was written."""

TROUBLES = tuple(
    dict.fromkeys(
        [
            *(f"fault {kind}" for kind in FAULTS),
            *("request done", "request refused", "request reply lost", "request late", "request slow"),
            *("hint carried", "hint lost", "hint doubled"),
            *("clock ahead", "clock behind", "clock drifts", "no hints to the end", "poison"),
            *("fenced despite a lying lease", "fenced despite a wrong clock", "drained for longer than its lease"),
            *("taken over from the dead", "asked for nothing"),
        ]
    )
)
"""Of hosts, clocks and the network. A fault counts where it is felt: by a host that works, by a request, by a reply."""

TRAFFIC = (
    "start ok", "start unknown", "start fail", "start many", "start at a time", "start twice", "publish ok",
    "publish unknown", "publish later", "publish twice", "publish without id", "suspend ok", "resume ok", "cancel ok",
    "terminate ok", "wait ok", "follower began", "follower resumed", "follower cut off",
)  # fmt: skip
"""Of clients."""


def missing(seeds: Mapping[str, int], least: int = 1) -> list[str]:
    """List what has happened in too few seeds.

    Args:
        seeds: In how many seeds each has happened (see `happened`).
        least: In how many it should have.
    """
    names = dict.fromkeys((*CONSTRUCTS, *OUTCOMES, *TROUBLES, *TRAFFIC))
    return [name for name in names if seeds.get(name, 0) < least]


def happened(seen: Mapping[str, int]) -> dict[str, int]:
    """Give a one for each that has happened in a seed, to be added up over seeds."""
    return {name: 1 for name, count in seen.items() if count}


def note_seen(world: World, announcements: Announcements) -> None:
    """Count what instances have reached, into what the world has seen."""
    features = {plan.id: dict(_features(plan.root, 0)) for plan in world.scenario.plans}
    for instance in world.tables.instances.values():
        plan = world.plans[instance.definition.id]
        known = features[plan.id]
        for record in announcements.records.get(instance.id, ()):
            world.seen[record.kind.value] += 1
            world.seen.update(known.get(record.step, ()))
            world.seen.update(_of_record(record, plan))
    _note_scenario(world)


def _of_record(record: LogRecord, plan: Plan) -> Iterator[str]:
    if record.error is not None:
        yield f"error {record.error.code}"
        if record.error.code == "event_timeout":
            yield "wait_for timeout" if record.step.startswith("wait") else "wait by a body timeout"
        if record.error.code == "step_timeout":
            yield "default_timeout" if plan.patience is not None else "timeout"
        if record.error.code == "workflow_timeout":
            yield "workflow_timeout"
    if record.kind is LifecycleKind.WORKFLOW_SUSPENDED and "quarantined" in record.detail:
        yield "quarantined"
    if record.step and record.kind is LifecycleKind.STEP_RETRYING and plan.default.attempts > 1:
        yield "default_retry"
    if record.step and record.kind is LifecycleKind.STEP_FAILED and plan.default.final != "fail":
        yield "default_on_error"


def _features(block: Block, depth: int) -> Iterator[tuple[str, list[str]]]:
    for node in block:
        found = list(_of_node(node))
        if depth >= 3:
            found.append("nested three deep")
        yield node.id, found
        if isinstance(node, While):
            yield f"{node.id}.t", ["while"]
        for inner in inner_blocks(node):
            yield from _features(inner, depth + 1)


def _of_node(node: Node) -> Iterator[str]:
    match node:
        case Work():
            yield from _of_work(node)
        case If():
            yield "if" if node.truth else "if not" if node.otherwise is None else "else"
        case While():
            if not node.turns:
                yield "while never"
        case Each():
            yield "for_each" if node.parallel else "for_each in order"
            yield from ["for_each max_parallel"] if node.max_parallel else []
            yield from ["for_each fail_fast"] if node.fail_fast else []
            yield from [] if node.items else ["for_each of nothing"]
        case Fork():
            yield "parallel fail_fast" if node.fail_fast else "parallel"
        case Choice():
            yield "decide" if node.chosen < len(node.cases) else "decide default" if node.default else "decide nothing"
        case Pause():
            yield "delay until" if node.until else "delay"
        case Wait():
            yield "wait_for shared key" if node.shared else "wait_for"
            if node.as_of:
                yield "wait_for as_of any" if node.as_of == "any" else "wait_for as_of time"
        case Child():
            yield "sub_workflow abandon" if node.abandon else "sub_workflow"
        case End():
            yield "end_workflow"


_ANSWERS = {
    "next": "body", "output": "output", "skip": "skip", "end": "end by a body", "outcome": "outcomes", "sleep": "sleep",
    "until": "sleep_until", "persist": "persist", "wait": "wait by a body",
}  # fmt: skip


def _of_work(node: Work) -> Iterator[str]:
    if not node.when:
        yield "when"
        return
    if node.answer == "branch":
        yield "branch in order" if node.in_order else "branch"
    else:
        yield "go_to" if node.back_to else _ANSWERS[node.answer]
    if node.fails:
        yield "fails by answer" if node.how == "answer" else f"fails {node.how}"
    if node.counts:
        yield "count_crashes"
    if node.fails or node.hangs:
        yield f"then {node.rule.final}"
        if node.rule.attempts > 1:
            yield "on_error retry" if node.rule.way == "retry" else f"retry {node.rule.backoff}"


def _note_scenario(world: World) -> None:
    scenario, seen = world.scenario, world.seen
    for machine in scenario.machines:
        seen["clock ahead"] += machine.offset > 60
        seen["clock behind"] += machine.offset < -60
        seen["clock drifts"] += bool(machine.drift)
    seen["no hints to the end"] += scenario.weather.hints_stay_lost and scenario.weather.hint_lost >= 1
    ids = Counter(start.id for start in scenario.starts if start.named)
    seen["start twice"] += sum(count > 1 for count in ids.values())
    for start in scenario.starts:
        seen["start many"] += start.many > 1
        seen["start at a time"] += bool(start.delay)
    for event in scenario.events:
        seen["publish later"] += bool(event.delay)
        seen["publish twice"] += event.named and event.copies > 1
        seen["publish without id"] += not event.named

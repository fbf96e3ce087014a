"""The plans that the models run."""

from __future__ import annotations

from collections.abc import Mapping

from wfe.host.registry import Registration
from wfe.model.definition import Block, Literal, Policies, Step, StepKind, Value, WorkflowDefinition

__all__ = ["body", "delay", "each", "parallel", "registered", "wait"]


def registered(*steps: Step, policies: Mapping[str, Policies] | None = None) -> Registration:
    """Give a workflow of these steps as a host knows it."""
    definition = WorkflowDefinition[dict[str, object]]("searched", 1, Block(steps), policies=dict(policies or {}))
    return Registration(definition)


def body(name: str) -> Step:
    """A step with a body, which sets a field of its own and answers, or fails."""
    return Step(id=name, kind=StepKind.BODY, step_type="searched")


def delay(name: str, seconds: float) -> Step:
    """A pause."""
    return Step(id=name, kind=StepKind.DELAY, values={"duration": Literal(seconds)})


def wait(name: str, event: str, *, seconds: int | None = None, any_time: bool = False) -> Step:
    """A wait for an event of one key, for so many seconds; `any_time`: also for one of before."""
    values: dict[str, Value] = {"event_name": Literal(event), "event_key": Literal("k")}
    if any_time:
        values["as_of"] = Literal("any")
    options: dict[str, object] = {} if seconds is None else {"timeout_us": seconds * 1_000_000}
    return Step(id=name, kind=StepKind.WAIT_FOR, values=values, options=options)


def parallel(name: str, *branches: tuple[Step, ...], fail_fast: bool = False) -> Step:
    """Branches at the same time."""
    blocks = tuple(Block(steps) for steps in branches)
    return Step(id=name, kind=StepKind.PARALLEL, blocks=blocks, options={"fail_fast": fail_fast})


def each(name: str, count: int, *steps: Step, **options: object) -> Step:
    """A loop over so many items."""
    values: dict[str, Value] = {"collection": Literal(list(range(count)))}
    return Step(id=name, kind=StepKind.FOR_EACH, blocks=(Block(steps),), values=values, options=options)

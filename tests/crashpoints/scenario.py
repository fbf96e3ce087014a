"""What scenarios are made of: definitions, what a client does with them, and bodies that tell what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.crashpoints.world import present_life
from wfe import StepExecutionContext, WorkflowBuilder, WorkflowDefinition

if TYPE_CHECKING:
    from tests.crashpoints.world import Client

__all__ = ["Body", "Build", "Builder", "Context", "Scenario", "act", "add", "fails", "put"]

Context: TypeAlias = StepExecutionContext[Any]
Builder: TypeAlias = WorkflowBuilder[Any]
Body: TypeAlias = Callable[[Context], Awaitable[Any]]
Build: TypeAlias = Callable[[float], Sequence[WorkflowDefinition[Any]]]
"""Builds definitions; gets the seconds that a second of the scenario takes."""

_USUAL = 0.01


@dataclass(frozen=True, eq=False)
class Scenario:
    """One small program."""

    name: str
    build: Build
    drive: Callable[[Client], Awaitable[None]]
    ends: Mapping[str, str]
    """How the instances must have ended in a run without faults (ids of children left out)."""
    hosts: int = 1
    knows: Callable[[int, str], bool] = field(default=lambda machine, definition: True)
    """Which definitions a machine's host registers at its start."""
    pipelined: bool = False
    """Let two batches be under way at once, as on PostgreSQL."""
    about: tuple[str, ...] = ()
    """Failpoints that few other scenarios reach: a short run strikes each of them here in every mode."""
    counts_crashes: bool = False
    """Whether each step with a body counts crashes: then no attempt of any begins twice."""
    event_retention: float = 600.0
    limit: float = 200.0
    """Seconds after which a run is stuck."""

    def definitions_of(self, pace: float, machine: int) -> list[WorkflowDefinition[Any]]:
        """Build what a machine's host registers at its start."""
        return [each for each in self.build(pace) if self.knows(machine, each.id)]


def act(name: str, work: Callable[[Context], Any] | None = None, *, takes: float = _USUAL) -> Body:
    """Make a body that takes a while, in seconds of the scenario, and then does its work."""

    async def body(context: Context) -> Any:
        life = present_life()
        life.world.body_begins(life, context)
        await asyncio.sleep(takes * life.world.pace)
        answer = None if work is None else work(context)
        life.world.body_ends(life)
        return answer

    body.__name__ = body.__qualname__ = name
    return body


def put(name: str, **fields: object) -> Body:
    """Make a body that sets fields of the data."""
    return act(name, lambda context: context.data.update(fields))


def add(name: str, amount: int = 1, to: str = "count") -> Body:
    """Make a body that counts."""

    def work(context: Context) -> None:
        context.data[to] = context.data.get(to, 0) + amount

    return act(name, work)


def fails(name: str, times: int = 1_000) -> Body:
    """Make a body that raises in its first attempts."""

    def work(context: Context) -> None:
        if context.attempt <= times:
            msg = f"attempt {context.attempt} of {name} fails as planned"
            raise ValueError(msg)
        context.data[name] = context.attempt

    return act(name, work)

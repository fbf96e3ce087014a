"""A file as typed values: what its nodes mean, checked against the tables of `schema`, before names are looked up."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from wfe.authoring.yaml.nodes import Entry, MapNode
from wfe.authoring.yaml.problems import Position
from wfe.model.policies import ErrorBehavior, RetryPolicy

__all__ = ["Declaration", "Rules", "StepDoc", "StepForm", "WorkflowDoc", "all_steps"]


class StepForm(StrEnum):
    """What kind of step it is."""

    TYPED = "typed"
    PARALLEL = "parallel"
    SEQUENCE = "sequence"


@dataclass(frozen=True, slots=True)
class Declaration:
    """A declared input or output."""

    name: str
    type: str
    """Empty: not said."""
    position: Position
    has_default: bool = False
    default: object = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the failure of a step means."""

    error: ErrorBehavior | None = None
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True)
class StepDoc:
    """One step of a file."""

    name: str
    path: str
    position: Position
    form: StepForm
    type: str = ""
    config: MapNode | None = None
    steps: tuple[StepDoc, ...] = ()
    when: Entry | None = None
    rules: Rules = field(default_factory=Rules)
    inputs: tuple[str, ...] | None = None
    """None: not said."""
    outputs: tuple[Declaration, ...] | None = None
    fail_fast: bool = False


@dataclass(frozen=True, slots=True)
class WorkflowDoc:
    """One workflow of a file."""

    id: str
    version: int
    path: str
    position: Position
    name: str = ""
    description: str = ""
    inputs: tuple[Declaration, ...] | None = None
    """None: none are declared."""
    outputs: tuple[Declaration, ...] = ()
    rules: Rules = field(default_factory=Rules)
    """For steps that say nothing; its timeout is that of the whole run."""
    env: MapNode | None = None
    defaults: MapNode | None = None
    steps: tuple[StepDoc, ...] = ()


def all_steps(steps: tuple[StepDoc, ...]) -> list[StepDoc]:
    """Give the steps and all steps inside them, outer before inner."""
    found: list[StepDoc] = []
    for step in steps:
        found += [step, *all_steps(step.steps)]
    return found

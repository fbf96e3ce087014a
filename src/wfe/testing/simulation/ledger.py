"""What bodies did and what clients were told: the evidence that the checks go by."""

from __future__ import annotations

from dataclasses import dataclass, field

from wfe.model.lifecycle import LifecycleEvent

__all__ = ["BodyEntry", "Ledger", "Operation"]


@dataclass(frozen=True)
class BodyEntry:
    """A body has begun or ended."""

    at: float
    what: str
    """`begin`, or how it ended."""
    host: str
    session: str
    instance: str
    pointer: int
    step: str
    attempt: int
    key: str
    lives: bool
    """Whether the host's session lived at that moment, by the store's truth."""
    counts: bool = False
    """Whether its step counts crashes."""


@dataclass
class Operation:
    """Something that a client asked for."""

    invoked: float
    verb: str
    instance: str
    argument: object = None
    ended: float | None = None
    outcome: str = "unknown"
    """`ok`, `fail` (an answer that says no), `unknown`."""
    answer: object = None


@dataclass
class Ledger:
    """All entries, in order."""

    bodies: list[BodyEntry] = field(default_factory=list[BodyEntry])
    history: list[Operation] = field(default_factory=list[Operation])
    heard: list[LifecycleEvent] = field(default_factory=list[LifecycleEvent])
    """What a client that follows all announcements was told."""

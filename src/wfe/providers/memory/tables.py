"""What the memory provider keeps."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from wfe.model.definition import DefinitionKey
from wfe.model.document import EMPTY_DOCUMENT
from wfe.model.moment import Moment
from wfe.model.status import WorkflowStatus
from wfe.ports.clock import Clock
from wfe.ports.store import CommitReply, DefinitionRow, EventRow, InboxRow, LogRow, ParentLink, Publish, Start

__all__ = ["Instance", "Session", "Subscription", "Tables", "Topic", "WaitKey"]

Topic: TypeAlias = tuple[str, str]
"""Name and key of events."""

WaitKey: TypeAlias = tuple[int, int]
"""Pointer and wait."""


@dataclass(eq=False, slots=True)
class Session:
    """One start of one host."""

    name: str
    expires: float
    """By the monotonic clock, in seconds."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One pointer's wait, with all that matching needs."""

    instance_id: str
    pointer: int
    wait: int
    name: str
    key: str
    after_sequence: int
    from_time: Moment

    @property
    def topic(self) -> Topic:
        """Name and key."""
        return self.name, self.key

    def matches(self, event: EventRow) -> bool:
        """Tell whether an event of its topic is one that it waits for."""
        return event.sequence > self.after_sequence and event.time >= self.from_time


@dataclass(eq=False, slots=True)
class Instance:
    """The row of an instance, and all rows that hang on it."""

    id: str
    definition: DefinitionKey
    name: str | None
    reference: str | None
    digest: bytes
    parent: ParentLink | None
    created_at: Moment
    number: int
    """Counts instances in the order of their creation."""
    status: str = ""
    run: int = 1
    revision: int = 0
    fence: int = 0
    owner: str | None = None
    wake_at: Moment | None = None
    blocked_reason: str | None = None
    activations: int = 0
    ended_at: Moment | None = None
    head: bytes = b""
    data: bytes = EMPTY_DOCUMENT
    values: bytes = EMPTY_DOCUMENT
    pointers: dict[int, bytes] = field(default_factory=dict[int, bytes])
    items: dict[int, bytes] = field(default_factory=dict[int, bytes])
    errors: dict[int, bytes] = field(default_factory=dict[int, bytes])
    inbox: dict[int, InboxRow] = field(default_factory=dict[int, InboxRow])
    requests: dict[int, str] = field(default_factory=dict[int, str])
    """Ids of control requests by inbox row; only those of rows that are still there."""
    waits: dict[WaitKey, Subscription] = field(default_factory=dict[WaitKey, Subscription])
    positions: dict[Topic, int] = field(default_factory=dict[Topic, int])

    @staticmethod
    def of_start(start: Start, created_at: Moment, number: int) -> Instance:
        """Make the row of a new instance, before its first transition."""
        return Instance(
            start.id, start.definition, start.name, start.reference, start.digest, start.parent, created_at, number
        )

    @property
    def has_message(self) -> bool:
        """Whether its inbox holds anything but events."""
        return any(row.message is not None for row in self.inbox.values())

    @property
    def has_ended(self) -> bool:
        """Whether its status is terminal."""
        return self.ended_at is not None

    def is_due(self, now: Moment) -> bool:
        """Tell whether it has something to do: time has come for it, or messages wait."""
        if self.has_ended:
            return False
        timed = self.status != WorkflowStatus.SUSPENDED and self.wake_at is not None and self.wake_at <= now
        return timed or bool(self.inbox)

    def wakes_after(self, now: Moment) -> bool:
        """Tell whether time will come for it."""
        return self.status != WorkflowStatus.SUSPENDED and self.wake_at is not None and self.wake_at > now

    def packed_pointers(self) -> list[bytes]:
        """Give the states of the live pointers by slot."""
        return [self.pointers[slot] for slot in sorted(self.pointers)]


@dataclass(eq=False)
class Tables:
    """Everything stored, in plain mappings that keep the order of insertion."""

    clock: Clock
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held for one operation at a time, for hosts in several threads; never across an await."""
    latest: Moment = 0
    """The newest store time given out: a wall clock that jumps back does not take store time with it."""
    instances: dict[str, Instance] = field(default_factory=dict[str, Instance])
    live: dict[str, Instance] = field(default_factory=dict[str, Instance])
    """Those that have not ended."""
    stirring: dict[str, Instance] = field(default_factory=dict[str, Instance])
    """Those of them that have a wake time or messages: all that a sweep looks at, however many wait for events."""
    names: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    children: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    """Ids of the instances started for an instance, by its id."""
    waiting: dict[Topic, dict[tuple[str, int, int], Subscription]] = field(
        default_factory=dict[Topic, dict[tuple[str, int, int], Subscription]]
    )
    events: dict[str, EventRow] = field(default_factory=dict[str, EventRow])
    """Published ones, by id, in the order of their sequence numbers."""
    topics: dict[Topic, list[EventRow]] = field(default_factory=dict[Topic, list[EventRow]])
    """The same by topic."""
    future: dict[str, Publish] = field(default_factory=dict[str, Publish])
    """Events that are not effective yet, by id."""
    log: dict[int, LogRow] = field(default_factory=dict[int, LogRow])
    """By place in commit order."""
    definitions: dict[tuple[str, int], DefinitionRow] = field(default_factory=dict[tuple[str, int], DefinitionRow])
    sessions: dict[str, Session] = field(default_factory=dict[str, Session])
    replies: OrderedDict[str, CommitReply] = field(default_factory=OrderedDict[str, CommitReply])
    """What the latest batches were told, for one that is committed again."""
    listeners: dict[object, Callable[[], None]] = field(default_factory=dict[object, Callable[[], None]])
    """Called after each commit."""
    last_event: int = 0
    last_inbox: int = 0
    last_log: int = 0
    last_instance: int = 0

    def now(self) -> Moment:
        """Give store time."""
        self.latest = max(self.latest, self.clock.now())
        return self.latest

    def sort_in(self, instance: Instance) -> None:
        """Put an instance that was written among those that live and stir, or take it out."""
        _keep(self.live, instance, belongs=not instance.has_ended)
        _keep(self.stirring, instance, belongs=instance.wake_at is not None or bool(instance.inbox))

    def is_alive(self, session: str) -> bool:
        """Tell whether a session lives."""
        found = self.sessions.get(session)
        return found is not None and self.clock.monotonic() < found.expires

    def holder(self, instance: Instance) -> str | None:
        """Give the living session that holds an instance."""
        return instance.owner if instance.owner is not None and self.is_alive(instance.owner) else None


def _keep(group: dict[str, Instance], instance: Instance, *, belongs: bool) -> None:
    if belongs:
        group[instance.id] = instance
    else:
        group.pop(instance.id, None)

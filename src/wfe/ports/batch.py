"""What the store port is given to write: transitions, starts, events and messages, and what became of them.

Times are whole microseconds since the epoch (UTC) of store time; JSON and packed values are opaque bytes to a store.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum

import msgspec

from wfe.model.definition import DefinitionKey
from wfe.model.moment import Moment

__all__ = [
    "Batch",
    "Changes",
    "ErrorRow",
    "InboxInsert",
    "ItemsRow",
    "ParentLink",
    "PointerRow",
    "Publication",
    "Publish",
    "PublishOutcome",
    "Start",
    "StartOutcome",
    "Subscribe",
    "TransitionOutcome",
    "TransitionWrite",
    "Unsubscribe",
]


class PointerRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One live pointer: its slot (the row's key within the instance) and its packed state."""

    slot: int
    state: bytes


class ItemsRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The collection that a loop walks: JSON text of a list, kept under the container's pointer id."""

    pointer: int
    items: bytes


class ErrorRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One failed attempt; numbers count from 1 within the instance."""

    number: int
    error: bytes


class Subscribe(msgspec.Struct, frozen=True, gc=False):
    """A pointer begins to wait for an event.

    Matched in this very transaction against stored events, and against every event published later, whichever commits
    first. The first that matches, by sequence number, becomes an inbox row and removes the subscription.
    """

    pointer: int
    wait: int
    name: str
    key: str
    as_of: Moment | None = None
    """Match events from this time on.

    None: by position, that is events published at or after the instance's start whose sequence number is above that of
    the event that this instance consumed last for this name and key. 0: any stored event, consumed before or not."""


class Unsubscribe(msgspec.Struct, frozen=True, gc=False):
    """A pointer no longer waits."""

    pointer: int
    wait: int
    required: bool = False
    """True for a wait that ends by time.

    If the subscription is already gone (its event was first), the whole transition is refused with WAIT_GONE. False for
    one that ends by cancel: a matched event is dropped when its inbox row is consumed."""


class InboxInsert(msgspec.Struct, frozen=True, gc=False):
    """A message for an instance, from a caller, a child or a parent.

    Inserted only if the instance exists and has not ended.
    """

    instance_id: str
    message: bytes
    """Packed message (`wfe.engine.inbox`); opaque to the store."""
    id: str = ""
    """Random id given by the sender of a control request, to recognise it later; empty for others."""


class ParentLink(msgspec.Struct, frozen=True, gc=False):
    """Which pointer of which instance waits for a child."""

    instance_id: str
    pointer: int
    on_parent_end: str = "cancel"
    """`cancel`: the child is sent a cancel request when the parent ends. `abandon`: it goes on."""


class Changes(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a transition writes. Everything becomes visible together or not at all."""

    status: str
    run: int = 1
    head: bytes
    """Packed head of the state."""
    wake_at: Moment | None
    """When the instance has something to do by itself.

    0 while bodies run or may run; None: only when a message arrives.
    """
    hold: bool
    """Whether the committing session keeps the instance. False gives it back in the same transaction."""
    ended: bool = False
    """The instance has reached a terminal status.

    `ended_at` is set to store time, the remaining subscriptions and inbox rows go.
    """
    pointers: Sequence[PointerRow] = ()
    pointers_gone: Sequence[int] = ()
    """Slots to delete."""
    data: bytes | None = None
    """The whole data document, if it changed."""
    values: bytes | None = None
    """The whole document of context values, if it changed."""
    items: Sequence[ItemsRow] = ()
    items_gone: Sequence[int] = ()
    consumed: Sequence[int] = ()
    """Ids of inbox rows that this transition applies (or drops); they are deleted."""
    positions: Sequence[tuple[str, str, int]] = ()
    """(name, key, sequence) of events consumed: the positions from which later waits match.

    They count for the waits that begin in the same transition. A position never goes back, also when an older event is
    consumed later (by a wait with `as_of`)."""
    subscribe: Sequence[Subscribe] = ()
    unsubscribe: Sequence[Unsubscribe] = ()
    first_sequence: int = 0
    record_count: int = 0
    records: bytes = b""
    """Packed announcements; the log row is written for every transition, also without any."""
    errors: Sequence[ErrorRow] = ()
    children: Sequence[Start] = ()
    """Instances to start for this one (`parent` names it). One that exists already is left as it is."""
    messages: Sequence[InboxInsert] = ()
    """Messages to other instances (a child's end to its parent)."""
    cancel_children: bytes | None = None
    """If given: this message goes into the inbox of each live child whose `on_parent_end` is `cancel`."""


class Start(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A new instance, its first advance included. Its first revision is 1."""

    id: str
    definition: DefinitionKey
    digest: bytes
    """Fingerprint of definition id and input; a repeated start is the same only if it is equal."""
    changes: Changes
    """`hold=True`: inserted already leased to the committing session (fence 1), else free (fence 0)."""
    name: str | None = None
    reference: str | None = None
    parent: ParentLink | None = None


class StartOutcome(Enum):
    """What became of a start."""

    CREATED = "created"
    EXISTS = "exists"
    """An instance of that id and digest was there (or came earlier in this batch); nothing was written."""
    CONFLICT = "conflict"
    """An instance of that id with another digest was there; nothing was written."""


class TransitionWrite(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A transition of an instance that the committing session holds."""

    instance_id: str
    revision: int
    """Revision that the decision was made on; the transition produces the next one."""
    fence: int
    changes: Changes


class TransitionOutcome(Enum):
    """What became of a transition. One that is refused wrote nothing and does not disturb the others of its batch."""

    ACCEPTED = "accepted"
    FENCED = "fenced"
    """The fence is old, or the instance is gone: another host holds it, or it was purged."""
    STALE = "stale"
    """The fence holds, but the revision is old. (With one holder this means a lost reply: read again.)"""
    WAIT_GONE = "wait_gone"
    """A required subscription was gone: its event is in the inbox."""


class Publish(msgspec.Struct, frozen=True, gc=False):
    """An event from a caller.

    `id` makes it idempotent; the same id with another name, key or payload is a CONFLICT.
    """

    id: str
    name: str
    key: str
    payload: bytes
    effective_at: Moment | None = None
    """In the future: kept aside, and published (with its sequence number) by `Batch.promote` when it is due."""


class PublishOutcome(Enum):
    """What became of a publish."""

    CREATED = "created"
    EXISTS = "exists"
    CONFLICT = "conflict"


class Publication(msgspec.Struct, frozen=True, gc=False):
    """Outcome of one publish."""

    outcome: PublishOutcome
    deliveries: int = 0
    """How many waits it reached at once, as far as this call knows: a store that finds that it had written the batch in
    an earlier try, whose reply was lost, may say 0, as nothing keeps the number once those waits have their event."""


class Batch(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """All that one commit writes, in this order: transitions, starts, publishes (promoted ones first), inbox inserts.

    At most one transition per instance. Ids of starts may repeat: the first wins.
    """

    id: str
    """Random; recorded, so that an unknown outcome can be resolved."""
    session: str
    """The committing session: the owner of what is held."""
    transitions: Sequence[TransitionWrite] = ()
    starts: Sequence[Start] = ()
    publishes: Sequence[Publish] = ()
    inbox: Sequence[InboxInsert] = ()
    promote: int = 0
    """Publish up to so many future events that are due."""
    room: int = 0
    """The session may take so many unheld instances that this batch's messages reach."""
    runnable: Collection[DefinitionKey] = ()
    """What the session can run; only such instances are taken."""

"""The store port: the truth about every instance.

Everything that changes goes through `Store.commit`, as part of a batch that is one database transaction. Instance rows
are written by their holder only, guarded by revision and fence; whatever one instance, caller or event means for
another instance is an inserted inbox row. Reads never lock.

Times are whole microseconds since the epoch (UTC) of *store time*: the database's clock for PostgreSQL, the system
clock for a local file, never earlier than the last commit's. JSON and packed values are opaque bytes to a store.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Protocol

import msgspec

from wfe.model.definition import DefinitionKey
from wfe.model.moment import Moment

__all__ = [
    "Batch",
    "Changes",
    "ClaimReply",
    "CommitReply",
    "DefinitionRow",
    "Delivery",
    "EndedRow",
    "ErrorRow",
    "EventRow",
    "InboxInsert",
    "InboxRow",
    "InstanceRow",
    "ItemsRow",
    "ListFilter",
    "LoadedInstance",
    "LogCursorPage",
    "LogRow",
    "ParentLink",
    "PointerRow",
    "Publication",
    "Publish",
    "PublishOutcome",
    "Start",
    "StartOutcome",
    "Store",
    "Subscribe",
    "TransitionOutcome",
    "TransitionWrite",
    "UnclaimedRow",
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


class LogRow(msgspec.Struct, frozen=True, gc=False):
    """The announcements of one transition: history, outbox and commit marker in one."""

    instance_id: str
    revision: int
    """Revision that the transition produced; with the instance id the row's key."""
    first_sequence: int
    count: int
    run: int
    time: Moment
    records: bytes
    definition_id: str = ""
    version: int = 0
    """Filled on reading."""


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
    """How many waits it reached at once."""


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


class InboxRow(msgspec.Struct, frozen=True, gc=False):
    """A stored message of an instance's inbox."""

    id: int
    """Never given to another row, also when this one is gone: a holder may remember what it has seen."""
    instance_id: str
    message: bytes | None = None
    """Packed message; None for a matched event, whose fields follow."""
    pointer: int = 0
    wait: int = 0
    sequence: int = 0
    name: str = ""
    key: str = ""
    payload: bytes = b""


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """An inbox row that a batch inserted, for an instance that it did not take."""

    instance_id: str
    owner: str | None
    """Session that holds the instance as far as the batch saw; None: nobody."""
    row: InboxRow


class LoadedInstance(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An instance that was just taken, whole."""

    id: str
    definition: DefinitionKey
    fence: int
    revision: int
    run: int
    head: bytes
    data: bytes
    values: bytes
    created_at: Moment
    pointers: Sequence[bytes]
    items: Sequence[ItemsRow]
    inbox: Sequence[InboxRow]
    name: str | None = None
    reference: str | None = None
    parent: ParentLink | None = None
    activations: int = 1
    """Times it was taken since the last accepted transition, this one included."""


class CommitReply(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of a batch; outcomes are in the order of the requests."""

    now: Moment
    """Store time of the commit; `created_at`, event times and log times of the batch."""
    transitions: Sequence[TransitionOutcome] = ()
    starts: Sequence[StartOutcome] = ()
    publishes: Sequence[Publication] = ()
    inbox: Sequence[bool] = ()
    """For each insert of `Batch.inbox`: whether the instance existed and had not ended, so that the row is there."""
    unread: Collection[str] = ()
    """Instances of accepted transitions whose inbox has rows not consumed, whoever inserted them (`Store.inbox`)."""
    deliveries: Sequence[Delivery] = ()
    """Rows that this batch inserted.

    The host hands those of instances it holds to their runners, sends a hint for the others.
    """
    taken: Sequence[LoadedInstance] = ()
    """Unheld instances that the batch's messages reached and that the session took with it, those rows included."""
    children: Sequence[str] = ()
    """Ids of the child instances that were created (free, with wake time); the host may claim them at once."""


class ClaimReply(msgspec.Struct, frozen=True, gc=False):
    """Instances taken, and what the store knows of the time ahead."""

    now: Moment
    instances: Sequence[LoadedInstance] = ()
    next_wake: Moment | None = None
    """Earliest wake time of an unheld instance that is not yet due; None: none. SUSPENDED ones have none."""
    next_event: Moment | None = None
    """Earliest effective time of a future event; None: none. At or before `now`: some are due (`Batch.promote`)."""


class UnclaimedRow(msgspec.Struct, frozen=True, gc=False):
    """An instance that is due, that no living session holds."""

    id: str
    definition: DefinitionKey
    blocked_reason: str | None
    activations: int
    place: tuple[Moment, int]
    """Its place in the order of the list, which the next page goes on after; its meaning is the store's own."""


class EndedRow(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a waiter is told."""

    id: str
    definition: DefinitionKey
    status: str
    head: bytes
    data: bytes
    pointers: Sequence[bytes] = ()


class InstanceRow(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the store knows of an instance now."""

    id: str
    definition: DefinitionKey
    status: str
    run: int
    revision: int
    fence: int
    owner: str | None
    head: bytes
    data: bytes
    values: bytes
    created_at: Moment
    ended_at: Moment | None
    wake_at: Moment | None
    blocked_reason: str | None
    activations: int
    name: str | None
    reference: str | None
    parent_id: str | None
    pointers: Sequence[bytes] = ()


class ListFilter(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Which instances to list. Empty: all."""

    status: Sequence[str] = ()
    definition_id: str | None = None
    reference: str | None = None
    since: Moment | None = None
    """Created at or after."""
    parent_id: str | None = None


class DefinitionRow(msgspec.Struct, frozen=True, gc=False):
    """A recorded definition: its key, its plan as JSON, its source text where it has one."""

    key: DefinitionKey
    plan: str
    source: str = ""


class EventRow(msgspec.Struct, frozen=True, gc=False):
    """A stored event."""

    id: str
    name: str
    key: str
    payload: bytes
    sequence: int
    """Never given to another event, also when this one was dropped."""
    time: Moment
    """Store time of the commit that published (or promoted) it."""


class LogCursorPage(msgspec.Struct, frozen=True, gc=False):
    """Log rows of all instances in commit order, and the cursor after them."""

    rows: Sequence[LogRow]
    cursor: str


class Store(Protocol):
    """Keeps instances, messages, events and history.

    A store is opened before and closed after use, by the loop that uses it. Every method may raise
    `ProviderUnavailable`: the backend did not answer; the operation has or has not happened, as the method says.
    Several hosts, processes and threads may use stores on one database at the same time.
    """

    async def open(self) -> None:
        """Connect, and bring the schema up to date (numbered migrations, each in a transaction, guarded by one lock).

        Raises:
            ConfigurationError: The schema is newer than this program, or the place is not possible (a network mount).
        """
        ...

    async def close(self) -> None:
        """Finish what is being written and disconnect. Closing twice is harmless."""
        ...

    async def commit(self, batch: Batch) -> CommitReply:
        """Write a batch in one durable transaction.

        When it returns, everything accepted survives a crash of the process and of the machine. An outcome that a lost
        connection left unknown is resolved before it returns or raises: `ProviderUnavailable` from here means that
        nothing of the batch was written, or that the store could not find out within its limit; committing the same
        batch again (same id) is then safe and gives the outcome of the first.

        Guards: a transition is accepted only if the instance's revision and fence are the given ones. A refused one
        writes nothing. Fences and revisions are counted by the store alone.
        """
        ...

    async def claim(
        self,
        session: str,
        runnable: Collection[DefinitionKey],
        limit: int,
        *,
        ids: Sequence[str] | None = None,
        any_definition: bool = False,
        activations_below: int | None = None,
    ) -> ClaimReply:
        """Take up to `limit` instances that have something to do and that no living session holds.

        Something to do: not ended, and its wake time is at or before store time, or its inbox has rows. A SUSPENDED
        instance has something to do only for its inbox. One statement raises the fence, sets the owner, counts the
        activation, clears `blocked_reason` and loads. Instances of others are skipped, never waited for; an instance
        that a *dead* session (see the lease port) held counts as unheld. Earliest wake time first.

        Args:
            session: The new owner; must be a living session, else nothing is taken.
            runnable: Only instances of these definitions are taken.
            ids: Only these are looked at (a hint or a timer named them).
            any_definition: Take whatever definition they have (used to apply a control request without its code). With
                this, instances named by `ids` are taken even when they have nothing to do, or have ended (for a retry).
            activations_below: Leave those that were taken so often, or more often, since their last transition.
        """
        ...

    async def release(self, session: str, holds: Sequence[tuple[str, int]]) -> None:
        """Give instances back unchanged: (id, fence) pairs; old fences are ignored. The activation does not count."""
        ...

    async def held(self, session: str) -> Sequence[tuple[str, int]]:
        """Give (id, fence) of the instances that a session holds.

        So a host finds what was taken for it by a request whose reply was lost.
        """
        ...

    async def inbox(self, ids: Sequence[str]) -> Sequence[InboxRow]:
        """Read the inbox rows of instances, in the order of their ids."""
        ...

    async def pending_control(self, request_ids: Sequence[str]) -> Collection[str]:
        """Give those control requests (by `InboxInsert.id`) whose rows have not been consumed yet."""
        ...

    async def unclaimed(self, limit: int, *, after: tuple[Moment, int] | None = None) -> Sequence[UnclaimedRow]:
        """List instances that are due and that no living session holds, longest due first, one page of them.

        Those that have only messages come last.

        Args:
            after: Go on after this place (`UnclaimedRow.place`), whether its row is still there or not. Pages neither
                repeat nor skip an instance that is there all the time and whose wake time does not come meanwhile.
        """
        ...

    async def block(self, reasons: Mapping[str, str]) -> Collection[str]:
        """Set `blocked_reason` of instances that are still unheld; revision, fence and lease stay.

        Give the ids changed.
        """
        ...

    async def get(self, id_or_name: str) -> InstanceRow | None:
        """Read one instance with its live pointers, by id or else by name (the latest of that name)."""
        ...

    async def ended(self, ids: Sequence[str], *, until: Collection[str] = ()) -> Sequence[EndedRow]:
        """Read those of the instances that have ended, or whose status is one of `until`."""
        ...

    async def list_instances(
        self, where: ListFilter, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[InstanceRow], str | None]:
        """List instances, newest first, without pointers; and the cursor of the next page (None: no more).

        Pages neither repeat nor skip an instance that was there at the first page and still matches.

        Raises:
            ConfigurationError: The cursor is not one that this store made.
        """
        ...

    async def known(self, ids: Sequence[str]) -> Collection[str]:
        """Give those of the ids that exist."""
        ...

    async def history(self, instance_id: str, after: int = 0, limit: int = 1000) -> Sequence[LogRow]:
        """Read log rows of one instance whose last sequence number is above `after`, in order."""
        ...

    async def errors(self, instance_id: str) -> Sequence[bytes]:
        """Read the failed attempts of one instance, oldest first."""
        ...

    async def log_after(self, cursor: str | None, limit: int, *, instance_id: str | None = None) -> LogCursorPage:
        """Read log rows of all instances in commit order.

        Only rows below the oldest transaction still running are given, so that a cursor never passes a row that becomes
        visible later. `None` begins with the oldest row kept; `"now"` gives no rows and the cursor of the end.
        """
        ...

    async def save_definition(self, row: DefinitionRow) -> DefinitionKey | None:
        """Record a definition. Recording the same key again replaces plan and source by those of now.

        (Scripts, settings, policies and names are no part of the structure, so that they may be mended.)

        Returns:
            None if it is recorded now; it replaced another structure of the same id and version if no unfinished
            instance uses that. Else the key of the recorded structure that is in use; nothing was changed.
        """
        ...

    async def definitions(self) -> Sequence[DefinitionRow]:
        """Read the recorded definitions."""
        ...

    async def purge(
        self,
        *,
        ids: Sequence[str] | None = None,
        status: Sequence[str] = (),
        ended_before: Moment | None = None,
        limit: int = 100,
    ) -> int:
        """Delete up to `limit` ended instances, whole: rows, pointers, inbox, subscriptions, errors, log.

        Live ones stay.

        Returns:
            How many were deleted.
        """
        ...

    async def drop_events(self, before: Moment, limit: int = 1000) -> int:
        """Delete up to `limit` stored events older than a time that no live subscription would match. Give how many."""
        ...

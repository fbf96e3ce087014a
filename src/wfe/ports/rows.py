"""What the store port answers: the rows that it keeps, and the replies that they come in.

Times are whole microseconds since the epoch (UTC) of store time; JSON and packed values are opaque bytes to a store.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from wfe.model.definition import DefinitionKey
from wfe.model.moment import Moment
from wfe.ports.batch import ItemsRow, ParentLink, Publication, StartOutcome, TransitionOutcome

__all__ = [
    "DATA_ARE_MISSING",
    "NO_DEFINITION",
    "ClaimReply",
    "CommitReply",
    "DefinitionRow",
    "Delivery",
    "EndedRow",
    "EventRow",
    "InboxRow",
    "InstanceRow",
    "ListFilter",
    "LoadedInstance",
    "LogCursorPage",
    "LogRow",
    "UnclaimedRow",
]


NO_DEFINITION = DefinitionKey("?", 0, "")
"""Definition of a damaged instance: what its row names is not in the store."""
DATA_ARE_MISSING = "the row with its data is missing"
"""Damage of an instance whose data are gone."""


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
    damage: str = ""
    """What of its rows the store cannot read; in its place stands what is empty. Such an instance must not run."""


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
    has_message: bool
    """Whether its inbox holds anything but events: a request, or the end of a child."""


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
    damage: str = ""
    """What of its rows the store cannot read; in its place stands what is empty."""


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

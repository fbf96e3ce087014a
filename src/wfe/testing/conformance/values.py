"""Valid values, so that a test shows only what matters to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TypedDict
from uuid import uuid4

from msgspec.structs import replace

from wfe.model.definition import DefinitionKey
from wfe.model.lifecycle import LogRecord, encode_records
from wfe.model.moment import Moment
from wfe.model.status import LifecycleKind
from wfe.ports.store import (
    Changes,
    InboxInsert,
    InboxRow,
    ParentLink,
    Publish,
    Start,
    Subscribe,
    TransitionWrite,
    Unsubscribe,
)

__all__ = [
    "DEFINITION",
    "HOUR",
    "INSTANT",
    "MINUTE",
    "OTHER_DEFINITION",
    "Announcements",
    "announcements",
    "as_child",
    "changes",
    "consumption",
    "due",
    "ending",
    "event",
    "fresh_id",
    "message",
    "no_wait",
    "start",
    "transition",
    "wait",
]

DEFINITION = DefinitionKey("order", 1, "structure-a")
OTHER_DEFINITION = DefinitionKey("refund", 1, "structure-b")

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
INSTANT = timedelta(milliseconds=20)
"""Long enough that store time differs before and after; short enough to wait for where no clock can be moved."""

_CHANGES = Changes(status="runnable", head=b"head", wake_at=None, hold=True)


def fresh_id(prefix: str = "") -> str:
    """Make an id that nothing else has."""
    return f"{prefix}{uuid4().hex}"


def changes(**fields: object) -> Changes:
    """Make what a transition of a runnable, held, idle instance writes; `fields` say what differs."""
    return replace(_CHANGES, **fields)


def ending(**fields: object) -> Changes:
    """Make what a transition writes that ends its instance."""
    return changes(**({"status": "complete", "ended": True, "hold": False} | fields))


def start(
    instance_id: str = "order-1",
    *,
    definition: DefinitionKey = DEFINITION,
    digest: bytes = b"digest",
    name: str | None = None,
    reference: str | None = None,
    parent: ParentLink | None = None,
    **fields: object,
) -> Start:
    """Make the start of a free, idle instance; `fields` are those of its first changes."""
    return Start(
        id=instance_id,
        definition=definition,
        digest=digest,
        changes=changes(**({"hold": False} | fields)),
        name=name,
        reference=reference,
        parent=parent,
    )


def due(instance_id: str = "order-1", *, definition: DefinitionKey = DEFINITION, wake_at: Moment = 0) -> Start:
    """Make the start of a free instance that has been due since a time."""
    return start(instance_id, definition=definition, wake_at=wake_at)


def as_child(instance_id: str, parent_id: str, *, on_parent_end: str = "cancel", **fields: object) -> Start:
    """Make the start of a child that may run at once, for pointer 1 of its parent."""
    link = ParentLink(parent_id, 1, on_parent_end)
    return replace(start(instance_id), parent=link, changes=changes(**({"hold": False, "wake_at": 0} | fields)))


def transition(instance_id: str, revision: int, fence: int, **fields: object) -> TransitionWrite:
    """Make a transition; `fields` are those of its changes."""
    return TransitionWrite(instance_id=instance_id, revision=revision, fence=fence, changes=changes(**fields))


def wait(
    name: str = "paid", key: str = "order-1", *, pointer: int = 1, number: int = 1, as_of: int | None = None
) -> Subscribe:
    """Make the beginning of a pointer's wait."""
    return Subscribe(pointer, number, name, key, as_of)


def no_wait(*, pointer: int = 1, number: int = 1, required: bool = False) -> Unsubscribe:
    """Make the end of a pointer's wait."""
    return Unsubscribe(pointer, number, required)


def event(
    name: str = "paid",
    key: str = "order-1",
    payload: bytes = b'{"cents":100}',
    *,
    event_id: str | None = None,
    effective_at: int | None = None,
) -> Publish:
    """Make an event with an id of its own."""
    return Publish(event_id or fresh_id("event-"), name, key, payload, effective_at)


def message(instance_id: str = "order-1", body: bytes = b"message", *, request: str = "") -> InboxInsert:
    """Make a message for an instance."""
    return InboxInsert(instance_id, body, request)


class Announcements(TypedDict):
    """The fields of changes that announce something."""

    first_sequence: int
    record_count: int
    records: bytes


def announcements(count: int, first: int = 1) -> Announcements:
    """Announce `count` finished steps, numbered from `first`."""
    records = [LogRecord(LifecycleKind.STEP_SUCCEEDED, f"step-{first + index}", 1, 1) for index in range(count)]
    return Announcements(first_sequence=first, record_count=count, records=encode_records(records))


def consumption(*rows: InboxRow) -> dict[str, Sequence[object]]:
    """Make the fields of changes that consume matched events."""
    return {
        "consumed": [row.id for row in rows],
        "positions": [(row.name, row.key, row.sequence) for row in rows],
    }

"""What can happen to an instance: the messages of its inbox, the answers of its bodies, and the passing of time."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec

from wfe.model.document import Patch
from wfe.model.pointer import ErrorRecord
from wfe.model.result import AnyResult
from wfe.model.status import WorkflowStatus

__all__ = [
    "Answered",
    "Begun",
    "BodyStopped",
    "ChildEnded",
    "Control",
    "ControlVerb",
    "EventMatched",
    "Failed",
    "InboxMessage",
    "Message",
    "Started",
    "TimePassed",
]


class ControlVerb(StrEnum):
    """What a caller may ask of an instance."""

    SUSPEND = "suspend"
    RESUME = "resume"
    CANCEL = "cancel"
    TERMINATE = "terminate"


class EventMatched(msgspec.Struct, frozen=True, gc=False, tag="event", omit_defaults=True):
    """An event matched a subscription of the instance. Stored in the inbox."""

    pointer: int
    wait: int
    """Which wait of the pointer it is for; an event for an earlier wait is dropped."""
    sequence: int
    payload: bytes = b"null"
    """JSON text."""
    name: str = ""
    key: str = ""


class Control(msgspec.Struct, frozen=True, gc=False, tag="control", omit_defaults=True):
    """A caller's request. Stored in the inbox."""

    verb: ControlVerb
    reason: str = ""


class ChildEnded(msgspec.Struct, frozen=True, gc=False, tag="child", omit_defaults=True):
    """A child instance has ended. Stored in the parent's inbox."""

    pointer: int
    child_id: str
    status: WorkflowStatus
    data: bytes = b"{}"
    error: ErrorRecord | None = None


InboxMessage: TypeAlias = EventMatched | Control | ChildEnded
"""Messages that are stored; every one is applied exactly once, by the transition that consumes its row."""


class Started(msgspec.Struct, frozen=True, gc=False):
    """The instance is being started: the first advance."""


class TimePassed(msgspec.Struct, frozen=True, gc=False):
    """Timers may be due; also sent to go on with pointers that are PENDING."""


class Begun(msgspec.Struct, frozen=True, gc=False):
    """The body of a step that counts crashes is about to begin: to be recorded first.

    Without `counts`, the record is taken back: the body did not begin after all, or its host ends in good order.
    """

    pointer: int
    attempt: int
    counts: bool = True


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A body has answered. `pointer` and `attempt` say which; a late answer of an earlier attempt is dropped."""

    pointer: int
    attempt: int
    result: AnyResult
    patch: Patch | None = None
    """What the body changed in its copy of the data."""
    base: int = 0
    """Revision of the state that the copy was made of."""
    output: Patch | None = None
    """What the result's output merges in, after `patch`."""
    values: Patch | None = None
    persisted: bytes = b""
    """JSON of the persistence data of a persist, sleep, branch or wait result."""
    items: tuple[bytes, ...] = ()
    """JSON of the values of a branch result."""


class Failed(msgspec.Struct, frozen=True, gc=False):
    """An attempt of a body has failed: it raised, timed out, or answered something that is no result."""

    pointer: int
    attempt: int
    error: ErrorRecord
    retryable: bool = True
    classes: tuple[str, ...] = ()
    """Names of the exception's class and its bases, for `on` and `not_on`."""


class BodyStopped(msgspec.Struct, frozen=True, gc=False):
    """A body that was asked to stop has stopped, without an answer that counts."""

    pointer: int
    host_died: bool = False
    """It was cut off with its host: an attempt that was recorded as begun counts, once the instance may go on."""


Message: TypeAlias = (
    Started | TimePassed | Begun | Answered | Failed | BodyStopped | EventMatched | Control | ChildEnded
)

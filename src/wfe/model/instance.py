"""Workflow instances: what is stored about one run of a definition, and what people see of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, Self

import msgspec

from wfe.model.errors import (
    Cancelled,
    ChildWorkflowFailed,
    EventTimeout,
    HostDied,
    StepFailed,
    StepTimeout,
    WfeError,
    WorkflowTimeout,
)
from wfe.model.generic import D
from wfe.model.moment import Moment, to_datetime
from wfe.model.pointer import ErrorRecord
from wfe.model.status import PointerStatus, WorkflowStatus

__all__ = ["Head", "Heartbeat", "StepError", "StepState", "WorkflowInstance", "WorkflowResult"]


class Head(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The small part of an instance's state that most transitions change; stored in the instance's own row."""

    status: WorkflowStatus = WorkflowStatus.RUNNABLE
    next_pointer: int = 1
    next_slot: int = 1
    sequence: int = 0
    """Number of the last lifecycle event."""
    run: int = 1
    open: int = 0
    """Branches of the top block that have begun and not ended."""
    failed: int = 0
    first_failed: int = 0
    """Pointer id of the earliest failure at the top."""
    errors: int = 0
    """Failed attempts recorded so far; numbers the rows of `errors`."""
    stopping: WorkflowStatus | None = None
    """CANCELLED while running bodies are given their time to stop."""
    reason: str = ""
    """Why it was cancelled, terminated or suspended."""
    error: ErrorRecord | None = None
    """Why it failed."""
    start_at: Moment = 0
    """Before which it does not begin; 0: it may begin at once. Its workflow timeout counts from then."""
    time_limit: int = 0
    """Microseconds that the run may take; 0: any. Set once, as it begins."""

    def deadline(self, created_at: Moment) -> Moment:
        """When the run has taken too long; 0: never.

        It counts from the start that was asked for: one that was put off does not use it up before it may begin.
        """
        return max(created_at, self.start_at) + self.time_limit if self.time_limit else 0


@dataclass(frozen=True)
class StepError:
    """One failed attempt of a step. `str()` gives the message."""

    code: str
    message: str
    step: str
    pointer_id: str
    attempt: int
    time: datetime
    type: str
    """Name of the exception's class, `module.qualname`."""
    traceback: str = field(repr=False)

    def __str__(self) -> str:
        return self.message

    @property
    def summary(self) -> str:
        """The message, with the class of the exception before it where that is the author's or Python's."""
        return ErrorRecord(self.code, self.message, type=self.type).summary

    @staticmethod
    def from_record(record: ErrorRecord) -> StepError:
        """Give the record as people see it."""
        return StepError(
            record.code,
            record.message,
            record.step,
            str(record.pointer),
            record.attempt,
            to_datetime(record.time),
            record.type,
            record.traceback,
        )


@dataclass(frozen=True)
class Heartbeat:
    """What a running body said last of how far it is."""

    time: datetime
    """When, by the clock of the host that runs it."""
    details: object = None
    """A JSON value."""


@dataclass(frozen=True)
class StepState:
    """Where one step of an instance stands."""

    id: str
    name: str
    status: PointerStatus
    attempt: int
    started: datetime | None = None
    ended: datetime | None = None
    error: StepError | None = None
    blocked_by: str | None = None
    pointer_id: str = ""
    heartbeat: Heartbeat | None = None
    """The last one of the attempt that runs, where this host runs it. It is not stored."""
    waiting_for: str | None = None
    """The event or child that it waits for, in words."""


_RAISED: dict[str, type[StepFailed]] = {
    StepTimeout.code: StepTimeout,
    HostDied.code: HostDied,
    EventTimeout.code: EventTimeout,
    ChildWorkflowFailed.code: ChildWorkflowFailed,
}


@dataclass(frozen=True)
class WorkflowResult(Generic[D]):
    """How an instance ended (or, with `until`, stands)."""

    id: str
    status: WorkflowStatus
    data: D
    error: StepError | None = None
    failed_steps: list[StepState] = field(default_factory=list)

    def raise_for_status(self) -> Self:
        """Return self when the instance is complete, else raise why not.

        Raises:
            StepFailed: A step failed (`StepTimeout`, `EventTimeout`, `HostDied`, `ChildWorkflowFailed` where that was
                the cause).
            Cancelled: It was cancelled or terminated.
        """
        if self.status is WorkflowStatus.COMPLETE:
            return self
        if self.status in {WorkflowStatus.CANCELLED, WorkflowStatus.TERMINATED}:
            msg = f"Workflow instance {self.id!r} was {self.status}."
            raise Cancelled(msg)
        if self.error is not None and self.error.code == WorkflowTimeout.code:
            msg = f"Workflow instance {self.id!r} {self.status}: {self.error.message}"
            raise WorkflowTimeout(msg)
        if self.error is not None:
            msg = f"Workflow instance {self.id!r} {self.status}: step {self.error.step!r}: {self.error.summary}"
            raise _RAISED.get(self.error.code, StepFailed)(msg, error=self.error)
        msg = f"Workflow instance {self.id!r} is {self.status}."
        raise WfeError(msg)


@dataclass(frozen=True)
class WorkflowInstance(Generic[D]):
    """What the store knows of an instance now."""

    id: str
    definition_id: str
    version: int
    status: WorkflowStatus
    data: D
    created_at: datetime
    name: str | None = None
    reference: str | None = None
    blocked_reason: str | None = None
    error: StepError | None = None
    parent_id: str | None = None
    run: int = 1
    ended_at: datetime | None = None
    next_wake: datetime | None = None
    steps: tuple[StepState, ...] = ()

    @property
    def duration(self) -> timedelta | None:
        """From start to end; None while it goes on."""
        return None if self.ended_at is None else self.ended_at - self.created_at

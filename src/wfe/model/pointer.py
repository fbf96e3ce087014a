"""Execution pointers: where one branch of an instance stands.

A pointer is a frozen value. What happens to it is a method named for the event, which gives the changed value and
refuses an illegal move. Fields have short stored names, because a pointer is written with every step.
"""

from __future__ import annotations

import msgspec

from wfe.model.errors import InvalidStateTransition
from wfe.model.moment import Moment
from wfe.model.status import PointerStatus

__all__ = ["ROOT_SCOPE", "ErrorRecord", "Pointer"]

ROOT_SCOPE = 0
"""The scope of the top block; other scopes are named by the id of their container's pointer."""


class ErrorRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What went wrong in one attempt, as it is stored. `StepError` is the same for people."""

    code: str
    message: str
    step: str = ""
    pointer: int = 0
    attempt: int = 1
    time: Moment = 0
    type: str = ""
    traceback: str = ""

    @property
    def summary(self) -> str:
        """The message, with the class of the exception before it where that is the author's or Python's."""
        name = self.type.rpartition(".")[2]
        if not name or self.type.startswith("wfe.") or self.message == name or f"{name}: " in self.message:
            return self.message
        return f"{name}: {self.message}"


class Pointer(
    msgspec.Struct,
    frozen=True,
    gc=False,
    omit_defaults=True,
    rename={
        "slot": "l",
        "step": "s",
        "scope": "c",
        "block": "b",
        "status": "t",
        "failures": "f",
        "budget": "u",
        "wake": "w",
        "index": "i",
        "open": "o",
        "spawned": "p",
        "total": "n",
        "failed": "x",
        "first_failed": "y",
        "phase": "h",
        "waits": "v",
        "polls": "q",
        "persisted": "d",
        "event": "e",
        "event_sequence": "k",
        "started": "a",
        "error": "r",
        "child": "z",
        "awaits": "g",
        "begun": "m",
    },
):
    """Where one branch stands."""

    id: int
    """Unique within the instance, given in order; the same after a crash."""
    slot: int
    """Key of the stored row.

    The next step of a chain takes over the slot of the one before, so a step writes one row.
    """
    step: str
    scope: int = ROOT_SCOPE
    """Pointer id of the container whose branch this is."""
    block: int = 0
    """For an active container: the block that runs (-1: `children`)."""
    status: PointerStatus = PointerStatus.RUNNING
    failures: int = 0
    """Recorded failures of this pointer; the attempt number is one more."""
    budget: int = 0
    """Failures that count against the retry limit: those since the pointer was last re-armed."""
    wake: Moment = 0
    """When it goes on by itself; 0: not by time."""
    index: int = -1
    """Which item of the container's collection this branch is for; -1: none."""
    open: int = 0
    """Container: branches that have begun and not ended. A body is not run while this is above 0."""
    spawned: int = 0
    """Container: branches begun so far (loops: turns)."""
    total: int = 0
    """Container: branches there are in all."""
    failed: int = 0
    """Container: branches that failed."""
    first_failed: int = 0
    """Container: pointer id of the earliest failure in its scope."""
    phase: str = ""
    """Why a pointer is a container: empty (by its kind), `outcome` or `branch` (a body's)."""
    waits: int = 0
    """Number of the wait it is in; an event for an earlier wait is dropped."""
    polls: int = 0
    """How many times in a row it has asked to be run again (`persist`)."""
    persisted: bytes = b""
    """JSON of `persistence_data`."""
    event: bytes = b""
    """JSON of `event_data`."""
    event_sequence: int = 0
    started: Moment = 0
    """When this attempt, or this container, began."""
    error: ErrorRecord | None = None
    """The last failure, while it matters."""
    child: str = ""
    """Id of the child instance that it waits for."""
    awaits: str = ""
    """Which event it waits for, in words."""
    begun: bool = False
    """Whether this attempt was recorded as begun, and has no result yet: only for steps that count crashes."""

    @property
    def attempt(self) -> int:
        """Number of the attempt: recorded failures + 1."""
        return self.failures + 1

    @property
    def is_container(self) -> bool:
        """Whether branches of it are open."""
        return self.open > 0

    @property
    def runs_body(self) -> bool:
        """Whether a body of it may be running now (if the step has a body)."""
        return self.status is PointerStatus.RUNNING and self.open == 0

    def _require(self, event: str, *allowed: PointerStatus) -> None:
        if self.status not in allowed:
            msg = (
                f"Pointer {self.id} of step {self.step!r} is {self.status}; it can be {event} only when it is "
                f"{' or '.join(allowed)}."
            )
            raise InvalidStateTransition(msg)

    def began(self, now: Moment) -> Pointer:
        """It may run now."""
        self._require(
            "begun",
            PointerStatus.PENDING,
            PointerStatus.SLEEPING,
            PointerStatus.WAITING_FOR_EVENT,
            PointerStatus.RUNNING,
        )
        return msgspec.structs.replace(self, status=PointerStatus.RUNNING, wake=0, started=now)

    def slept(self, until: Moment, persisted: bytes = b"", polls: int = 0) -> Pointer:
        """It pauses until a time, and runs again then."""
        self._require("put to sleep", PointerStatus.RUNNING, PointerStatus.PENDING)
        return msgspec.structs.replace(
            self, status=PointerStatus.SLEEPING, wake=until, persisted=persisted, event=b"", polls=polls, begun=False
        )

    def waited(self, until: Moment, persisted: bytes = b"", child: str = "", awaits: str = "") -> Pointer:
        """It waits for an event or a child, at most until a time (0: for ever)."""
        self._require("made to wait", PointerStatus.RUNNING, PointerStatus.PENDING)
        return msgspec.structs.replace(
            self,
            status=PointerStatus.WAITING_FOR_EVENT,
            wake=until,
            persisted=persisted,
            event=b"",
            waits=self.waits + 1,
            child=child,
            awaits=awaits,
            begun=False,
        )

    def received(self, event: bytes, sequence: int) -> Pointer:
        """The event that it waited for has come; it has not run on yet."""
        self._require("given an event", PointerStatus.WAITING_FOR_EVENT)
        return msgspec.structs.replace(
            self, status=PointerStatus.PENDING, wake=0, event=event, event_sequence=sequence, awaits=""
        )

    def held(self) -> Pointer:
        """It is ready, but must not begin yet (the instance is suspended)."""
        self._require("held", PointerStatus.RUNNING, PointerStatus.SLEEPING, PointerStatus.WAITING_FOR_EVENT)
        return msgspec.structs.replace(self, status=PointerStatus.PENDING, wake=0)

    def retrying(self, error: ErrorRecord, until: Moment) -> Pointer:
        """An attempt failed; the next one begins at a time."""
        self._require("retried", PointerStatus.RUNNING, PointerStatus.WAITING_FOR_EVENT, PointerStatus.PENDING)
        return msgspec.structs.replace(
            self,
            status=PointerStatus.SLEEPING,
            wake=until,
            failures=self.failures + 1,
            budget=self.budget + 1,
            error=error,
            child="",
            awaits="",
            begun=False,
        )

    def gave_up(self, error: ErrorRecord) -> Pointer:
        """It failed for good."""
        self._require(
            "failed",
            PointerStatus.RUNNING,
            PointerStatus.WAITING_FOR_EVENT,
            PointerStatus.PENDING,
            PointerStatus.SLEEPING,
        )
        return msgspec.structs.replace(
            self,
            status=PointerStatus.FAILED,
            wake=0,
            failures=self.failures + 1,
            budget=self.budget + 1,
            error=error,
            awaits="",
            begun=False,
        )

    def rearmed(self) -> Pointer:
        """A failed pointer gets a fresh retry budget and may begin again."""
        self._require("re-armed", PointerStatus.FAILED)
        return msgspec.structs.replace(self, status=PointerStatus.PENDING, budget=0, wake=0)

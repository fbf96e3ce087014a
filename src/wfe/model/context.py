"""What a step body sees of the instance that it runs for."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from wfe.model.document import decode_plain
from wfe.model.durations import DurationLike, to_timedelta
from wfe.model.errors import Cancelled, ContextValueNotFound, DataError
from wfe.model.generic import D
from wfe.model.status import WorkflowStatus

__all__ = [
    "UNTOUCHED",
    "CancelFlag",
    "ContextSource",
    "LoopFrame",
    "StepExecutionContext",
    "StepInfo",
    "Untouched",
    "WorkflowInfo",
]

_T = TypeVar("_T")
_D_co = TypeVar("_D_co", covariant=True)


class WorkflowInfo(msgspec.Struct, frozen=True):
    """The instance that a body runs for."""

    id: str
    name: str | None
    definition_id: str
    version: int
    reference: str | None
    status: WorkflowStatus
    created_at: datetime
    run: int
    """1, and one more for every `retry_workflow`."""


class StepInfo(msgspec.Struct, frozen=True):
    """The step that a body runs for."""

    id: str
    name: str
    """The display name; the id where none was given."""
    config: Mapping[str, Any]
    """The author's own settings. Do not change them: all runs of the step share them."""


class Untouched(Enum):
    """The type of `UNTOUCHED`."""

    UNTOUCHED = "untouched"


UNTOUCHED: Final = Untouched.UNTOUCHED
"""Stands for a copy that the body has never asked for, so nothing in it can have changed."""


class LoopFrame:
    """One `for_each` around a step: the item and its index. The item is decoded when it is first looked at."""

    __slots__ = ("_encoded", "_item", "index")

    def __init__(self, encoded: bytes, index: int) -> None:
        self._encoded = encoded
        self._item: object = UNTOUCHED
        self.index = index
        """Place of the item in the collection, from 0."""

    @property
    def item(self) -> Any:  # noqa: ANN401 - a JSON value, whose shape only the author knows
        """The item as a JSON value: a copy of this step's own."""
        if self._item is UNTOUCHED:
            self._item = decode_plain(self._encoded)
        return self._item


# Guards the making of flags and of their events; taken once per flag, and only where somebody looks at it.
_flag_lock = threading.Lock()


class CancelFlag:
    """Tells a body that it shall end. The host sets it; asking is cheap and safe from any thread."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: threading.Event | None = None

    def is_set(self) -> bool:
        """Tell whether the body shall end."""
        return self._is_set

    def __bool__(self) -> bool:
        return self._is_set

    def wait(self, timeout: DurationLike | None = None) -> bool:
        """Block this thread until the body shall end or the time is over; tell whether it shall end.

        For bodies that run on a thread, where it replaces a sleep. Never for coroutines: those are cancelled, and sleep
        by `await asyncio.sleep(…)`.
        """
        with _flag_lock:
            if self._is_set:
                return True
            if self._event is None:
                self._event = threading.Event()
            event = self._event
        return event.wait(None if timeout is None else to_timedelta(timeout).total_seconds())

    def set(self) -> None:
        """Ask the body to end. For the host."""
        with _flag_lock:
            self._is_set = True
            if self._event is not None:
                self._event.set()


class ContextSource(Protocol[_D_co]):
    """Where a context gets what a body asks for; each is asked for once at most, when the body first looks at it."""

    def load_data(self) -> _D_co:
        """Give a fresh copy of the data."""
        ...

    def load_workflow(self) -> WorkflowInfo:
        """Give what is known of the instance."""
        ...

    def load_values(self) -> dict[str, Any]:
        """Give a fresh copy of the values kept with the instance."""
        ...

    def load_loops(self) -> Sequence[LoopFrame]:
        """Give the loops around the step, nearest first."""
        ...

    def write_log(self, stream: str, text: str) -> None:
        """Take text for the step's log; called from the body's thread."""
        ...

    def beat(self, details: object) -> None:
        """Take the details of a heartbeat; called from the body's thread."""
        ...


class StepExecutionContext(Generic[D]):
    """What a body sees of its instance, and how it speaks to it. Made by the host, one for every run of a body.

    Everything that has to be decoded is decoded when the body first looks at it.
    """

    __slots__ = (
        "_cancelled",
        "_data",
        "_event",
        "_event_data",
        "_loops",
        "_persisted",
        "_persistence_data",
        "_source",
        "_values",
        "_workflow",
        "attempt",
        "deadline",
        "pointer_id",
        "step",
    )

    step: StepInfo
    """The step: id, name and config."""
    pointer_id: str
    """Id of the execution pointer, unique within the instance."""
    attempt: int
    """Recorded failures of this step + 1; a repeat after a crash of the host has the same number."""
    deadline: datetime | None
    """When the time limit of this attempt is reached (UTC); None without a limit."""

    def __init__(
        self,
        source: ContextSource[D],
        *,
        step: StepInfo,
        pointer_id: str,
        attempt: int = 1,
        deadline: datetime | None = None,
        persisted: bytes = b"",
        event: bytes = b"",
    ) -> None:
        """Make a context.

        Args:
            source: Is asked for what the body looks at.
            persisted: JSON of what this step persisted last; empty: nothing.
            event: JSON of the payload that woke the step; empty: none.
        """
        self._source = source
        self.step = step
        self.pointer_id = pointer_id
        self.attempt = attempt
        self.deadline = deadline
        self._persisted = persisted
        self._event = event
        self._data: D | Untouched = UNTOUCHED
        self._values: dict[str, Any] | Untouched = UNTOUCHED
        self._workflow: WorkflowInfo | None = None
        self._cancelled: CancelFlag | None = None

    # -- the instance

    @property
    def data(self) -> D:
        """This body's own copy of the workflow's data.

        Fields that the body changes are merged when its answer is recorded. Assigning a new object replaces all fields.
        """
        if self._data is UNTOUCHED:
            self._data = self._source.load_data()
        return self._data

    @data.setter
    def data(self, data: D) -> None:
        self._data = data

    @property
    def values(self) -> dict[str, Any]:
        """JSON values kept with the instance beside its data, merged key by key. This body's own copy."""
        if self._values is UNTOUCHED:
            self._values = self._source.load_values()
        return self._values

    def value(self, name: str, type: type[_T]) -> _T:  # noqa: A002 - the public name
        """Give one of `values` as this type.

        Raises:
            ContextValueNotFound: Nobody has set it.
            DataError: It is not of this type; `path` names the place inside it.
        """
        try:
            found = self.values[name]
        except KeyError:
            raise ContextValueNotFound(name, list(self.values)) from None
        try:
            return msgspec.convert(found, type)
        except msgspec.ValidationError as error:
            msg = f"The value {name!r} kept with the instance is not of the type asked for: {error}"
            raise DataError(msg, path=f"$.{name}", reason="wrong_type") from error

    @property
    def workflow(self) -> WorkflowInfo:
        """The instance: id, name, definition id, version, reference, status, creation time and run."""
        if self._workflow is None:
            self._workflow = self._source.load_workflow()
        return self._workflow

    @property
    def idempotency_key(self) -> str:
        """The same text for every attempt of this pointer's step, also after a crash. Give it to outside systems.

        Another turn of a loop, another item and another instance each have another key.
        """
        return f"{self.workflow.id}:{self.pointer_id}"

    # -- loops

    @property
    def item(self) -> Any:  # noqa: ANN401 - a JSON value, whose shape only the author knows
        """The item of the nearest `for_each` around this step, or the value of its `branch`; None outside."""
        loops = self._all_loops()
        return loops[0].item if loops else None

    @property
    def index(self) -> int:
        """The place of `item` in its collection, from 0; -1 outside a loop."""
        loops = self._all_loops()
        return loops[0].index if loops else -1

    @property
    def parents(self) -> tuple[LoopFrame, ...]:
        """The loops around the nearest one, nearest first; each has `item` and `index`."""
        return self._all_loops()[1:]

    def _all_loops(self) -> tuple[LoopFrame, ...]:
        try:
            return self._loops
        except AttributeError:
            self._loops: tuple[LoopFrame, ...] = tuple(self._source.load_loops())
            return self._loops

    # -- earlier runs of this step

    @property
    def persistence_data(self) -> Any:  # noqa: ANN401 - a JSON value, whose shape only the author knows
        """What this step gave to `persist`, `sleep`, `branch` or `wait_for_event` last; None at its first run."""
        try:
            return self._persistence_data
        except AttributeError:
            self._persistence_data: Any = decode_plain(self._persisted) if self._persisted else None
            return self._persistence_data

    @property
    def event_data(self) -> Any:  # noqa: ANN401 - a JSON value, whose shape only the publisher knows
        """The payload of the event that woke this step; None when none did."""
        try:
            return self._event_data
        except AttributeError:
            self._event_data: Any = decode_plain(self._event) if self._event else None
            return self._event_data

    # -- while it runs

    @property
    def cancelled(self) -> CancelFlag:
        """Is set once this body shall end. Coroutines are cancelled besides; threads have to look here."""
        flag = self._cancelled
        if flag is None:
            with _flag_lock:
                flag = self._cancelled
                if flag is None:
                    flag = self._cancelled = CancelFlag()
        return flag

    def log(self, text: str, stream: str = "stdout") -> None:
        """Write text to the step's log.

        It goes at once to those who listen on the host that runs the step (`host.on_log`) and to the logger `wfe.step`.
        It is not stored. What a body in a process of its own writes comes when it has ended.
        """
        self._source.write_log(stream, text)

    def heartbeat(self, details: object = None) -> None:
        """Say that the body is alive, and how far it is (a JSON value); and learn whether it shall end.

        The last heartbeat is seen in `WorkflowInstance.steps` on the host that runs the step, while it runs. It is not
        stored, and prolongs no time limit.

        Raises:
            Cancelled: This body shall end (as `cancelled` says): let it pass. Not in a process of its own, which is
                killed instead.
            DataError: The details cannot be stored as JSON.
        """
        self._source.beat(details)
        if self._cancelled is not None and self._cancelled.is_set():
            msg = f"Step {self.step.name!r} shall end: it was cancelled, its time is over, or its host stops."
            raise Cancelled(msg)

    # -- for the host

    @property
    def taken_data(self) -> D | Untouched:
        """The copy as the body left it, or `UNTOUCHED` when it never asked for one. For the host."""
        return self._data

    @property
    def taken_values(self) -> dict[str, Any] | Untouched:
        """As `taken_data`, for `values`."""
        return self._values

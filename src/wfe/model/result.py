"""Execution results: what a step body may answer. A closed union, matched to exhaustion by the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from wfe.model.durations import DurationLike, to_timedelta

if TYPE_CHECKING:
    from typing import Literal

__all__ = [
    "AnyResult",
    "Branch",
    "End",
    "ExecutionResult",
    "Failure",
    "Next",
    "Outcome",
    "Persist",
    "Skip",
    "Sleep",
    "SleepUntil",
    "WaitForEvent",
]


class ExecutionResult:
    """A step body's answer. Use the constructors; the cases are the frozen classes of `AnyResult`."""

    __slots__ = ()

    @staticmethod
    def next(output: Mapping[str, object] | None = None) -> Next:
        """Complete the step and follow the default outcome; `output` merges into the data."""
        return NEXT if output is None else Next(output)

    @staticmethod
    def outcome(value: object, output: Mapping[str, object] | None = None) -> Outcome:
        """Complete the step and follow the outcome with this value, else the default one."""
        return Outcome(value, output)

    @staticmethod
    def persist(data: object, poll: DurationLike | None = None) -> Persist:
        """Stay on this step with `data` as `persistence_data`.

        It runs again when its children have ended; without children after `poll` (default 1 s, doubling to 1 min).
        """
        return Persist(data, None if poll is None else _duration(poll))

    @staticmethod
    def sleep(duration: DurationLike, data: object = None) -> Sleep:
        """Pause durably for `duration`, then run the step again with `data` as `persistence_data`."""
        return Sleep(_duration(duration), data)

    @staticmethod
    def sleep_until(when: datetime, data: object = None) -> SleepUntil:
        """Pause durably until `when` (an aware datetime), then run the step again."""
        if when.tzinfo is None:
            msg = f"sleep_until needs an aware datetime, got {when!r}; add a time zone"
            raise ValueError(msg)
        return SleepUntil(when, data)

    @staticmethod
    def branch(values: Iterable[object], data: object = None, parallel: bool = True) -> Branch:  # noqa: FBT001, FBT002
        """Run the step's children once per value, then run the step again."""
        return Branch(tuple(values), data, parallel)

    @staticmethod
    def wait_for_event(
        name: str,
        key: str,
        *,
        as_of: datetime | Literal["any"] | None = None,
        timeout: DurationLike | None = None,
        data: object = None,
    ) -> WaitForEvent:
        """Wait durably for an event, then run the step again with `event_data`.

        When `timeout` passes first, `EventTimeout` goes to the step's error rule.
        """
        return WaitForEvent(str(name), str(key), as_of, None if timeout is None else _duration(timeout), data)

    @staticmethod
    def fail(error: BaseException | str, retryable: bool = True) -> Failure:  # noqa: FBT001, FBT002
        """Fail this attempt, as if the body had raised."""
        return Failure(error, retryable)

    @staticmethod
    def skip(reason: str | None = None) -> Skip:
        """Mark the pointer skipped and follow the default outcome."""
        return Skip(reason)

    @staticmethod
    def end(output: Mapping[str, object] | None = None) -> End:
        """Complete the whole workflow now; other branches are cancelled."""
        return End(output)


def _duration(value: DurationLike) -> timedelta:
    duration = to_timedelta(value)
    if duration < timedelta(0):
        msg = f"a pause must not be negative, got {value!r}"
        raise ValueError(msg)
    return duration


@dataclass(frozen=True, slots=True)
class Next(ExecutionResult):
    """Complete; follow the default outcome."""

    output: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Outcome(ExecutionResult):
    """Complete; follow the outcome with this value."""

    value: object
    output: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Persist(ExecutionResult):
    """Stay here; run again later."""

    data: object
    poll: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Sleep(ExecutionResult):
    """Run again after `duration`."""

    duration: timedelta
    data: object = None


@dataclass(frozen=True, slots=True)
class SleepUntil(ExecutionResult):
    """Run again at `when`."""

    when: datetime
    data: object = None


@dataclass(frozen=True, slots=True)
class Branch(ExecutionResult):
    """Run the children once per value, then run again."""

    values: tuple[object, ...]
    data: object = None
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class WaitForEvent(ExecutionResult):
    """Run again when an event has come."""

    name: str
    key: str
    as_of: datetime | str | None = None
    timeout: timedelta | None = None
    data: object = None


@dataclass(frozen=True, slots=True)
class Failure(ExecutionResult):
    """This attempt has failed."""

    error: BaseException | str
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class Skip(ExecutionResult):
    """Skipped by its own decision."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class End(ExecutionResult):
    """Complete the whole workflow."""

    output: Mapping[str, object] | None = field(default=None)


AnyResult: TypeAlias = Next | Outcome | Persist | Sleep | SleepUntil | Branch | WaitForEvent | Failure | Skip | End

NEXT = Next()

"""What can be set on a host, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from wfe.model.document import Limits, check_text
from wfe.model.durations import DurationLike, to_timedelta
from wfe.model.errors import ConfigurationError, DataError
from wfe.model.moment import Moment, from_datetime
from wfe.model.status import WorkflowStatus

__all__ = [
    "Durability",
    "Settings",
    "at_least_one",
    "checked_id",
    "checked_key",
    "checked_moment",
    "checked_status",
    "checked_text",
    "may_be_an_id",
    "positive",
]

Durability: TypeAlias = Literal["power", "process"]

_MAX_ID = 200
_MAX_TEXT = 1000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one host; see `WorkflowHost` for what they mean."""

    name: str | None
    max_concurrency: int
    max_threads: int
    max_processes: int | None
    max_active: int
    step_factory: Callable[[type], object] | None
    lease_ttl: timedelta
    sweep_interval: timedelta
    cancel_grace: timedelta
    loop_stall_limit: timedelta
    event_retention: timedelta
    limits: Limits


def at_least_one(value: object, name: str) -> int:
    """Check a count.

    Raises:
        ConfigurationError: It is not a whole number of at least 1.
    """
    if not isinstance(value, int) or value < 1:
        msg = f"{name} must be a whole number of at least 1, got {value!r}."
        raise ConfigurationError(msg)
    return value


def positive(value: DurationLike, name: str, *, zero: bool = False) -> timedelta:
    """Read a duration.

    Raises:
        ConfigurationError: It is none, or not above zero.
    """
    try:
        duration = to_timedelta(value)
    except (TypeError, ValueError) as error:
        msg = f"{name}: {error}"
        raise ConfigurationError(msg) from error
    if duration < timedelta(0) or (duration == timedelta(0) and not zero):
        msg = f"{name} must be above zero, got {value!r}."
        raise ConfigurationError(msg)
    return duration


def checked_id(given: object) -> str:
    """Check an id that a caller chose.

    Raises:
        DataError: It is empty, too long, not storable, or in the name space of child instances.
    """
    text = checked_text(given, "id", limit=_MAX_ID)
    if "~" in text:
        msg = f"The id {given!r} contains '~', which is reserved for the ids of child instances."
        raise DataError(msg, path="$.id", reason="reserved_name")
    return text


def may_be_an_id(text: str) -> bool:
    """Tell whether any instance can have this id: every store keeps ids as non-empty text without NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return bool(text) and "\x00" not in text


def checked_status(given: object) -> str:
    """Check the name of a status.

    Raises:
        ConfigurationError: There is no such status.
    """
    try:
        return str(WorkflowStatus(str(given)))
    except ValueError:
        msg = f"There is no workflow status {given!r}; statuses are {', '.join(WorkflowStatus)}."
        raise ConfigurationError(msg) from None


def checked_moment(given: object, what: str) -> Moment:
    """Check a time that a caller gave.

    Raises:
        DataError: It is no datetime with a time zone.
    """
    if not isinstance(given, datetime) or given.tzinfo is None:
        msg = f"{what} takes an aware datetime, got {given!r}; add a time zone, for example datetime.now(UTC)."
        raise DataError(msg, path=f"$.{what}", reason="wrong_type")
    return from_datetime(given)


def checked_key(given: object, what: str) -> str:
    """Check a name or key of an event: text, or what has a text of its own, such as a number or a UUID.

    Raises:
        DataError: It has none (as for waits: None, a truth value, a float, a list or a mapping), or is empty, too long
            or not storable.
    """
    if type(given) is str:
        return checked_text(given, what)
    has_text = given is not None and not isinstance(given, bool | float | Mapping | list)
    return checked_text(str(given) if has_text else given, what)


def checked_text(given: object, what: str, *, limit: int = _MAX_TEXT) -> str:
    """Check a name or key that a caller chose.

    Raises:
        DataError: It is empty, too long or not storable.
    """
    if not isinstance(given, str) or not given:
        msg = f"The {what} must be non-empty text, got {given!r}."
        raise DataError(msg, path=f"$.{what}", reason="wrong_type")
    check_text(given, f"$.{what}")
    if len(given) > limit:
        msg = f"The {what} is {len(given)} characters long; at most {limit} are possible."
        raise DataError(msg, path=f"$.{what}", reason="too_large")
    return given

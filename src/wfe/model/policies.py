"""When to try again, how long between, and what to do when a step has failed for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from wfe.model.durations import DurationLike, to_timedelta

__all__ = [
    "Backoff",
    "Compensate",
    "CompensateThenRetry",
    "CompensateThenSuspend",
    "Continue",
    "ErrorBehavior",
    "Exponential",
    "Fail",
    "Fixed",
    "Linear",
    "Retry",
    "RetryPolicy",
    "Suspend",
    "Terminate",
]

_MAX_DELAY = timedelta(days=365)


@dataclass(frozen=True)
class Fixed:
    """The same pause after every failure."""

    interval: DurationLike

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", _positive(self.interval, "interval"))

    def delay(self, failures: int) -> timedelta:
        """Give the pause after so many failures; `failures` counts from 1."""
        del failures
        return to_timedelta(self.interval)


@dataclass(frozen=True)
class Exponential:
    """`base`, then `factor` times as long after each further failure, at most `max`."""

    base: DurationLike
    max: DurationLike = timedelta(hours=1)
    factor: float = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", _positive(self.base, "base"))
        object.__setattr__(self, "max", _positive(self.max, "max"))
        if not self.factor >= 1:
            msg = f"factor must be at least 1, got {self.factor!r}"
            raise ValueError(msg)

    def delay(self, failures: int) -> timedelta:
        """Give the pause after so many failures; `failures` counts from 1."""
        limit = to_timedelta(self.max)
        try:
            seconds = to_timedelta(self.base).total_seconds() * float(self.factor) ** (failures - 1)
        except OverflowError:
            return limit
        return timedelta(seconds=min(seconds, limit.total_seconds()))


@dataclass(frozen=True)
class Linear:
    """`increment` after the first failure, twice that after the second, …, at most `max`."""

    increment: DurationLike
    max: DurationLike = timedelta(hours=1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "increment", _positive(self.increment, "increment"))
        object.__setattr__(self, "max", _positive(self.max, "max"))

    def delay(self, failures: int) -> timedelta:
        """Give the pause after so many failures; `failures` counts from 1."""
        seconds = to_timedelta(self.increment).total_seconds() * failures
        return timedelta(seconds=min(seconds, to_timedelta(self.max).total_seconds()))


Backoff: TypeAlias = Fixed | Exponential | Linear


@dataclass(frozen=True)
class RetryPolicy:
    """Try a step up to `max_attempts` times, with a pause by `backoff` between attempts.

    `jitter` (0 to 1) shortens each pause by a random share of up to that much; it never lengthens one.
    `retryable` is asked with the error (an exception); False ends the attempts at once.
    """

    max_attempts: int = 3
    backoff: Backoff = field(default_factory=lambda: Exponential(1, 300))
    jitter: float = 0.0
    retryable: Callable[[BaseException], bool] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            msg = f"max_attempts counts attempts and must be at least 1, got {self.max_attempts!r}"
            raise ValueError(msg)
        _check_backoff(self.backoff)
        _check_jitter(self.jitter)

    def delay(self, failures: int, random: float = 0.0) -> timedelta:
        """Give the pause after so many failures (1 after the first); `random` in [0, 1) draws the jitter."""
        pause = min(self.backoff.delay(failures), _MAX_DELAY)
        return pause * (1 - self.jitter * random) if self.jitter else pause


@dataclass(frozen=True)
class Fail:
    """The workflow (or the enclosing scope) fails."""


@dataclass(frozen=True)
class Suspend:
    """The instance is suspended; resuming tries the step again."""


@dataclass(frozen=True)
class Terminate:
    """The instance is terminated at once."""


@dataclass(frozen=True)
class Continue:
    """Record the error, skip the step and go on."""


@dataclass(frozen=True)
class Compensate:
    """Undo this step by its compensation and go on."""


@dataclass(frozen=True)
class CompensateThenSuspend:
    """Undo, then suspend the instance."""


@dataclass(frozen=True)
class CompensateThenRetry:
    """Undo, then try the scope again, up to `max_retries` times with `interval` between."""

    interval: DurationLike = timedelta(seconds=60)
    max_retries: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", to_timedelta(self.interval))


@dataclass(frozen=True)
class Retry:
    """Try again up to `max_retries` times (so at most `max_retries` + 1 attempts), then apply `then`.

    `on` and `not_on` are exception classes (or their names) that are, or are not, worth another attempt.
    `backoff` or `policy` replaces the fixed `interval`; `max_interval` caps every pause.
    """

    interval: DurationLike = timedelta(seconds=60)
    max_retries: int = 3
    backoff: Backoff | None = None
    max_interval: DurationLike | None = None
    jitter: float = 0.0
    on: tuple[type[BaseException] | str, ...] | None = None
    not_on: tuple[type[BaseException] | str, ...] | None = None
    then: ErrorBehavior = field(default_factory=Fail)
    policy: RetryPolicy | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", to_timedelta(self.interval))
        if self.max_interval is not None:
            object.__setattr__(self, "max_interval", _positive(self.max_interval, "max_interval"))
        if self.max_retries < 0:
            msg = f"max_retries must not be negative, got {self.max_retries!r}"
            raise ValueError(msg)
        if self.backoff is not None:
            _check_backoff(self.backoff)
        _check_jitter(self.jitter)
        if isinstance(self.then, Retry):
            msg = "Retry(then=Retry(…)) never ends a step; give Fail, Continue, Suspend or Terminate"
            raise ValueError(msg)  # noqa: TRY004 - the type is allowed elsewhere
        for name in ("on", "not_on"):
            chosen = getattr(self, name)
            if chosen is not None and not isinstance(chosen, tuple):
                object.__setattr__(self, name, tuple(chosen) if isinstance(chosen, list | set) else (chosen,))

    @property
    def max_attempts(self) -> int:
        """How many attempts there are in all."""
        return self.policy.max_attempts if self.policy is not None else self.max_retries + 1

    def delay(self, failures: int, random: float = 0.0) -> timedelta:
        """Give the pause after so many failures (1 after the first)."""
        if self.policy is not None:
            return self.policy.delay(failures, random)
        pause = (self.backoff or Fixed(self.interval)).delay(failures)
        if self.max_interval is not None:
            pause = min(pause, to_timedelta(self.max_interval))
        pause = min(pause, _MAX_DELAY)
        return pause * (1 - self.jitter * random) if self.jitter else pause


ErrorBehavior: TypeAlias = (
    Fail | Suspend | Terminate | Continue | Retry | Compensate | CompensateThenSuspend | CompensateThenRetry
)


def _check_backoff(backoff: object) -> None:
    if not isinstance(backoff, Fixed | Exponential | Linear):
        msg = f"backoff takes Fixed(…), Exponential(…) or Linear(…), got {backoff!r:.80}"
        raise ValueError(msg)  # noqa: TRY004 - as for every other value of a policy


def _check_jitter(jitter: float) -> None:
    if not 0 <= jitter <= 1:
        msg = f"jitter is a share between 0 and 1, got {jitter!r}"
        raise ValueError(msg)


def _positive(value: DurationLike, name: str) -> timedelta:
    duration = to_timedelta(value)
    if duration < timedelta(0):
        msg = f"{name} must not be negative, got {value!r}"
        raise ValueError(msg)
    return duration

"""Policies in the plain form that is stored with a definition's JSON text. Durations are whole microseconds."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias, assert_never

import msgspec

from wfe.model.definition import Policies
from wfe.model.durations import DurationLike, to_timedelta
from wfe.model.moment import microseconds
from wfe.model.policies import (
    Backoff,
    Compensate,
    CompensateThenRetry,
    CompensateThenSuspend,
    Continue,
    ErrorBehavior,
    Exponential,
    Fail,
    Fixed,
    Linear,
    Retry,
    RetryPolicy,
    Suspend,
    Terminate,
)

__all__ = ["PlainPolicies", "ask_code", "policies_from_plain", "policies_to_plain"]


class _Fixed(msgspec.Struct, frozen=True, tag="fixed"):
    interval_us: int


class _Exponential(msgspec.Struct, frozen=True, tag="exponential"):
    base_us: int
    max_us: int
    factor: float


class _Linear(msgspec.Struct, frozen=True, tag="linear"):
    increment_us: int
    max_us: int


_Backoff: TypeAlias = _Fixed | _Exponential | _Linear


class _RetryPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    max_attempts: int
    backoff: _Backoff
    jitter: float = 0.0


class _Simple(msgspec.Struct, frozen=True, tag="simple"):
    rule: str


class _CompensateThenRetry(msgspec.Struct, frozen=True, tag="compensate_then_retry"):
    interval_us: int
    max_retries: int


class _Retry(msgspec.Struct, frozen=True, omit_defaults=True, tag="retry"):
    interval_us: int
    max_retries: int
    backoff: _Backoff | None = None
    max_interval_us: int | None = None
    jitter: float = 0.0
    on: tuple[str, ...] | None = None
    not_on: tuple[str, ...] | None = None
    then: _Simple | _CompensateThenRetry = _Simple("fail")
    policy: _RetryPolicy | None = None


class PlainPolicies(msgspec.Struct, frozen=True, omit_defaults=True):
    """The plain form of `Policies`. Exception classes appear by name; `retryable` is code and left out."""

    error: _Simple | _CompensateThenRetry | _Retry | None = None
    retry: _RetryPolicy | None = None
    timeout_us: int | None = None
    count_crashes: bool = False


_SIMPLE: dict[str, type[Fail | Suspend | Terminate | Continue | Compensate | CompensateThenSuspend]] = {
    "fail": Fail,
    "suspend": Suspend,
    "terminate": Terminate,
    "continue": Continue,
    "compensate": Compensate,
    "compensate_then_suspend": CompensateThenSuspend,
}
_SIMPLE_NAMES = {kind: name for name, kind in _SIMPLE.items()}


def policies_to_plain(policies: Policies) -> PlainPolicies | None:
    """Give the plain form; None for policies that say nothing."""
    plain = PlainPolicies(
        None if policies.error is None else _rule_to_plain(policies.error),
        None if policies.retry is None else _retry_to_plain(policies.retry),
        None if policies.timeout is None else microseconds(policies.timeout),
        policies.count_crashes,
    )
    return None if plain == PlainPolicies() else plain


def ask_code(policies: Policies) -> bool:
    """Tell whether policies ask a callable, which the plain form leaves out."""
    rules = (policies.retry, policies.error.policy if isinstance(policies.error, Retry) else None)
    return any(rule is not None and rule.retryable is not None for rule in rules)


def policies_from_plain(plain: PlainPolicies | None) -> Policies:
    """Read the plain form.

    Raises:
        ValueError: A value in it is not possible.
    """
    if plain is None:
        return Policies()
    return Policies(
        None if plain.error is None else _rule_from_plain(plain.error),
        None if plain.retry is None else _retry_from_plain(plain.retry),
        None if plain.timeout_us is None else _duration(plain.timeout_us),
        plain.count_crashes,
    )


def _rule_to_plain(rule: ErrorBehavior) -> _Simple | _CompensateThenRetry | _Retry:
    if isinstance(rule, Retry):
        return _Retry(
            _us(rule.interval),
            rule.max_retries,
            None if rule.backoff is None else _backoff_to_plain(rule.backoff),
            None if rule.max_interval is None else _us(rule.max_interval),
            rule.jitter,
            _names(rule.on),
            _names(rule.not_on),
            _final_to_plain(rule.then),
            None if rule.policy is None else _retry_to_plain(rule.policy),
        )
    return _final_to_plain(rule)


def _final_to_plain(rule: ErrorBehavior) -> _Simple | _CompensateThenRetry:
    if isinstance(rule, CompensateThenRetry):
        return _CompensateThenRetry(_us(rule.interval), rule.max_retries)
    if isinstance(rule, Retry):
        raise TypeError("Retry cannot follow Retry")
    return _Simple(_SIMPLE_NAMES[type(rule)])


def _rule_from_plain(plain: _Simple | _CompensateThenRetry | _Retry) -> ErrorBehavior:
    if isinstance(plain, _Simple):
        if plain.rule not in _SIMPLE:
            raise ValueError(f"there is no error rule {plain.rule!r}; there are {', '.join(_SIMPLE)}, retry")
        return _SIMPLE[plain.rule]()
    if isinstance(plain, _CompensateThenRetry):
        return CompensateThenRetry(_duration(plain.interval_us), plain.max_retries)
    return Retry(
        _duration(plain.interval_us),
        plain.max_retries,
        None if plain.backoff is None else _backoff_from_plain(plain.backoff),
        None if plain.max_interval_us is None else _duration(plain.max_interval_us),
        plain.jitter,
        plain.on,
        plain.not_on,
        _rule_from_plain(plain.then),
        None if plain.policy is None else _retry_from_plain(plain.policy),
    )


def _retry_to_plain(policy: RetryPolicy) -> _RetryPolicy:
    return _RetryPolicy(policy.max_attempts, _backoff_to_plain(policy.backoff), policy.jitter)


def _retry_from_plain(plain: _RetryPolicy) -> RetryPolicy:
    return RetryPolicy(plain.max_attempts, _backoff_from_plain(plain.backoff), plain.jitter)


def _backoff_to_plain(backoff: Backoff) -> _Backoff:
    match backoff:
        case Fixed():
            return _Fixed(_us(backoff.interval))
        case Exponential():
            return _Exponential(_us(backoff.base), _us(backoff.max), backoff.factor)
        case Linear():
            return _Linear(_us(backoff.increment), _us(backoff.max))
        case _:
            assert_never(backoff)


def _backoff_from_plain(plain: _Backoff) -> Backoff:
    match plain:
        case _Fixed():
            return Fixed(_duration(plain.interval_us))
        case _Exponential():
            return Exponential(_duration(plain.base_us), _duration(plain.max_us), plain.factor)
        case _Linear():
            return Linear(_duration(plain.increment_us), _duration(plain.max_us))
        case _:
            assert_never(plain)


def _names(classes: tuple[type[BaseException] | str, ...] | None) -> tuple[str, ...] | None:
    if classes is None:
        return None
    return tuple(each if isinstance(each, str) else f"{each.__module__}.{each.__qualname__}" for each in classes)


def _us(duration: DurationLike) -> int:
    return microseconds(to_timedelta(duration))


def _duration(duration_us: int) -> timedelta:
    try:
        return timedelta(microseconds=duration_us)
    except OverflowError:
        raise ValueError(f"{duration_us} microseconds are too long for a duration") from None

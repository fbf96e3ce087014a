"""When to try again, and how long between."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfe.model.policies import Exponential, Fail, Fixed, Linear, Retry, RetryPolicy


def seconds(policy: Any, count: int) -> list[float]:
    return [policy.delay(number).total_seconds() for number in range(1, count + 1)]


def test_pauses_of_the_backoffs() -> None:
    """Fixed, doubling, growing by a step; capped."""
    assert seconds(Fixed(5), 3) == [5, 5, 5]
    assert seconds(Exponential(1, 5), 4) == [1, 2, 4, 5]
    assert seconds(Exponential(1, 100, factor=3), 3) == [1, 3, 9]
    assert seconds(Linear(2, 5), 4) == [2, 4, 5, 5]


def test_pauses_of_a_retry_rule() -> None:
    """A fixed interval, or a backoff or policy in its place; capped by `max_interval`."""
    assert seconds(Retry(interval=60), 2) == [60, 60]
    assert seconds(Retry(backoff=Exponential(1, 100), max_interval=3), 4) == [1, 2, 3, 3]
    assert seconds(Retry(policy=RetryPolicy(5, Fixed(7))), 1) == [7]


def test_attempts() -> None:
    """`max_attempts` counts attempts, `max_retries` those after the first."""
    assert RetryPolicy(3).max_attempts == 3
    assert Retry(max_retries=3).max_attempts == 4
    assert Retry(policy=RetryPolicy(7)).max_attempts == 7


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 1, exclude_max=True))
def test_jitter_only_shortens_and_pauses_stay_within_bounds(failures: int, jitter: float, random: float) -> None:
    """However many failures: between nothing and the cap."""
    policy = RetryPolicy(3, Exponential(1, 300), jitter=jitter)

    pause = policy.delay(failures, random)

    assert timedelta(0) <= pause <= policy.delay(failures) <= timedelta(seconds=300)


def test_a_pause_is_at_most_a_year() -> None:
    """Whatever the backoff says."""
    assert RetryPolicy(2, Fixed(timedelta(days=5000))).delay(1) == timedelta(days=365)
    assert Retry(interval=timedelta(days=5000)).delay(1) == timedelta(days=365)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryPolicy(0),
        lambda: RetryPolicy(jitter=1.5),
        lambda: Retry(max_retries=-1),
        lambda: Retry(then=Retry()),
        lambda: Retry(jitter=2),
        lambda: Retry(backoff=5),  # type: ignore[arg-type]  # planted
        lambda: RetryPolicy(3, backoff=5),  # type: ignore[arg-type]  # planted
        lambda: Fixed(-1),
        lambda: Exponential(1, factor=0.5),
        lambda: Linear(-1),
        lambda: Exponential("soon"),
    ],
)
def test_impossible_policies_are_refused(make: Any) -> None:
    """When they are made, not when they are needed."""
    with pytest.raises(ValueError, match=r"."):
        make()


def test_policies_of_equal_content_are_equal() -> None:
    """They are values; a single class may stand for a tuple of them."""
    assert Retry(interval="1m") == Retry(interval=60)
    assert Retry(on=ValueError) == Retry(on=(ValueError,))  # type: ignore[arg-type]  # accepted for convenience
    assert Retry().then == Fail()

"""Making test classes of the conformance tests."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from unittest import SkipTest

import pytest

import wfe.testing
from wfe.providers.memory import MemoryProvider
from wfe.testing import lifecycle_suite, lock_suite, persistence_suite, queue_suite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from wfe.ports.provider import Provider


@asynccontextmanager
async def memory() -> AsyncIterator[Provider]:
    yield MemoryProvider()


SUITES = (persistence_suite, lock_suite, queue_suite, lifecycle_suite)


@pytest.mark.parametrize("make", SUITES)
def test_suite_has_async_tests_with_a_promise_each(make: Callable[..., type]) -> None:
    """A suite is a class of async methods without arguments, each with its promise as docstring."""
    suite = make(memory)

    tests = [method for name, method in vars(suite).items() if name.startswith("test_")]

    assert tests
    assert all(inspect.iscoroutinefunction(test) for test in tests)
    assert all(list(inspect.signature(test).parameters) == ["_self"] for test in tests)
    assert all(test.__doc__ and test.__doc__.strip().endswith(".") for test in tests)


async def test_every_test_has_a_provider_of_its_own() -> None:
    """The factory is called once per test, and left after it."""
    log: list[str] = []

    @asynccontextmanager
    async def logged() -> AsyncIterator[Provider]:
        log.append("open")
        yield MemoryProvider()
        log.append("closed")

    suite = persistence_suite(logged)()
    await suite.test_empty_batch_is_nothing()
    await suite.test_unknown_instance_is_none()

    assert log == ["open", "closed"] * 2


async def test_missing_twin_is_a_skip_that_says_so() -> None:
    """A test that needs a second process is skipped without one, and says what is missing."""
    suite = persistence_suite(memory)()

    with pytest.raises(SkipTest, match="twin"):
        await suite.test_second_process_sees_every_commit()


async def test_missing_disconnect_is_a_skip_that_says_so() -> None:
    """A test of lost connections is skipped where none can be cut, and says what is missing."""
    suite = persistence_suite(memory)()

    with pytest.raises(SkipTest, match="disconnect"):
        await suite.test_store_goes_on_after_a_lost_connection()


async def test_a_reason_given_in_place_of_a_twin_is_that_of_the_skip() -> None:
    """Where a provider cannot have a second process or lose a connection, the report says why."""
    suite = persistence_suite(memory, twin="it is alone", disconnect="nothing to cut")()

    with pytest.raises(SkipTest, match="a second process on the same storage is not tested: it is alone"):
        await suite.test_second_process_sees_every_commit()
    with pytest.raises(SkipTest, match="lost connections are not tested: nothing to cut"):
        await suite.test_store_goes_on_after_a_lost_connection()


async def test_time_passes_without_a_clock() -> None:
    """Without `advance`, tests of timers wait for the few milliseconds that they need."""
    suite = persistence_suite(memory)()

    async with asyncio.timeout(5):
        await suite.test_timer_comes_due()


def test_package_names_are_loaded_when_asked_for() -> None:
    """Each public name is there, and an unknown one is an AttributeError that lists them."""
    assert all(getattr(wfe.testing, name) for name in wfe.testing.__all__)
    with pytest.raises(AttributeError, match="persistence_suite"):
        _ = wfe.testing.persistance_suite


def test_suites_need_no_test_runner() -> None:
    """Making the suites does not load pytest."""
    code = (
        "import sys, wfe.testing as t; [f(lambda: None) for f in"
        " (t.persistence_suite, t.lock_suite, t.queue_suite, t.lifecycle_suite)]; sys.exit('pytest' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

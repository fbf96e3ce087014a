"""The conformance suites notice each broken promise."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from tests.providers.canaries import claims, events, hosts, messages, reading, transitions
from tests.providers.canaries.planting import CANARIES, Canary
from tests.providers.test_memory import TestLifecycle, TestLock, TestPersistence, TestQueue
from wfe.testing.conformance import hints, lifecycle, log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

PLANTED_BY = (transitions, claims, messages, events, reading, hosts)  # importing them plants their canaries
SUITES = {"lifecycle": TestLifecycle, "lock": TestLock, "persistence": TestPersistence, "queue": TestQueue}
del TestLifecycle, TestLock, TestPersistence, TestQueue  # they are collected where they belong


@pytest.fixture(autouse=True)
def impatience() -> Iterator[None]:
    """What a broken provider loses is not waited for."""
    with (
        patch.object(hints, "PATIENCE", 0.1),
        patch.object(hints, "RESEND", 0.02),
        patch.object(lifecycle, "PATIENCE", 0.1),
        patch.object(log, "PATIENCE", 0.1),
    ):
        yield


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: f"{canary.name}-{canary.test}")
async def test_broken_promise_is_noticed(canary: Canary) -> None:
    """The named conformance test fails on the broken provider."""
    check = promise(canary.test)

    with canary.planted(), pytest.raises((AssertionError, ValueError, TimeoutError)) as noticed:
        await check()

    if noticed.type is ValueError:
        assert "unpack" in str(noticed.value)  # the test named how many rows there must be


@pytest.mark.parametrize("test", sorted({canary.test for canary in CANARIES}))
async def test_sound_provider_passes(test: str) -> None:
    """Each of these conformance tests passes as long as nothing is broken, also when it does not wait long."""
    await promise(test)()


def test_every_subject_has_a_canary() -> None:
    """No group of promises goes without a broken provider that it notices."""
    noticed = {canary.test for canary in CANARIES}
    groups: dict[str, set[str]] = {}
    for suite in SUITES.values():
        for name, method in vars(suite).items():
            if name.startswith("test_"):
                groups.setdefault(method.__qualname__.partition(".")[0], set()).add(name)

    unwatched = [group for group, names in groups.items() if not names & noticed]

    assert unwatched == []


def promise(test: str) -> Callable[[], Awaitable[None]]:
    (suite,) = [suite for suite in SUITES.values() if hasattr(suite, test)]
    check: Callable[[], Awaitable[None]] = getattr(suite(), test)
    return check

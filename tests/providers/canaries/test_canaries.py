"""The conformance suites notice each broken promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.providers.canaries import announcing, claims, closing, cuts, events, hosts, messages, reading, transitions
from tests.providers.canaries.planting import CANARIES, Canary
from tests.providers.test_memory import advance, disconnect, memory, second_view
from wfe.testing import lifecycle_suite, lock_suite, persistence_suite, queue_suite
from wfe.testing.conformance import hints, lease, lifecycle, log, races, start, world

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PLANTED_BY = (transitions, claims, messages, events, reading, closing, hosts, announcing)  # importing them plants them
SUITES = (
    persistence_suite(memory, twin=second_view, advance=advance, disconnect=disconnect, scale=2_000),
    lock_suite(cuts.remote, twin=second_view, advance=advance, disconnect=cuts.cut),
    queue_suite(cuts.remote, twin=second_view, disconnect=cuts.cut),
    lifecycle_suite(cuts.remote, twin=second_view, disconnect=cuts.cut),
)
PROMISES = {name: suite for suite in SUITES for name in vars(suite) if name.startswith("test_")}


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a broken provider loses is not waited for."""
    for module in (hints, lease, lifecycle, log):
        monkeypatch.setattr(module, "PATIENCE", 0.1)
    for module in (races, start, world):
        monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(hints, "RESEND", 0.02)


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: f"{canary.name}-{canary.test}")
async def test_broken_promise_is_noticed(canary: Canary) -> None:
    """The named conformance test fails on the broken provider."""
    check = promise(canary.test)

    with canary.planted(), pytest.raises((AssertionError, ValueError, TimeoutError)) as noticed:
        await check()

    if noticed.type is ValueError:
        assert "unpack" in str(noticed.value)  # the test named how many rows there must be


@pytest.mark.parametrize("test", sorted(PROMISES))
async def test_sound_provider_passes(test: str) -> None:
    """Each of these conformance tests passes as long as nothing is broken, also when it does not wait long."""
    await promise(test)()


def test_every_promise_has_a_canary() -> None:
    """No conformance test goes without a broken provider that it must notice."""
    noticed = {canary.test for canary in CANARIES}

    assert set(PROMISES) - noticed == set()


def promise(test: str) -> Callable[[], Awaitable[None]]:
    check: Callable[[], Awaitable[None]] = getattr(PROMISES[test](), test)
    return check

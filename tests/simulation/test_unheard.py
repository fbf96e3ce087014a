"""Errors in a host that change nothing that a store keeps: the simulation hears them all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from wfe.host.core import HostCore
from wfe.model.errors import ProviderUnavailable
from wfe.testing.simulation import simulate_seed
from wfe.testing.simulation.machines import Life


async def _stumble() -> None:
    await asyncio.sleep(0.5)
    raise TypeError("unforeseen")


def test_a_task_that_fails_unheard_breaks_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of a host that ends with an error which nobody asks for is a violation, though all ends well."""
    boot = Life._boot
    begun: list[asyncio.Task[None]] = []

    async def boot_and_stumble(self: Life) -> None:
        await boot(self)
        begun.append(asyncio.get_running_loop().create_task(_stumble()))

    monkeypatch.setattr(Life, "_boot", boot_and_stumble)

    outcome = simulate_seed(1)

    assert begun
    assert outcome.violations == ("crash: _stumble has ended with TypeError: unforeseen, and nobody has asked",)


@pytest.mark.parametrize(
    ("error", "violations"),
    [
        (TypeError("unforeseen"), ("log: Background work failed (TypeError: unforeseen)",)),
        (ProviderUnavailable("as planned"), ()),
    ],
)
def test_what_fails_in_the_background_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, error: Exception, violations: tuple[str, ...]
) -> None:
    """Background work that ends with an error of the program breaks a run; one of the store does not."""
    background = HostCore.background

    def failing(self: HostCore, work: Any) -> None:
        async def do() -> None:
            await work
            raise error

        background(self, do())

    monkeypatch.setattr(HostCore, "background", failing)

    outcome = simulate_seed(3)

    assert outcome.violations == violations

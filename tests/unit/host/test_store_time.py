from __future__ import annotations

from wfe.host.core import HostCore

SECOND = 1_000_000


class Ticks:
    """The steady clock of a machine."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


def core_at(ticks: Ticks, wall: int) -> HostCore:
    """Make a core of which nothing but the time is there, on a machine whose wall clock shows this."""
    core = object.__new__(HostCore)
    core.monotonic = ticks
    core._offset = wall - int(ticks() * SECOND)
    core._knows_time = False
    core._last_commit = 0
    return core


def test_the_stores_time_counts_and_not_the_machines() -> None:
    """A machine whose clock is an hour ahead takes over the time of the first reply."""
    ticks = Ticks(100)
    core = core_at(ticks, wall=3600 * SECOND)

    core.saw_store_time(5 * SECOND, sent=99.5)

    assert core.now() == 5 * SECOND


def test_a_clock_that_runs_fast_is_noticed() -> None:
    """What it has gained is given up with the next reply, so that no timer is early for longer."""
    ticks = Ticks(100)
    core = core_at(ticks, wall=0)
    core.saw_store_time(5 * SECOND, sent=100)

    ticks.seconds = 120
    core.saw_store_time(15 * SECOND, sent=120)

    assert core.now() == 15 * SECOND


def test_a_slow_reply_does_not_set_the_clock_back() -> None:
    """A reply that was long under way says less than the one before."""
    ticks = Ticks(100)
    core = core_at(ticks, wall=0)
    core.saw_store_time(5 * SECOND, sent=100)

    ticks.seconds = 110
    core.saw_store_time(6 * SECOND, sent=100.5)

    assert core.now() == 15 * SECOND


def test_time_is_never_before_the_last_commit() -> None:
    """Whatever the clock does: what is committed has happened."""
    ticks = Ticks(100)
    core = core_at(ticks, wall=0)
    core.saw_store_time(5 * SECOND, sent=100)

    ticks.seconds = 99

    assert core.now() == 5 * SECOND

from __future__ import annotations

from wfe.host.store_time import StoreTime

SECOND = 1_000_000


class Ticks:
    """The steady clock of a machine."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


class Machine:
    """The clock of a machine."""

    def __init__(self, ticks: Ticks, wall: int) -> None:
        self.monotonic = ticks
        self._wall = wall

    def now(self) -> int:
        return self._wall


def test_the_stores_time_counts_and_not_the_machines() -> None:
    """A machine whose clock is an hour ahead takes over the time of the first reply."""
    ticks = Ticks(100)
    time = StoreTime(Machine(ticks, wall=3600 * SECOND))

    time.saw(5 * SECOND, sent=99.5)

    assert time.now() == 5 * SECOND


def test_a_clock_that_runs_fast_is_noticed() -> None:
    """What it has gained is given up with the next reply, so that no timer is early for longer."""
    ticks = Ticks(100)
    time = StoreTime(Machine(ticks, wall=0))
    time.saw(5 * SECOND, sent=100)

    ticks.seconds = 120
    time.saw(15 * SECOND, sent=120)

    assert time.now() == 15 * SECOND


def test_a_slow_reply_does_not_set_the_clock_back() -> None:
    """A reply that was long under way says less than the one before."""
    ticks = Ticks(100)
    time = StoreTime(Machine(ticks, wall=0))
    time.saw(5 * SECOND, sent=100)

    ticks.seconds = 110
    time.saw(6 * SECOND, sent=100.5)

    assert time.now() == 15 * SECOND


def test_time_is_never_before_the_last_commit() -> None:
    """Whatever the clock does: what is committed has happened."""
    ticks = Ticks(100)
    time = StoreTime(Machine(ticks, wall=0))
    time.saw(5 * SECOND, sent=100)

    ticks.seconds = 99

    assert time.now() == 5 * SECOND

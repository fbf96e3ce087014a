"""When a session is renewed, and when it is given up: on a loop and a clock in the hands of the test."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Generator
from datetime import timedelta

import pytest

from wfe.host.session import Session
from wfe.model.errors import LeaseLost, ProviderUnavailable
from wfe.testing.simulation.clocks import SkewedClock
from wfe.testing.simulation.loop import SimulatedLoop

TTL = 15.0
STALL_LIMIT = 600.0
AWAY = ProviderUnavailable("the store is away")


class Stage:
    """One session that begins at second 0, its lease, and its rounds, which run in the test's loop."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.loop = loop
        self.renewals: list[float] = []
        self.lost: list[tuple[float, str]] = []
        self.error: Exception | None = None
        """What renewals end in."""
        self.stood_still = 0.0
        """Seconds for which the whole process has stood still: nothing of it ran meanwhile."""
        self.clock = SkewedClock(loop)
        self.goes = asyncio.Event()
        """Clear it, and the thread of the renewal stands still."""
        self.goes.set()
        self._task: asyncio.Task[None] | None = None
        self.session = Session(
            self,
            "session",
            ttl=timedelta(seconds=TTL),
            clock=self,
            stall_limit=STALL_LIMIT,
            lost=lambda reason: self.lost.append((loop.time(), reason)),
            renewal=lambda: self,
        )

    async def until(self, second: float) -> None:
        await asyncio.sleep(second - self.loop.time())

    # The clock

    def now(self) -> int:
        return self.clock.now()

    def monotonic(self) -> float:
        return self.clock.monotonic() + self.stood_still

    # The lease

    async def begin(self, session: str, *, name: str, ttl: timedelta) -> None:
        pass

    async def end(self, session: str) -> None:
        pass

    async def alive(self) -> Collection[str]:
        return ()

    def renewer(self, session: str, ttl: timedelta) -> Stage:
        return self

    def renew(self) -> None:
        self.renewals.append(self.loop.time())
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        pass

    # The renewal

    def start(self, rounds: Generator[float, None, None]) -> None:
        self._task = asyncio.create_task(self._go(rounds))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _go(self, rounds: Generator[float, None, None]) -> None:
        for pause in rounds:
            await asyncio.sleep(pause)
            await self.goes.wait()


def play(scene: Callable[[Stage], Awaitable[None]]) -> Stage:
    loop = SimulatedLoop(random.Random(1))

    async def work() -> Stage:
        stage = Stage(loop)
        await stage.session.begin("test")
        await scene(stage)
        await stage.session.end()
        return stage

    try:
        return loop.run_until_complete(work())
    finally:
        loop.dispose()


def test_renewed_every_third_of_the_ttl() -> None:
    """A session is renewed soon after its begin, which reserves the connection, and then every third of the TTL."""

    async def scene(stage: Stage) -> None:
        await stage.until(30)
        assert stage.session.is_sure()

    stage = play(scene)

    assert stage.renewals == [1, 6, 11, 16, 21, 26]
    assert stage.lost == []


def test_given_up_after_two_thirds_of_failures() -> None:
    """When renewals fail, the host fences itself at two thirds of the TTL after the last success: 10 of 15 s."""

    async def scene(stage: Stage) -> None:
        await stage.until(2)
        stage.error = AWAY
        await stage.until(40)

    stage = play(scene)

    assert [round(second, 3) for second, _ in stage.lost] == [11]
    assert max(stage.renewals) < 11


def test_given_up_while_a_second_try_hangs() -> None:
    """Neither is it later when, after a failure, a renewal hangs for ever."""

    async def scene(stage: Stage) -> None:
        await stage.until(2)
        stage.error = AWAY
        await stage.until(6.5)
        stage.goes.clear()
        await stage.until(40)
        assert not stage.session.is_sure()

    stage = play(scene)

    assert [round(second, 3) for second, _ in stage.lost] == [11]


def test_pause_costs_nothing() -> None:
    """A process that stands still for less than the TTL, without a failure, keeps its session."""

    async def scene(stage: Stage) -> None:
        await stage.until(5.5)
        stage.goes.clear()
        await stage.until(13)
        stage.goes.set()
        await stage.until(30)

    stage = play(scene)

    assert stage.lost == []


def test_given_up_before_it_expires_whatever_stands_still() -> None:
    """Without any sign of the renewal the host gives up at nine tenths of the TTL, also if it asks for nothing."""

    async def scene(stage: Stage) -> None:
        await stage.until(5.5)
        stage.goes.clear()
        await stage.until(40)

    stage = play(scene)

    assert [round(second, 3) for second, _ in stage.lost] == [14.5]


def test_whoever_asks_first_after_a_standstill_is_told() -> None:
    """A process that was stopped for longer than the TTL begins nothing, also before its renewal has had its turn."""

    async def scene(stage: Stage) -> None:
        await stage.until(3)
        stage.stood_still = TTL
        assert not stage.session.is_sure()

    stage = play(scene)

    assert [round(second, 3) for second, _ in stage.lost] == [3]


def test_session_that_was_lost_is_given_up_at_once() -> None:
    """When the store says that the session is over, the host gives it up without waiting."""

    async def scene(stage: Stage) -> None:
        await stage.until(2)
        stage.error = LeaseLost("it has expired")
        await stage.until(40)

    stage = play(scene)

    assert stage.lost == [(6, "it has expired")]


def test_dead_loop_is_not_renewed_for_ever() -> None:
    """When the event loop has stood still for `loop_stall_limit`, renewal ends; until then it goes on."""

    async def scene(stage: Stage) -> None:
        await stage.until(10)
        setattr(stage.loop, "call_soon_threadsafe", lambda *_: None)  # noqa: B010 - nothing gets there any more
        await stage.until(10 + STALL_LIMIT + 60)

    stage = play(scene)

    assert 10 + STALL_LIMIT - 6 < max(stage.renewals) < 10 + STALL_LIMIT + 3


def test_failures_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Of failures in a row the 1st, 2nd, 4th … is told; a success begins the count anew."""

    async def scene(stage: Stage) -> None:
        for second in (2, 17):
            await stage.until(second)
            stage.error = AWAY
            await stage.until(second + 8)
            stage.error = None
        await stage.until(40)

    stage = play(scene)

    told = [record.getMessage().partition("failure ")[2][0] for record in caplog.records]
    assert told == ["1", "2", "1", "2"]
    assert stage.lost == []

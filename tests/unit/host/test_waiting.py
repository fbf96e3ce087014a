"""How long a wait for the end of an instance may take, and what it asks of the store: in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from wfe.host.waiting import LOOK_SECONDS, Waiters, wait_for_end
from wfe.model.errors import ShuttingDown, WaitTimeout
from wfe.ports.store import EndedRow, InstanceRow
from wfe.testing.simulation.loop import SimulatedLoop

if TYPE_CHECKING:
    from wfe.host.core import HostCore


class Stage:
    """A host and its store, as far as waits see them. The store knows one running instance, "1", by the name "nick"."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.loop = loop
        self.store = self
        self.registry = self
        self.runners: dict[str, object] = {}
        self.waiters = Waiters(loop)
        self.slowness = 0.0
        """Seconds that the store takes for each answer."""
        self.asked: list[str] = []

    @property
    def core(self) -> HostCore:
        return cast("HostCore", self)

    def why_not(self, definition: object) -> str:
        return ""

    async def known(self, ids: Sequence[str]) -> Collection[str]:
        await self._takes_time("known")
        return [each for each in ids if each == "1"]

    async def ended(self, ids: Sequence[str], *, until: Collection[str] = ()) -> Sequence[EndedRow]:
        await self._takes_time("ended")
        return []

    async def get(self, id_or_name: str) -> InstanceRow:
        await self._takes_time("get")
        return cast("InstanceRow", SimpleNamespace(id="1", status="runnable", blocked_reason="", owner="other"))

    async def _takes_time(self, method: str) -> None:
        self.asked.append(method)
        await asyncio.sleep(self.slowness)


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    """A loop whose time jumps to the next timer."""
    loop = SimulatedLoop(random.Random(1))
    yield loop
    loop.dispose()


def play(loop: SimulatedLoop, scene: Callable[[Stage], Awaitable[None]]) -> Stage:
    async def work() -> Stage:
        stage = Stage(loop)
        await scene(stage)
        return stage

    return loop.run_until_complete(work())


@pytest.mark.parametrize("slowness", [0.0, 0.3, 0.6, 5.0])
@pytest.mark.parametrize("given", ["1", "nick"])
def test_a_wait_takes_its_time_once(loop: SimulatedLoop, given: str, slowness: float) -> None:
    """By id or by name, a wait takes its timeout and `LOOK_SECONDS` at most, and shows nothing of how it went."""
    raised: list[WaitTimeout] = []

    async def scene(stage: Stage) -> None:
        stage.slowness = slowness
        began = loop.time()
        with pytest.raises(WaitTimeout) as caught:
            await wait_for_end(stage.core, given, timedelta(seconds=1), frozenset())
        assert 1 <= loop.time() - began <= 1 + LOOK_SECONDS
        raised.append(caught.value)

    play(loop, scene)

    assert [(each.__context__, each.__cause__) for each in raised] == [(None, None)]


def test_a_wait_by_name_is_one_for_the_id(loop: SimulatedLoop) -> None:
    """Whoever waits by a name waits for the instance alone: the sweep is never told to look for the name."""

    async def scene(stage: Stage) -> None:
        waiting = asyncio.ensure_future(wait_for_end(stage.core, "nick", None, frozenset()))
        await asyncio.sleep(1)
        assert stage.waiters.waited_for() == ["1"]
        waiting.cancel()
        await asyncio.wait([waiting])
        assert stage.waiters.waited_for() == []

    play(loop, scene)


def test_a_wait_for_what_runs_here_asks_nothing(loop: SimulatedLoop) -> None:
    """The store is not asked about an instance that this host runs: it would know of its end."""

    async def scene(stage: Stage) -> None:
        stage.runners["1"] = object()
        waiting = asyncio.ensure_future(wait_for_end(stage.core, "1", None, frozenset()))
        await asyncio.sleep(1)
        assert stage.waiters.waited_for() == ["1"]
        waiting.cancel()

    stage = play(loop, scene)

    assert stage.asked == []


def test_a_host_that_stops_while_a_name_is_looked_up(loop: SimulatedLoop) -> None:
    """Who waits by a name is told of the stop, also if that came before the id was known."""

    async def scene(stage: Stage) -> None:
        stage.slowness = 1
        waiting = asyncio.ensure_future(wait_for_end(stage.core, "nick", None, frozenset()))
        await asyncio.sleep(0.5)
        stage.waiters.close()
        with pytest.raises(ShuttingDown):
            await waiting

    play(loop, scene)

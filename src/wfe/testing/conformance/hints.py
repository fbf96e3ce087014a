"""Hints between hosts. They may be lost, so a test sends one until it arrives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from wfe.ports.hints import Hint, HintKind
from wfe.testing.conformance.values import fresh_id
from wfe.testing.conformance.world import PATIENCE, World

__all__ = ["SUBJECTS", "HintPromises"]

RESEND = 0.2
"""Seconds after which a hint that did not arrive is sent again."""


@dataclass(eq=False)
class Station:
    """One host's end: what it received."""

    world: World
    received: list[Hint] = field(default_factory=list[Hint])
    threads: list[int] = field(default_factory=list[int])
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, hint: Hint) -> None:
        """Receive a hint."""
        self.received.append(hint)
        self.threads.append(threading.get_ident())
        self._news.set()

    async def send(self, to: Station | None, *hints: Hint) -> None:
        """Send hints to another station, or to all."""
        await self.world.provider.hints.send(to.world.session if to else None, hints)

    async def send_until_received(self, to: Station | None, receiver: Station, *hints: Hint) -> None:
        """Send hints until the receiver has all of them."""
        async with asyncio.timeout(PATIENCE):
            while not set(hints) <= set(receiver.received):
                await self.send(to, *hints)
                await receiver.wait_for_news()

    async def wait_for_news(self) -> None:
        """Wait until something arrives, for as long as a hint that is not lost needs."""
        self._news.clear()
        try:
            async with asyncio.timeout(RESEND):
                await self._news.wait()
        except TimeoutError:
            return

    async def wait_for(self, hint: Hint) -> None:
        """Wait until a hint has arrived."""
        async with asyncio.timeout(PATIENCE):
            while hint not in self.received:
                await self.wait_for_news()


class HintPromises:
    """Hints reach those that they are for, mostly."""

    async def test_hint_reaches_a_session(self, world: World) -> None:
        """A hint to one session is received by it, whole."""
        async with _stations(world) as (here, there):
            hint = work("order-1", "größe 日本", "x" * 200)

            await here.send_until_received(there, there, hint)

            assert hint in there.received

    async def test_hint_reaches_that_session_alone(self, world: World) -> None:
        """A hint to one session is not received by others."""
        async with _stations(world) as (here, there):
            hint, marker = work("for the other"), work("marker")
            await here.send_until_received(there, there, hint)

            await there.send_until_received(here, here, marker)

            assert hint not in here.received

    async def test_hint_to_all_reaches_all_others(self, world: World) -> None:
        """A hint to all is received by the other sessions, and not by the sender."""
        async with _stations(world) as (here, there):
            hint, marker = ended("order-1"), ended("marker")
            await here.send_until_received(None, there, hint)

            await there.send_until_received(None, here, marker)

            assert hint not in here.received
            assert marker not in there.received

    async def test_hints_of_both_kinds_are_told_apart(self, world: World) -> None:
        """The kind of a hint arrives with it."""
        async with _stations(world) as (here, there):
            await here.send_until_received(there, there, work("order-1"), ended("order-1"))

            assert {hint.kind for hint in there.received} == {HintKind.WORK, HintKind.ENDED}

    async def test_several_hints_at_once(self, world: World) -> None:
        """One call sends several hints; none is lost for the others' sake."""
        async with _stations(world) as (here, there):
            hints = [work(f"order-{number}") for number in range(30)]

            await here.send_until_received(there, there, *hints)

            assert set(hints) <= set(there.received)

    async def test_hints_of_odd_ids(self, world: World) -> None:
        """Ids of hints are any text."""
        async with _stations(world) as (here, there):
            hint = work("'; DROP TABLE", '"', "\\", "a,b", "a b", "\n", "🧵", "")

            await here.send_until_received(there, there, hint)

            assert hint in there.received

    async def test_big_hint_does_no_harm(self, world: World) -> None:
        """A hint of very many ids arrives, in one or several, or is lost; the channel goes on."""
        async with _stations(world) as (here, there):
            await here.send(there, work(*(f"order-{number:06}" for number in range(5_000))))

            await here.send_until_received(there, there, work("after"))

            assert work("after") in there.received

    async def test_received_in_the_loop(self, world: World) -> None:
        """`receive` is called in the loop that opened the hints, by nobody else's thread."""
        async with _stations(world) as (here, there):
            await here.send_until_received(there, there, work("order-1"))

            assert set(there.threads) == {threading.get_ident()}

    async def test_sending_to_nobody_is_harmless(self, world: World) -> None:
        """A hint to a session that is over or unknown goes nowhere; one of nothing is nothing."""
        async with _stations(world) as (here, there):
            await world.provider.hints.send(fresh_id("session-"), [work("order-1")])
            await world.provider.hints.send(None, [])
            await world.provider.hints.send(there.world.session, [])

            await here.send_until_received(there, there, work("after"))

            assert work("order-1") not in there.received

    async def test_closed_hints_are_silent(self, world: World) -> None:
        """After closing nothing is received; closing twice is harmless."""
        async with _stations(world) as (here, there):
            await here.send_until_received(there, there, work("before"))

            await there.world.provider.hints.close()
            await there.world.provider.hints.close()
            await here.send(there, work("after"))
            await there.wait_for_news()

            assert work("after") not in there.received

    async def test_hints_may_be_opened_again(self, world: World) -> None:
        """A provider that closed its hints may open them for its next session."""
        async with _stations(world) as (here, there):
            await there.world.provider.hints.close()
            session = fresh_id("session-")
            await there.world.provider.hints.open(session, there.take)
            there.world.session = session

            await here.send_until_received(there, there, work("order-1"))

            assert work("order-1") in there.received

    async def test_mended_connection_says_look_at_everything(self, world: World) -> None:
        """After a lost connection was mended, the receiver is told to look at everything, and hints arrive again."""
        async with _stations(world) as (here, there):
            await here.send_until_received(there, there, work("before"))

            await there.world.disconnect()
            await there.wait_for(work())

            await here.send_until_received(there, there, work("after"))
            assert work("after") in there.received


def work(*ids: str) -> Hint:
    """Make a hint that instances have something to do."""
    return Hint(HintKind.WORK, ids)


def ended(*ids: str) -> Hint:
    """Make a hint that instances have ended."""
    return Hint(HintKind.ENDED, ids)


@asynccontextmanager
async def _stations(world: World) -> AsyncGenerator[tuple[Station, Station], None]:
    async with world.twin() as other:
        here, there = Station(world), Station(other)
        for station in (here, there):
            await station.world.provider.hints.open(station.world.session, station.take)
        try:
            yield here, there
        finally:
            for station in (here, there):
                await station.world.provider.hints.close()


SUBJECTS: Sequence[type] = (HintPromises,)

"""Sessions: which hosts live."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from wfe.model.errors import LeaseLost
from wfe.ports.lease import Renewer
from wfe.testing.conformance.values import HOUR, fresh_id
from wfe.testing.conformance.world import PATIENCE, World

__all__ = ["SUBJECTS", "RenewerPromises", "SessionPromises"]

SHORT = timedelta(milliseconds=400)
"""A time to live that a test waits for where no clock can be moved."""


class SessionPromises:
    """A session lives from its begin until it is ended or has expired."""

    async def test_begun_session_lives(self, world: World) -> None:
        """A session is among the living once it has begun."""
        session = fresh_id("session-")
        before = session in await world.lease.alive()

        await world.lease.begin(session, name="host", ttl=HOUR)

        assert (before, session in await world.lease.alive()) == (False, True)

    async def test_ended_session_is_dead_at_once(self, world: World) -> None:
        """Ending a session takes it from the living, whatever time it had left."""
        session = await world.other_session()

        await world.lease.end(session)

        assert session not in await world.lease.alive()

    async def test_ending_what_is_over_is_harmless(self, world: World) -> None:
        """A session may be ended twice, and one that never began may be ended."""
        session = await world.other_session()

        await world.lease.end(session)
        await world.lease.end(session)
        await world.lease.end("never-begun")

        assert list(await world.lease.alive()) == [world.session]

    async def test_session_expires(self, world: World) -> None:
        """A session that is not renewed is dead when its time to live is over."""
        session = await world.other_session(ttl=SHORT)
        before = session in await world.lease.alive()

        await world.pass_time(SHORT * 1.5)

        assert (before, session in await world.lease.alive()) == (True, False)

    async def test_sessions_are_independent(self, world: World) -> None:
        """One session's end or expiry leaves the others."""
        first, second = await world.other_session(), await world.other_session(ttl=SHORT)
        await world.lease.end(first)
        await world.pass_time(SHORT * 1.5)

        assert (first in await world.lease.alive(), second in await world.lease.alive()) == (False, False)
        assert world.session in await world.lease.alive()

    async def test_names_are_labels(self, world: World) -> None:
        """Two starts of a host with one name are two sessions."""
        one, two = fresh_id(), fresh_id()
        await world.lease.begin(one, name="größe 日本", ttl=HOUR)
        await world.lease.begin(two, name="größe 日本", ttl=HOUR)

        both = await world.lease.alive()
        await world.lease.end(one)

        assert {one, two} <= set(both)
        assert two in await world.lease.alive()

    async def test_another_process_sees_the_sessions(self, world: World) -> None:
        """All hosts on one storage see the same sessions."""
        async with world.twin() as other:
            seen_here, seen_there = await world.lease.alive(), await other.lease.alive()
            await other.lease.end(other.session)

            assert {world.session, other.session} <= set(seen_here) & set(seen_there)
            assert other.session not in await world.lease.alive()

    async def test_many_sessions_begin_at_the_same_time(self, world: World) -> None:
        """Hosts that start together all live."""
        sessions = await asyncio.gather(*(world.other_session() for _ in range(20)))

        assert set(sessions) <= set(await world.lease.alive())


class RenewerPromises:
    """Renewing keeps a session alive; what is over stays over."""

    async def test_renewed_session_goes_on(self, world: World) -> None:
        """Each renewal lets the session live for its whole time again, counted from then."""
        session = await world.other_session(ttl=SHORT)
        renewer = world.lease.renewer(session, SHORT)
        for _ in range(3):
            await world.pass_time(SHORT / 2)
            await asyncio.to_thread(renewer.renew)

        assert session in await world.lease.alive()
        await asyncio.to_thread(renewer.close)

    async def test_renewal_is_for_its_time_alone(self, world: World) -> None:
        """A renewed session expires when it is not renewed again."""
        session = await world.other_session(ttl=HOUR)
        renewer = world.lease.renewer(session, SHORT)
        await asyncio.to_thread(renewer.renew)

        await world.pass_time(SHORT * 1.5)

        assert session not in await world.lease.alive()
        await asyncio.to_thread(renewer.close)

    async def test_renewal_is_for_its_session_alone(self, world: World) -> None:
        """Renewing one session does not keep another alive."""
        mine, other = await world.other_session(ttl=SHORT), await world.other_session(ttl=SHORT)
        renewer = world.lease.renewer(mine, HOUR)
        await asyncio.to_thread(renewer.renew)

        await world.pass_time(SHORT * 1.5)

        living = await world.lease.alive()
        assert (mine in living, other in living) == (True, False)
        await asyncio.to_thread(renewer.close)

    async def test_expired_session_cannot_be_renewed(self, world: World) -> None:
        """Renewing a session that has expired raises LeaseLost and does not bring it back."""
        session = await world.other_session(ttl=SHORT)
        renewer = world.lease.renewer(session, HOUR)
        await world.pass_time(SHORT * 1.5)

        lost = await _lost(renewer)

        assert (lost, session in await world.lease.alive()) == (True, False)
        await asyncio.to_thread(renewer.close)

    async def test_ended_session_cannot_be_renewed(self, world: World) -> None:
        """Renewing a session that was ended raises LeaseLost, every time, and does not bring it back."""
        session = await world.other_session()
        renewer = world.lease.renewer(session, HOUR)
        await asyncio.to_thread(renewer.renew)
        await world.lease.end(session)

        lost = [await _lost(renewer), await _lost(renewer)]

        assert (lost, session in await world.lease.alive()) == ([True, True], False)
        await asyncio.to_thread(renewer.close)

    async def test_unknown_session_cannot_be_renewed(self, world: World) -> None:
        """A session that never began is not begun by renewing it."""
        renewer = world.lease.renewer("never-begun", HOUR)

        assert await _lost(renewer)
        assert "never-begun" not in await world.lease.alive()
        await asyncio.to_thread(renewer.close)

    async def test_session_outlives_its_renewer(self, world: World) -> None:
        """Closing a renewer gives up its connection alone."""
        session = await world.other_session()
        renewer = world.lease.renewer(session, HOUR)
        await asyncio.to_thread(renewer.renew)

        await asyncio.to_thread(renewer.close)

        assert session in await world.lease.alive()

    async def test_unused_renewer_can_be_closed(self, world: World) -> None:
        """A renewer connects when it is first used; closing one that never was is harmless."""
        renewer = world.lease.renewer(world.session, HOUR)

        await asyncio.to_thread(renewer.close)

        assert world.session in await world.lease.alive()

    async def test_renewer_works_while_the_loop_is_busy(self, world: World) -> None:
        """A renewer needs nothing of the event loop: it renews while the loop is blocked."""
        renewer = world.lease.renewer(world.session, HOUR)

        renewing = ThreadPoolExecutor(1)
        try:
            # Waiting like this, not by await, is what a body does that blocks the loop.
            renewing.submit(renewer.renew).result(timeout=PATIENCE)
            renewing.submit(renewer.close).result(timeout=PATIENCE)
        finally:
            renewing.shutdown(wait=False)  # a renewer that needs the loop would wait for it, and it for the renewer

        assert world.session in await world.lease.alive()

    async def test_renewer_survives_a_lost_connection(self, world: World) -> None:
        """After a cut, asking again renews."""
        renewer = world.lease.renewer(world.session, HOUR)
        await asyncio.to_thread(renewer.renew)
        await world.disconnect()

        await world.insist(lambda: asyncio.to_thread(renewer.renew))

        assert world.session in await world.insist(world.lease.alive)
        await asyncio.to_thread(renewer.close)


async def _lost(renewer: Renewer) -> bool:
    try:
        await asyncio.to_thread(renewer.renew)
    except LeaseLost:
        return True
    return False


SUBJECTS: Sequence[type] = (SessionPromises, RenewerPromises)

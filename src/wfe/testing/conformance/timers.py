"""When instances are taken that wait for a time."""

from __future__ import annotations

from wfe.testing.conformance.values import HOUR, INSTANT, MINUTE, due, start
from wfe.testing.conformance.world import World

__all__ = ["TimerPromises"]


class TimerPromises:
    """Wake times are kept by the store's clock: never early, never lost, in order."""

    async def test_timer_is_never_early(self, world: World) -> None:
        """An instance is not taken before its wake time, by sweep or by name."""
        await world.create(start(wake_at=await world.after(HOUR)))

        assert await world.claimed_ids() == []
        assert await world.claimed_ids(ids=["order-1"]) == []

    async def test_timer_comes_due(self, world: World) -> None:
        """An instance is taken when store time has reached its wake time."""
        wake = await world.after(INSTANT)
        await world.create(start(wake_at=wake))
        await world.pass_time(INSTANT * 2)

        reply = await world.claim()

        assert [loaded.id for loaded in reply.instances] == ["order-1"]
        assert reply.now >= wake

    async def test_timer_due_now_is_taken(self, world: World) -> None:
        """A wake time that store time has just reached is due."""
        await world.create(start(wake_at=await world.now()))

        assert await world.claimed_ids() == ["order-1"]

    async def test_timer_due_while_nobody_looked_is_kept(self, world: World) -> None:
        """A wake time long over is due still."""
        await world.create(start(wake_at=await world.after(-HOUR)))

        assert await world.claimed_ids() == ["order-1"]

    async def test_earliest_timer_is_first(self, world: World) -> None:
        """A claim takes what has been due longest first, also with a limit."""
        now = await world.now()
        order = [7, 2, 9, 4, 1, 8, 3]
        await world.create(*(due(f"order-{minutes}", wake_at=now - minutes * 60_000_000) for minutes in order))

        claims = [await world.claimed_ids(3), await world.claimed_ids(2), await world.claimed_ids(9)]

        assert claims == [["order-9", "order-8", "order-7"], ["order-4", "order-3"], ["order-2", "order-1"]]

    async def test_earliest_named_timer_is_first(self, world: World) -> None:
        """The order holds for named instances: the limit leaves out what is due latest."""
        now = await world.now()
        await world.create(*(due(f"order-{age}", wake_at=now - age) for age in (10, 30, 20)))

        assert await world.claimed_ids(2, ids=["order-10", "order-20", "order-30"]) == ["order-30", "order-20"]

    async def test_later_wake_time_replaces_the_earlier(self, world: World) -> None:
        """Only the wake time of the last transition counts."""
        held = await world.started(wake_at=0)
        await world.write(held, wake_at=await world.after(HOUR), hold=False)

        assert await world.claimed_ids() == []

    async def test_timer_of_a_dead_holder_comes_due(self, world: World) -> None:
        """A timer that a dead session held is taken by another."""
        dead = await world.other_session()
        await world.commit(start(hold=True, wake_at=await world.after(INSTANT)), session=dead)
        await world.lease.end(dead)
        before = await world.claimed_ids()
        await world.pass_time(INSTANT * 2)

        assert (before, await world.claimed_ids()) == ([], ["order-1"])

    async def test_next_wake_is_told(self, world: World) -> None:
        """A claim tells the earliest wake time ahead of the instances that nobody holds."""
        early, late = await world.after(MINUTE), await world.after(HOUR)
        await world.create(start("late", wake_at=late), start("early", wake_at=early), start("idle"))

        assert (await world.claim()).next_wake == early

    async def test_next_wake_is_none_without_timers(self, world: World) -> None:
        """Idle, held, ended, suspended and due instances are not ahead."""
        ahead = await world.after(HOUR)
        await world.create(start("idle"), due("due"), start("suspended", status="suspended", wake_at=ahead))
        await world.started("held", wake_at=ahead)
        await world.end(await world.started("ended", wake_at=ahead), wake_at=ahead)

        assert (await world.claim(0)).next_wake is None

    async def test_next_wake_counts_instances_of_dead_sessions(self, world: World) -> None:
        """The timer of an instance whose holder died is ahead for all."""
        dead = await world.other_session()
        ahead = await world.after(HOUR)
        await world.commit(start(hold=True, wake_at=ahead), session=dead)
        held = (await world.claim()).next_wake
        await world.lease.end(dead)

        assert (held, (await world.claim()).next_wake) == (None, ahead)

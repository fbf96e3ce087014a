"""Giving back what a session holds."""

from __future__ import annotations

import asyncio

from wfe.testing.conformance.values import due, message, start
from wfe.testing.conformance.world import World

__all__ = ["ReleasePromises"]


class ReleasePromises:
    """A holder gives back what it does not run."""

    async def test_released_instance_is_free_unchanged(self, world: World) -> None:
        """Giving back clears the owner alone: state, revision, fence and wake time stay."""
        await world.create(due())
        before = await world.row()
        loaded = await world.take()

        await world.store.release(world.session, [("order-1", loaded.fence)])

        row = await world.row()
        assert row.owner is None
        assert (row.revision, row.wake_at, row.head, row.fence) == (1, before.wake_at, before.head, loaded.fence)

    async def test_released_instance_can_be_taken(self, world: World) -> None:
        """What was given back is taken by the next claim, under a higher fence."""
        await world.create(due())
        loaded = await world.take()
        await world.store.release(world.session, [("order-1", loaded.fence)])

        again = await world.take(session=await world.other_session())

        assert again.fence > loaded.fence

    async def test_release_does_not_count_the_activation(self, world: World) -> None:
        """Taking and giving back leaves the count of activations as it was."""
        await world.create(due())
        loaded = await world.take()

        await world.store.release(world.session, [("order-1", loaded.fence)])

        assert ((await world.row()).activations, (await world.take()).activations) == (0, 1)

    async def test_release_after_a_transition_counts_nothing_back(self, world: World) -> None:
        """A transition has reset the count already: giving back then does not take it below zero."""
        held = await world.started()
        await world.write(held)

        await world.store.release(world.session, [("order-1", held.fence)])

        assert (await world.row()).activations == 0

    async def test_held_instances_are_listed(self, world: World) -> None:
        """A session is told what it holds, with the fences: not what is free, has ended, or is another's."""
        await world.create(due())
        await world.create(due("order-2"))
        await world.end(await world.started("ended"))
        before = await world.store.held(world.session)
        loaded = await world.take()
        await world.claim(session=await world.other_session())

        held = await world.store.held(world.session)

        assert (list(before), list(held)) == ([], [("order-1", loaded.fence)])

    async def test_old_fence_releases_nothing(self, world: World) -> None:
        """A hold that was lost, and taken again by the same session, is not given back by the old fence."""
        held = await world.started()
        await world.store.release(world.session, [("order-1", held.fence)])
        await world.take()

        await world.store.release(world.session, [("order-1", held.fence)])

        assert (await world.row()).owner == world.session

    async def test_other_session_releases_nothing(self, world: World) -> None:
        """Only the session that holds an instance gives it back."""
        held = await world.started()

        await world.store.release(await world.other_session(), [("order-1", held.fence)])

        assert (await world.row()).owner == world.session

    async def test_release_of_many(self, world: World) -> None:
        """One call gives many back; unknown and ended ones among them do no harm."""
        await world.started("one", wake_at=0)
        await world.started("two", wake_at=0)
        await world.end(await world.started("ended"))

        await world.store.release(world.session, [("one", 1), ("nobody", 1), ("ended", 1), ("two", 1)])

        assert sorted(await world.claimed_ids()) == ["one", "two"]

    async def test_release_of_nothing(self, world: World) -> None:
        """Giving back nothing is nothing."""
        await world.started()

        await world.store.release(world.session, [])

        assert (await world.row()).owner == world.session

    async def test_message_before_a_release_is_found(self, world: World) -> None:
        """A message that came while the instance was held makes it claimable once it is given back."""
        held = await world.started()
        await world.commit(message())

        await world.store.release(world.session, [("order-1", held.fence)])

        assert await world.claimed_ids() == ["order-1"]

    async def test_release_racing_a_message_loses_nothing(self, world: World) -> None:
        """Whichever comes first, release or message, the instance can be taken with the message afterwards."""
        ids = [f"order-{number}" for number in range(20)]
        await world.create(*(start(instance_id, hold=True) for instance_id in ids))
        async with world.twin() as other:
            await asyncio.gather(
                *(world.store.release(world.session, [(instance_id, 1)]) for instance_id in ids),
                *(other.commit(message(instance_id, b"racing")) for instance_id in ids),
            )

        claimed = (await world.claim()).instances
        assert sorted(loaded.id for loaded in claimed) == sorted(ids)
        assert all([row.message for row in loaded.inbox] == [b"racing"] for loaded in claimed)

    async def test_transition_that_gives_back_racing_a_message_loses_nothing(self, world: World) -> None:
        """A message that races the transition that gives its instance back is unread, or delivered, or claimable."""
        ids = [f"order-{number}" for number in range(20)]
        held = [await world.started(instance_id) for instance_id in ids]
        async with world.twin() as other:
            await asyncio.gather(
                *(world.write(one, hold=False) for one in held),
                *(other.commit(message(instance_id, b"racing")) for instance_id in ids),
            )

        assert sorted(await world.claimed_ids()) == sorted(ids)

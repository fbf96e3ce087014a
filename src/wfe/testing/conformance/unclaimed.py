"""What nobody takes, and why."""

from __future__ import annotations

from wfe.ports.store import UnclaimedRow
from wfe.testing.conformance.values import DEFINITION, HOUR, OTHER_DEFINITION, due, event, message, start, wait
from wfe.testing.conformance.world import World

__all__ = ["BlockPromises"]


class BlockPromises:
    """What nobody takes is visible, with the reason."""

    async def test_due_instances_that_nobody_takes_are_listed(self, world: World) -> None:
        """`unclaimed` lists what is due and unheld, longest due first, whatever its definition."""
        now = await world.now()
        await world.create(
            due("younger", wake_at=now - 1_000),
            due("older", definition=OTHER_DEFINITION, wake_at=now - 9_000),
            start("later", wake_at=await world.after(HOUR)),
            start("idle"),
        )
        await world.started("held", wake_at=0)

        rows = await world.store.unclaimed(100)

        assert [(row.id, row.definition) for row in rows] == [("older", OTHER_DEFINITION), ("younger", DEFINITION)]

    async def test_unclaimed_leaves_out_what_cannot_be_claimed(self, world: World) -> None:
        """Suspended instances without messages and ended ones are not due."""
        await world.create(start("suspended", status="suspended", wake_at=0))
        await world.end(await world.started("ended"))

        assert list(await world.store.unclaimed(100)) == []

    async def test_unclaimed_instances_of_dead_sessions_are_listed(self, world: World) -> None:
        """What a dead session holds is unheld."""
        dead = await world.other_session()
        await world.commit(start(wake_at=0, hold=True), session=dead)
        await world.lease.end(dead)

        assert [row.id for row in await world.store.unclaimed(100)] == ["order-1"]

    async def test_unclaimed_has_a_limit(self, world: World) -> None:
        """The limit keeps those that have been due longest."""
        now = await world.now()
        await world.create(*(due(f"order-{age}", wake_at=now - age) for age in (10, 30, 20)))

        assert [row.id for row in await world.store.unclaimed(2)] == ["order-30", "order-20"]

    async def test_unclaimed_goes_on_page_by_page(self, world: World) -> None:
        """Pages that go on after the last row's place list all, once each, in the order of the whole list."""
        now = await world.now()
        await world.create(
            *(due(f"at-once-{number}") for number in range(5)),
            *(due(f"other-{number}", definition=OTHER_DEFINITION) for number in range(3)),
            *(due(f"later-{number}", wake_at=now - 100 + number) for number in range(3)),
            *(start(f"called-{number}") for number in range(3)),
            start("suspended", status="suspended", wake_at=0),
        )
        for instance_id in ("called-0", "called-1", "called-2", "suspended", "at-once-0"):
            await world.commit(message(instance_id))
        whole = [row.id for row in await world.store.unclaimed(100)]

        rows: list[UnclaimedRow] = []
        for _ in range(8):
            rows += await world.store.unclaimed(2, after=rows[-1].place if rows else None)

        assert [row.id for row in rows] == whole
        assert len(whole) == len(set(whole)) == 15

    async def test_unclaimed_goes_on_after_a_row_that_is_gone(self, world: World) -> None:
        """The next page does not need the row that the last one ended with."""
        await world.create(*(due(f"order-{number}") for number in range(4)))
        first = await world.store.unclaimed(2)
        await world.claim(1, ids=[first[-1].id])

        rest = await world.store.unclaimed(10, after=first[-1].place)

        assert [row.id for row in [*first, *rest]] == [row.id for row in first] + [
            each for each in (f"order-{number}" for number in range(4)) if each not in {row.id for row in first}
        ]

    async def test_unclaimed_tells_of_messages(self, world: World) -> None:
        """Each row says whether the inbox holds a message; events are none."""
        await world.create(due("none"), start("asked"), start("told", subscribe=[wait()]))
        await world.commit(message("asked"))
        await world.commit(event())

        rows = await world.store.unclaimed(10)

        assert {row.id: row.has_message for row in rows} == {"none": False, "asked": True, "told": False}

    async def test_listing_takes_nothing(self, world: World) -> None:
        """`unclaimed` reads alone."""
        await world.create(due())
        before = await world.row()

        await world.store.unclaimed(100)

        assert await world.row() == before

    async def test_block_sets_the_reason_alone(self, world: World) -> None:
        """`block` writes the reason and gives the ids changed; revision, fence and lease stay."""
        await world.create(due())
        before = await world.row()

        changed = await world.store.block({"order-1": "no definition"})

        row = await world.row()
        assert list(changed) == ["order-1"]
        assert (row.blocked_reason, row.revision, row.fence, row.owner) == (
            "no definition",
            before.revision,
            before.fence,
            None,
        )
        assert [one.blocked_reason for one in await world.store.unclaimed(10)] == ["no definition"]

    async def test_block_leaves_held_instances(self, world: World) -> None:
        """An instance that somebody took meanwhile is not blocked; unknown and ended ones are ignored."""
        await world.started("held")
        await world.end(await world.started("ended"))
        await world.create(due("free"))

        changed = await world.store.block({"held": "x", "nobody": "x", "ended": "x", "free": "x"})

        assert list(changed) == ["free"]
        assert ((await world.row("held")).blocked_reason, (await world.row("ended")).blocked_reason) == (None, None)

    async def test_block_of_many_with_reasons_of_their_own(self, world: World) -> None:
        """Each instance gets its own reason; a later reason replaces it."""
        await world.create(due("one"), due("two"), due("three"))

        await world.store.block({"one": "first", "two": "second", "three": "third"})
        await world.store.block({"one": "later"})

        reasons = [(await world.row(name)).blocked_reason for name in ("one", "two", "three")]
        assert reasons == ["later", "second", "third"]

    async def test_block_does_not_hinder_a_claim(self, world: World) -> None:
        """A blocked instance is taken by whoever can run it, and the reason is cleared."""
        await world.create(due())
        await world.store.block({"order-1": "no definition"})

        claimed = await world.claimed_ids()

        assert (claimed, (await world.row()).blocked_reason) == (["order-1"], None)

    async def test_taking_with_a_message_clears_the_reason(self, world: World) -> None:
        """An instance that a batch takes with its message is not blocked any more."""
        await world.create(start())
        await world.store.block({"order-1": "no definition"})

        reply = await world.commit(message(), room=1)

        assert [loaded.id for loaded in reply.taken] == ["order-1"]
        assert (await world.row()).blocked_reason is None

    async def test_activations_count_takings_without_a_transition(self, world: World) -> None:
        """Each taking whose holder dies counts; the loaded instance and `unclaimed` tell how often."""
        await world.create(due())
        counts: list[int] = []
        for _ in range(3):
            session = await world.other_session()
            counts.append((await world.take(session=session)).activations)
            await world.lease.end(session)

        (row,) = await world.store.unclaimed(10)
        assert (counts, row.activations) == ([1, 2, 3], 3)

    async def test_claim_leaves_what_was_taken_too_often(self, world: World) -> None:
        """With `activations_below` an instance is left that was taken so often without a transition, due or called.

        Also where it is named; the others are taken, and without it all are.
        """
        await world.create(due("due"), start("called"), due("calm"))
        await world.commit(message("called"))
        for _ in range(2):
            session = await world.other_session()
            await world.claim(ids=["due", "called"], session=session)
            await world.lease.end(session)

        named = await world.claim(ids=["due", "called"], activations_below=2)
        calm = await world.claim(activations_below=2)
        rest = await world.claim(activations_below=3)

        assert [loaded.id for loaded in [*named.instances, *calm.instances]] == ["calm"]
        assert sorted((loaded.id, loaded.activations) for loaded in rest.instances) == [("called", 3), ("due", 3)]

    async def test_what_is_left_does_not_use_up_the_limit(self, world: World) -> None:
        """Those that are left do not stand in the way of one that has been due for a shorter time."""
        now = await world.now()
        await world.create(*(due(f"old-{number}", wake_at=0) for number in range(20)), due("new", wake_at=now - 1))
        session = await world.other_session()
        await world.claim(20, session=session)
        await world.lease.end(session)

        assert [loaded.id for loaded in (await world.claim(1, activations_below=1)).instances] == ["new"]

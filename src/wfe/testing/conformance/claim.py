"""Who takes what: claims, timers, giving back, and what nobody takes."""

from __future__ import annotations

import asyncio

from wfe.ports.store import ItemsRow, ParentLink, PointerRow, UnclaimedRow
from wfe.testing.conformance.values import (
    DEFINITION,
    HOUR,
    INSTANT,
    MINUTE,
    OTHER_DEFINITION,
    due,
    event,
    message,
    start,
    transition,
    wait,
)
from wfe.testing.conformance.world import Held, World

__all__ = ["BlockPromises", "ClaimPromises", "ClaimRacePromises", "ReleasePromises", "TimerPromises"]


class ClaimPromises:
    """A claim takes what has something to do, and nothing else."""

    async def test_due_instance_is_taken_whole(self, world: World) -> None:
        """A claim loads everything that the holder needs to go on."""
        await world.create(
            start(
                "order-7",
                name="nightly",
                reference="customer-3",
                parent=ParentLink("parent-1", 5, "abandon"),
                wake_at=0,
                run=2,
                head=b"the head",
                data=b'{"a":1}',
                values=b'{"b":2}',
                pointers=[PointerRow(1, b"one"), PointerRow(2, b"two")],
                items=[ItemsRow(2, b"[1,2]")],
            )
        )
        await world.commit(message("order-7", b"hello"))

        (loaded,) = (await world.claim()).instances

        row = await world.row("order-7")
        assert (loaded.id, loaded.definition, loaded.run, loaded.head) == ("order-7", DEFINITION, 2, b"the head")
        assert (loaded.data, loaded.values, sorted(loaded.pointers)) == (b'{"a":1}', b'{"b":2}', [b"one", b"two"])
        assert [(items.pointer, items.items) for items in loaded.items] == [(2, b"[1,2]")]
        assert [one.message for one in loaded.inbox] == [b"hello"]
        assert (loaded.name, loaded.reference, loaded.parent) == (
            "nightly",
            "customer-3",
            ParentLink("parent-1", 5, "abandon"),
        )
        assert (loaded.revision, loaded.fence, loaded.activations) == (1, 1, 1)
        assert loaded.created_at == row.created_at

    async def test_claim_takes_the_lease(self, world: World) -> None:
        """A claim sets the owner, raises the fence and counts the activation; state and revision stay."""
        await world.create(due())

        await world.claim()

        row = await world.row()
        assert (row.owner, row.fence, row.activations, row.revision) == (world.session, 1, 1, 1)

    async def test_claimed_instance_can_be_written(self, world: World) -> None:
        """The fence and revision that a claim gives are those that its transition needs."""
        await world.create(due())
        (loaded,) = (await world.claim()).instances

        await world.write(Held(loaded.id, loaded.revision, loaded.fence), head=b"next")

        assert (await world.row()).head == b"next"

    async def test_idle_instance_is_not_taken(self, world: World) -> None:
        """An instance without a wake time and without messages has nothing to do."""
        await world.create(start(wake_at=None))

        assert await world.claimed_ids() == []

    async def test_instance_with_messages_is_taken(self, world: World) -> None:
        """An instance whose inbox has rows has something to do, whatever its wake time; they are loaded in order."""
        await world.create(start("idle"), start("asleep", wake_at=await world.after(HOUR)))
        await world.commit(message("idle", b"1"), message("asleep", b"2"), message("idle", b"3"))

        claimed = (await world.claim()).instances

        inboxes = {loaded.id: [row.message for row in loaded.inbox] for loaded in claimed}
        assert inboxes == {"idle": [b"1", b"3"], "asleep": [b"2"]}

    async def test_instance_with_a_matched_event_is_taken(self, world: World) -> None:
        """A matched event is loaded with the fields of the wait and of the event."""
        await world.create(start(subscribe=[wait(pointer=3, number=2)]))
        await world.commit(event(payload=b"body"))

        (loaded,) = (await world.claim()).instances

        assert list(loaded.inbox) == await world.inbox()
        assert [(row.pointer, row.wait, row.payload) for row in loaded.inbox] == [(3, 2, b"body")]

    async def test_ended_instance_is_not_taken(self, world: World) -> None:
        """An ended instance has nothing to do."""
        await world.end(await world.started(wake_at=0), wake_at=0)

        assert await world.claimed_ids() == []
        assert await world.claimed_ids(ids=["order-1"]) == []

    async def test_suspended_instance_is_not_woken(self, world: World) -> None:
        """A SUSPENDED instance has nothing to do when its wake time comes."""
        await world.create(start(status="suspended", wake_at=0))

        assert await world.claimed_ids() == []
        assert await world.claimed_ids(ids=["order-1"]) == []

    async def test_suspended_instance_is_taken_for_its_inbox(self, world: World) -> None:
        """A SUSPENDED instance with messages has something to do."""
        await world.create(start(status="suspended", wake_at=0))
        await world.commit(message())

        assert await world.claimed_ids() == ["order-1"]

    async def test_held_instance_is_not_taken(self, world: World) -> None:
        """What a living session holds is skipped, by others and by that session itself."""
        await world.started(wake_at=0)
        other = await world.other_session()

        by_other = await world.claim(session=other)
        by_itself = await world.claim()
        by_name = await world.claim(session=other, ids=["order-1"], any_definition=True)

        assert [len(reply.instances) for reply in (by_other, by_itself, by_name)] == [0, 0, 0]
        assert (await world.row()).owner == world.session

    async def test_instance_of_an_ended_session_is_taken(self, world: World) -> None:
        """What an ended session held counts as unheld at once; the new holder's fence is higher."""
        dead = await world.other_session()
        await world.commit(start(wake_at=0, hold=True), session=dead)
        await world.lease.end(dead)

        (loaded,) = (await world.claim()).instances

        assert (loaded.fence, (await world.row()).owner) == (2, world.session)

    async def test_instance_of_an_expired_session_is_taken(self, world: World) -> None:
        """What a session held that did not renew counts as unheld when its time is over."""
        dead = await world.other_session(ttl=INSTANT)
        await world.commit(start(wake_at=0, hold=True), session=dead)
        await world.pass_time(INSTANT * 3)

        assert await world.claimed_ids() == ["order-1"]

    async def test_instance_of_an_unknown_session_is_taken(self, world: World) -> None:
        """A session that the lease port does not know is dead."""
        await world.commit(start(wake_at=0, hold=True), session="never-begun")

        assert await world.claimed_ids() == ["order-1"]

    async def test_dead_session_takes_nothing(self, world: World) -> None:
        """A session that never began, or is over, is given nothing."""
        await world.create(due())
        over = await world.other_session()
        await world.lease.end(over)

        replies = [await world.claim(session=session) for session in ("never-begun", over)]

        assert [list(reply.instances) for reply in replies] == [[], []]
        assert (await world.row()).fence == 0

    async def test_only_runnable_definitions_are_taken(self, world: World) -> None:
        """Id, version and structure must all be among those that the host can run."""
        others = [
            OTHER_DEFINITION,
            DEFINITION._replace(version=2),
            DEFINITION._replace(hash="another structure"),
        ]
        await world.create(*(due(f"other-{number}", definition=key) for number, key in enumerate(others)))
        await world.create(due("mine"))

        assert await world.claimed_ids() == ["mine"]
        assert [one.id for one in (await world.claim(runnable=[others[1]])).instances] == ["other-1"]

    async def test_nothing_runnable_takes_nothing(self, world: World) -> None:
        """A host without definitions takes no instance."""
        await world.create(due())

        assert list((await world.claim(runnable=[])).instances) == []

    async def test_many_runnable_definitions(self, world: World) -> None:
        """A host may run very many definitions."""
        keys = [DEFINITION._replace(version=number) for number in range(1, 301)]
        await world.create(due("first", definition=keys[0]), due("last", definition=keys[-1]))

        claimed = await world.claim(runnable=keys)

        assert sorted(loaded.id for loaded in claimed.instances) == ["first", "last"]

    async def test_claim_has_a_limit(self, world: World) -> None:
        """A claim takes up to its limit; the rest stays for the next one."""
        await world.create(*(due(f"order-{number}") for number in range(5)))

        claims = [await world.claimed_ids(2) for _ in range(4)]

        assert [len(ids) for ids in claims] == [2, 2, 1, 0]
        assert len({instance_id for ids in claims for instance_id in ids}) == 5

    async def test_limit_counts_what_is_taken(self, world: World) -> None:
        """Instances that a claim skips do not use up its limit."""
        for number in range(5):
            await world.started(f"held-{number}", wake_at=0)
        await world.create(*(due(f"other-{number}", definition=OTHER_DEFINITION) for number in range(5)))
        await world.create(due("mine", wake_at=await world.now()))

        assert await world.claimed_ids(1) == ["mine"]

    async def test_limit_zero_takes_nothing(self, world: World) -> None:
        """A claim of none only asks for the time ahead."""
        await world.create(due())

        assert await world.claimed_ids(0) == []

    async def test_named_claim_looks_at_nothing_else(self, world: World) -> None:
        """With `ids`, only these are taken; unknown and repeated ids do no harm."""
        await world.create(due("one"), due("two"), due("three"))

        claimed = await world.claimed_ids(ids=["three", "nobody", "one", "three"])

        assert sorted(claimed) == ["one", "three"]
        assert (await world.row("two")).owner is None

    async def test_named_claim_needs_something_to_do(self, world: World) -> None:
        """A hint for an instance that has nothing to do takes nothing."""
        await world.create(start("idle"), start("asleep", wake_at=await world.after(HOUR)))

        assert await world.claimed_ids(ids=["idle", "asleep"]) == []

    async def test_named_claim_has_a_limit(self, world: World) -> None:
        """The limit holds for named instances too."""
        await world.create(*(due(f"order-{number}") for number in range(4)))

        assert len(await world.claimed_ids(3, ids=[f"order-{number}" for number in range(4)])) == 3

    async def test_claim_of_no_ids_takes_nothing(self, world: World) -> None:
        """An empty list of ids names nothing; it does not mean all."""
        await world.create(due())

        assert await world.claimed_ids(ids=[]) == []

    async def test_any_definition_takes_what_is_named(self, world: World) -> None:
        """To apply a control request without its code, an instance is taken whatever its definition, idle or not."""
        await world.create(
            start("idle", definition=OTHER_DEFINITION),
            start("asleep", wake_at=await world.after(HOUR)),
            start("suspended", status="suspended"),
        )

        reply = await world.claim(ids=["idle", "asleep", "suspended"], runnable=[], any_definition=True)

        assert sorted(loaded.id for loaded in reply.instances) == ["asleep", "idle", "suspended"]

    async def test_any_definition_takes_an_ended_instance(self, world: World) -> None:
        """An ended instance can be taken by id, to be retried; loaded with what it has left."""
        await world.end(await world.started(data=b'{"a":1}', pointers=[PointerRow(2, b"failed")]), status="failed")

        loaded = await world.take()

        assert (loaded.fence, loaded.revision, loaded.data) == (2, 2, b'{"a":1}')
        assert (list(loaded.pointers), list(loaded.inbox)) == ([b"failed"], [])

    async def test_claim_tells_store_time(self, world: World) -> None:
        """A claim's `now` is store time, at or after that of the last commit."""
        reply = await world.create(start())

        assert (await world.claim()).now >= reply.now


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


class ClaimRacePromises:
    """However many take at the same time, each instance has one holder."""

    async def test_racing_claims_share_the_work(self, world: World) -> None:
        """Sessions of several processes that claim at the same time take each instance once, and all of them."""
        ids = [f"order-{number}" for number in range(100)]
        await world.create(*(due(instance_id) for instance_id in ids))
        async with world.twin() as other:
            claims = await asyncio.gather(*(one.claim(7) for one in [world, other] * 10))
            rest = await world.claim(100)

        taken = [loaded.id for reply in [*claims, rest] for loaded in reply.instances]
        assert sorted(taken) == sorted(ids)

    async def test_racing_claims_of_one_instance_have_one_winner(self, world: World) -> None:
        """Of many sessions that a hint sends to one instance, one takes it."""
        await world.create(due())
        async with world.twin() as other:
            claims = await asyncio.gather(*(one.claim(1, ids=["order-1"]) for one in [world, other] * 10))

        fences = [loaded.fence for reply in claims for loaded in reply.instances]
        assert fences == [1]

    async def test_claim_racing_a_message_takes_it_once(self, world: World) -> None:
        """A claim and a batch that may take the same idle instance give it one holder."""
        ids = [f"order-{number}" for number in range(20)]
        await world.create(*(start(instance_id) for instance_id in ids))
        async with world.twin() as other:
            commits, claims = await asyncio.gather(
                asyncio.gather(*(world.commit(message(instance_id), room=1) for instance_id in ids)),
                asyncio.gather(*(other.claim(1, ids=[instance_id]) for instance_id in ids)),
            )

        taken = [one.id for reply in commits for one in reply.taken] + [
            one.id for reply in claims for one in reply.instances
        ]
        assert len(taken) == len(set(taken))
        assert set(taken) | set(await world.claimed_ids()) == set(ids)

    async def test_racing_transitions_of_one_revision_have_one_winner(self, world: World) -> None:
        """Of transitions decided on the same revision, one is accepted, whoever commits it."""
        held = await world.started()
        async with world.twin() as other:
            replies = await asyncio.gather(
                *(one.commit(held.write(head=str(number).encode())) for number, one in enumerate([world, other] * 5))
            )

        outcomes = sorted(reply.transitions[0].value for reply in replies)
        assert outcomes == ["accepted"] + ["stale"] * 9
        assert (await world.row()).revision == 2

    async def test_claim_racing_the_old_holder_fences_it(self, world: World) -> None:
        """When a dead session's instance is taken while it writes, its write comes before the taking or is refused."""
        dead = await world.other_session()
        ids = [f"order-{number}" for number in range(20)]
        await world.commit(*(start(instance_id, hold=True, wake_at=0) for instance_id in ids), session=dead)
        await world.lease.end(dead)
        async with world.twin() as other:
            late, claims = await asyncio.gather(
                asyncio.gather(
                    *(other.commit(transition(instance_id, 1, 1, wake_at=0), session=dead) for instance_id in ids)
                ),
                asyncio.gather(*(world.claim(1, ids=[instance_id]) for instance_id in ids)),
            )

        revisions = {loaded.id: loaded.revision for reply in claims for loaded in reply.instances}
        for instance_id, reply in zip(ids, late, strict=True):
            seen = 2 if reply.transitions[0].value == "accepted" else 1
            assert revisions.get(instance_id, seen) == seen

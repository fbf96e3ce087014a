"""Who takes what: a claim takes what has something to do."""

from __future__ import annotations

from wfe.ports.store import ItemsRow, ParentLink, PointerRow
from wfe.testing.conformance.values import DEFINITION, HOUR, INSTANT, OTHER_DEFINITION, due, event, message, start, wait
from wfe.testing.conformance.world import Held, World

__all__ = ["ClaimPromises"]


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

"""Starting instances."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from wfe.ports.store import ErrorRow, PointerRow, StartOutcome
from wfe.testing.conformance.values import (
    HOUR,
    OTHER_DEFINITION,
    announcements,
    as_child,
    due,
    ending,
    event,
    message,
    start,
    wait,
)
from wfe.testing.conformance.world import PATIENCE, World

__all__ = ["StartPromises"]

CREATED, EXISTS, CONFLICT = StartOutcome.CREATED, StartOutcome.EXISTS, StartOutcome.CONFLICT


class StartPromises:
    """An acknowledged start is there, whole, once."""

    async def test_started_instance_reads_as_it_was_written(self, world: World) -> None:
        """A start writes every field of the instance, at revision 1."""
        wake = await world.after(HOUR)
        first = start(
            "order-7",
            definition=OTHER_DEFINITION,
            name="nightly",
            reference="customer-3",
            status="suspended",
            run=2,
            head=b"the head",
            data=b'{"total":3}',
            values=b'{"note":1}',
            wake_at=wake,
            pointers=[PointerRow(1, b"first"), PointerRow(2, b"second")],
        )

        await world.create(first)

        row = await world.row("order-7")
        assert (row.id, row.definition, row.name, row.reference) == (
            "order-7",
            OTHER_DEFINITION,
            "nightly",
            "customer-3",
        )
        assert (row.status, row.run, row.revision, row.wake_at) == ("suspended", 2, 1, wake)
        assert (row.head, row.data, row.values) == (b"the head", b'{"total":3}', b'{"note":1}')
        assert sorted(row.pointers) == [b"first", b"second"]
        assert (row.ended_at, row.blocked_reason, row.activations, row.parent_id) == (None, None, 0, None)

    async def test_start_without_documents_has_empty_ones(self, world: World) -> None:
        """Data and values that a start does not give are empty JSON objects."""
        await world.create(start())

        row = await world.row()
        assert (row.data, row.values) == (b"{}", b"{}")

    async def test_created_at_is_store_time_of_the_commit(self, world: World) -> None:
        """`created_at` is the store time that the commit reports."""
        reply = await world.create(start())

        assert (await world.row()).created_at == reply.now

    async def test_held_start_is_leased_to_the_committing_session(self, world: World) -> None:
        """`hold=True` inserts the instance already held by the session, with fence 1."""
        await world.create(start(hold=True))

        row = await world.row()
        assert (row.owner, row.fence) == (world.session, 1)

    async def test_free_start_is_held_by_nobody(self, world: World) -> None:
        """`hold=False` inserts the instance free, with fence 0."""
        await world.create(start(hold=False))

        row = await world.row()
        assert (row.owner, row.fence) == (None, 0)

    async def test_first_transition_follows_revision_one(self, world: World) -> None:
        """The holder of a started instance goes on from revision 1 and fence 1."""
        held = await world.started()

        await world.write(held, head=b"next")

        row = await world.row()
        assert (row.revision, row.head) == (2, b"next")

    async def test_start_may_end_at_once(self, world: World) -> None:
        """An instance whose first advance ends it is inserted ended and unheld."""
        first = replace(start(), changes=ending(hold=True, wake_at=0))

        reply = await world.create(first)

        row = await world.row()
        assert (row.status, row.ended_at, row.owner, row.wake_at) == ("complete", reply.now, None, None)

    async def test_repeated_start_exists(self, world: World) -> None:
        """A start with the id and digest of an earlier one says EXISTS and writes nothing."""
        await world.create(start(head=b"first"))

        reply = await world.commit(start(head=b"second", pointers=[PointerRow(1, b"p")], hold=True))

        row = await world.row()
        assert list(reply.starts) == [EXISTS]
        assert (row.head, row.owner, row.fence, row.revision, list(row.pointers)) == (b"first", None, 0, 1, [])

    async def test_start_with_another_digest_conflicts(self, world: World) -> None:
        """A start with the id of an earlier one and another digest says CONFLICT and writes nothing."""
        await world.create(start(digest=b"one", head=b"first"))

        reply = await world.commit(start(digest=b"two", head=b"second"))

        assert list(reply.starts) == [CONFLICT]
        assert (await world.row()).head == b"first"

    async def test_start_of_an_ended_instance_exists(self, world: World) -> None:
        """An ended instance keeps its id until it is purged."""
        await world.end(await world.started())

        reply = await world.commit(start(), start(digest=b"other"))

        assert list(reply.starts) == [EXISTS, CONFLICT]
        assert (await world.row()).status == "complete"

    async def test_same_id_twice_in_one_batch_is_started_once(self, world: World) -> None:
        """Of equal ids in one batch the first wins; an equal digest after it EXISTS."""
        reply = await world.commit(start(head=b"first"), start(head=b"second"))

        assert list(reply.starts) == [CREATED, EXISTS]
        assert (await world.row()).head == b"first"

    async def test_same_id_with_another_digest_in_one_batch_conflicts(self, world: World) -> None:
        """Of equal ids in one batch the first wins; another digest after it is a CONFLICT."""
        reply = await world.commit(start(digest=b"one", head=b"first"), start(digest=b"two", head=b"second"))

        assert list(reply.starts) == [CREATED, CONFLICT]
        assert (await world.row()).head == b"first"

    async def test_outcomes_come_in_the_order_of_the_starts(self, world: World) -> None:
        """One batch may hold new, repeated and conflicting starts; each is judged by itself."""
        await world.create(start("order-1"), start("order-2"))

        reply = await world.commit(
            start("order-3"), start("order-2", digest=b"other"), start("order-4"), start("order-1")
        )

        assert list(reply.starts) == [CREATED, CONFLICT, CREATED, EXISTS]
        assert sorted(await world.store.known(["order-3", "order-4"])) == ["order-3", "order-4"]

    async def test_refused_start_leaves_no_trace(self, world: World) -> None:
        """What a repeated start carries (children, messages, waits, errors, announcements) is not written."""
        await world.create(start("order-1"), start("target"))

        await world.commit(
            start(
                "order-1",
                children=[as_child("child", "order-1")],
                messages=[message("target")],
                subscribe=[wait()],
                errors=[ErrorRow(1, b"error")],
                **announcements(1, first=9),
            )
        )
        published = await world.commit(event())

        assert not await world.store.known(["child"])
        assert await world.inbox("target", "order-1") == []
        assert published.publishes[0].deliveries == 0
        assert list(await world.store.errors("order-1")) == []
        assert list(await world.store.history("order-1")) == []

    async def test_start_writes_its_errors_and_messages(self, world: World) -> None:
        """A first advance may already have failed, written to others and announced things."""
        await world.create(start("target"))

        await world.create(
            start(messages=[message("target", b"hello")], errors=[ErrorRow(1, b"oops")], **announcements(2))
        )

        assert await world.messages("target") == [b"hello"]
        assert list(await world.store.errors("order-1")) == [b"oops"]
        assert [(row.revision, row.count) for row in await world.store.history("order-1")] == [(1, 2)]

    async def test_concurrent_starts_of_one_id_create_one_instance(self, world: World) -> None:
        """However many callers start one id at the same time, one of them creates it."""
        async with world.twin() as other:
            callers = [world, other] * 10

            replies = await asyncio.gather(
                *(caller.commit(start(head=str(index).encode())) for index, caller in enumerate(callers))
            )

        outcomes = [reply.starts[0] for reply in replies]
        assert sorted(outcome.value for outcome in outcomes) == ["created"] + ["exists"] * 19
        assert (await world.row()).head == str(outcomes.index(CREATED)).encode()

    async def test_concurrent_batches_that_start_the_same_ids_in_any_order_end(self, world: World) -> None:
        """Batches that start the same ids in opposite orders do not block each other for ever."""
        ids = [f"order-{number}" for number in range(50)]
        async with world.twin() as other, asyncio.timeout(PATIENCE):
            replies = await asyncio.gather(
                world.commit(*(start(instance_id) for instance_id in ids)),
                other.commit(*(start(instance_id) for instance_id in reversed(ids))),
            )

        created = sum(outcome is CREATED for reply in replies for outcome in reply.starts)
        assert created == len(ids)

    async def test_free_start_can_be_claimed_by_any_session(self, world: World) -> None:
        """A free start that may run is work for whoever asks first."""
        await world.create(due())

        assert await world.claimed_ids() == ["order-1"]

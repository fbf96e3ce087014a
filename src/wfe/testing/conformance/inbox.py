"""Messages to instances, and what is taken with them."""

from __future__ import annotations

from msgspec.structs import replace

from wfe.ports.store import TransitionOutcome
from wfe.testing.conformance.values import OTHER_DEFINITION, ending, event, message, start, wait
from wfe.testing.conformance.world import Held, World

__all__ = ["InboxPromises", "TakenPromises"]


class InboxPromises:
    """A message is there until the transition that consumes it."""

    async def test_message_is_kept(self, world: World) -> None:
        """A message for an instance becomes a row of its inbox."""
        await world.create(start())

        reply = await world.commit(message(body=b"\x00hello\xff"))

        (row,) = await world.inbox()
        assert list(reply.inbox) == [True]
        assert (row.instance_id, row.message, row.id > 0) == ("order-1", b"\x00hello\xff", True)

    async def test_message_for_nobody_is_dropped(self, world: World) -> None:
        """A message for an instance that does not exist, or has ended, is not kept; the reply says which."""
        await world.end(await world.started("ended"))
        await world.create(start("live"))

        reply = await world.commit(message("nobody"), message("live"), message("ended"))

        assert list(reply.inbox) == [False, True, False]
        assert [row.instance_id for row in await world.inbox("nobody", "ended", "live")] == ["live"]

    async def test_message_reaches_an_instance_of_its_batch(self, world: World) -> None:
        """A batch writes starts before messages."""
        reply = await world.commit(start(), message())

        assert (list(reply.inbox), len(await world.inbox())) == ([True], 1)

    async def test_message_misses_an_instance_that_ends_in_its_batch(self, world: World) -> None:
        """A batch writes transitions before messages."""
        held = await world.started()

        reply = await world.commit(replace(held.write(), changes=ending()), message())

        assert (list(reply.inbox), await world.inbox()) == ([False], [])

    async def test_messages_are_read_in_order(self, world: World) -> None:
        """Inbox rows come in the order of their ids, over batches and within one."""
        await world.create(start())
        await world.commit(message(body=b"1"), message(body=b"2"))
        await world.commit(message(body=b"3"))

        rows = await world.inbox()

        assert [row.message for row in rows] == [b"1", b"2", b"3"]
        assert [row.id for row in rows] == sorted({row.id for row in rows})

    async def test_inboxes_of_several_instances(self, world: World) -> None:
        """One read gives the rows of the instances asked for, and no others."""
        await world.create(start("one"), start("two"), start("three"))
        await world.commit(message("one", b"1"), message("two", b"2"), message("three", b"3"))

        rows = await world.inbox("three", "one", "nobody")

        assert sorted((row.instance_id, row.message) for row in rows) == [("one", b"1"), ("three", b"3")]

    async def test_no_ids_read_nothing(self, world: World) -> None:
        """An empty list of ids names nothing; it does not mean all."""
        await world.create(start())
        await world.commit(message())

        assert list(await world.store.inbox([])) == []

    async def test_consumed_messages_are_gone(self, world: World) -> None:
        """The rows that a transition consumes are deleted with it."""
        held = await world.started()
        await world.commit(message(body=b"1"), message(body=b"2"))
        rows = await world.inbox()

        await world.write(held, consumed=[row.id for row in rows])

        assert await world.inbox() == []

    async def test_messages_are_consumed_one_by_one(self, world: World) -> None:
        """A transition consumes the rows that it names: an earlier row that it did not see stays."""
        held = await world.started()
        await world.commit(message(body=b"seen late"), message(body=b"seen early"), message(body=b"not seen"))
        _, early, _ = await world.inbox()

        await world.write(held, consumed=[early.id])

        assert await world.messages() == [b"seen late", b"not seen"]

    async def test_messages_of_others_are_not_consumed(self, world: World) -> None:
        """A transition deletes rows of its own inbox alone."""
        held = await world.started("one")
        await world.create(start("two"))
        await world.commit(message("two"))
        (row,) = await world.inbox("two")

        await world.write(held, consumed=[row.id])

        assert await world.inbox("two") == [row]

    async def test_row_ids_are_not_used_again(self, world: World) -> None:
        """The id of a consumed row is never given to another: a holder may remember what it has seen."""
        held = await world.started()
        seen: list[int] = []
        for _ in range(4):
            await world.commit(message())
            rows = await world.inbox()
            seen += [row.id for row in rows]
            await world.write(held, consumed=[row.id for row in rows])

        assert len(seen) == len(set(seen)) == 4

    async def test_end_drops_the_inbox(self, world: World) -> None:
        """The messages of an ended instance go with its end."""
        held = await world.started()
        await world.commit(message())

        await world.end(held)

        assert await world.inbox() == []

    async def test_unread_messages_are_reported(self, world: World) -> None:
        """A transition that leaves messages unread says so, whoever sent them; others are not named."""
        held = await world.started("one")
        quiet = await world.started("two")
        async with world.twin() as other:
            await other.commit(message("one"))

        reply = await world.commit(held.write(), quiet.write())

        assert list(reply.unread) == ["one"]

    async def test_messages_read_are_not_reported(self, world: World) -> None:
        """A transition that consumes all messages leaves nothing unread."""
        held = await world.started()
        await world.commit(message())
        (row,) = await world.inbox()

        reply = await world.write(held, consumed=[row.id])

        assert list(reply.unread) == []

    async def test_messages_left_are_reported(self, world: World) -> None:
        """A transition that consumes one of two messages leaves one unread."""
        held = await world.started()
        await world.commit(message(), message())
        first, _ = await world.inbox()

        reply = await world.write(held, consumed=[first.id])

        assert list(reply.unread) == ["order-1"]

    async def test_unread_messages_of_an_instance_given_back_are_reported(self, world: World) -> None:
        """A host that gives an instance back hears of its messages, so that it can take it again."""
        held = await world.started()
        await world.commit(message())

        reply = await world.write(held, hold=False)

        assert list(reply.unread) == ["order-1"]
        assert await world.claimed_ids() == ["order-1"]

    async def test_ended_instances_have_nothing_unread(self, world: World) -> None:
        """The end of an instance drops its messages, so none are unread."""
        held = await world.started()
        await world.commit(message())

        reply = await world.end(held)

        assert list(reply.unread) == []

    async def test_refused_transitions_report_nothing_unread(self, world: World) -> None:
        """Only accepted transitions report unread messages."""
        held = await world.started()
        await world.commit(message())

        reply = await world.commit(Held("order-1", held.revision, 7).write())

        assert (list(reply.transitions), list(reply.unread)) == ([TransitionOutcome.FENCED], [])

    async def test_control_requests_are_pending_until_consumed(self, world: World) -> None:
        """A request is pending from its insert to the transition that consumes its row."""
        held = await world.started()
        await world.commit(message(request="suspend-1"), message(request="cancel-2"), message())
        first, _, _ = await world.inbox()
        asked = ["suspend-1", "cancel-2", "unknown"]

        before = await world.store.pending_control(asked)
        await world.write(held, consumed=[first.id])
        after = await world.store.pending_control(asked)

        assert (sorted(before), sorted(after)) == (["cancel-2", "suspend-1"], ["cancel-2"])

    async def test_control_requests_end_with_their_instance(self, world: World) -> None:
        """A request to an instance that has ended is not pending."""
        held = await world.started()
        await world.commit(message(request="suspend-1"))

        await world.end(held)

        assert list(await world.store.pending_control(["suspend-1"])) == []

    async def test_only_requests_asked_for_are_told(self, world: World) -> None:
        """Requests of others are not given, and no ids ask for nothing."""
        await world.create(start())
        await world.commit(message(request="mine"), message(request="other"), message())

        assert list(await world.store.pending_control(["mine"])) == ["mine"]
        assert list(await world.store.pending_control([])) == []


class TakenPromises:
    """A batch hands its host what its messages reach."""

    async def test_message_for_a_held_instance_names_the_holder(self, world: World) -> None:
        """A delivery carries the row and the session to send a hint to."""
        await world.started()
        async with world.twin() as other:
            reply = await other.commit(message(body=b"hello"), room=9)

        (row,) = await world.inbox()
        assert [(one.instance_id, one.owner, one.row) for one in reply.deliveries] == [("order-1", world.session, row)]
        assert list(reply.taken) == []

    async def test_message_without_room_leaves_the_instance(self, world: World) -> None:
        """Without room the instance stays unheld, and the delivery has no owner."""
        await world.create(start())

        reply = await world.commit(message(), room=0)

        assert [one.owner for one in reply.deliveries] == [None]
        assert (list(reply.taken), (await world.row()).owner) == ([], None)

    async def test_message_takes_an_unheld_instance(self, world: World) -> None:
        """With room and code the batch takes the instance, whole, with all its messages; it is no delivery then."""
        await world.create(start(data=b'{"a":1}'))
        await world.commit(message(body=b"earlier"))

        reply = await world.commit(message(body=b"now"), room=1)

        (loaded,) = reply.taken
        assert (loaded.id, loaded.fence, loaded.revision, loaded.activations) == ("order-1", 1, 1, 1)
        assert (loaded.data, [row.message for row in loaded.inbox]) == (b'{"a":1}', [b"earlier", b"now"])
        assert (list(reply.deliveries), (await world.row()).owner) == ([], world.session)

    async def test_taken_instance_can_be_written(self, world: World) -> None:
        """The fence of a taken instance guards its next transition."""
        await world.create(start())
        (loaded,) = (await world.commit(message(), room=1)).taken

        await world.write(
            Held(loaded.id, loaded.revision, loaded.fence), consumed=[row.id for row in loaded.inbox], head=b"next"
        )

        assert (await world.inbox(), (await world.row()).head) == ([], b"next")

    async def test_event_takes_an_unheld_instance(self, world: World) -> None:
        """A publish takes the instance that waits, with the matched event in its inbox."""
        await world.create(start(subscribe=[wait()]))

        reply = await world.commit(event(payload=b"body"), room=1)

        (loaded,) = reply.taken
        assert [row.payload for row in loaded.inbox] == [b"body"]
        assert (reply.publishes[0].deliveries, list(reply.deliveries)) == (1, [])

    async def test_suspended_instance_is_taken_too(self, world: World) -> None:
        """A message for a SUSPENDED instance takes it: the message may resume it."""
        await world.create(start(status="suspended"))

        reply = await world.commit(message(), room=1)

        assert [loaded.id for loaded in reply.taken] == ["order-1"]

    async def test_only_runnable_instances_are_taken(self, world: World) -> None:
        """An instance whose code the host lacks is left as a delivery without owner."""
        await world.create(start(definition=OTHER_DEFINITION))

        reply = await world.commit(message(), room=9)

        assert (list(reply.taken), [one.owner for one in reply.deliveries]) == ([], [None])

    async def test_room_is_the_limit(self, world: World) -> None:
        """A batch takes so many instances at most; the others are deliveries."""
        await world.create(*(start(f"order-{number}") for number in range(5)))

        reply = await world.commit(*(message(f"order-{number}") for number in range(5)), room=2)

        assert (len(reply.taken), len(reply.deliveries)) == (2, 3)
        assert not {one.id for one in reply.taken} & {one.instance_id for one in reply.deliveries}

    async def test_instance_is_taken_once(self, world: World) -> None:
        """Several messages of a batch for one instance take it once, with all of them."""
        await world.create(start(subscribe=[wait()]))

        reply = await world.commit(message(body=b"1"), message(body=b"2"), event(), room=9)

        (loaded,) = reply.taken
        assert (len(loaded.inbox), loaded.fence) == (3, 1)

    async def test_instance_of_a_dead_session_is_taken(self, world: World) -> None:
        """What a dead session holds is unheld for a batch too."""
        dead = await world.other_session()
        await world.commit(start(hold=True), session=dead)
        await world.lease.end(dead)

        reply = await world.commit(message(), room=1)

        assert [(loaded.id, loaded.fence) for loaded in reply.taken] == [("order-1", 2)]

    async def test_instance_given_back_in_the_batch_is_taken(self, world: World) -> None:
        """A message for an instance that the same batch gives back takes it again, under the next fence."""
        held = await world.started()

        reply = await world.commit(held.write(hold=False), message(), room=1)

        assert [(loaded.id, loaded.revision, loaded.fence) for loaded in reply.taken] == [("order-1", 2, 2)]

    async def test_instance_held_after_its_transition_is_not_taken(self, world: World) -> None:
        """A message for an instance that its transition keeps is a delivery to this session."""
        held = await world.started()

        reply = await world.commit(held.write(hold=True), message(), room=9)

        assert (list(reply.taken), [one.owner for one in reply.deliveries]) == ([], [world.session])
        assert list(reply.unread) == ["order-1"]

    async def test_instances_without_messages_are_not_taken(self, world: World) -> None:
        """Room is for what this batch's messages reach; other work is left for a claim."""
        await world.create(start("due", wake_at=0), start("target"))
        await world.commit(message("due"))

        reply = await world.commit(message("target"), start("new", wake_at=0), room=9)

        assert [loaded.id for loaded in reply.taken] == ["target"]

    async def test_dead_session_takes_nothing_with_a_batch(self, world: World) -> None:
        """A session that is over commits messages, but takes nothing."""
        await world.create(start())
        over = await world.other_session()
        await world.lease.end(over)

        reply = await world.commit(message(), session=over, room=9)

        assert (list(reply.inbox), list(reply.taken), (await world.row()).owner) == ([True], [], None)

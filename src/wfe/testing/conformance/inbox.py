"""Messages between instances and from callers."""

from __future__ import annotations

from msgspec.structs import replace

from wfe.ports.store import ParentLink, TransitionOutcome
from wfe.testing.conformance.values import (
    OTHER_DEFINITION,
    as_child,
    ending,
    event,
    message,
    start,
    wait,
)
from wfe.testing.conformance.world import Held, World

__all__ = ["ChildPromises", "InboxPromises", "TakenPromises"]


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


class ChildPromises:
    """Parents start children, hear of their end, and end them."""

    async def test_children_are_started_free(self, world: World) -> None:
        """A transition's children are inserted with it, free and due; the reply names them."""
        parent = await world.started("parent")

        reply = await world.write(parent, children=[as_child("child-1", "parent"), as_child("child-2", "parent")])

        child = await world.row("child-1")
        assert sorted(reply.children) == ["child-1", "child-2"]
        assert (child.parent_id, child.owner, child.fence, child.revision, child.wake_at) == ("parent", None, 0, 1, 0)
        assert sorted(await world.claimed_ids(ids=list(reply.children))) == ["child-1", "child-2"]

    async def test_child_knows_its_parent(self, world: World) -> None:
        """A child is loaded with the link to the pointer that waits for it."""
        await world.started("parent", children=[replace(as_child("child", "parent"), parent=LINK)])

        assert (await world.take("child")).parent == LINK

    async def test_existing_child_is_left_as_it_is(self, world: World) -> None:
        """A child that exists already, from an earlier attempt, is not started again nor named."""
        parent = await world.started("parent", children=[as_child("child-1", "parent", head=b"first")])

        reply = await world.write(
            parent, children=[as_child("child-1", "parent", head=b"second"), as_child("child-2", "parent")]
        )

        assert list(reply.children) == ["child-2"]
        assert (await world.row("child-1")).head == b"first"

    async def test_start_may_have_children(self, world: World) -> None:
        """A first advance that reaches a child starts it with the start."""
        reply = await world.create(start("parent", children=[as_child("child", "parent")]))

        assert (list(reply.children), (await world.row("child")).parent_id) == (["child"], "parent")

    async def test_child_end_reaches_the_parent(self, world: World) -> None:
        """The message of a child's last transition is in the parent's inbox with it."""
        await world.started("parent", children=[as_child("child", "parent")])
        child = await world.taken("child")

        reply = await world.end(child, messages=[message("parent", b"child ended")])

        assert await world.messages("parent") == [b"child ended"]
        assert [(one.instance_id, one.owner) for one in reply.deliveries] == [("parent", world.session)]

    async def test_child_end_takes_an_unheld_parent(self, world: World) -> None:
        """A host with room takes the parent along with the child's end."""
        await world.create(start("parent", children=[as_child("child", "parent")]))
        child = await world.taken("child")

        reply = await world.commit(
            replace(child.write(), changes=ending(messages=[message("parent", b"child ended")])), room=1
        )

        assert [(one.id, [row.message for row in one.inbox]) for one in reply.taken] == [("parent", [b"child ended"])]

    async def test_child_end_for_an_ended_parent_is_dropped(self, world: World) -> None:
        """A child whose parent has ended ends all the same; its message goes nowhere."""
        parent = await world.started("parent", children=[as_child("child", "parent", on_parent_end="abandon")])
        await world.end(parent)
        child = await world.taken("child")

        reply = await world.end(child, messages=[message("parent")])

        assert (list(reply.deliveries), await world.inbox("parent")) == ([], [])

    async def test_child_and_parent_may_end_in_one_batch(self, world: World) -> None:
        """When both end in one batch, in any order, both are accepted and nothing is left in an inbox."""
        for order in (1, -1):
            name = f"parent{order}"
            parent = await world.started(name, children=[as_child(f"child{order}", name)])
            child = await world.taken(f"child{order}")
            ends = [
                replace(child.write(), changes=ending(messages=[message(name)])),
                replace(parent.write(), changes=ending(cancel_children=b"cancel")),
            ]

            reply = await world.commit(*ends[::order])

            assert list(reply.transitions) == [TransitionOutcome.ACCEPTED] * 2
            assert await world.inbox(name, f"child{order}") == []

    async def test_cancel_reaches_live_children(self, world: World) -> None:
        """`cancel_children` puts its message into the inbox of each live child that ends with its parent."""
        parent = await world.started(
            "parent",
            children=[
                as_child("live-1", "parent"),
                as_child("live-2", "parent"),
                as_child("left", "parent", on_parent_end="abandon"),
                as_child("over", "parent"),
            ],
        )
        await world.end(await world.taken("over"))

        reply = await world.end(parent, cancel_children=b"cancel")

        rows = await world.inbox("live-1", "live-2", "left", "over")
        assert sorted((row.instance_id, row.message) for row in rows) == [("live-1", b"cancel"), ("live-2", b"cancel")]
        assert sorted(one.instance_id for one in reply.deliveries) == ["live-1", "live-2"]

    async def test_cancel_reaches_no_others(self, world: World) -> None:
        """Grandchildren and the children of other instances are not cancelled."""
        parent = await world.started("parent", children=[as_child("child", "parent")])
        await world.started("other", children=[as_child("other-child", "other")])
        await world.write(await world.taken("child"), children=[as_child("grandchild", "child")])

        await world.end(parent, cancel_children=b"cancel")

        rows = await world.inbox("child", "grandchild", "other-child")
        assert [row.instance_id for row in rows] == ["child"]

    async def test_cancel_without_children_is_nothing(self, world: World) -> None:
        """An instance without children may ask to cancel them; no other is told."""
        parent = await world.started("parent")
        await world.create(start("alone"), as_child("child", "another parent"))

        reply = await world.end(parent, cancel_children=b"cancel")

        assert (list(reply.deliveries), await world.inbox("alone", "child")) == ([], [])

    async def test_end_alone_cancels_nobody(self, world: World) -> None:
        """Children are sent a message only by `cancel_children`."""
        parent = await world.started("parent", children=[as_child("child", "parent")])

        await world.end(parent)

        assert await world.inbox("child") == []

    async def test_child_that_waits_is_started_waiting(self, world: World) -> None:
        """The waits and messages of a child's first advance are written with it."""
        await world.create(start("target"))
        await world.started(
            "parent",
            children=[as_child("child", "parent", subscribe=[wait()], messages=[message("target", b"from child")])],
        )

        reply = await world.commit(event())

        assert (reply.publishes[0].deliveries, await world.messages("target")) == (1, [b"from child"])


LINK = ParentLink("parent", 41, "abandon")

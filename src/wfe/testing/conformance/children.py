"""Instances that start others, and end before or after them."""

from __future__ import annotations

from msgspec.structs import replace

from wfe.ports.store import ParentLink, TransitionOutcome
from wfe.testing.conformance.values import as_child, ending, event, message, start, wait
from wfe.testing.conformance.world import World

__all__ = ["ChildPromises"]


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

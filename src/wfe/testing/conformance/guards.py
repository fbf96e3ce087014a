"""Which transitions are accepted: guards by fence, revision and required waits."""

from __future__ import annotations

from wfe.ports.store import ErrorRow, PointerRow, PublishOutcome, StartOutcome, TransitionOutcome
from wfe.testing.conformance.values import (
    announcements,
    as_child,
    event,
    fresh_id,
    message,
    no_wait,
    start,
    transition,
    wait,
)
from wfe.testing.conformance.world import World

__all__ = ["GuardPromises"]

ACCEPTED, FENCED, STALE, WAIT_GONE = (
    TransitionOutcome.ACCEPTED,
    TransitionOutcome.FENCED,
    TransitionOutcome.STALE,
    TransitionOutcome.WAIT_GONE,
)


class GuardPromises:
    """A transition is accepted only at the revision and fence that it was decided on."""

    async def test_old_fence_is_fenced(self, world: World) -> None:
        """A holder whose instance was taken by another cannot write, though the revision is the same."""
        held = await world.started()
        await world.store.release(world.session, [("order-1", held.fence)])
        await world.take(session=await world.other_session())

        reply = await world.commit(held.write(head=b"late"))

        assert list(reply.transitions) == [FENCED]
        assert (await world.row()).head == b"head"

    async def test_old_revision_is_stale(self, world: World) -> None:
        """A transition decided on an old revision is refused, though the fence is right."""
        held = await world.started()
        await world.commit(held.write(head=b"first"))

        reply = await world.commit(held.write(head=b"second"))

        row = await world.row()
        assert list(reply.transitions) == [STALE]
        assert (row.head, row.revision) == (b"first", 2)

    async def test_revision_ahead_is_stale(self, world: World) -> None:
        """A transition for a revision that does not exist yet is refused."""
        held = await world.started()

        reply = await world.commit(transition("order-1", held.revision + 1, held.fence))

        assert list(reply.transitions) == [STALE]

    async def test_fence_ahead_is_fenced(self, world: World) -> None:
        """A fence that the store never gave out guards nothing."""
        held = await world.started()

        reply = await world.commit(transition("order-1", held.revision, held.fence + 1))

        assert list(reply.transitions) == [FENCED]

    async def test_old_fence_counts_before_old_revision(self, world: World) -> None:
        """With fence and revision both old the answer is FENCED: the instance is another's."""
        held = await world.started()
        await world.store.release(world.session, [("order-1", held.fence)])
        newer = await world.taken(session=await world.other_session())
        await world.write(newer)

        reply = await world.commit(held.write())

        assert list(reply.transitions) == [FENCED]

    async def test_missing_instance_is_fenced(self, world: World) -> None:
        """A transition of an instance that is not there is refused."""
        reply = await world.commit(transition("never-started", 1, 1))

        assert list(reply.transitions) == [FENCED]
        assert await world.store.get("never-started") is None

    async def test_refused_transition_leaves_no_trace(self, world: World) -> None:
        """What a refused transition carries is not written: rows, waits, children, messages, announcements."""
        held = await world.started(pointers=[PointerRow(1, b"old")], data=b'{"a":1}')
        await world.create(start("target"))
        everything = world.batch(
            transition(
                "order-1",
                held.revision,
                held.fence + 1,
                status="failed",
                ended=True,
                hold=False,
                pointers=[PointerRow(1, b"new"), PointerRow(2, b"more")],
                data=b'{"a":2}',
                values=b'{"b":2}',
                errors=[ErrorRow(1, b"error")],
                subscribe=[wait()],
                children=[as_child("child", "order-1")],
                messages=[message("target")],
                **announcements(1, first=7),
            )
        )
        before = await world.row()

        await world.store.commit(everything)
        published = await world.commit(event())

        assert await world.row() == before
        assert published.publishes[0].deliveries == 0
        assert await world.inbox("target", "order-1") == []
        assert not await world.store.known(["child"])
        assert list(await world.store.errors("order-1")) == []
        assert list(await world.store.history("order-1")) == []

    async def test_refused_transition_keeps_its_messages_and_waits(self, world: World) -> None:
        """Messages that a refused transition would consume stay, and waits that it would end go on."""
        held = await world.started(subscribe=[wait()])
        await world.commit(message())
        (row,) = await world.inbox()

        await world.commit(
            transition("order-1", held.revision, held.fence + 1, consumed=[row.id], unsubscribe=[no_wait()])
        )
        published = await world.commit(event())

        assert row in await world.inbox()
        assert published.publishes[0].deliveries == 1

    async def test_refused_transition_sends_children_no_cancel(self, world: World) -> None:
        """A host that lost its instance cannot cancel the children of it."""
        held = await world.started(children=[as_child("child", "order-1")])

        await world.commit(transition("order-1", held.revision, held.fence + 1, cancel_children=b"cancel"))

        assert await world.inbox("child") == []

    async def test_refused_transition_does_not_disturb_its_batch(self, world: World) -> None:
        """Good transitions beside fenced, stale and missing ones are accepted, with outcomes in order."""
        held = [await world.started(f"order-{number}") for number in range(5)]
        await world.write(held[3])
        stale = transition("order-3", 1, 1, head=b"refused")

        reply = await world.commit(
            held[0].write(head=b"good"),
            transition("order-1", 1, 7, head=b"refused"),
            held[2].write(head=b"good"),
            stale,
            transition("never-started", 1, 1),
            held[4].write(head=b"good"),
        )

        assert list(reply.transitions) == [ACCEPTED, FENCED, ACCEPTED, STALE, FENCED, ACCEPTED]
        heads = [(await world.row(f"order-{number}")).head for number in range(5)]
        assert heads == [b"good", b"head", b"good", b"head", b"good"]

    async def test_refused_transition_does_not_disturb_other_parts(self, world: World) -> None:
        """Starts, events and messages of a batch are written beside a refused transition."""
        held = await world.started(subscribe=[wait()])

        reply = await world.commit(
            transition("order-1", held.revision, 7), start("order-2"), event(), message("order-1", b"hello")
        )

        assert list(reply.transitions) == [FENCED]
        assert list(reply.starts) == [StartOutcome.CREATED]
        assert reply.publishes[0].deliveries == 1
        assert list(reply.inbox) == [True]

    async def test_every_change_of_holder_raises_the_fence(self, world: World) -> None:
        """Fences of one instance only grow: by claim, release and claim again, and after a holder's end."""
        await world.create(start(wake_at=0))
        fences = [0]

        for _ in range(3):
            session = await world.other_session()
            fences.append((await world.take(session=session)).fence)
            await world.lease.end(session)
        loaded = await world.take()
        await world.store.release(world.session, [("order-1", loaded.fence)])
        fences += [loaded.fence, (await world.take()).fence]

        assert fences == sorted(set(fences))

    async def test_holder_that_came_back_is_fenced(self, world: World) -> None:
        """A host that loses an instance and takes it again cannot write with the fence of its first hold."""
        held = await world.started()
        await world.store.release(world.session, [("order-1", held.fence)])
        again = await world.taken()

        refused = await world.commit(held.write(head=b"old"))
        accepted = await world.commit(again.write(head=b"new"))

        assert (list(refused.transitions), list(accepted.transitions)) == ([FENCED], [ACCEPTED])

    async def test_wait_that_ends_by_time_needs_its_subscription(self, world: World) -> None:
        """A timeout after the event is refused whole with WAIT_GONE; the event is in the inbox."""
        held = await world.started(subscribe=[wait()])
        await world.commit(event(payload=b"first"))

        reply = await world.commit(
            held.write(head=b"timed out", unsubscribe=[no_wait(required=True)], messages=[message("order-1")])
        )

        row = await world.row()
        assert list(reply.transitions) == [WAIT_GONE]
        assert (row.head, row.revision) == (b"head", 1)
        assert await world.payloads() == [b"first"]

    async def test_wait_that_ends_by_time_ends_while_it_waits(self, world: World) -> None:
        """A timeout before the event is accepted, and the event then reaches nobody."""
        held = await world.started(subscribe=[wait()])

        reply = await world.write(held, unsubscribe=[no_wait(required=True)])
        published = await world.commit(event())

        assert list(reply.transitions) == [ACCEPTED]
        assert published.publishes[0].deliveries == 0
        assert await world.inbox() == []

    async def test_required_wait_is_that_wait_alone(self, world: World) -> None:
        """A later wait of the same pointer, or the wait of another pointer, does not stand for the one required."""
        held = await world.started(
            subscribe=[wait(number=1), wait("other", number=2), wait("third", pointer=2, number=1)]
        )
        await world.commit(event())

        reply = await world.commit(held.write(unsubscribe=[no_wait(number=1, required=True)]))

        assert list(reply.transitions) == [WAIT_GONE]

    async def test_one_gone_wait_of_several_refuses_the_transition(self, world: World) -> None:
        """Of several required waits all must stand; none is ended when one is gone."""
        held = await world.started(subscribe=[wait(pointer=1), wait("shipped", pointer=2)])
        await world.commit(event("shipped"))

        reply = await world.commit(
            held.write(unsubscribe=[no_wait(pointer=1, required=True), no_wait(pointer=2, required=True)])
        )
        published = await world.commit(event("paid"))

        assert list(reply.transitions) == [WAIT_GONE]
        assert published.publishes[0].deliveries == 1

    async def test_wait_that_ends_by_cancel_may_be_gone(self, world: World) -> None:
        """A wait that is not required may have been matched; its message is consumed like any other."""
        held = await world.started(subscribe=[wait()])
        await world.commit(event())
        (row,) = await world.inbox()

        await world.write(held, unsubscribe=[no_wait()], consumed=[row.id])

        assert await world.inbox() == []

    async def test_gone_wait_does_not_disturb_its_batch(self, world: World) -> None:
        """Transitions beside one refused with WAIT_GONE are accepted."""
        late = await world.started("order-1", subscribe=[wait()])
        good = await world.started("order-2", subscribe=[wait("other")])
        await world.commit(event())

        reply = await world.commit(
            late.write(unsubscribe=[no_wait(required=True)]), good.write(unsubscribe=[no_wait(required=True)])
        )

        assert list(reply.transitions) == [WAIT_GONE, ACCEPTED]

    async def test_fence_counts_before_a_gone_wait(self, world: World) -> None:
        """A holder that lost its instance hears of that, not of its wait."""
        held = await world.started(subscribe=[wait()])
        await world.commit(event())

        reply = await world.commit(
            transition("order-1", held.revision, held.fence + 1, unsubscribe=[no_wait(required=True)])
        )

        assert list(reply.transitions) == [FENCED]

    async def test_repeated_batch_gives_the_first_outcomes(self, world: World) -> None:
        """Committing a batch again, with the same id, gives the outcomes of the first time and writes nothing more."""
        held = await world.started()
        waiting = await world.started("order-2", subscribe=[wait()])
        batch = world.batch(
            held.write(head=b"next"),
            transition("order-2", waiting.revision, 7),
            start("order-3"),
            event(),
            message("order-1", b"once"),
        )

        first = await world.store.commit(batch)
        second = await world.store.commit(batch)

        assert list(first.transitions) == list(second.transitions) == [ACCEPTED, FENCED]
        assert list(first.starts) == list(second.starts) == [StartOutcome.CREATED]
        assert [one.outcome for one in first.publishes] == [one.outcome for one in second.publishes]
        assert first.publishes[0].outcome is PublishOutcome.CREATED
        assert list(first.inbox) == list(second.inbox) == [True]
        assert (await world.row()).revision == 2
        assert await world.messages("order-1") == [b"once"]
        assert len(await world.inbox("order-2")) == 1

    async def test_repeated_batch_without_transitions_writes_once(self, world: World) -> None:
        """A batch of messages alone is known again too."""
        await world.create(start())
        batch = world.batch(message(body=b"once"))

        await world.store.commit(batch)
        second = await world.store.commit(batch)

        assert list(second.inbox) == [True]
        assert await world.messages() == [b"once"]

    async def test_repeated_start_batch_is_created_still(self, world: World) -> None:
        """A start whose reply was lost is CREATED for the caller who commits its batch again, not EXISTS."""
        batch = world.batch(start(hold=True))

        await world.store.commit(batch)
        second = await world.store.commit(batch)

        assert list(second.starts) == [StartOutcome.CREATED]

    async def test_other_batch_with_equal_parts_is_another_batch(self, world: World) -> None:
        """Only the id makes a batch the same."""
        held = await world.started()
        await world.store.commit(world.batch(held.write(), batch_id=fresh_id()))

        again = await world.store.commit(world.batch(held.write(), batch_id=fresh_id()))

        assert list(again.transitions) == [STALE]

    async def test_empty_batch_is_nothing(self, world: World) -> None:
        """A batch without parts is committed and tells store time."""
        reply = await world.commit()

        assert (list(reply.transitions), list(reply.starts), list(reply.deliveries)) == ([], [], [])
        assert reply.now > 0

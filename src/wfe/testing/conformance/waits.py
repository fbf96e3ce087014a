"""Waits: whichever comes first, wait or event, each wait that matches gets the event once."""

from __future__ import annotations

from wfe.ports.store import PublishOutcome, TransitionOutcome
from wfe.testing.conformance.values import INSTANT, event, no_wait, start, wait
from wfe.testing.conformance.world import World

__all__ = ["WaitPromises"]


class WaitPromises:
    """A wait is matched with stored events and with those to come."""

    async def test_wait_before_the_event_gets_it(self, world: World) -> None:
        """Publishing puts the event into the inbox of the instance that waits for its name and key."""
        await world.started(subscribe=[wait(pointer=3, number=2)])

        reply = await world.commit(event("paid", "order-1", b'{"cents":7}'))

        (row,) = await world.inbox()
        assert (row.instance_id, row.pointer, row.wait, row.message) == ("order-1", 3, 2, None)
        assert (row.name, row.key, row.payload) == ("paid", "order-1", b'{"cents":7}')
        assert row.sequence > 0
        assert (reply.publishes[0].outcome, reply.publishes[0].deliveries) == (PublishOutcome.CREATED, 1)

    async def test_wait_after_the_event_gets_it(self, world: World) -> None:
        """A wait that begins after the event was stored is matched in the transition that begins it."""
        held = await world.started()
        reply = await world.commit(event(payload=b"stored"))

        await world.write(held, subscribe=[wait(pointer=3, number=2)])

        (row,) = await world.inbox()
        assert reply.publishes[0].deliveries == 0
        assert (row.pointer, row.wait, row.payload, row.message) == (3, 2, b"stored", None)

    async def test_match_on_subscribing_is_reported(self, world: World) -> None:
        """A transition whose wait is matched at once gives the row as a delivery, and the instance as unread."""
        held = await world.started()
        await world.commit(event())

        reply = await world.write(held, subscribe=[wait()])

        (row,) = await world.inbox()
        assert [(one.instance_id, one.owner, one.row) for one in reply.deliveries] == [("order-1", world.session, row)]
        assert list(reply.unread) == ["order-1"]

    async def test_matched_event_is_reported(self, world: World) -> None:
        """A publish gives the rows that it inserted as deliveries, with the session that holds the instance."""
        await world.started(subscribe=[wait()])

        reply = await world.commit(event())

        (row,) = await world.inbox()
        assert [(one.instance_id, one.owner, one.row) for one in reply.deliveries] == [("order-1", world.session, row)]

    async def test_publishing_writes_no_instance(self, world: World) -> None:
        """An event for an instance is a row in its inbox; its own row does not change."""
        await world.started(subscribe=[wait()])
        before = await world.row()

        await world.commit(event())

        assert await world.row() == before

    async def test_wait_takes_one_event(self, world: World) -> None:
        """A wait that was matched by a published event is over: the next event does not reach it."""
        await world.started(subscribe=[wait()])

        await world.commit(event(payload=b"first"))
        second = await world.commit(event(payload=b"second"))

        assert second.publishes[0].deliveries == 0
        assert await world.payloads() == [b"first"]

    async def test_wait_matched_by_a_stored_event_is_over(self, world: World) -> None:
        """A wait that was matched when it began leaves no subscription behind."""
        held = await world.started()
        await world.commit(event(payload=b"first"))
        await world.write(held, subscribe=[wait()])

        second = await world.commit(event(payload=b"second"))

        assert second.publishes[0].deliveries == 0
        assert await world.payloads() == [b"first"]

    async def test_matched_wait_is_gone_for_a_timeout(self, world: World) -> None:
        """A wait matched when it began counts as gone, like one matched later."""
        held = await world.started()
        await world.commit(event())
        await world.write(held, subscribe=[wait()])

        reply = await world.commit(held.write(unsubscribe=[no_wait(required=True)]))

        assert list(reply.transitions) == [TransitionOutcome.WAIT_GONE]

    async def test_lowest_sequence_number_is_first(self, world: World) -> None:
        """Of several stored events a wait takes the one published first."""
        held = await world.started()
        await world.commit(event(payload=b"first"))
        await world.commit(event(payload=b"second"), event(payload=b"third"))

        await world.write(held, subscribe=[wait()])

        assert await world.payloads() == [b"first"]

    async def test_every_waiting_instance_gets_the_event(self, world: World) -> None:
        """An event reaches each wait of its name and key once, in all instances and pointers."""
        await world.started("one", subscribe=[wait(pointer=1), wait(pointer=2)])
        await world.started("two", subscribe=[wait(pointer=1)])

        reply = await world.commit(event())

        rows = await world.inbox("one", "two")
        assert reply.publishes[0].deliveries == 3
        assert sorted((row.instance_id, row.pointer) for row in rows) == [("one", 1), ("one", 2), ("two", 1)]
        assert len({row.sequence for row in rows}) == 1

    async def test_other_name_or_key_does_not_match(self, world: World) -> None:
        """Name and key must both be equal; their boundary counts too."""
        await world.started(subscribe=[wait("ab", "cd")])

        reply = await world.commit(event("ab", "c"), event("a", "bcd"), event("abc", "d"), event("cd", "ab"))

        assert [one.deliveries for one in reply.publishes] == [0, 0, 0, 0]
        assert await world.inbox() == []

    async def test_waits_of_one_pointer_are_apart(self, world: World) -> None:
        """Ending one wait of a pointer leaves its other waits."""
        held = await world.started(subscribe=[wait(number=1), wait(number=2)])

        await world.write(held, unsubscribe=[no_wait(number=1)])
        await world.commit(event())

        assert [row.wait for row in await world.inbox()] == [2]

    async def test_ended_wait_gets_nothing(self, world: World) -> None:
        """A wait that was cancelled takes no event."""
        held = await world.started(subscribe=[wait()])

        await world.write(held, unsubscribe=[no_wait()])
        reply = await world.commit(event())

        assert (reply.publishes[0].deliveries, await world.inbox()) == (0, [])

    async def test_wait_may_begin_again(self, world: World) -> None:
        """A pointer whose wait ended may wait for the same event under the next number, in the same transition."""
        held = await world.started(subscribe=[wait(number=1)])

        await world.write(held, unsubscribe=[no_wait(number=1)], subscribe=[wait(number=2)])
        reply = await world.commit(event())

        assert reply.publishes[0].deliveries == 1
        assert [row.wait for row in await world.inbox()] == [2]

    async def test_waits_of_ended_instances_are_removed(self, world: World) -> None:
        """An ended instance waits for nothing."""
        held = await world.started(subscribe=[wait()])
        await world.end(held)

        reply = await world.commit(event())

        assert (reply.publishes[0].deliveries, list(reply.deliveries), await world.inbox()) == (0, [], [])

    async def test_waits_of_ended_instances_do_not_return_with_a_retry(self, world: World) -> None:
        """An instance that lives again waits only for what its new run asks for."""
        held = await world.started(subscribe=[wait()])
        await world.end(held, status="failed")
        await world.write(await world.taken(), run=2)

        reply = await world.commit(event())

        assert reply.publishes[0].deliveries == 0

    async def test_start_may_wait(self, world: World) -> None:
        """A first advance that reaches a wait begins it with the start."""
        await world.create(start(subscribe=[wait()]))

        reply = await world.commit(event())

        assert reply.publishes[0].deliveries == 1

    async def test_start_is_matched_with_stored_events(self, world: World) -> None:
        """A start whose wait takes stored events is matched in the very insert."""
        await world.commit(event(payload=b"stored"))
        await world.pass_time(INSTANT)

        await world.create(start(subscribe=[wait(as_of=0)]))

        assert await world.payloads() == [b"stored"]

    async def test_transition_and_event_of_one_batch_meet(self, world: World) -> None:
        """A batch writes transitions and starts before its events, so both are reached by them."""
        held = await world.started("one")

        reply = await world.commit(
            held.write(subscribe=[wait(key="a")]), start("two", subscribe=[wait(key="a")]), event(key="a")
        )

        assert reply.publishes[0].deliveries == 2
        assert sorted(row.instance_id for row in await world.inbox("one", "two")) == ["one", "two"]

    async def test_timeout_wins_over_an_event_of_its_batch(self, world: World) -> None:
        """In one batch the transition that ends a wait comes before the event."""
        held = await world.started(subscribe=[wait()])

        reply = await world.commit(held.write(unsubscribe=[no_wait(required=True)]), event())

        assert list(reply.transitions) == [TransitionOutcome.ACCEPTED]
        assert (reply.publishes[0].deliveries, await world.inbox()) == (0, [])

    async def test_end_wins_over_an_event_of_its_batch(self, world: World) -> None:
        """In one batch the transition that ends an instance comes before the event."""
        held = await world.started(subscribe=[wait()])

        reply = await world.commit(held.write(status="complete", ended=True, hold=False), event())

        assert (reply.publishes[0].deliveries, list(reply.deliveries)) == (0, [])

    async def test_many_waits_of_one_transition(self, world: World) -> None:
        """A transition may begin waits for many keys; each gets its own event."""
        keys = [f"key-{number}" for number in range(100)]
        held = await world.started()
        await world.commit(*(event(key=key, payload=key.encode()) for key in keys[:50]))

        await world.write(held, subscribe=[wait(key=key, pointer=number) for number, key in enumerate(keys)])
        await world.commit(*(event(key=key, payload=key.encode()) for key in keys[50:]))

        received = sorted((row.pointer, row.payload) for row in await world.inbox())
        assert received == [(number, key.encode()) for number, key in enumerate(keys)]

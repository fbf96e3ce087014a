"""Events: each is stored once, in order, now or when its time has come."""

from __future__ import annotations

from wfe.ports.store import PublishOutcome
from wfe.testing.conformance.values import HOUR, INSTANT, MINUTE, consumption, event, wait
from wfe.testing.conformance.world import World

__all__ = ["FutureEventPromises", "PublishPromises"]

CREATED, EXISTS, CONFLICT = PublishOutcome.CREATED, PublishOutcome.EXISTS, PublishOutcome.CONFLICT


class PublishPromises:
    """Events are stored once, in order."""

    async def test_event_id_makes_publishing_idempotent(self, world: World) -> None:
        """Publishing an id again says EXISTS and reaches nobody."""
        first = event(event_id="payment-7")
        await world.commit(first)
        await world.pass_time(INSTANT)
        await world.started(subscribe=[wait()])

        again = await world.commit(first)

        assert (again.publishes[0].outcome, again.publishes[0].deliveries) == (EXISTS, 0)
        assert await world.inbox() == []

    async def test_event_id_with_other_content_conflicts(self, world: World) -> None:
        """The same id with another name, key or payload is a CONFLICT and reaches nobody."""
        await world.commit(event("paid", "order-1", b"1", event_id="payment-7"))
        await world.pass_time(INSTANT)
        await world.started(subscribe=[wait("paid"), wait("refunded", pointer=2), wait("paid", "order-2", pointer=3)])

        reply = await world.commit(
            event("refunded", "order-1", b"1", event_id="payment-7"),
            event("paid", "order-2", b"1", event_id="payment-7"),
            event("paid", "order-1", b"2", event_id="payment-7"),
        )

        assert [one.outcome for one in reply.publishes] == [CONFLICT] * 3
        assert await world.inbox() == []

    async def test_event_id_twice_in_one_batch_is_published_once(self, world: World) -> None:
        """Of equal event ids in one batch the first is stored; the others are judged against it."""
        await world.started(subscribe=[wait(pointer=1), wait(pointer=2, number=1)])

        reply = await world.commit(
            event(payload=b"1", event_id="e"), event(payload=b"1", event_id="e"), event(payload=b"2", event_id="e")
        )

        assert [one.outcome for one in reply.publishes] == [CREATED, EXISTS, CONFLICT]
        assert [one.deliveries for one in reply.publishes] == [2, 0, 0]
        assert await world.payloads() == [b"1", b"1"]

    async def test_events_of_one_batch_are_in_order(self, world: World) -> None:
        """Events of one batch get their sequence numbers in its order: waits of a loop see it."""
        held = await world.started()
        payloads = [f"{number:03}".encode() for number in range(20)]

        await world.commit(*(event(payload=payload) for payload in payloads))

        received: list[bytes] = []
        for number in range(20):
            await world.write(held, subscribe=[wait(number=number)])
            (row,) = await world.inbox()
            received.append(row.payload)
            await world.write(held, **consumption(row))
        assert received == payloads

    async def test_one_wait_takes_the_first_event_of_a_batch(self, world: World) -> None:
        """When a batch publishes several events of one key, a standing wait takes the first."""
        await world.started(subscribe=[wait()])

        reply = await world.commit(event(payload=b"first"), event(payload=b"second"))

        assert [one.deliveries for one in reply.publishes] == [1, 0]
        assert await world.payloads() == [b"first"]

    async def test_sequence_numbers_rise(self, world: World) -> None:
        """A later event of a key has a higher sequence number."""
        sequences: list[int] = []
        for number in range(4):
            await world.pass_time(INSTANT)
            await world.started(f"order-{number}", subscribe=[wait()])
            await world.commit(event())
            sequences += [row.sequence for row in await world.inbox(f"order-{number}")]

        assert sequences == sorted(set(sequences))

    async def test_sequence_numbers_are_not_used_again(self, world: World) -> None:
        """Dropped events leave their sequence numbers behind them: a position stays true."""
        held = await world.started(subscribe=[wait()])
        await world.commit(event())
        (row,) = await world.inbox()
        await world.write(held, **consumption(row))
        await world.store.drop_events(await world.after(HOUR))

        await world.commit(event(payload=b"new"))
        await world.write(held, subscribe=[wait(number=2)])

        assert await world.payloads() == [b"new"]

    async def test_dropped_events_reach_nobody(self, world: World) -> None:
        """A dropped event is not matched any more."""
        held = await world.started()
        await world.commit(event())

        dropped = await world.store.drop_events(await world.after(HOUR))
        await world.write(held, subscribe=[wait(as_of=0)])

        assert (dropped, await world.inbox()) == (1, [])

    async def test_young_events_are_not_dropped(self, world: World) -> None:
        """Only events from before the given time are dropped."""
        held = await world.started()
        await world.commit(event(payload=b"old"))
        await world.pass_time(INSTANT)
        young = await world.commit(event(payload=b"young"))

        dropped = await world.store.drop_events(young.now)
        await world.write(held, subscribe=[wait(as_of=0)])

        assert (dropped, await world.payloads()) == (1, [b"young"])

    async def test_dropping_has_a_limit(self, world: World) -> None:
        """One call drops so many events at most, and tells how many."""
        await world.commit(*(event() for _ in range(5)))
        future = await world.after(HOUR)

        counts = [await world.store.drop_events(future, 2) for _ in range(4)]

        assert counts == [2, 2, 1, 0]

    async def test_delivered_event_is_kept_for_its_instance(self, world: World) -> None:
        """Dropping events takes nothing out of an inbox."""
        await world.started(subscribe=[wait()])
        await world.commit(event(payload=b"delivered"))

        await world.store.drop_events(await world.after(HOUR))

        assert await world.payloads() == [b"delivered"]

    async def test_standing_wait_survives_dropping(self, world: World) -> None:
        """Dropping events ends no wait."""
        await world.started(subscribe=[wait()])
        await world.commit(event("other"))

        await world.store.drop_events(await world.after(HOUR))
        reply = await world.commit(event())

        assert reply.publishes[0].deliveries == 1

    async def test_many_keys_in_one_batch(self, world: World) -> None:
        """A batch may begin waits for very many keys, and another publish to all of them."""
        keys = [f"key-{number}" for number in range(world.scale)]
        await world.started(subscribe=[wait(key=key, pointer=number) for number, key in enumerate(keys)])

        reply = await world.commit(*(event(key=key) for key in keys))

        assert sum(one.deliveries for one in reply.publishes) == len(keys)
        assert len({row.pointer for row in await world.inbox()}) == len(keys)


class FutureEventPromises:
    """An event of the future is kept aside until it is promoted."""

    async def test_future_event_reaches_nobody_yet(self, world: World) -> None:
        """An event that is not effective yet matches neither a standing wait nor one that begins."""
        held = await world.started(subscribe=[wait()])

        reply = await world.commit(event(effective_at=await world.after(HOUR)))
        await world.write(held, subscribe=[wait(pointer=2, as_of=0)])

        assert (reply.publishes[0].outcome, reply.publishes[0].deliveries) == (CREATED, 0)
        assert await world.inbox() == []

    async def test_past_effective_time_is_now(self, world: World) -> None:
        """An event whose effective time is over is published at once."""
        await world.started(subscribe=[wait()])

        reply = await world.commit(event(effective_at=await world.after(-HOUR)))

        assert reply.publishes[0].deliveries == 1

    async def test_next_event_is_told(self, world: World) -> None:
        """A claim tells the earliest effective time of the events kept aside, or None."""
        nothing = (await world.claim()).next_event
        early, late = await world.after(MINUTE), await world.after(HOUR)

        await world.commit(event(effective_at=late), event(effective_at=early), event())

        assert (nothing, (await world.claim()).next_event) == (None, early)

    async def test_promote_publishes_what_is_due(self, world: World) -> None:
        """When its time has come, a batch with `promote` publishes the event to the waits of then."""
        await world.started(subscribe=[wait()])
        await world.commit(event(payload=b"due", effective_at=await world.after(INSTANT)))
        await world.pass_time(INSTANT * 2)

        reply = await world.commit(promote=10)

        (row,) = await world.inbox()
        assert (row.payload, row.sequence > 0) == (b"due", True)
        assert [one.row for one in reply.deliveries] == [row]
        assert (await world.claim()).next_event is None

    async def test_due_event_waits_for_promote(self, world: World) -> None:
        """A claim tells that an event is due; without `promote` no batch publishes it."""
        await world.started(subscribe=[wait()])
        await world.commit(event(effective_at=await world.after(INSTANT)))
        await world.pass_time(INSTANT * 2)

        await world.commit(promote=0)
        claimed = await world.claim()

        assert await world.inbox() == []
        assert claimed.next_event is not None
        assert claimed.next_event <= claimed.now

    async def test_promote_is_never_early(self, world: World) -> None:
        """Promoting leaves events whose time has not come."""
        await world.started(subscribe=[wait()])
        ahead = await world.after(HOUR)
        await world.commit(event(effective_at=ahead))

        await world.commit(promote=10)

        assert (await world.inbox(), (await world.claim()).next_event) == ([], ahead)

    async def test_promoted_event_is_stored(self, world: World) -> None:
        """A promoted event is matched by waits that begin after it, like any other."""
        held = await world.started()
        await world.commit(event(payload=b"promoted", effective_at=await world.after(INSTANT)))
        await world.pass_time(INSTANT * 2)
        await world.commit(promote=10)

        await world.write(held, subscribe=[wait()])

        assert await world.payloads() == [b"promoted"]

    async def test_event_is_promoted_once(self, world: World) -> None:
        """Promoting again publishes nothing again."""
        held = await world.started()
        await world.commit(event(effective_at=await world.after(INSTANT)))
        await world.pass_time(INSTANT * 2)
        await world.commit(promote=10)
        await world.commit(promote=10)

        await world.write(held, subscribe=[wait(number=1)])
        (row,) = await world.inbox()
        await world.write(held, subscribe=[wait(number=2)], **consumption(row))

        assert await world.inbox() == []

    async def test_promote_has_a_limit_and_an_order(self, world: World) -> None:
        """A batch promotes so many at most, earliest effective time first."""
        held = await world.started()
        second, first = await world.after(INSTANT * 2), await world.after(INSTANT)
        await world.commit(event(payload=b"2", effective_at=second), event(payload=b"1", effective_at=first))
        await world.pass_time(INSTANT * 3)

        await world.commit(promote=1)
        await world.write(held, subscribe=[wait(number=1)])
        one, left = await world.payloads(), (await world.claim()).next_event
        await world.commit(promote=1)
        (row,) = await world.inbox()
        await world.write(held, subscribe=[wait(number=2)], **consumption(row))

        assert (one, left) == ([b"1"], second)
        assert await world.payloads() == [b"2"]

    async def test_promoted_events_come_before_those_of_the_batch(self, world: World) -> None:
        """A batch publishes what is due before its own events."""
        await world.started(subscribe=[wait()])
        await world.commit(event(payload=b"promoted", effective_at=await world.after(INSTANT)))
        await world.pass_time(INSTANT * 2)

        await world.commit(event(payload=b"now"), promote=1)

        assert await world.payloads() == [b"promoted"]

    async def test_future_event_has_its_id(self, world: World) -> None:
        """The id of an event kept aside is taken: the same content EXISTS, other content is a CONFLICT."""
        ahead = await world.after(HOUR)
        await world.commit(event(payload=b"1", event_id="e", effective_at=ahead))

        reply = await world.commit(
            event(payload=b"1", event_id="e", effective_at=ahead), event(payload=b"2", event_id="e", effective_at=ahead)
        )

        assert [one.outcome for one in reply.publishes] == [EXISTS, CONFLICT]

    async def test_promoted_event_keeps_its_id(self, world: World) -> None:
        """The id of a promoted event stays taken."""
        await world.commit(event(payload=b"1", event_id="e", effective_at=await world.after(INSTANT)))
        await world.pass_time(INSTANT * 2)
        await world.commit(promote=1)

        reply = await world.commit(event(payload=b"2", event_id="e"))

        assert [one.outcome for one in reply.publishes] == [CONFLICT]

    async def test_future_events_are_not_dropped(self, world: World) -> None:
        """Dropping old events leaves those that are still to come."""
        ahead = await world.after(MINUTE)
        await world.commit(event(effective_at=ahead))

        dropped = await world.store.drop_events(await world.after(HOUR))

        assert (dropped, (await world.claim()).next_event) == (0, ahead)

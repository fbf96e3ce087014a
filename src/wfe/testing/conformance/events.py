"""Events and waits: whichever comes first, each wait that matches gets the event once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from wfe.ports.store import InboxRow, PublishOutcome, TransitionOutcome
from wfe.testing.conformance.values import (
    HOUR,
    INSTANT,
    MINUTE,
    event,
    fresh_id,
    message,
    no_wait,
    start,
    transition,
    wait,
)
from wfe.testing.conformance.world import PATIENCE, Held, World

__all__ = ["FutureEventPromises", "PositionPromises", "PublishPromises", "RacePromises", "WaitPromises"]

T = TypeVar("T")

CREATED, EXISTS, CONFLICT = PublishOutcome.CREATED, PublishOutcome.EXISTS, PublishOutcome.CONFLICT


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
        assert (reply.publishes[0].outcome, reply.publishes[0].deliveries) == (CREATED, 1)

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


class PositionPromises:
    """Which stored events a wait takes."""

    async def test_events_before_the_instance_are_not_taken(self, world: World) -> None:
        """Without `as_of`, an event published before the instance was started does not match."""
        await world.commit(event(payload=b"before"))
        await world.pass_time(INSTANT)

        held = await world.started(subscribe=[wait()])
        await world.write(held, subscribe=[wait(pointer=2)])

        assert await world.inbox() == []

    async def test_events_since_the_start_are_taken(self, world: World) -> None:
        """Without `as_of`, an event published after the start matches, even if the wait begins much later."""
        held = await world.started()
        await world.commit(event(payload=b"since"))
        await world.pass_time(INSTANT)

        await world.write(held, subscribe=[wait()])

        assert await world.payloads() == [b"since"]

    async def test_burst_is_received_in_order(self, world: World) -> None:
        """A loop of waits receives every event of a burst once, in the order of publishing."""
        held = await world.started(subscribe=[wait(number=1)])
        payloads = [f"event {number}".encode() for number in range(5)]
        await world.commit(*(event(payload=payload) for payload in payloads[:3]))
        await world.commit(*(event(payload=payload) for payload in payloads[3:]))

        received = [await self._receive(world, held, number) for number in range(1, 6)]

        assert received == payloads
        assert await world.inbox() == []

    async def _receive(self, world: World, held: Held, number: int) -> bytes:
        """Consume the event of a wait and begin the next wait, in one transition."""
        (row,) = await world.inbox(held.id)
        assert row.wait == number
        await world.write(held, subscribe=[wait(number=number + 1)], **consumption(row))
        return row.payload

    async def test_position_is_that_of_the_event_consumed(self, world: World) -> None:
        """A wait takes only events above the position, which stays through waits that began before."""
        held = await world.started(subscribe=[wait(pointer=1)])
        await world.commit(event(payload=b"first"))
        await world.commit(event(payload=b"second"))
        (row,) = await world.inbox()
        await world.write(held, **consumption(row))

        await world.write(held, subscribe=[wait(pointer=1, number=2)])
        await world.write(held, subscribe=[wait(pointer=2, number=1)])

        assert await world.payloads() == [b"second", b"second"]

    async def test_waiting_pointer_takes_what_another_consumed_before_it_began(self, world: World) -> None:
        """Without a position written, a second wait is matched with the first event again."""
        held = await world.started(subscribe=[wait(pointer=1)])
        await world.commit(event(payload=b"first"))

        await world.write(held, subscribe=[wait(pointer=2)])

        assert await world.payloads() == [b"first", b"first"]

    async def test_position_counts_for_waits_of_its_own_transition(self, world: World) -> None:
        """A transition that consumes an event and waits again is not given the same event."""
        held = await world.started(subscribe=[wait()])
        await world.commit(event(payload=b"first"))
        (row,) = await world.inbox()

        await world.write(held, subscribe=[wait(number=2)], **consumption(row))

        assert await world.inbox() == []

    async def test_positions_of_names_and_keys_are_apart(self, world: World) -> None:
        """Consuming events of one name and key moves no other position."""
        held = await world.started()
        await world.commit(event("a", "k", b"a k"), event("b", "k", b"b k"), event("a", "l", b"a l"))

        await world.write(held, positions=[("b", "l", 1_000_000)])
        await world.write(held, positions=[("x", "k", 1_000_000)])
        await world.write(
            held, subscribe=[wait("a", "k", pointer=1), wait("b", "k", pointer=2), wait("a", "l", pointer=3)]
        )

        assert [(row.pointer, row.payload) for row in sorted(await world.inbox(), key=_pointer_of)] == [
            (1, b"a k"),
            (2, b"b k"),
            (3, b"a l"),
        ]

    async def test_positions_of_instances_are_apart(self, world: World) -> None:
        """What one instance consumed is there for another."""
        one = await world.started("one", subscribe=[wait()])
        two = await world.started("two")
        await world.commit(event(payload=b"shared"))
        (row,) = await world.inbox("one")
        await world.write(one, **consumption(row))

        await world.write(two, subscribe=[wait()])

        assert await world.payloads("two") == [b"shared"]

    async def test_position_outlives_the_holder(self, world: World) -> None:
        """A position is kept with the instance when it is given back and taken by another session."""
        held = await world.started(subscribe=[wait()])
        await world.commit(event(payload=b"first"), event(payload=b"second"))
        (row,) = await world.inbox()
        await world.write(held, hold=False, **consumption(row))

        again = await world.taken(session=await world.other_session())
        await world.write(again, subscribe=[wait(number=2)])

        assert await world.payloads() == [b"second"]

    async def test_position_does_not_go_back(self, world: World) -> None:
        """A wait on old events, consumed later, does not let later waits take newer events a second time."""
        held = await world.started(subscribe=[wait()])
        await world.commit(event(payload=b"first"), event(payload=b"second"))
        for number in (2, 3):
            (row,) = await world.inbox()
            await world.write(held, subscribe=[wait(number=number)], **consumption(row))
        await world.write(held, subscribe=[wait(pointer=2, as_of=0)])
        (old,) = await world.inbox()

        await world.write(held, subscribe=[wait(pointer=3)], **consumption(old))

        assert (old.payload, await world.inbox()) == (b"first", [])

    async def test_as_of_zero_takes_any_stored_event(self, world: World) -> None:
        """`as_of=0` takes the first stored event, also one from before the instance."""
        await world.commit(event(payload=b"long ago"))
        await world.pass_time(INSTANT)
        held = await world.started()

        await world.write(held, subscribe=[wait(as_of=0)])

        assert await world.payloads() == [b"long ago"]

    async def test_as_of_zero_ignores_the_position(self, world: World) -> None:
        """`as_of=0` takes any stored event, also one that the instance has consumed."""
        held = await world.started(subscribe=[wait()])
        await world.commit(event(payload=b"first"))
        (row,) = await world.inbox()
        await world.write(held, **consumption(row))

        await world.write(held, subscribe=[wait(number=2, as_of=0)])

        assert await world.payloads() == [b"first"]

    async def test_as_of_time_takes_events_from_then_on(self, world: World) -> None:
        """`as_of` a time takes the first event published at or after it, the exact moment included."""
        await world.commit(event(payload=b"too old"))
        await world.pass_time(INSTANT)
        reply = await world.commit(event(payload=b"exactly then"))
        await world.pass_time(INSTANT)
        await world.commit(event(payload=b"later"))
        held = await world.started()

        await world.write(held, subscribe=[wait(pointer=1, as_of=reply.now), wait(pointer=2, as_of=reply.now + 1)])

        rows = sorted(await world.inbox(), key=_pointer_of)
        assert [row.payload for row in rows] == [b"exactly then", b"later"]

    async def test_as_of_time_ahead_lets_events_pass(self, world: World) -> None:
        """An event published before the `as_of` of a standing wait does not match, and the wait goes on."""
        ahead = await world.after(INSTANT * 10)
        await world.started(subscribe=[wait(as_of=ahead)])

        early = await world.commit(event(payload=b"early"))
        await world.pass_time(INSTANT * 11)
        late = await world.commit(event(payload=b"late"))

        assert early.now < ahead <= late.now
        assert (early.publishes[0].deliveries, late.publishes[0].deliveries) == (0, 1)
        assert await world.payloads() == [b"late"]

    async def test_as_of_waits_for_what_is_not_there(self, world: World) -> None:
        """A wait with `as_of` that no stored event fits is matched by the next one published."""
        held = await world.started()

        await world.write(held, subscribe=[wait(pointer=1, as_of=0), wait(pointer=2, as_of=await world.now())])
        reply = await world.commit(event())

        assert reply.publishes[0].deliveries == 2


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


class RacePromises:
    """Waits and events that are committed at the same time meet all the same."""

    async def test_publish_and_wait_racing_meet_once(self, world: World) -> None:
        """When event and wait are committed together by two processes, each wait gets its event exactly once."""
        keys = [f"key-{number}" for number in range(40)]
        await world.create(*(start(key, hold=True) for key in keys))
        async with world.twin() as publisher:
            races = [
                (world.commit(transition(key, 1, 1, subscribe=[wait(key=key)])), publisher.commit(event(key=key)))
                for key in keys
            ]
            await asyncio.gather(*_in_both_orders(races))

        rows = await world.inbox(*keys)
        assert sorted(row.instance_id for row in rows) == sorted(keys)

    async def test_publishes_racing_for_one_wait_give_one_delivery(self, world: World) -> None:
        """Of many events of one key published at the same time, a wait takes one, and tells one publisher."""
        await world.started(subscribe=[wait()])
        async with world.twin() as other:
            replies = await asyncio.gather(*(one.commit(event()) for one in [world, other] * 10))

        (row,) = await world.inbox()
        assert sum(reply.publishes[0].deliveries for reply in replies) == 1
        assert row.sequence > 0

    async def test_event_racing_a_timeout_has_one_winner(self, world: World) -> None:
        """Event and timeout at the same time: either the timeout is accepted, or the event is delivered."""
        keys = [f"key-{number}" for number in range(30)]
        await world.create(*(start(key, hold=True, subscribe=[wait(key=key)]) for key in keys))
        async with world.twin() as publisher:
            races = [
                (
                    world.commit(transition(key, 1, 1, unsubscribe=[no_wait(required=True)])),
                    publisher.commit(event(key=key)),
                )
                for key in keys
            ]
            replies = await asyncio.gather(*_in_both_orders(races))

        timed_out = [reply.transitions[0] is TransitionOutcome.ACCEPTED for reply in replies if reply.transitions]
        delivered = [reply.publishes[0].deliveries == 1 for reply in replies if reply.publishes]
        assert timed_out == [not won for won in delivered]
        assert len(await world.inbox(*keys)) == sum(delivered)

    async def test_event_racing_an_end_is_harmless(self, world: World) -> None:
        """An event that is published while its instance ends is delivered to nobody or dropped with the inbox."""
        keys = [f"key-{number}" for number in range(30)]
        await world.create(*(start(key, hold=True, subscribe=[wait(key=key)]) for key in keys))
        async with world.twin() as publisher:
            races = [
                (
                    world.commit(transition(key, 1, 1, status="complete", ended=True, hold=False)),
                    publisher.commit(event(key=key)),
                )
                for key in keys
            ]
            await asyncio.gather(*_in_both_orders(races))

        assert await world.inbox(*keys) == []
        assert len(await world.store.ended(keys)) == len(keys)

    async def test_batches_over_the_same_keys_in_any_order_end(self, world: World) -> None:
        """Batches that publish and wait over the same keys in opposite orders do not block each other for ever."""
        keys = [f"key-{number}" for number in range(60)]
        held = await world.started("one")
        async with world.twin() as other, asyncio.timeout(PATIENCE):
            await asyncio.gather(
                world.write(held, subscribe=[wait(key=key, pointer=number) for number, key in enumerate(keys)]),
                other.commit(*(event(key=key) for key in reversed(keys))),
                world.commit(*(event(key=key) for key in keys)),
                other.commit(start("two", subscribe=[wait(key=key) for key in reversed(keys)])),
            )

        assert {row.key for row in await world.inbox("one")} == set(keys)

    async def test_same_event_id_racing_is_published_once(self, world: World) -> None:
        """Many callers that publish one id at the same time create one event."""
        await world.started(subscribe=[wait(pointer=number) for number in range(3)])
        same = event(event_id=fresh_id())
        async with world.twin() as other:
            replies = await asyncio.gather(*(one.commit(same) for one in [world, other] * 5))

        outcomes = sorted(reply.publishes[0].outcome.value for reply in replies)
        assert outcomes == ["created"] + ["exists"] * 9
        assert len(await world.inbox()) == 3

    async def test_promoting_at_the_same_time_publishes_once(self, world: World) -> None:
        """However many sessions promote at the same time, a due event is published once."""
        held = await world.started(subscribe=[wait(pointer=1)])
        await world.commit(event(effective_at=await world.after(INSTANT)))
        await world.pass_time(INSTANT * 2)
        async with world.twin() as other:
            await asyncio.gather(*(one.commit(promote=10) for one in [world, other] * 3))

        (row,) = await world.inbox()
        await world.write(held, subscribe=[wait(pointer=1, number=2)], **consumption(row))
        assert await world.inbox() == []

    async def test_publish_behind_a_big_wait_is_not_lost(self, world: World) -> None:
        """An event that is published while a big batch of waits is still being written reaches its wait."""
        keys = [f"key-{number}" for number in range(world.scale // 10)]
        held = await world.started()
        async with world.twin() as publisher:
            waiting = asyncio.ensure_future(
                world.write(held, subscribe=[wait(key=key, pointer=number) for number, key in enumerate(keys)])
            )
            await asyncio.sleep(0)
            await publisher.commit(event(key=keys[-1]), event(key=keys[0]))
            await waiting

        assert sorted(row.key for row in await world.inbox()) == sorted([keys[0], keys[-1]])

    async def test_messages_committed_out_of_order_are_all_read(self, world: World) -> None:
        """A holder that consumes what it sees, while several processes insert, reads every message once."""
        held = await world.started()
        read: list[bytes | None] = []
        async with world.twin() as other:
            senders = asyncio.gather(*(_send_often([world, other][name % 2], str(name), times=10) for name in range(6)))
            while not senders.done() or await world.inbox():
                rows = await world.inbox()
                await asyncio.sleep(0)
                await world.write(held, consumed=[row.id for row in rows])
                read += [row.message for row in rows]
            await senders

        assert sorted(map(str, read)) == sorted(
            str(f"{name} {number}".encode()) for name in range(6) for number in range(10)
        )

    async def test_message_racing_a_transition_stays(self, world: World) -> None:
        """Messages that are inserted while their instance is written are all there afterwards."""
        held = await world.started()
        async with world.twin() as other:
            await asyncio.gather(
                *(other.commit(message(body=f"message {number}".encode())) for number in range(20)),
                world.write(held),
                world.commit(message(body=b"own")),
            )

        assert len(await world.inbox()) == 21


def consumption(*rows: InboxRow) -> dict[str, Sequence[object]]:
    """Make the fields of changes that consume matched events."""
    return {
        "consumed": [row.id for row in rows],
        "positions": [(row.name, row.key, row.sequence) for row in rows],
    }


def _in_both_orders(pairs: Sequence[tuple[T, T]]) -> list[T]:
    """Flatten pairs, every second one turned round: so each side is first in half of the races."""
    return [one for index, pair in enumerate(pairs) for one in pair[:: 1 if index % 2 else -1]]


async def _send_often(world: World, name: str, *, times: int) -> None:
    for number in range(times):
        await world.commit(message(body=f"{name} {number}".encode()))
        await asyncio.sleep(0)


def _pointer_of(row: InboxRow) -> int:
    return row.pointer

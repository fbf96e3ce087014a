"""Which stored events a wait takes: by position, or from a time on."""

from __future__ import annotations

from wfe.ports.store import InboxRow
from wfe.testing.conformance.values import INSTANT, consumption, event, wait
from wfe.testing.conformance.world import Held, World

__all__ = ["PositionPromises"]


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


def _pointer_of(row: InboxRow) -> int:
    return row.pointer

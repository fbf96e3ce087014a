"""What is committed or claimed at the same time, by several processes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from wfe.ports.store import TransitionOutcome
from wfe.testing.conformance.values import (
    INSTANT,
    consumption,
    due,
    event,
    fresh_id,
    message,
    no_wait,
    start,
    transition,
    wait,
)
from wfe.testing.conformance.world import PATIENCE, World

__all__ = ["ClaimRacePromises", "RacePromises"]

T = TypeVar("T")


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


class ClaimRacePromises:
    """However many take at the same time, each instance has one holder."""

    async def test_racing_claims_share_the_work(self, world: World) -> None:
        """Sessions of several processes that claim at the same time take each instance once, and all of them."""
        ids = [f"order-{number}" for number in range(100)]
        await world.create(*(due(instance_id) for instance_id in ids))
        async with world.twin() as other:
            claims = await asyncio.gather(*(one.claim(7) for one in [world, other] * 10))
            rest = await world.claim(100)

        taken = [loaded.id for reply in [*claims, rest] for loaded in reply.instances]
        assert sorted(taken) == sorted(ids)

    async def test_racing_claims_of_one_instance_have_one_winner(self, world: World) -> None:
        """Of many sessions that a hint sends to one instance, one takes it."""
        await world.create(due())
        async with world.twin() as other:
            claims = await asyncio.gather(*(one.claim(1, ids=["order-1"]) for one in [world, other] * 10))

        fences = [loaded.fence for reply in claims for loaded in reply.instances]
        assert fences == [1]

    async def test_claim_racing_a_message_takes_it_once(self, world: World) -> None:
        """A claim and a batch that may take the same idle instance give it one holder."""
        ids = [f"order-{number}" for number in range(20)]
        await world.create(*(start(instance_id) for instance_id in ids))
        async with world.twin() as other:
            commits, claims = await asyncio.gather(
                asyncio.gather(*(world.commit(message(instance_id), room=1) for instance_id in ids)),
                asyncio.gather(*(other.claim(1, ids=[instance_id]) for instance_id in ids)),
            )

        taken = [one.id for reply in commits for one in reply.taken] + [
            one.id for reply in claims for one in reply.instances
        ]
        assert len(taken) == len(set(taken))
        assert set(taken) | set(await world.claimed_ids()) == set(ids)

    async def test_racing_transitions_of_one_revision_have_one_winner(self, world: World) -> None:
        """Of transitions decided on the same revision, one is accepted, whoever commits it."""
        held = await world.started()
        async with world.twin() as other:
            replies = await asyncio.gather(
                *(one.commit(held.write(head=str(number).encode())) for number, one in enumerate([world, other] * 5))
            )

        outcomes = sorted(reply.transitions[0].value for reply in replies)
        assert outcomes == ["accepted"] + ["stale"] * 9
        assert (await world.row()).revision == 2

    async def test_claim_racing_the_old_holder_fences_it(self, world: World) -> None:
        """When a dead session's instance is taken while it writes, its write comes before the taking or is refused."""
        dead = await world.other_session()
        ids = [f"order-{number}" for number in range(20)]
        await world.commit(*(start(instance_id, hold=True, wake_at=0) for instance_id in ids), session=dead)
        await world.lease.end(dead)
        async with world.twin() as other:
            late, claims = await asyncio.gather(
                asyncio.gather(
                    *(other.commit(transition(instance_id, 1, 1, wake_at=0), session=dead) for instance_id in ids)
                ),
                asyncio.gather(*(world.claim(1, ids=[instance_id]) for instance_id in ids)),
            )

        revisions = {loaded.id: loaded.revision for reply in claims for loaded in reply.instances}
        for instance_id, reply in zip(ids, late, strict=True):
            seen = 2 if reply.transitions[0].value == "accepted" else 1
            assert revisions.get(instance_id, seen) == seen


def _in_both_orders(pairs: Sequence[tuple[T, T]]) -> list[T]:
    """Flatten pairs, every second one turned round: so each side is first in half of the races."""
    return [one for index, pair in enumerate(pairs) for one in pair[:: 1 if index % 2 else -1]]


async def _send_often(world: World, name: str, *, times: int) -> None:
    for number in range(times):
        await world.commit(message(body=f"{name} {number}".encode()))
        await asyncio.sleep(0)

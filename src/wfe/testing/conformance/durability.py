"""What is committed stays: through closing and opening, and through lost connections."""

from __future__ import annotations

import asyncio

from wfe.ports.store import (
    Batch,
    CommitReply,
    DefinitionRow,
    ErrorRow,
    ItemsRow,
    ListFilter,
    PointerRow,
    TransitionOutcome,
)
from wfe.testing.conformance.values import DEFINITION, HOUR, announcements, event, message, start, transition, wait
from wfe.testing.conformance.world import World

__all__ = ["LostConnectionPromises", "RestartPromises"]


class RestartPromises:
    """A storage that is opened again, by the same process or another, is as it was left."""

    async def test_instances_survive(self, world: World) -> None:
        """Rows, pointers, collections, errors and messages are there after opening again."""
        held = await world.started(
            pointers=[PointerRow(1, b"p")], items=[ItemsRow(1, b"[1]")], errors=[ErrorRow(1, b"e")]
        )
        await world.write(held, data=b'{"a":1}', hold=False)
        await world.commit(message(body=b"hello"))
        before = await world.row()

        async with world.restarted() as again:
            loaded = await again.take()

            assert (loaded.data, list(loaded.pointers), loaded.revision) == (b'{"a":1}', [b"p"], 2)
            assert [row.items for row in loaded.items] == [b"[1]"]
            assert [row.message for row in loaded.inbox] == [b"hello"]
            assert list(await again.store.errors("order-1")) == [b"e"]
            assert (await again.row()).created_at == before.created_at

    async def test_waits_survive(self, world: World) -> None:
        """A wait from before is matched after opening again."""
        await world.create(start(subscribe=[wait()]))

        async with world.restarted() as again:
            reply = await again.commit(event())

            assert reply.publishes[0].deliveries == 1

    async def test_events_and_positions_survive(self, world: World) -> None:
        """Stored events and the positions of instances are as they were."""
        held = await world.started(subscribe=[wait()])
        await world.commit(event(payload=b"first"), event(payload=b"second", event_id="second"))
        (row,) = await world.inbox()
        await world.write(held, consumed=[row.id], positions=[(row.name, row.key, row.sequence)])

        async with world.restarted() as again:
            await again.write(held, subscribe=[wait(number=2)])
            repeated = await again.commit(event(payload=b"second", event_id="second"))

            assert await again.payloads() == [b"second"]
            assert repeated.publishes[0].outcome.value == "exists"

    async def test_sequence_numbers_go_on(self, world: World) -> None:
        """Events published after opening again are numbered above those from before."""
        await world.started(subscribe=[wait(pointer=1)])
        await world.commit(event())
        (first,) = await world.inbox()

        async with world.restarted() as again:
            await again.started("order-2", subscribe=[wait(key="new")])
            await again.commit(event(key="new"))
            (second,) = await again.inbox("order-2")

            assert second.sequence > first.sequence

    async def test_future_events_survive(self, world: World) -> None:
        """An event kept aside is kept."""
        ahead = await world.after(HOUR)
        await world.commit(event(effective_at=ahead))

        async with world.restarted() as again:
            assert (await again.claim()).next_event == ahead

    async def test_fences_go_on(self, world: World) -> None:
        """A hold from before keeps its fence, and the next taking gets a higher one."""
        held = await world.started()

        async with world.restarted() as again:
            accepted = await again.write(held, hold=False)
            loaded = await again.take()

            assert list(accepted.transitions) == [TransitionOutcome.ACCEPTED]
            assert loaded.fence == held.fence + 1

    async def test_activations_and_reasons_survive(self, world: World) -> None:
        """What nobody could finish is still counted, and still shown with its reason."""
        await world.create(start(wake_at=0))
        session = await world.other_session()
        await world.take(session=session)
        await world.lease.end(session)
        await world.store.block({"order-1": "no definition"})

        async with world.restarted() as again:
            (row,) = await again.store.unclaimed(10)

            assert (row.activations, row.blocked_reason) == (1, "no definition")

    async def test_log_cursors_survive(self, world: World) -> None:
        """A cursor from before goes on where it was."""
        held = await world.started(**announcements(1))
        cursor = (await world.store.log_after(None, 10)).cursor
        await world.write(held, **announcements(1, first=2))

        async with world.restarted() as again:
            page = await again.store.log_after(cursor, 10)
            await again.write(held, **announcements(1, first=3))
            rest = await again.store.log_after(page.cursor, 10)

            assert [row.revision for row in [*page.rows, *rest.rows]] == [2, 3]

    async def test_definitions_survive(self, world: World) -> None:
        """Recorded definitions are there, and still guarded."""
        row = DefinitionRow(DEFINITION, "{}", "source")
        await world.store.save_definition(row)
        await world.create(start())

        async with world.restarted() as again:
            changed = DefinitionRow(DEFINITION._replace(hash="changed"), "{}")

            assert list(await again.store.definitions()) == [row]
            assert await again.store.save_definition(changed) == DEFINITION

    async def test_store_time_goes_on(self, world: World) -> None:
        """Store time after opening again is not before that of the last commit."""
        reply = await world.create(start())

        async with world.restarted() as again:
            assert (await again.commit()).now >= reply.now

    async def test_batch_is_known_again(self, world: World) -> None:
        """A batch with a transition that was committed before is known by its id after opening again."""
        held = await world.started()
        batch = world.batch(held.write(), message())
        await world.store.commit(batch)

        async with world.restarted() as again:
            reply = await again.store.commit(batch)

            assert list(reply.transitions) == [TransitionOutcome.ACCEPTED]
            assert ((await again.row()).revision, len(await again.inbox())) == (2, 1)

    async def test_second_process_sees_every_commit(self, world: World) -> None:
        """What one process committed, another reads at once; both may write."""
        async with world.twin() as other:
            held = await world.started()
            there = await other.row()
            await other.write(held, head=b"by the other")

            assert there.revision == 1
            assert (await world.row()).head == b"by the other"

    async def test_closing_twice_is_harmless(self, world: World) -> None:
        """A store that is closed may be closed again."""
        await world.store.close()

        await world.store.close()

    async def test_close_finishes_what_is_being_written(self, world: World) -> None:
        """A commit that was under way when the store was closed is there, or has failed; it is not half there."""
        batch = world.batch(start("one"), start("two"))
        commit = asyncio.ensure_future(world.store.commit(batch))
        await asyncio.sleep(0)

        async with world.restarted() as again:
            (outcome,) = await asyncio.gather(commit, return_exceptions=True)
            known = sorted(await again.store.known(["one", "two"]))

            assert known in ([], ["one", "two"])
            assert known or isinstance(outcome, BaseException)


class LostConnectionPromises:
    """A connection may be lost at any time; nothing acknowledged is lost, nothing is done twice."""

    async def test_store_goes_on_after_a_lost_connection(self, world: World) -> None:
        """After its connections were cut, a store works again by itself."""
        held = await world.started()

        await world.disconnect()
        row = await world.insist(lambda: world.store.get("order-1"))
        batch = world.batch(held.write(head=b"after"))
        reply = await world.insist(lambda: world.store.commit(batch))

        assert row is not None
        assert list(reply.transitions) == [TransitionOutcome.ACCEPTED]
        assert (await world.row()).head == b"after"

    async def test_commit_under_a_cut_happens_once(self, world: World) -> None:
        """A batch whose connection is cut while it is written is committed once, however often it is tried."""
        held = await world.started()
        for number in range(10):
            batch = world.batch(held.write(), message(body=str(number).encode()), start(f"order-{number + 2}"))
            commit = asyncio.ensure_future(_commit_at_last(world, batch))
            await asyncio.sleep(0)
            await world.disconnect()

            reply = await commit

            assert list(reply.transitions) == [TransitionOutcome.ACCEPTED]
            held.revision += 1
        assert await world.messages() == [str(number).encode() for number in range(10)]

    async def test_claim_under_a_cut_is_found_by_the_next(self, world: World) -> None:
        """An instance whose claim got no answer is taken by another session when that one ends."""
        await world.create(start(wake_at=0))
        session = await world.other_session()
        claim = asyncio.ensure_future(world.claim(session=session))
        await asyncio.sleep(0)
        await world.disconnect()
        await asyncio.gather(claim, return_exceptions=True)

        await world.insist(lambda: world.lease.end(session))
        reply = await world.insist(world.claim)

        assert [loaded.id for loaded in reply.instances] == ["order-1"]

    async def test_many_writers_under_cuts_lose_nothing(self, world: World) -> None:
        """Transitions that are committed while connections are cut again and again are each written once."""
        ids = [f"order-{number}" for number in range(10)]
        await world.create(*(start(instance_id, hold=True) for instance_id in ids))

        writers = asyncio.gather(*(_write_often(world, instance_id, times=10) for instance_id in ids))
        for _ in range(5):
            await asyncio.sleep(0)
            await world.disconnect()
        outcomes = await writers

        assert outcomes == [[TransitionOutcome.ACCEPTED] * 10] * 10
        rows = await world.insist(lambda: world.store.list_instances(ListFilter(), 100))
        assert {row.revision for row in rows[0]} == {11}


async def _commit_at_last(world: World, batch: Batch) -> CommitReply:
    return await world.insist(lambda: world.store.commit(batch))


async def _write_often(world: World, instance_id: str, *, times: int) -> list[TransitionOutcome]:
    outcomes: list[TransitionOutcome] = []
    for revision in range(1, times + 1):
        await asyncio.sleep(0)  # a store that answers without a wait shall be cut between its answers too
        reply = await _commit_at_last(world, world.batch(transition(instance_id, revision, 1)))
        outcomes += reply.transitions
    return outcomes

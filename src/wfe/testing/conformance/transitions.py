"""What an accepted transition writes."""

from __future__ import annotations

from wfe.ports.store import ErrorRow, ItemsRow, PointerRow, TransitionOutcome
from wfe.testing.conformance.values import start, transition
from wfe.testing.conformance.world import World

__all__ = ["TransitionPromises"]


class TransitionPromises:
    """An accepted transition writes everything that it carries."""

    async def test_accepted_transition_writes_the_instance(self, world: World) -> None:
        """Status, run, head and wake time are those of the transition; the revision is the next one."""
        held = await world.started()
        wake = await world.now() + 1_000_000_000

        await world.write(held, status="suspended", run=3, head=b"new", wake_at=wake)

        row = await world.row()
        assert (row.status, row.run, row.head, row.wake_at) == ("suspended", 3, b"new", wake)
        assert (row.revision, row.fence) == (2, 1)

    async def test_transition_keeps_what_it_does_not_carry(self, world: World) -> None:
        """Documents and pointers that a transition does not mention stay."""
        held = await world.started(
            data=b'{"a":1}', values=b'{"b":2}', pointers=[PointerRow(1, b"one"), PointerRow(2, b"two")]
        )

        await world.write(held, pointers=[PointerRow(2, b"changed")])

        row = await world.row()
        assert (row.data, row.values, sorted(row.pointers)) == (b'{"a":1}', b'{"b":2}', [b"changed", b"one"])

    async def test_transition_replaces_documents(self, world: World) -> None:
        """Data and values are replaced each by itself."""
        held = await world.started(data=b'{"a":1}', values=b'{"b":1}')

        await world.write(held, data=b'{"a":2}')
        await world.write(held, values=b'{"b":2}')

        row = await world.row()
        assert (row.data, row.values) == (b'{"a":2}', b'{"b":2}')

    async def test_transition_deletes_pointers(self, world: World) -> None:
        """Slots in `pointers_gone` are deleted, unknown ones ignored, others kept."""
        held = await world.started(pointers=[PointerRow(slot, f"p{slot}".encode()) for slot in range(4)])

        await world.write(held, pointers_gone=[1, 3, 99], pointers=[PointerRow(5, b"p5")])

        assert sorted((await world.row()).pointers) == [b"p0", b"p2", b"p5"]

    async def test_pointers_of_instances_are_apart(self, world: World) -> None:
        """Equal slots of two instances are two pointers."""
        one = await world.started("order-1", pointers=[PointerRow(1, b"one")])
        await world.started("order-2", pointers=[PointerRow(1, b"two")])

        await world.write(one, pointers_gone=[1])

        assert list((await world.row("order-2")).pointers) == [b"two"]

    async def test_collections_are_loaded_with_the_instance(self, world: World) -> None:
        """The items of loops are kept by pointer, replaced, deleted, and loaded by the next holder."""
        held = await world.started(items=[ItemsRow(1, b"[1]"), ItemsRow(2, b"[2]"), ItemsRow(3, b"[3]")])

        await world.write(held, items=[ItemsRow(2, b"[22]"), ItemsRow(4, b"[4]")], items_gone=[1], hold=False)

        loaded = await world.take()
        assert sorted(map(_items_of, loaded.items)) == [(2, b"[22]"), (3, b"[3]"), (4, b"[4]")]

    async def test_errors_are_kept_in_order(self, world: World) -> None:
        """Failed attempts are read oldest first, across transitions."""
        held = await world.started()

        await world.write(held, errors=[ErrorRow(1, b"first"), ErrorRow(2, b"second")])
        await world.write(held, errors=[ErrorRow(number, f"no {number}".encode()) for number in range(3, 12)])

        errors = list(await world.store.errors("order-1"))
        assert errors[:3] == [b"first", b"second", b"no 3"]
        assert errors[-1] == b"no 11"

    async def test_errors_of_an_unknown_instance_are_none(self, world: World) -> None:
        """An instance without failures, or that is not there, has no errors, whatever others have."""
        await world.create(start(), start("order-2", errors=[ErrorRow(1, b"another's")]))

        assert (list(await world.store.errors("order-1")), list(await world.store.errors("nobody"))) == ([], [])

    async def test_hold_keeps_the_instance(self, world: World) -> None:
        """`hold=True` leaves the instance with its session."""
        held = await world.started()

        await world.write(held, hold=True, wake_at=0)

        assert (await world.row()).owner == world.session
        assert await world.claimed_ids() == []

    async def test_transition_may_give_the_instance_back(self, world: World) -> None:
        """`hold=False` gives it back in the same transaction, under the same fence, for others to take."""
        held = await world.started()

        await world.write(held, hold=False, wake_at=0)

        row = await world.row()
        assert (row.owner, row.fence) == (None, 1)
        taken = await world.claim(session=await world.other_session())
        assert [(loaded.id, loaded.fence, loaded.revision) for loaded in taken.instances] == [("order-1", 2, 2)]

    async def test_end_closes_the_instance(self, world: World) -> None:
        """`ended` sets `ended_at` to store time; nobody holds the instance and it wakes no more."""
        held = await world.started(wake_at=0)

        reply = await world.write(held, status="failed", ended=True, hold=True, wake_at=0)

        row = await world.row()
        assert (row.status, row.ended_at, row.owner, row.wake_at) == ("failed", reply.now, None, None)
        assert await world.claimed_ids() == []

    async def test_end_keeps_what_is_shown(self, world: World) -> None:
        """Data, values, errors and the pointers not deleted stay for display."""
        held = await world.started(pointers=[PointerRow(1, b"done"), PointerRow(2, b"failed")])

        await world.end(held, data=b'{"a":1}', values=b'{"b":1}', pointers_gone=[1], errors=[ErrorRow(1, b"why")])

        row = await world.row()
        assert (row.data, row.values, list(row.pointers)) == (b'{"a":1}', b'{"b":1}', [b"failed"])
        assert list(await world.store.errors("order-1")) == [b"why"]

    async def test_end_drops_collections(self, world: World) -> None:
        """What loops walked is not kept for an ended instance."""
        held = await world.started(items=[ItemsRow(1, b"[1]")])

        await world.end(held)

        assert list((await world.take()).items) == []

    async def test_ended_instance_may_live_again(self, world: World) -> None:
        """A retry takes an ended instance by id, and its transition makes it live: no `ended_at`, it can be claimed."""
        await world.end(await world.started(), status="failed")

        again = await world.taken()
        await world.write(again, status="runnable", run=2, wake_at=0, hold=False)

        row = await world.row()
        assert (row.status, row.run, row.ended_at) == ("runnable", 2, None)
        assert await world.claimed_ids() == ["order-1"]

    async def test_accepted_transition_resets_activations(self, world: World) -> None:
        """Activations count takings since the last accepted transition."""
        await world.create(start(wake_at=0))
        held = await world.taken()

        await world.write(held)

        assert (await world.row()).activations == 0

    async def test_many_transitions_are_one_batch(self, world: World) -> None:
        """A batch may write many instances; each gets its own rows."""
        count = 200
        await world.create(*(start(f"order-{number}", hold=True) for number in range(count)))

        reply = await world.commit(
            *(
                transition(f"order-{number}", 1, 1, data=str(number).encode(), pointers=[PointerRow(1, b"p")])
                for number in range(count)
            )
        )

        assert list(reply.transitions) == [TransitionOutcome.ACCEPTED] * count
        assert [(await world.row(f"order-{number}")).data for number in (0, 7, 199)] == [b"0", b"7", b"199"]

    async def test_store_time_does_not_go_back(self, world: World) -> None:
        """Each commit's store time is at or after that of the commit before."""
        held = await world.started()

        times = [(await world.write(held)).now for _ in range(5)]

        assert times == sorted(times)


def _items_of(row: ItemsRow) -> tuple[int, bytes]:
    return row.pointer, row.items

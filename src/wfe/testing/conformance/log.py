"""The log: history of one instance, outbox of all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from wfe.model.errors import ConfigurationError
from wfe.ports.store import LogRow
from wfe.testing.conformance.values import DEFINITION, INSTANT, announcements, as_child, start, transition
from wfe.testing.conformance.world import PATIENCE, World

__all__ = ["HistoryPromises", "OutboxPromises"]


MANY = 1_000
"""More rows than a test writes."""


class HistoryPromises:
    """What one instance announced, in order."""

    async def test_transition_is_logged(self, world: World) -> None:
        """An accepted transition writes one log row, with the revision it produced, its run and store time."""
        held = await world.started()
        said = announcements(3)

        reply = await world.write(held, run=2, **said)

        (row,) = await world.store.history("order-1")
        assert (row.instance_id, row.revision, row.run, row.time) == ("order-1", 2, 2, reply.now)
        assert (row.first_sequence, row.count, row.records) == (1, 3, said["records"])

    async def test_history_names_the_definition(self, world: World) -> None:
        """Rows are read with the definition of their instance, from history and from the outbox."""
        await world.create(start(definition=DEFINITION._replace(version=7), **announcements(1)))

        rows = [*await world.store.history("order-1"), *await world.whole_log()]

        assert [(row.definition_id, row.version) for row in rows] == [(DEFINITION.id, 7)] * 2

    async def test_history_is_in_order(self, world: World) -> None:
        """Rows come in the order of their sequence numbers, and of one instance alone."""
        one, two = await world.started("one"), await world.started("two")
        for number in range(6):
            await world.commit(
                one.write(**announcements(2, first=1 + 2 * number)), two.write(**announcements(1, first=1 + number))
            )
            one.revision += 1
            two.revision += 1

        rows = await world.store.history("one")

        assert [(row.first_sequence, row.count) for row in rows] == [(1 + 2 * number, 2) for number in range(6)]
        assert {row.instance_id for row in rows} == {"one"}

    async def test_history_goes_on_after_a_number(self, world: World) -> None:
        """Rows are given whose last sequence number is above `after`: also one that begins below it."""
        held = await world.started()
        for first in (1, 4, 7):
            await world.write(held, **announcements(3, first=first))

        firsts = {after: await _firsts(world, after) for after in (0, 2, 3, 4, 8, 9)}

        assert firsts == {0: [1, 4, 7], 2: [1, 4, 7], 3: [4, 7], 4: [4, 7], 8: [7], 9: []}

    async def test_history_has_a_limit(self, world: World) -> None:
        """The limit keeps the first rows."""
        held = await world.started()
        for first in (1, 2, 3):
            await world.write(held, **announcements(1, first=first))

        rows = await world.store.history("order-1", 1, 1)

        assert [row.first_sequence for row in rows] == [2]

    async def test_history_of_an_unknown_instance_is_empty(self, world: World) -> None:
        """An instance that is not there has no history, whatever others have."""
        await world.started(**announcements(2))

        assert list(await world.store.history("nobody")) == []

    async def test_history_stays_after_the_end(self, world: World) -> None:
        """An ended instance keeps its history."""
        held = await world.started(**announcements(1))

        await world.end(held, **announcements(1, first=2))

        assert [row.first_sequence for row in await world.store.history("order-1")] == [1, 2]


class OutboxPromises:
    """Everything that all instances announced, in commit order, resumable."""

    async def test_log_begins_with_the_oldest_row(self, world: World) -> None:
        """Without a cursor, reading begins with the oldest row kept."""
        await world.create(start("one", **announcements(1)))
        await world.create(start("two", **announcements(1)))

        assert [row.instance_id for row in await world.whole_log()] == ["one", "two"]

    async def test_log_is_in_commit_order(self, world: World) -> None:
        """Rows of later commits come later, whatever their instance."""
        held = [await world.started("a"), await world.started("b")]
        for index in (1, 0, 0, 1):
            await world.write(held[index], **announcements(1, first=held[index].revision))

        rows = await world.whole_log()

        assert [(row.instance_id, row.revision) for row in rows][2:] == [("b", 2), ("a", 2), ("a", 3), ("b", 3)]

    async def test_children_and_starts_are_logged(self, world: World) -> None:
        """Starts and children are logged like transitions, at revision 1."""
        await world.create(start("parent", children=[as_child("child", "parent", **announcements(2))]))

        rows = [(row.instance_id, row.revision, row.count) for row in await world.whole_log()]

        assert sorted(rows) == [("child", 1, 2), ("parent", 1, 0)]

    async def test_cursor_goes_on(self, world: World) -> None:
        """Reading from a cursor gives what comes after it, without gap or repeat, in pages of any size."""
        held = await world.started()
        for number in range(9):
            await world.write(held, **announcements(1, first=1 + number))

        for size in (1, 3, 4, 100):
            assert [row.revision for row in await _read_in_pages(world, size)] == list(range(1, 11))

    async def test_cursor_at_the_end_sees_what_comes(self, world: World) -> None:
        """A reader at the end gets no rows and a cursor; from it, it sees the next commit alone."""
        held = await world.started()
        end = await world.store.log_after((await world.store.log_after(None, 100)).cursor, 100)

        await world.write(held, **announcements(1))
        after = await world.store.log_after(end.cursor, 100)

        assert (list(end.rows), [row.revision for row in after.rows]) == ([], [2])

    async def test_cursor_of_an_empty_log(self, world: World) -> None:
        """A reader may begin before anything was written."""
        empty = await world.store.log_after(None, 100)

        await world.started()

        rows = (await world.store.log_after(empty.cursor, 100)).rows
        assert (list(empty.rows), [row.instance_id for row in rows]) == ([], ["order-1"])

    async def test_now_is_the_end(self, world: World) -> None:
        """`"now"` gives no rows and the cursor of the end."""
        held = await world.started()

        page = await world.store.log_after("now", 100)
        await world.write(held)

        rows = (await world.store.log_after(page.cursor, 100)).rows
        assert (list(page.rows), [row.revision for row in rows]) == ([], [2])

    async def test_now_of_an_empty_log(self, world: World) -> None:
        """`"now"` is a cursor also before anything was written."""
        page = await world.store.log_after("now", 100)

        await world.started()

        assert len((await world.store.log_after(page.cursor, 100)).rows) == 1

    async def test_log_of_one_instance(self, world: World) -> None:
        """With `instance_id`, only its rows are given; the cursor goes on all the same."""
        one, two = await world.started("one"), await world.started("two")
        for _ in range(5):
            await world.write(two)
            await world.write(one)

        first = await world.store.log_after(None, 4, instance_id="one")
        second = await world.store.log_after(first.cursor, 100, instance_id="one")

        assert [row.revision for row in [*first.rows, *second.rows]] == [1, 2, 3, 4, 5, 6]
        assert {row.instance_id for row in [*first.rows, *second.rows]} == {"one"}

    async def test_refused_transitions_are_not_logged(self, world: World) -> None:
        """Only what was accepted is announced."""
        await world.started()

        await world.commit(transition("order-1", 1, 7, **announcements(1)), start("order-1", **announcements(1)))

        assert [row.revision for row in await world.whole_log()] == [1]

    async def test_foreign_cursor_is_refused(self, world: World) -> None:
        """A cursor that the store did not make is a ConfigurationError, not a wrong page."""
        for cursor in ("", "nonsense", "-1", "' OR 1=1 --"):
            try:
                await world.store.log_after(cursor, 10)
            except ConfigurationError:
                continue
            msg = f"{cursor!r} was taken for a cursor"
            raise AssertionError(msg)

    async def test_rows_of_one_instance_are_in_order_under_load(self, world: World) -> None:
        """A reader that follows the log while several processes commit sees each row once, revisions in order."""
        ids = [f"order-{number}" for number in range(8)]
        await world.create(*(start(instance_id, hold=True) for instance_id in ids))
        async with world.twin() as other:
            writers = asyncio.gather(
                *(
                    _write_often([world, other][index % 2], instance_id, times=10)
                    for index, instance_id in enumerate(ids)
                )
            )
            seen = await _follow(world, writers, until=len(ids) * 11)

        for instance_id in ids:
            assert [row.revision for row in seen if row.instance_id == instance_id] == list(range(1, 12))

    async def test_cursor_outlives_a_purge(self, world: World) -> None:
        """A reader whose next rows were purged goes on with those that are left."""
        await world.end(await world.started("gone"))
        cursor = (await world.store.log_after(None, 1)).cursor
        await world.started("left")

        await world.store.purge(ids=["gone"])

        rows = (await world.store.log_after(cursor, 100)).rows
        assert [row.instance_id for row in rows] == ["left"]

    async def test_log_time_is_store_time(self, world: World) -> None:
        """All rows of one commit carry its store time; later commits carry later times."""
        first = await world.create(start("one"), start("two"))
        await world.pass_time(INSTANT)
        second = await world.create(start("three"))

        assert [row.time for row in await world.whole_log()] == [first.now, first.now, second.now]
        assert first.now < second.now


async def _firsts(world: World, after: int) -> list[int]:
    return [row.first_sequence for row in await world.store.history("order-1", after)]


async def _read_in_pages(world: World, size: int) -> Sequence[LogRow]:
    rows: list[LogRow] = []
    cursor: str | None = None
    while True:
        page = await world.store.log_after(cursor, size)
        if not page.rows:
            return rows
        assert len(page.rows) <= size
        assert len(rows) < MANY, "the cursor does not move"
        rows += page.rows
        cursor = page.cursor


async def _write_often(world: World, instance_id: str, *, times: int) -> None:
    for revision in range(1, times + 1):
        await world.commit(transition(instance_id, revision, 1, **announcements(1, first=revision)))


async def _follow(world: World, writers: asyncio.Future[list[None]], *, until: int) -> list[LogRow]:
    """Read the log page by page until the writers are done and so many rows were seen."""
    seen: list[LogRow] = []
    cursor: str | None = None
    async with asyncio.timeout(3 * PATIENCE):
        while not writers.done() or len(seen) < until:
            page = await world.store.log_after(cursor, 5)
            seen += page.rows
            cursor = page.cursor
            assert len(seen) <= until, "rows are given twice"
            await asyncio.sleep(0)
    await writers
    rest = await world.store.log_after(cursor, 1_000)
    return [*seen, *rest.rows]

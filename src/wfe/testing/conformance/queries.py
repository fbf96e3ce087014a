"""Reading, recording definitions, and deleting what is over."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from wfe.model.errors import ConfigurationError
from wfe.ports.store import (
    DefinitionRow,
    ErrorRow,
    ItemsRow,
    ListFilter,
    ParentLink,
    PointerRow,
    StartOutcome,
    TransitionOutcome,
)
from wfe.testing.conformance.values import (
    DEFINITION,
    HOUR,
    INSTANT,
    OTHER_DEFINITION,
    announcements,
    as_child,
    due,
    event,
    message,
    start,
    wait,
)
from wfe.testing.conformance.world import Held, World

__all__ = ["DefinitionPromises", "ListPromises", "PurgePromises", "ReadPromises"]


class ReadPromises:
    """What is stored can be read, without a lock."""

    async def test_unknown_instance_is_none(self, world: World) -> None:
        """An id or name that nothing has gives None, however near it is to one that is there."""
        await world.create(start("order-1", name="nightly"))

        asked = ["nobody", "order-", "order-11", "ORDER-1", "night", "nightly ", "order__", "%", ""]

        assert [await world.store.get(each) for each in asked] == [None] * len(asked)

    async def test_instance_is_found_by_name(self, world: World) -> None:
        """A name finds its instance; of several the latest."""
        await world.create(start("one", name="nightly"))
        await world.pass_time(INSTANT)
        await world.create(start("two", name="nightly"))
        await world.pass_time(INSTANT)
        await world.create(start("three", name="weekly"))

        assert (await world.row("nightly")).id == "two"

    async def test_id_comes_before_name(self, world: World) -> None:
        """An instance whose id is asked for is given, though another has it as a name."""
        await world.create(start("one"), start("two", name="one"))

        assert (await world.row("one")).id == "one"

    async def test_held_instance_is_read(self, world: World) -> None:
        """Reading does not wait for the holder and changes nothing."""
        await world.started()
        before = await world.row()

        async with world.twin() as other:
            assert await other.row() == before

    async def test_ended_instances_are_told(self, world: World) -> None:
        """`ended` gives those of the ids that have ended, with what a waiter is told; the others not."""
        held = await world.started("over", data=b"{}")
        await world.end(held, status="failed", head=b"end", data=b'{"a":1}', pointers=[PointerRow(3, b"failed")])
        await world.create(start("live"))

        (row,) = await world.store.ended(["live", "over", "nobody"])

        assert (row.id, row.definition, row.status) == ("over", DEFINITION, "failed")
        assert (row.head, row.data, list(row.pointers)) == (b"end", b'{"a":1}', [b"failed"])

    async def test_further_statuses_count_as_an_end(self, world: World) -> None:
        """`until` names statuses that are told too."""
        await world.create(start("suspended", status="suspended"), start("live"))
        await world.end(await world.started("over"))
        ids = ["suspended", "live", "over"]

        plain = await world.store.ended(ids)
        until = await world.store.ended(ids, until=["suspended"])

        assert [row.id for row in plain] == ["over"]
        assert sorted(row.id for row in until) == ["over", "suspended"]

    async def test_nothing_asked_nothing_ended(self, world: World) -> None:
        """No ids ask for nothing."""
        await world.end(await world.started())

        assert list(await world.store.ended([], until=["complete"])) == []

    async def test_known_ids_are_told(self, world: World) -> None:
        """`known` gives those of the ids that exist, live or ended."""
        await world.create(start("live"))
        await world.end(await world.started("over"))

        assert sorted(await world.store.known(["over", "nobody", "live"])) == ["live", "over"]
        assert list(await world.store.known([])) == []


class ListPromises:
    """Instances are listed in pages, newest first."""

    async def test_newest_is_first(self, world: World) -> None:
        """Instances of later commits come first."""
        for number in range(3):
            await world.create(start(f"order-{number}"))
            await world.pass_time(INSTANT)

        rows, cursor = await world.store.list_instances(ListFilter(), 10)

        assert ([row.id for row in rows], cursor) == (["order-2", "order-1", "order-0"], None)

    async def test_listed_rows_are_whole_but_for_pointers(self, world: World) -> None:
        """A listed row says what `get` says, without pointers."""
        await world.create(
            start(
                name="n",
                reference="r",
                parent=ParentLink("parent", 1),
                run=2,
                wake_at=await world.after(HOUR),
                data=b'{"a":1}',
                values=b'{"b":2}',
                pointers=[PointerRow(1, b"p")],
            )
        )
        await world.store.block({"order-1": "no definition"})

        ((row,), _) = await world.store.list_instances(ListFilter(), 10)

        assert list(row.pointers) == []
        assert replace(row, pointers=()) == replace(await world.row(), pointers=())

    async def test_filters(self, world: World) -> None:
        """Each filter keeps what it names; together they keep what all name."""
        await world.create(start("old", reference="a"))
        await world.pass_time(INSTANT)
        since = (await world.create(start("parent", reference="a", children=[as_child("child", "parent")]))).now
        await world.create(start("other", definition=OTHER_DEFINITION, status="suspended", reference="b"))
        await world.end(await world.started("over"))

        assert await _listed(world, ListFilter()) == ["child", "old", "other", "over", "parent"]
        assert await _listed(world, ListFilter(status=["suspended", "complete"])) == ["other", "over"]
        assert await _listed(world, ListFilter(definition_id="refund")) == ["other"]
        assert await _listed(world, ListFilter(reference="a")) == ["old", "parent"]
        assert await _listed(world, ListFilter(since=since)) == ["child", "other", "over", "parent"]
        assert await _listed(world, ListFilter(parent_id="parent")) == ["child"]
        assert await _listed(world, ListFilter(reference="a", since=since)) == ["parent"]
        assert await _listed(world, ListFilter(reference="a", status=["complete"])) == []

    async def test_pages_are_complete(self, world: World) -> None:
        """Pages of any size give every instance once, also those of one commit."""
        ids = [f"order-{number:02}" for number in range(23)]
        await world.create(*(start(instance_id) for instance_id in ids))

        for size in (1, 7, 22, 23, 24):
            assert sorted(await _listed_in_pages(world, size)) == ids

    async def test_last_page_has_no_cursor(self, world: World) -> None:
        """The cursor is None when nothing comes after the page, also when the page is just full."""
        await world.create(*(start(f"order-{number}") for number in range(4)))

        _, first = await world.store.list_instances(ListFilter(), 2)
        rows, last = await world.store.list_instances(ListFilter(), 2, first)

        assert first is not None
        assert (len(rows), last) == (2, None)

    async def test_new_instances_do_not_disturb_the_pages(self, world: World) -> None:
        """Instances started between two pages make nothing be repeated or skipped."""
        ids = {f"order-{number}" for number in range(10)}
        await world.create(*(start(instance_id) for instance_id in sorted(ids)))
        first, cursor = await world.store.list_instances(ListFilter(), 5)
        await world.create(*(start(f"new-{number}") for number in range(5)))

        rest, _ = await world.store.list_instances(ListFilter(), 50, cursor)

        seen = [row.id for row in [*first, *rest]]
        assert ids <= set(seen)
        assert len(seen) == len(set(seen))

    async def test_changed_and_purged_instances_do_not_disturb_the_pages(self, world: World) -> None:
        """Writing to instances, and purging those already seen, makes nothing else be repeated or skipped."""
        for number in range(9):
            await world.started(f"order-{number}")
            await world.pass_time(INSTANT)
        first, cursor = await world.store.list_instances(ListFilter(), 3)
        for row in first:
            await world.end(Held(row.id, row.revision, row.fence))
        await world.store.purge(ids=[row.id for row in first])
        await world.write(Held("order-2", 1, 1), head=b"changed")

        rest, _ = await world.store.list_instances(ListFilter(), 50, cursor)

        assert [row.id for row in [*first, *rest]] == [f"order-{number}" for number in reversed(range(9))]

    async def test_cursor_keeps_to_the_filter(self, world: World) -> None:
        """A filtered list is paged by its own rows."""
        await world.create(*(start(f"order-{number}", reference="ab"[number % 2]) for number in range(10)))

        assert len(await _listed_in_pages(world, 2, ListFilter(reference="a"))) == 5

    async def test_foreign_list_cursor_is_refused(self, world: World) -> None:
        """A cursor that the store did not make is a ConfigurationError, not a wrong page."""
        await world.create(start())
        for cursor in ("", "nonsense", "-1", "' OR 1=1 --", "AAAA"):
            try:
                await world.store.list_instances(ListFilter(), 10, cursor)
            except ConfigurationError:
                continue
            msg = f"{cursor!r} was taken for a cursor"
            raise AssertionError(msg)


class DefinitionPromises:
    """Definitions are recorded once per version; the structure that is in use is not changed."""

    async def test_definition_is_recorded(self, world: World) -> None:
        """A recorded definition reads as it was written."""
        row = DefinitionRow(DEFINITION, '{"steps":[]}', "steps: []\n")

        answer = await world.store.save_definition(row)

        assert (answer, list(await world.store.definitions())) == (None, [row])

    async def test_same_structure_is_recorded_as_it_is_now(self, world: World) -> None:
        """Recording the same key again replaces plan and source, whatever is in use."""
        first = DefinitionRow(DEFINITION, '{"first":1}')
        await world.store.save_definition(first)
        await world.create(start())

        mended = DefinitionRow(DEFINITION, '{"second":2}', "mended: true\n")

        answers = [await world.store.save_definition(mended) for _ in range(2)]

        assert (answers, list(await world.store.definitions())) == ([None, None], [mended])

    async def test_other_structure_in_use_is_refused(self, world: World) -> None:
        """While an unfinished instance uses the recorded structure, another one is refused with the key in use."""
        first = DefinitionRow(DEFINITION, "{}")
        await world.store.save_definition(first)
        await world.create(start())

        answer = await world.store.save_definition(DefinitionRow(CHANGED, '{"changed":1}'))

        assert (answer, list(await world.store.definitions())) == (DEFINITION, [first])

    async def test_held_and_suspended_instances_are_unfinished(self, world: World) -> None:
        """An instance uses its structure whatever it is doing."""
        await world.store.save_definition(DefinitionRow(DEFINITION, "{}"))
        await world.started(status="suspended")

        assert await world.store.save_definition(DefinitionRow(CHANGED, "{}")) == DEFINITION

    async def test_other_structure_replaces_one_that_is_not_in_use(self, world: World) -> None:
        """When all instances of the recorded structure have ended, another one replaces it."""
        await world.store.save_definition(DefinitionRow(DEFINITION, "{}"))
        await world.end(await world.started())
        changed = DefinitionRow(CHANGED, '{"changed":1}')

        answer = await world.store.save_definition(changed)

        assert (answer, list(await world.store.definitions())) == (None, [changed])

    async def test_versions_and_ids_are_apart(self, world: World) -> None:
        """Other versions and other ids are definitions of their own, whatever is in use."""
        await world.create(start())
        rows = [
            DefinitionRow(DEFINITION, "{}"),
            DefinitionRow(DEFINITION._replace(version=2, hash="x"), "{}"),
            DefinitionRow(OTHER_DEFINITION, "{}"),
        ]

        answers = [await world.store.save_definition(row) for row in rows]

        assert answers == [None, None, None]
        assert sorted(row.key for row in await world.store.definitions()) == sorted(row.key for row in rows)

    async def test_instances_of_another_version_do_not_count(self, world: World) -> None:
        """Only unfinished instances of the recorded structure keep it."""
        await world.store.save_definition(DefinitionRow(DEFINITION, "{}"))
        await world.create(start("one", definition=DEFINITION._replace(version=2)))
        await world.create(start("two", definition=OTHER_DEFINITION))

        assert await world.store.save_definition(DefinitionRow(CHANGED, "{}")) is None


class PurgePromises:
    """What is over can be deleted, whole; what lives stays."""

    async def test_purged_instance_is_gone(self, world: World) -> None:
        """Nothing of a purged instance is left: no row, error, history, log or message."""
        await world.create(start(name="nightly", hold=True, pointers=[PointerRow(1, b"p")], items=[ItemsRow(1, b"[]")]))
        await world.commit(message())
        await world.end(Held("order-1", 1, 1), errors=[ErrorRow(1, b"e")], **announcements(1))

        count = await world.store.purge()

        assert count == 1
        assert [await world.store.get(what) for what in ("order-1", "nightly")] == [None, None]
        assert list(await world.store.known(["order-1"])) == []
        assert list(await world.store.errors("order-1")) == []
        assert list(await world.store.history("order-1")) == []
        assert (await world.whole_log(), await world.inbox()) == ([], [])
        assert await _listed(world, ListFilter()) == []

    async def test_live_instances_stay(self, world: World) -> None:
        """No purge deletes an instance that has not ended, also one that is named."""
        await world.create(due("due"), start("suspended", status="suspended"))
        await world.started("held")
        later = await world.after(HOUR)

        counts = [
            await world.store.purge(),
            await world.store.purge(ids=["due", "held", "suspended", "nobody"]),
            await world.store.purge(status=["runnable", "suspended"]),
            await world.store.purge(ended_before=later),
        ]

        assert counts == [0, 0, 0, 0]
        assert len(await _listed(world, ListFilter())) == 3

    async def test_retried_instance_is_live(self, world: World) -> None:
        """An instance that lives again is not purged."""
        await world.end(await world.started(), status="failed")
        await world.write(await world.taken(), run=2)

        assert await world.store.purge() == 0

    async def test_purged_id_is_free(self, world: World) -> None:
        """A purged id may be started again, with another digest, from nothing."""
        held = await world.started(pointers=[PointerRow(1, b"old")], positions=[("paid", "order-1", 1_000_000)])
        await world.end(held, data=b'{"old":1}', errors=[ErrorRow(1, b"old")])
        await world.store.purge()

        reply = await world.commit(start(digest=b"other", subscribe=[wait()]))
        published = await world.commit(event())

        row = await world.row()
        assert list(reply.starts) == [StartOutcome.CREATED]
        assert (row.revision, row.data, list(row.pointers), row.ended_at) == (1, b"{}", [], None)
        assert list(await world.store.errors("order-1")) == []
        assert published.publishes[0].deliveries == 1

    async def test_positions_are_purged(self, world: World) -> None:
        """An instance under a purged id does not inherit its position."""
        held = await world.started(positions=[("paid", "order-1", 1_000_000)])
        await world.end(held)
        await world.store.purge()
        again = await world.started()
        await world.commit(event(payload=b"new"))

        await world.write(again, subscribe=[wait()])

        assert await world.payloads() == [b"new"]

    async def test_purge_by_id(self, world: World) -> None:
        """With `ids`, only these are deleted; an empty list names nothing."""
        for name in ("one", "two", "three"):
            await world.end(await world.started(name))

        counts = [await world.store.purge(ids=[]), await world.store.purge(ids=["one", "nobody", "three"])]

        assert counts == [0, 2]
        assert await _listed(world, ListFilter()) == ["two"]

    async def test_purge_by_status(self, world: World) -> None:
        """With `status`, only instances of these statuses are deleted."""
        for status in ("complete", "failed", "cancelled"):
            await world.end(await world.started(status), status=status)

        count = await world.store.purge(status=["complete", "cancelled"])

        assert (count, await _listed(world, ListFilter())) == (2, ["failed"])

    async def test_purge_by_age(self, world: World) -> None:
        """With `ended_before`, only instances that ended before it are deleted."""
        await world.end(await world.started("old"))
        await world.pass_time(INSTANT)
        reply = await world.end(await world.started("young"))

        count = await world.store.purge(ended_before=reply.now)

        assert (count, await _listed(world, ListFilter())) == (1, ["young"])

    async def test_purge_by_all(self, world: World) -> None:
        """Together, the conditions delete what all of them name."""
        for name, status in (("one", "complete"), ("two", "failed"), ("three", "complete")):
            await world.end(await world.started(name), status=status)

        count = await world.store.purge(ids=["one", "two"], status=["complete"], ended_before=await world.after(HOUR))

        assert (count, await _listed(world, ListFilter())) == (1, ["three", "two"])

    async def test_purge_has_a_limit(self, world: World) -> None:
        """One call deletes so many at most, and tells how many."""
        for number in range(5):
            await world.end(await world.started(f"order-{number}"))

        counts = [await world.store.purge(limit=2) for _ in range(4)]

        assert counts == [2, 2, 1, 0]

    async def test_children_outlive_the_purge_of_their_parent(self, world: World) -> None:
        """Purging a parent leaves its children; their end then reaches nobody."""
        parent = await world.started("parent", children=[as_child("child", "parent", on_parent_end="abandon")])
        await world.end(parent)
        await world.store.purge(ids=["parent"])

        child = await world.taken("child")
        reply = await world.end(child, messages=[message("parent")])

        assert list(reply.deliveries) == []
        assert (await world.row("child")).status == "complete"

    async def test_holder_of_a_purged_instance_is_fenced(self, world: World) -> None:
        """A transition of an instance that was purged meanwhile is refused."""
        await world.end(await world.started(), status="failed")
        held = await world.taken()
        await world.store.release(world.session, [("order-1", held.fence)])
        await world.store.purge()

        reply = await world.commit(held.write())

        assert list(reply.transitions) == [TransitionOutcome.FENCED]

    async def test_purge_keeps_events(self, world: World) -> None:
        """Events belong to no instance: purging those that used them leaves them for others."""
        held = await world.started(subscribe=[wait()])
        await world.commit(event(payload=b"kept"))
        await world.end(held)
        await world.store.purge()

        await world.create(start("order-2", subscribe=[wait(as_of=0)]))

        assert await world.payloads("order-2") == [b"kept"]


CHANGED = DEFINITION._replace(hash="changed structure")


async def _listed(world: World, where: ListFilter) -> list[str]:
    rows, _ = await world.store.list_instances(where, 1_000)
    return sorted(row.id for row in rows)


async def _listed_in_pages(world: World, size: int, where: ListFilter | None = None) -> Sequence[str]:
    ids: list[str] = []
    cursor: str | None = None
    while True:
        rows, cursor = await world.store.list_instances(where or ListFilter(), size, cursor)
        assert len(rows) <= size
        ids += [row.id for row in rows]
        assert len(ids) == len(set(ids)), "an instance is listed twice"
        if cursor is None:
            return ids

"""Announcements to subscribers: in order per instance, at least once, resumable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from wfe.model.lifecycle import LifecycleEvent, LogRecord, encode_records
from wfe.model.moment import to_datetime
from wfe.model.pointer import ErrorRecord
from wfe.model.status import LifecycleKind
from wfe.testing.conformance.values import DEFINITION, announcements, start
from wfe.testing.conformance.world import PATIENCE, Held, World

__all__ = ["SUBJECTS", "LifecyclePromises"]


class LifecyclePromises:
    """A subscriber gets every announcement from its place on, in order."""

    async def test_announcements_come_in_order(self, world: World) -> None:
        """Events of one instance come by sequence number, without a gap, whatever transitions wrote them."""
        held = await world.started(**announcements(2))
        await world.write(held, **announcements(3, first=3))
        await world.write(held, **announcements(1, first=6))

        events = await _read(world, 6, since="start")

        assert [event.sequence for _, event in events] == [1, 2, 3, 4, 5, 6]
        assert [event.step for _, event in events] == [f"step-{number}" for number in range(1, 7)]

    async def test_announcement_is_whole(self, world: World) -> None:
        """An event says what the record says, of which instance, run and definition, at store time of its commit."""
        failure = ErrorRecord("step_failed", "no paper", "print")
        record = LogRecord(LifecycleKind.STEP_FAILED, "print", 4, 2, 1_500_000, failure, "tray 2")

        reply = await world.create(
            start("order-7", run=3, first_sequence=1, record_count=1, records=encode_records([record]))
        )

        ((_, event),) = await _read(world, 1, since="start")
        assert event == LifecycleEvent.from_record(
            record,
            sequence=1,
            time=reply.now,
            workflow_id="order-7",
            definition_id=DEFINITION.id,
            version=DEFINITION.version,
            run=3,
        )
        assert event.time == to_datetime(reply.now)

    async def test_transitions_without_announcements_are_passed_over(self, world: World) -> None:
        """A log row without records is no event."""
        held = await world.started()
        await world.write(held, **announcements(1))
        await world.write(held)
        await world.write(held, **announcements(1, first=2))

        events = await _read(world, 2, since="start")

        assert [event.sequence for _, event in events] == [1, 2]

    async def test_every_cursor_resumes(self, world: World) -> None:
        """From the cursor of any event, also inside a transition, everything after it comes; a repeat may."""
        held = await world.started(**announcements(3))
        await world.write(held, **announcements(3, first=4))
        events = await _read(world, 6, since="start")

        for cursor, handled in events[:-1]:
            rest = await _read_until(world, lambda event: event.sequence == 6, since=cursor)

            assert set(range(handled.sequence + 1, 7)) <= {event.sequence for _, event in rest}
            assert [event.sequence for _, event in rest] == sorted(event.sequence for _, event in rest)

    async def test_last_cursor_waits_for_what_comes(self, world: World) -> None:
        """From the cursor of the last event, the next event comes."""
        held = await world.started(**announcements(1))
        ((cursor, _),) = await _read(world, 1, since="start")
        await world.write(held, **announcements(1, first=2))

        rest = await _read_until(world, lambda event: event.sequence == 2, since=cursor)

        assert rest[-1][1].step == "step-2"

    async def test_subscribing_begins_with_now(self, world: World) -> None:
        """Without a cursor, only what is announced from now on comes."""
        held = await world.started(**announcements(2))
        async with _subscribed(world, since=None) as reader:
            first = await reader.wait()
            sequence = 3
            while not first.done():
                await world.write(held, **announcements(1, first=sequence))
                sequence += 1
                world.provider.lifecycle.wake()
                await asyncio.wait([first], timeout=0.1)

            assert (await reader.next()).sequence >= 3

    async def test_position_is_now(self, world: World) -> None:
        """From `position`, everything that is committed after it comes, and nothing that was before."""
        held = await world.started(**announcements(2))
        cursor = await world.provider.lifecycle.position()
        await world.write(held, **announcements(2, first=3))

        events = await _read(world, 2, since=cursor)

        assert [event.sequence for _, event in events] == [3, 4]

    async def test_position_of_an_empty_log(self, world: World) -> None:
        """Before anything was committed there is a position, too; reading from it waits for what comes."""
        cursor = await world.provider.lifecycle.position()
        await world.create(start(**announcements(1)))

        ((_, event),) = await _read(world, 1, since=cursor)

        assert event.sequence == 1

    async def test_one_workflow_is_picked_out(self, world: World) -> None:
        """With `workflow_id`, only its events come."""
        one, two = await world.started("one", **announcements(1)), await world.started("two", **announcements(1))
        await world.write(two, **announcements(2, first=2))
        await world.write(one, **announcements(1, first=2))

        events = await _read(world, 2, since="start", workflow_id="one")

        assert [(event.workflow_id, event.sequence) for _, event in events] == [("one", 1), ("one", 2)]

    async def test_events_of_all_instances_come(self, world: World) -> None:
        """Without `workflow_id`, the events of all instances come, each instance's in order."""
        held = [await world.started(name) for name in ("a", "b", "c")]
        for number in range(1, 4):
            await world.commit(*(one.write(**announcements(1, first=number)) for one in held))
            held = [Held(one.id, one.revision + 1, one.fence) for one in held]

        events = await _read(world, 9, since="start")

        for name in ("a", "b", "c"):
            assert [event.sequence for _, event in events if event.workflow_id == name] == [1, 2, 3]

    async def test_waiting_subscriber_is_woken(self, world: World) -> None:
        """A subscriber that waits gets what this process commits, once `wake` told of it."""
        held = await world.started()
        async with _subscribed(world, since="start") as reader:
            await reader.wait()

            await world.write(held, **announcements(1))
            world.provider.lifecycle.wake()

            assert (await reader.next()).sequence == 1

    async def test_commits_of_other_processes_come(self, world: World) -> None:
        """A subscriber that waits gets what another process commits."""
        held = await world.started()
        async with world.twin() as other, _subscribed(world, since="start") as reader:
            await reader.wait()

            await other.write(held, **announcements(1))

            assert (await reader.next()).sequence == 1

    async def test_subscribers_are_independent(self, world: World) -> None:
        """Each subscriber has its own place; one that leaves takes nothing from the others."""
        await world.started(**announcements(3))
        async with _subscribed(world, since="start") as slow:
            await slow.next()

            await _read(world, 3, since="start")

            assert (await slow.next()).sequence == 2

    async def test_leaving_while_waiting_is_clean(self, world: World) -> None:
        """A subscriber that stops while it waits is gone, and others go on."""
        held = await world.started()
        async with _subscribed(world, since="start") as reader:
            await reader.wait()

        await world.write(held, **announcements(1))

        assert len(await _read(world, 1, since="start")) == 1

    async def test_nothing_is_missed_under_load(self, world: World) -> None:
        """A subscriber that reads while several processes commit gets every event of every instance, in order."""
        ids = [f"order-{number}" for number in range(6)]
        await world.create(*(start(instance_id, hold=True) for instance_id in ids))
        async with world.twin() as other:
            reading = asyncio.ensure_future(_read(world, 60, since="start"))
            await asyncio.gather(
                reading,
                *(_write_often([world, other][index % 2], instance_id) for index, instance_id in enumerate(ids)),
            )

        for instance_id in ids:
            numbers = [event.sequence for _, event in reading.result() if event.workflow_id == instance_id]
            assert numbers == list(range(1, 11))

    async def test_subscriber_survives_a_lost_connection(self, world: World) -> None:
        """After a cut, a waiting subscriber goes on where it was."""
        held = await world.started(**announcements(1))
        async with _subscribed(world, since="start") as reader:
            await reader.next()
            await reader.wait()

            await world.disconnect()
            batch = world.batch(held.write(**announcements(1, first=2)))
            await world.insist(lambda: world.store.commit(batch))

            assert (await reader.next()).sequence == 2


Announced = tuple[str, LifecycleEvent]


class Reader:
    """One subscriber, that may already wait for its next event."""

    def __init__(self, news: AsyncIterator[Announced]) -> None:
        self._news = news
        self._waiting: asyncio.Future[Announced] | None = None

    async def wait(self) -> asyncio.Future[Announced]:
        """Begin to wait for the next event."""
        self._waiting = asyncio.ensure_future(anext(self._news))
        await asyncio.sleep(0)
        return self._waiting

    async def next(self) -> LifecycleEvent:
        """Give the next event, when it comes."""
        waiting, self._waiting = self._waiting or await self.wait(), None
        async with asyncio.timeout(PATIENCE):
            return (await waiting)[1]

    async def leave(self) -> None:
        """Stop waiting and reading."""
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.gather(self._waiting, return_exceptions=True)
        if isinstance(self._news, AsyncGenerator):
            await self._news.aclose()


@asynccontextmanager
async def _subscribed(world: World, *, since: str | None) -> AsyncGenerator[Reader, None]:
    reader = Reader(world.provider.lifecycle.subscribe(since=since))
    try:
        yield reader
    finally:
        await reader.leave()


@asynccontextmanager
async def _news_of(
    world: World, *, since: str | None, workflow_id: str | None = None
) -> AsyncGenerator[AsyncIterator[Announced], None]:
    news = world.provider.lifecycle.subscribe(workflow_id=workflow_id, since=since)
    try:
        async with asyncio.timeout(PATIENCE):
            yield news
    finally:
        if isinstance(news, AsyncGenerator):
            await news.aclose()


async def _read(world: World, count: int, *, since: str | None, workflow_id: str | None = None) -> Sequence[Announced]:
    async with _news_of(world, since=since, workflow_id=workflow_id) as news:
        return [await anext(news) for _ in range(count)]


async def _read_until(world: World, last: Callable[[LifecycleEvent], bool], *, since: str) -> Sequence[Announced]:
    events: list[Announced] = []
    async with _news_of(world, since=since) as news:
        while not events or not last(events[-1][1]):
            events.append(await anext(news))
    return events


async def _write_often(world: World, instance_id: str) -> None:
    held = Held(instance_id, 1, 1)
    for number in range(1, 11):
        await asyncio.sleep(0)  # a store that answers without a wait shall be read between its commits too
        await world.write(held, **announcements(1, first=number))
        world.provider.lifecycle.wake()


SUBJECTS: Sequence[type] = (LifecyclePromises,)

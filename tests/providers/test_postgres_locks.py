"""What happens when commits of several hosts meet: who waits for whom, and that nothing is lost or blocked for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.providers.postgres_stores import HERE, commit, opened
from wfe.ports.store import ListFilter, StartOutcome, TransitionOutcome
from wfe.providers.postgres import PostgresProvider
from wfe.providers.postgres.columns import topic_of
from wfe.providers.postgres.schema import migrations
from wfe.testing.conformance.values import (
    DEFINITION,
    HOUR,
    announcements,
    due,
    event,
    message,
    no_wait,
    start,
    transition,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


THERE = "session-there"
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@pytest.fixture
async def here(postgres_url: str) -> AsyncIterator[PostgresProvider]:
    async with opened(postgres_url) as provider:
        await provider.lease.begin(HERE, name="here", ttl=HOUR)
        yield provider


@pytest.fixture
async def there(postgres_url: str) -> AsyncIterator[PostgresProvider]:
    async with opened(postgres_url) as provider:
        await provider.lease.begin(THERE, name="there", ttl=HOUR)
        yield provider


@pytest.fixture
async def hand(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to hold locks with, by hand."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
async def watch(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def until_waiting(watch: asyncpg.Connection, backends: int, kind: str) -> None:
    """Return once so many backends wait for a lock of a kind (`advisory`, `transactionid`)."""
    async with asyncio.timeout(10):
        while True:
            waiting = await watch.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = $1 "
                "AND datname = current_database()",
                kind,
            )
            if waiting == backends:
                return
            await asyncio.sleep(0.01)


# An event of this id that is not committed blocks whoever publishes the same id; it has a stripe of its own.
BLOCK = event(event_id="zz-block", key="block")


async def hold_back(hand: asyncpg.Connection) -> asyncpg.transaction.Transaction:
    """Block all that publish BLOCK, until the transaction that is given ends."""
    holding = hand.transaction()
    await holding.start()
    await hand.execute(
        "INSERT INTO wfe.event (id, topic, batch, name, key, payload) VALUES ($1, '', '', '', '', '')", BLOCK.id
    )
    return holding


def on_other_stripe(key: str) -> bool:
    return topic_of("paid", key)[0] != topic_of(BLOCK.name, BLOCK.key)[0]


class TestRendezvous:
    """An event and a wait that are committed at the same time find each other, whichever is first."""

    async def test_publish_blocked_behind_subscribe(
        self, here: PostgresProvider, there: PostgresProvider, hand: asyncpg.Connection, watch: asyncpg.Connection
    ) -> None:
        """A publisher that comes while a subscriber writes waits for it, and delivers to it."""
        assert on_other_stripe("order-1")
        holding = await hold_back(hand)
        subscriber = asyncio.create_task(commit(here, starts=[start(subscribe=[wait()])], publishes=[BLOCK]))
        await until_waiting(watch, 1, "transactionid")
        publisher = asyncio.create_task(commit(there, publishes=[event()]))
        await until_waiting(watch, 1, "advisory")

        await holding.rollback()
        await subscriber
        reply = await publisher

        assert reply.publishes[0].deliveries == 1
        assert len(await here.store.inbox(["order-1"])) == 1

    async def test_subscribe_blocked_behind_publish(
        self, here: PostgresProvider, there: PostgresProvider, hand: asyncpg.Connection, watch: asyncpg.Connection
    ) -> None:
        """A subscriber that comes while a publisher writes waits for it, and finds the event."""
        await commit(here, starts=[start(hold=True)])
        holding = await hold_back(hand)
        publisher = asyncio.create_task(commit(there, publishes=[event(event_id="aa"), BLOCK]))
        await until_waiting(watch, 1, "transactionid")
        subscriber = asyncio.create_task(commit(here, transitions=[transition("order-1", 1, 1, subscribe=[wait()])]))
        await until_waiting(watch, 1, "advisory")

        await holding.rollback()
        await publisher
        reply = await subscriber

        assert list(reply.unread) == ["order-1"]
        assert [row.pointer for row in await here.store.inbox(["order-1"])] == [1]

    async def test_without_stripes_the_event_is_lost(
        self, here: PostgresProvider, there: PostgresProvider, hand: asyncpg.Connection, watch: asyncpg.Connection
    ) -> None:
        """A copy of the commit that takes no stripes loses the event: so the tests above can fail."""
        (text,) = [migration.statements(there.store._pool.place) for migration in migrations() if migration.number == 3]
        (lock,) = [line for line in text.splitlines() if "pg_advisory_xact_lock" in line]
        await hand.execute(text.replace(lock, "NULL;").replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
        holding = await hold_back(hand)
        subscriber = asyncio.create_task(commit(here, starts=[start(subscribe=[wait()])], publishes=[BLOCK]))
        await until_waiting(watch, 1, "transactionid")

        reply = await commit(there, publishes=[event()])
        await holding.rollback()
        await subscriber

        assert reply.publishes[0].deliveries == 0
        assert await here.store.inbox(["order-1"]) == []

    async def test_timeout_behind_a_publish_sees_that_its_wait_is_gone(
        self, here: PostgresProvider, there: PostgresProvider, hand: asyncpg.Connection, watch: asyncpg.Connection
    ) -> None:
        """A wait whose event is being committed does not end by time: its transition waits, and is refused."""
        await commit(here, starts=[start(hold=True, subscribe=[wait()])])
        holding = hand.transaction()
        await holding.start()
        await hand.execute("DELETE FROM wfe.subscription")  # as a publisher does that has not committed yet
        timeout = asyncio.create_task(
            commit(here, transitions=[transition("order-1", 1, 1, unsubscribe=[no_wait(required=True)])])
        )
        await until_waiting(watch, 1, "transactionid")

        await holding.commit()
        reply = await timeout

        assert list(reply.transitions) == [TransitionOutcome.WAIT_GONE]

    async def test_waits_of_a_batch_without_events_lock_nothing(
        self, here: PostgresProvider, hand: asyncpg.Connection
    ) -> None:
        """A batch of plain transitions goes on while every stripe is locked by others."""
        await commit(here, starts=[start(hold=True)])
        holding = hand.transaction()
        await holding.start()
        space = here.store._pool.place.lock_space
        await hand.execute("SELECT pg_advisory_xact_lock($1, s) FROM generate_series(0, 255) AS s", space)

        reply = await asyncio.wait_for(commit(here, transitions=[transition("order-1", 1, 1)]), 5)

        await holding.rollback()
        assert list(reply.transitions) == [TransitionOutcome.ACCEPTED]


class TestOrderOfLocks:
    """Batches that touch the same rows do not block each other for ever."""

    async def test_deadlock_is_tried_again(
        self, here: PostgresProvider, hand: asyncpg.Connection, watch: asyncpg.Connection
    ) -> None:
        """A commit that the database ends because of a deadlock is repeated, and its outcome is that of the repeat."""
        await commit(here, starts=[start("a", hold=True), start("b", hold=True)])
        holding = hand.transaction()
        await holding.start()
        await hand.execute("SET LOCAL deadlock_timeout = '1min'")
        await hand.execute("SELECT 1 FROM wfe.instance WHERE id = 'b' FOR UPDATE")
        both = asyncio.create_task(commit(here, transitions=[transition("a", 1, 1), transition("b", 1, 1)]))
        await until_waiting(watch, 1, "transactionid")

        # The server ends the one that finds the deadlock, which is the commit: this one looks later.
        await hand.execute("SELECT 1 FROM wfe.instance WHERE id = 'a' FOR UPDATE")
        await holding.rollback()
        reply = await both

        assert list(reply.transitions) == [TransitionOutcome.ACCEPTED] * 2

    async def test_batches_over_the_same_instances_in_opposite_orders(
        self, here: PostgresProvider, there: PostgresProvider, watch: asyncpg.Connection
    ) -> None:
        """Old and new holders that write the same instances in any order never meet in a deadlock."""
        ids = [f"i{number:03}" for number in range(100)]
        await commit(here, starts=[start(each, hold=True) for each in ids])

        async def write(provider: PostgresProvider, order: list[str]) -> list[TransitionOutcome]:
            outcomes: list[TransitionOutcome] = []
            for revision in range(1, 6):
                reply = await commit(provider, transitions=[transition(each, revision, 1) for each in order])
                outcomes += reply.transitions
            return outcomes

        before = await watch.fetchval(DEADLOCKS)
        outcomes = await asyncio.gather(write(here, ids), write(there, ids[::-1]))

        # Both try every revision of every instance; each has exactly one winner.
        accepted = sum(outcome is TransitionOutcome.ACCEPTED for each in outcomes for outcome in each)
        assert accepted == 500
        assert await watch.fetchval(DEADLOCKS) == before

    async def test_starts_of_the_same_ids_in_opposite_orders(
        self, here: PostgresProvider, there: PostgresProvider
    ) -> None:
        """Hosts that start the same ids at the same time in opposite orders create each once."""
        ids = [f"i{number:03}" for number in range(200)]

        replies = await asyncio.gather(
            *(commit(here, starts=[start(each) for each in ids]) for _ in range(2)),
            *(commit(there, starts=[start(each) for each in reversed(ids)]) for _ in range(2)),
        )

        created = sum(outcome is StartOutcome.CREATED for reply in replies for outcome in reply.starts)
        assert created == 200

    async def test_plain_commit_passes_a_locked_instance_of_another(
        self, here: PostgresProvider, hand: asyncpg.Connection
    ) -> None:
        """A message for an instance that is just being written does not wait for that, and neither does its taking."""
        await commit(here, starts=[start(), start("other", hold=True)])
        holding = hand.transaction()
        await holding.start()
        await hand.execute("SELECT 1 FROM wfe.instance WHERE id = 'order-1' FOR UPDATE")

        reply = await asyncio.wait_for(
            commit(here, transitions=[transition("other", 1, 1, messages=[message()])], room=1),
            5,
        )

        await holding.rollback()
        assert list(reply.taken) == []
        assert [delivery.owner for delivery in reply.deliveries] == [None]


class TestClaimsOfSeveral:
    """Instances are taken by one host each."""

    async def test_every_instance_is_taken_once(self, here: PostgresProvider, there: PostgresProvider) -> None:
        """Two stores that claim at the same time, in many tasks, take every due instance exactly once."""
        ids = [f"i{number:04}" for number in range(1_000)]
        await commit(here, starts=[due(each) for each in ids])

        async def claim_all(provider: PostgresProvider, session: str) -> list[str]:
            taken: list[str] = []
            while instances := (await provider.store.claim(session, [DEFINITION], 23)).instances:
                taken += [instance.id for instance in instances]
            return taken

        everybody = await asyncio.gather(
            *(claim_all(here, HERE) for _ in range(3)), *(claim_all(there, THERE) for _ in range(3))
        )

        assert sorted(each for taken in everybody for each in taken) == ids
        rows, _ = await here.store.list_instances(ListFilter(), 1_000)
        assert {row.fence for row in rows} == {1}

    async def test_locked_instance_is_passed_over(self, here: PostgresProvider, hand: asyncpg.Connection) -> None:
        """A claim takes others when the first ones are locked; it never waits."""
        await commit(here, starts=[start(f"i{number}", wake_at=number) for number in range(5)])
        holding = hand.transaction()
        await holding.start()
        await hand.execute("SELECT 1 FROM wfe.instance WHERE id IN ('i0', 'i1') FOR UPDATE")

        reply = await asyncio.wait_for(here.store.claim(HERE, [DEFINITION], 2), 5)

        await holding.rollback()
        assert [instance.id for instance in reply.instances] == ["i2", "i3"]

    async def test_release_racing_an_insert(self, here: PostgresProvider, there: PostgresProvider) -> None:
        """A message that is inserted while its instance is given back is reported to somebody, and is claimed."""
        ids = [f"i{number:02}" for number in range(40)]
        await commit(here, starts=[start(each, hold=True) for each in ids])

        released, inserted = await asyncio.gather(
            asyncio.gather(*(commit(here, transitions=[transition(each, 1, 1, hold=False)]) for each in ids)),
            asyncio.gather(*(commit(there, session=THERE, inbox=[message(each)]) for each in ids)),
        )

        told = {each for reply in released for each in reply.unread}
        told |= {delivery.instance_id for reply in inserted for delivery in reply.deliveries}
        claimed = await here.store.claim(HERE, [DEFINITION], 100)
        assert told == set(ids)
        assert sorted(instance.id for instance in claimed.instances) == ids
        assert {len(instance.inbox) for instance in claimed.instances} == {1}


class TestLogOfSeveral:
    """Readers of everything miss nothing that is committed late."""

    async def test_rows_wait_for_older_transactions(
        self, here: PostgresProvider, there: PostgresProvider, hand: asyncpg.Connection, watch: asyncpg.Connection
    ) -> None:
        """A row that is committed before one of an older transaction is not given before that one."""
        await commit(here, starts=[start("late", hold=True), start("early", hold=True)])
        cursor = (await here.store.log_after("now", 0)).cursor
        holding = await hold_back(hand)
        late = asyncio.create_task(
            commit(here, transitions=[transition("late", 1, 1, **announcements(1))], publishes=[BLOCK])
        )
        await until_waiting(watch, 1, "transactionid")
        await commit(there, transitions=[transition("early", 1, 1, **announcements(1))])

        before = await here.store.log_after(cursor, 10)
        await holding.rollback()
        await late
        after = await here.store.log_after(before.cursor, 10)

        assert list(before.rows) == []
        assert [row.instance_id for row in after.rows] == ["late", "early"]

    async def test_now_is_behind_what_is_visible(self, here: PostgresProvider, hand: asyncpg.Connection) -> None:
        """The cursor of "now" is behind everything committed, though an older transaction still runs."""
        holding = await hold_back(hand)
        await commit(here, starts=[start("before")])
        cursor = (await here.store.log_after("now", 0)).cursor
        await commit(here, starts=[start("behind")])

        await holding.rollback()
        page = await here.store.log_after(cursor, 10)

        assert [row.instance_id for row in page.rows] == ["behind"]


async def test_published_in_the_order_of_the_batch(here: PostgresProvider, hand: asyncpg.Connection) -> None:
    """Events of one batch are numbered as they stand in it, whatever the order of their locks."""
    ids = ["m", "a", "z", "b"]

    await commit(here, publishes=[event(event_id=each) for each in ids])

    rows = await hand.fetch("SELECT id FROM wfe.event ORDER BY sequence")
    assert [row["id"] for row in rows] == ids

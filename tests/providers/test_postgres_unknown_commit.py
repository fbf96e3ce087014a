"""An outcome that a lost connection left unknown is found out, whenever the connection was lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.providers.postgres_proxy import Moment, Proxy, proxied
from tests.providers.postgres_stores import HERE, batch, opened
from wfe.ports.store import (
    Batch,
    CommitReply,
    ListFilter,
    PointerRow,
    PublishOutcome,
    StartOutcome,
    TransitionOutcome,
)
from wfe.providers.postgres import PostgresProvider
from wfe.testing.conformance.values import (
    DEFINITION,
    HOUR,
    announcements,
    as_child,
    due,
    event,
    message,
    start,
    transition,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MARK = b"-mark-"
ALL = ListFilter()
CUTS = [Moment.BEFORE, Moment.HALFWAY, Moment.DURING, Moment.AFTER]


@dataclass(eq=False)
class Line:
    """A provider behind a proxy, and one that reaches the server directly."""

    provider: PostgresProvider
    direct: PostgresProvider
    proxy: Proxy
    url: str

    def leave_behind(self) -> None:
        """Let the server's side of lost connections live, as if it could not be reached either."""
        self.provider.store._pool._left_behind = _Forgetful()

    async def let_go(self) -> None:
        """Send what was held back, and wait until the server has worked on it."""
        self.proxy.let_go.set()
        await asyncio.wait_for(self.proxy.arrived.wait(), 10)

    async def cut(self, moment: Moment, batch: Batch) -> CommitReply:
        """Commit a batch that carries the mark over a connection that is lost at a moment."""
        self.proxy.arm(moment, MARK)
        reply = await self.provider.store.commit(batch)
        assert self.proxy.moment is None, "the request with the mark was not seen"
        return reply

    async def count(self, table: str) -> int:
        """Count rows."""
        connection = await asyncpg.connect(self.url)
        try:
            return int(await connection.fetchval(f"SELECT count(*) FROM wfe.{table}"))
        finally:
            await connection.close()

    async def execute(self, statement: str) -> None:
        """Change something by hand."""
        connection = await asyncpg.connect(self.url)
        await connection.execute(statement)
        await connection.close()


class _Forgetful(set[str]):
    def add(self, label: str) -> None:
        pass


@pytest.fixture
async def line(postgres_url: str) -> AsyncIterator[Line]:
    async with (
        proxied(postgres_url) as proxy,
        opened(postgres_url) as direct,
        opened(proxy.url(postgres_url, unavailable_after=20)) as provider,
    ):
        await direct.lease.begin(HERE, name="host", ttl=HOUR)
        yield Line(provider, direct, proxy, postgres_url)


def everything() -> Batch:
    """Make a batch of one of everything: each part would show if it happened twice."""
    return batch(
        transitions=[
            transition(
                "held",
                1,
                1,
                head=MARK,
                pointers=[PointerRow(1, b"p")],
                children=[as_child("child", "held")],
                messages=[message("free", b"from held")],
                subscribe=[wait(key="stored")],
                **announcements(2, first=3),
            ),
            transition("stale", 7, 1),
        ],
        starts=[start("new", hold=True), start("held")],
        publishes=[event(key="awaited", event_id="event-1"), event(key="awaited", event_id="event-2")],
        inbox=[message("free", b"control", request="request-1"), message("nobody")],
        room=1,
    )


async def prepare(line: Line) -> None:
    """Make what `everything` changes."""
    await line.direct.store.commit(
        batch(
            starts=[
                start("held", hold=True, **announcements(2)),
                start("stale", hold=True),
                start("waiting", subscribe=[wait(key="awaited")]),
                due("free"),
            ],
        )
    )
    await line.direct.store.commit(batch(publishes=[event(key="stored", event_id="event-0")]))


def assert_done(reply: CommitReply) -> None:
    """The reply is that of the batch's only effect."""
    assert list(reply.transitions) == [TransitionOutcome.ACCEPTED, TransitionOutcome.STALE]
    assert list(reply.starts) == [StartOutcome.CREATED, StartOutcome.CONFLICT] or list(reply.starts) == [
        StartOutcome.CREATED,
        StartOutcome.EXISTS,
    ]
    assert [publication.outcome for publication in reply.publishes] == [PublishOutcome.CREATED] * 2
    assert list(reply.inbox) == [True, False]
    assert list(reply.children) == ["child"]
    assert len(reply.taken) == 1


async def assert_once(line: Line, reply: CommitReply) -> None:
    """Everything in the tables is there once, and what the session holds it knows of."""
    store = line.direct.store
    held, free, new = [await store.get(each) for each in ("held", "free", "new")]
    assert held is not None
    assert free is not None
    assert new is not None
    assert (held.revision, held.fence, new.fence) == (2, 1, 1)
    assert [row.message for row in await store.inbox(["free"])] == [b"from held", b"control"]
    assert [row.key for row in await store.inbox(["waiting"])] == ["awaited"]
    assert [row.key for row in await store.inbox(["held"])] == ["stored"]
    (taken,) = reply.taken
    holds = {row.id for row in (await store.list_instances(ALL, 100))[0] if row.owner == HERE}
    assert holds == {"held", "stale", "new", taken.id}
    assert await line.count("event") == 3
    assert await line.count("log") == 4 + 1 + 2


class TestOneCut:
    """A connection is lost once; the store finds out by itself."""

    async def test_deliveries_are_counted_by_the_call_that_makes_them(self, line: Line) -> None:
        """A repeat tells where the event lies, and not how many waits it had reached: some may have had it since."""
        await prepare(line)

        reply = await line.cut(Moment.AFTER, everything())

        assert [publication.deliveries for publication in reply.publishes] == [0, 0]
        assert [row.sequence > 0 for row in await line.direct.store.inbox(["waiting"])] == [True]
        assert "waiting" in {one.instance_id for one in reply.deliveries} | {one.id for one in reply.taken}

    @pytest.mark.parametrize("moment", CUTS)
    async def test_every_part_happens_once(self, line: Line, moment: Moment) -> None:
        """Whenever the connection is lost, the batch is written once and its reply tells what became of it."""
        await prepare(line)

        reply = await line.cut(moment, everything())

        assert_done(reply)
        await assert_once(line, reply)

    async def test_first_try_that_arrives_last_writes_nothing(self, line: Line) -> None:
        """A request that reaches the server after its repeat was written finds everything done."""
        await prepare(line)
        line.leave_behind()
        reply = await line.cut(Moment.LATE, everything())

        await line.let_go()

        assert_done(reply)
        await assert_once(line, reply)

    async def test_lost_connection_is_ended_at_the_server(self, line: Line) -> None:
        """Before it is repeated, what was sent over a lost connection is ended, so that it holds no locks."""
        await prepare(line)

        await line.cut(Moment.LATE, everything())
        line.proxy.let_go.set()

        connection = await asyncpg.connect(line.url)
        others = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'wfe %' AND datname = current_database()"
        )
        await connection.close()
        assert others == 2

    async def test_line_that_falls_silent_is_given_up(self, postgres_url: str) -> None:
        """A connection that gives no answer is left for another one within half of the limit."""
        async with proxied(postgres_url) as proxy, opened(proxy.url(postgres_url, unavailable_after=2)) as provider:
            await provider.store.commit(batch(starts=[start("held", hold=True)]))
            proxy.arm(Moment.SILENT, MARK)

            reply = await provider.store.commit(batch(transitions=[transition("held", 1, 1, head=MARK)]))

            row = await provider.store.get("held")
        assert list(reply.transitions) == [TransitionOutcome.ACCEPTED]
        assert row is not None
        assert row.revision == 2

    @pytest.mark.parametrize("moment", [*CUTS, Moment.LATE])
    async def test_promoted_events_are_promoted_once(self, line: Line, moment: Moment) -> None:
        """A batch that promotes promotes no more events in its repeat than it was to promote."""
        later = [event(key=f"k{n}", event_id=f"e{n}", effective_at=1 << 60) for n in range(4)]
        await line.direct.store.commit(batch(publishes=later, starts=[start("w", subscribe=[wait(key="k0")])]))
        await line.execute("UPDATE wfe.event SET effective_at = substr(id, 2)::bigint")

        line.leave_behind()
        await line.cut(moment, batch(promote=2, starts=[start("new", head=MARK)]))
        if moment is Moment.LATE:
            await line.let_go()

        assert await line.count("event WHERE sequence IS NOT NULL") == 2
        assert len(await line.direct.store.inbox(["w"])) == 1

    @pytest.mark.parametrize("moment", [*CUTS, Moment.LATE])
    async def test_claim_knows_all_that_it_took(self, line: Line, moment: Moment) -> None:
        """Every instance that a claim took is in its reply; none stays held by a session that does not know of it."""
        await line.direct.store.commit(batch(starts=[due(f"due-{n}") for n in range(5)]))
        session = f"session{MARK.decode()}"
        await line.direct.lease.begin(session, name="host", ttl=HOUR)
        line.leave_behind()
        line.proxy.arm(moment, MARK)

        reply = await line.provider.store.claim(session, [DEFINITION], 3)
        if moment is Moment.LATE:
            await line.let_go()

        rows, _ = await line.direct.store.list_instances(ALL, 100)
        assert len(reply.instances) == 3
        assert {row.id for row in rows if row.owner == session} == {taken.id for taken in reply.instances}

    @pytest.mark.parametrize("moment", CUTS)
    async def test_refusals_stay_refusals(self, line: Line, moment: Moment) -> None:
        """A batch of which nothing was accepted is not accepted by its repeat either."""
        await prepare(line)
        refused = batch(
            transitions=[transition("held", 1, 9, head=MARK)],
            starts=[start("stale", digest=b"other")],
        )

        reply = await line.cut(moment, refused)

        assert list(reply.transitions) == [TransitionOutcome.FENCED]
        assert list(reply.starts) == [StartOutcome.CONFLICT]


class TestAlone:
    """Batches of one are sent in a way of their own, and happen once all the same."""

    @pytest.mark.parametrize("moment", [*CUTS, Moment.LATE])
    async def test_transition_happens_once(self, line: Line, moment: Moment) -> None:
        """A lone transition whose answer was lost is accepted once, and known to be."""
        await prepare(line)
        line.leave_behind()

        reply = await line.cut(moment, batch(transitions=[transition("held", 1, 1, head=MARK, **announcements(2, 3))]))
        if moment is Moment.LATE:
            await line.let_go()

        held = await line.direct.store.get("held")
        assert list(reply.transitions) == [TransitionOutcome.ACCEPTED]
        assert held is not None
        assert held.revision == 2
        assert await line.count("log WHERE revision = 2") == 1

    @pytest.mark.parametrize("moment", [*CUTS, Moment.LATE])
    async def test_start_happens_once(self, line: Line, moment: Moment) -> None:
        """A lone start whose answer was lost is told as made by this very batch."""
        await prepare(line)
        line.leave_behind()

        reply = await line.cut(moment, batch(starts=[start("new", hold=True, head=MARK)]))
        if moment is Moment.LATE:
            await line.let_go()

        new = await line.direct.store.get("new")
        assert list(reply.starts) == [StartOutcome.CREATED]
        assert new is not None
        assert (new.revision, new.fence, new.owner) == (1, 1, HERE)

    @pytest.mark.parametrize("moment", [*CUTS, Moment.LATE])
    async def test_event_is_delivered_once(self, line: Line, moment: Moment) -> None:
        """A lone event whose answer was lost is published once, and its reply has the instance that it took."""
        await prepare(line)
        line.leave_behind()

        reply = await line.cut(moment, batch(publishes=[event(key="awaited", payload=MARK, event_id="lone")], room=1))
        if moment is Moment.LATE:
            await line.let_go()

        waiting = await line.direct.store.get("waiting")
        (taken,) = reply.taken
        assert [each.outcome for each in reply.publishes] == [PublishOutcome.CREATED]
        assert (taken.id, [row.payload for row in taken.inbox]) == ("waiting", [MARK])
        assert waiting is not None
        assert (waiting.fence, waiting.owner) == (taken.fence, HERE)
        assert await line.count("event") == 2


class TestManyCuts:
    """Connections are lost again and again."""

    async def test_writers_through_random_cuts(self, line: Line) -> None:
        """Chains of transitions with messages, each cut at some moment, are written without loss or repeat."""
        steps = 12
        await line.direct.store.commit(batch(starts=[start("target"), *(start(f"i{n}", hold=True) for n in range(4))]))

        async def chain(instance_id: str, moments: list[Moment]) -> list[TransitionOutcome]:
            outcomes: list[TransitionOutcome] = []
            for revision, moment in enumerate(moments, 1):
                # Another chain may be hit by this cut: then that one finds out.
                line.proxy.arm(moment, MARK)
                body = f"{instance_id} {revision}".encode()
                reply = await line.provider.store.commit(
                    batch(
                        transitions=[transition(instance_id, revision, 1, head=MARK)], inbox=[message("target", body)]
                    )
                )
                outcomes += reply.transitions
            return outcomes

        moments = [CUTS[n % len(CUTS)] for n in range(steps)]
        outcomes = await asyncio.gather(*(chain(f"i{n}", moments[n:] + moments[:n]) for n in range(4)))

        assert outcomes == [[TransitionOutcome.ACCEPTED] * steps] * 4
        bodies = sorted(row.message or b"" for row in await line.direct.store.inbox(["target"]))
        assert bodies == sorted(f"i{n} {step + 1}".encode() for n in range(4) for step in range(steps))

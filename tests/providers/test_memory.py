"""The memory provider keeps every promise of the ports, and repeats itself exactly."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

from wfe.ports.hints import Hint, HintKind
from wfe.ports.store import Batch, CommitReply, InboxInsert, ListFilter
from wfe.providers.memory import MemoryProvider
from wfe.testing import Fault, FaultyStore, TestClock, When, lifecycle_suite, lock_suite, persistence_suite, queue_suite
from wfe.testing.conformance.values import DEFINITION, event, start, wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wfe.ports.provider import Provider

HOUR = timedelta(hours=1)


@asynccontextmanager
async def memory() -> AsyncIterator[Provider]:
    provider = MemoryProvider(clock=TestClock())
    provider.store = FaultyStore(provider.store)
    await provider.store.open()
    yield provider
    await provider.store.close()


@asynccontextmanager
async def second_view(provider: Provider) -> AsyncIterator[Provider]:
    assert isinstance(provider, MemoryProvider)
    yield provider.share()


async def advance(provider: Provider, duration: timedelta) -> None:
    assert isinstance(provider, MemoryProvider)
    assert isinstance(provider.clock, TestClock)
    provider.clock.advance(duration)


_sides = count()


async def disconnect(provider: Provider) -> None:
    """Memory has no connection to lose: let the next calls fail as if it had."""
    store = provider.store
    assert isinstance(store, FaultyStore)
    side = When.AFTER if next(_sides) % 2 else When.BEFORE
    for method, when in (("commit", side), ("claim", When.BEFORE), ("get", side), ("list_instances", side)):
        store.plan[method, store.calls.get(method, 0) + 1] = Fault(when=when)


TestPersistence = persistence_suite(memory, twin=second_view, advance=advance, disconnect=disconnect)
NO_CONNECTION = "memory has no connection to lose; failing calls of the store are tested with its own suite"
TestLock = lock_suite(memory, twin=second_view, advance=advance, disconnect=NO_CONNECTION)
TestQueue = queue_suite(memory, twin=second_view, disconnect=NO_CONNECTION)
TestLifecycle = lifecycle_suite(memory, twin=second_view, disconnect=NO_CONNECTION)


async def played(provider: MemoryProvider) -> list[object]:
    """Do the same things with ids that are given; tell what was answered."""
    store = provider.store
    await provider.lease.begin("session", name="host", ttl=HOUR)
    starts = [start(f"order-{n}", wake_at=n, subscribe=[wait(pointer=n)]) for n in range(20)]
    batch = Batch(id="1", session="session", starts=starts)
    answers: list[object] = [await store.commit(batch)]
    answers.append(await store.commit(Batch(id="2", session="session", publishes=[event(event_id="e")], room=5)))
    answers.append(await store.claim("session", [DEFINITION], 7))
    answers.append(await store.list_instances(ListFilter(), 100))
    return answers


async def test_run_repeats_itself() -> None:
    """With the same clock and ids, everything is answered the same, in the same order."""
    runs = [await played(MemoryProvider(clock=TestClock())) for _ in range(2)]

    assert runs[0] == runs[1]


async def test_time_comes_from_the_clock_alone() -> None:
    """Store time is the given clock's, and does not go back with it."""
    clock = TestClock(datetime(2030, 1, 1, tzinfo=UTC))
    store = MemoryProvider(clock=clock).store
    first = await store.commit(Batch(id="1", session="s"))

    clock.set_wall(datetime(2029, 1, 1, tzinfo=UTC))
    second = await store.commit(Batch(id="2", session="s"))

    assert first.now == second.now == 1_893_456_000_000_000


async def test_wall_clock_jump_ends_no_session() -> None:
    """Sessions live by the monotonic clock: setting the wall clock forward does not expire them."""
    clock = TestClock()
    provider = MemoryProvider(clock=clock)
    await provider.lease.begin("session", name="host", ttl=HOUR)

    clock.set_wall(datetime(2099, 1, 1, tzinfo=UTC))

    assert list(await provider.lease.alive()) == ["session"]


async def test_views_share_what_is_kept() -> None:
    """A view sees what another wrote, and two providers see nothing of each other."""
    provider = MemoryProvider()
    await provider.store.commit(Batch(id="1", session="s", starts=[start()]))

    assert await provider.share().store.get("order-1") is not None
    assert await MemoryProvider().store.get("order-1") is None


async def test_hosts_on_one_object_hear_each_other() -> None:
    """Hosts that share one view without `share` get each other's hints."""
    hints = MemoryProvider().hints
    heard: dict[str, list[Hint]] = {"a": [], "b": []}
    for session, received in heard.items():
        await hints.open(session, received.append)
    hint = Hint(HintKind.WORK, ("order-1",))

    await hints.send("b", [hint])
    await asyncio.sleep(0)
    directed = {session: list(received) for session, received in heard.items()}
    await hints.send(None, [hint])
    await asyncio.sleep(0)

    assert directed == {"a": [], "b": [hint]}
    assert heard["b"] == [hint, hint]


async def test_host_that_leaves_one_object_leaves_the_others_hearing() -> None:
    """When one of the hosts on one view closes, the others hear on, and it no more once its session has ended."""
    provider = MemoryProvider()
    heard: dict[str, list[Hint]] = {"a": [], "b": []}
    for session, received in heard.items():
        await provider.lease.begin(session, name=session, ttl=HOUR)
        await provider.hints.open(session, received.append)

    await provider.hints.close()
    await provider.lease.end("a")
    await provider.hints.send("a", [Hint(HintKind.WORK, ("order-1",))])
    await provider.hints.send("b", [Hint(HintKind.WORK, ("order-2",))])
    await asyncio.sleep(0)
    await provider.hints.close()
    await provider.hints.send("b", [Hint(HintKind.WORK, ("order-3",))])
    await asyncio.sleep(0)

    assert heard == {"a": [], "b": [Hint(HintKind.WORK, ("order-2",))]}


async def test_hint_is_received_after_the_sender_went_on() -> None:
    """Sending never runs the receiver inside the sender's call."""
    provider = MemoryProvider()
    view = provider.share()
    received: list[Hint] = []
    await view.hints.open("b", received.append)

    await provider.hints.send("b", [Hint(HintKind.ENDED, ("order-1",))])

    assert received == []
    await asyncio.sleep(0)
    assert received == [Hint(HintKind.ENDED, ("order-1",))]


def test_loops_of_several_threads_share_one_provider() -> None:
    """Hosts in threads of their own commit to one provider at the same time, and no batch is lost."""
    provider = MemoryProvider()
    asyncio.run(provider.store.commit(Batch(id="start", session="s", starts=[start()])))
    replies: list[CommitReply] = []

    def write(name: str) -> None:
        view = provider.share()

        async def often() -> None:
            for number in range(200):
                message = InboxInsert("order-1", f"{name} {number}".encode())
                replies.append(await view.store.commit(Batch(id=f"{name} {number}", session="s", inbox=[message])))

        asyncio.run(often())

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    rows = asyncio.run(provider.store.inbox(["order-1"]))
    assert len(rows) == len({row.id for row in rows}) == 600
    assert all(list(reply.inbox) == [True] for reply in replies)


async def test_hint_crosses_threads() -> None:
    """A hint sent in one thread's loop is received in the loop of another, in its own thread."""
    provider = MemoryProvider()
    arrived: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    await provider.hints.open("here", lambda _: arrived.set_result(threading.get_ident()))

    def send() -> None:
        asyncio.run(provider.share().hints.send("here", [Hint(HintKind.WORK, ("order-1",))]))

    await asyncio.to_thread(send)

    async with asyncio.timeout(5):
        assert await arrived == threading.get_ident()

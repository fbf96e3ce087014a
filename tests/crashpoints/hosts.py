"""Scenarios of hosts: starts, several hosts on one store, missing code, readers, upkeep."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.crashpoints.scenario import Build, Context, Scenario, act, add, put
from tests.crashpoints.world import present_life
from wfe import StartConflict, WorkflowBuilder, WorkflowDefinition, WorkflowHost, WorkflowStatus
from wfe.model.moment import to_datetime
from wfe.ports.store import ListFilter

if TYPE_CHECKING:
    from tests.crashpoints.world import Client
    from wfe import LifecycleEvent

__all__ = ["HOSTS"]

_TEN = [f"i{number}" for number in range(6)]


def _count(pace: float) -> WorkflowDefinition[Any]:
    return WorkflowBuilder[Any]().then(add("one")).then(add("two")).then(add("three")).build("count")


def _pause(pace: float) -> WorkflowDefinition[Any]:
    return WorkflowBuilder[Any]().then(add("one")).delay(1.2 * pace).then(add("two")).build("pause")


def _wait(pace: float) -> WorkflowDefinition[Any]:
    flow = WorkflowBuilder[Any]().then(add("one")).wait_for("news", lambda data: data["key"], output="news")
    return flow.then(add("two")).build("wait")


def _listen(pace: float) -> WorkflowDefinition[Any]:
    flow = WorkflowBuilder[Any]().wait_for("news", lambda data: data["key"], as_of="any", timeout=pace, output="news")
    return flow.then(put("unreachable")).build("listen")


def _hang(pace: float) -> WorkflowDefinition[Any]:
    return WorkflowBuilder[Any]().then(act("hangs", takes=1_000.0)).build("hang")


def _parent(pace: float) -> WorkflowDefinition[Any]:
    flow = WorkflowBuilder[Any]().sub_workflow("pause", outputs=lambda child: {"total": child["count"]})
    return flow.then(put("after", after=True)).build("parent")


def _all_of(*makers: Any) -> Build:
    return lambda pace: [make(pace) for make in makers]


# Starts


async def _same_start_twice(client: Client) -> None:
    await client.start("count", "a", {"count": 1})
    await client.start("count", "a", {"count": 1})
    await client.end("a")
    await client.start("count", "a", {"count": 1})

    async def conflict(host: WorkflowHost) -> bool:
        try:
            await host.start_workflow("count", {"count": 2}, id="a")
        except StartConflict:
            return True
        return False

    client.world.notes["conflict"] = await client.ask(conflict)


async def _many_starts(client: Client) -> None:
    await client.ask(lambda host: host.start_workflows("count", [{"count": each} for each in range(6)], ids=_TEN))
    await client.end(*_TEN)


async def _start_later(client: Client) -> None:
    when = to_datetime(client.world.place.clock.now()) + timedelta(seconds=2 * client.world.pace)
    await client.start("count", "a", start_at=when)
    await client.end("a")


# Several hosts


async def _share_work(client: Client) -> None:
    for number, each in enumerate(_TEN):
        await client.start("pause", each, host=number % 2)
    await client.end(*_TEN, host=1)


async def _hand_over(client: Client) -> None:
    for each in _TEN[:3]:
        await client.start("pause", each, host=0)
    await client.begun("one", 3)
    await client.world.retire(0)
    await client.end(*_TEN[:3], host=1)


def _gated(pace: float) -> WorkflowDefinition[Any]:
    async def gated(context: Context) -> None:
        life = present_life()
        life.world.body_begins(life, context)
        while "open" not in life.world.flags:  # noqa: ASYNC110 - the flag is the world's, which has no events
            await asyncio.sleep(0.1 * life.world.pace)
        life.world.body_ends(life)
        context.data["through"] = True

    return WorkflowBuilder[Any]().then(gated).then(add("two")).build("gated")


async def _stop_in_a_body(client: Client) -> None:
    """A host that stops gives back what its body has not finished in time."""
    await client.start("gated", "a", host=0)
    await client.begun("gated")
    await client.world.retire(0)
    client.world.flags.add("open")
    await client.end("a", host=1)


async def _events_across(client: Client) -> None:
    for number, each in enumerate(_TEN[:4]):
        await client.start("wait", each, {"key": each}, host=number % 2)
        await client.waits(each)
    for number, each in enumerate(_TEN[:4]):
        await client.publish(f"e{number}", each, {"number": number}, host=(number + 1) % 2)
    await client.end(*_TEN[:4], host=0)


async def _requests_across(client: Client) -> None:
    await client.start("hang", "a", host=0)
    await client.start("wait", "b", {"key": "b"}, host=0)
    await client.begun("hangs")
    await client.waits("b")
    await client.control("suspend", "b", host=1)
    await client.control("cancel", "a", host=1)
    await client.control("resume", "b", host=1)
    await client.publish("e1", "b", {"number": 1}, host=1)
    await client.end("a", "b", host=1)


async def _children_across(client: Client) -> None:
    await client.start("parent", "a", host=0)
    await client.end("a", host=1)


# Missing code


async def _registered_late(client: Client) -> None:
    world = client.world
    await client.start("pause", "a", host=0)
    await client.begun("one")
    await world.retire(0)

    async def is_blocked() -> bool:
        row = await world.admin.store.get("a")
        return row is not None and (bool(row.blocked_reason) or row.status == "complete")

    await client.until(is_blocked)
    definition = _pause(world.pace)
    world.learned.append(definition)

    async def register(host: WorkflowHost) -> None:
        host.register(definition)

    await client.ask(register, host=1)
    await client.end("a", host=1)


async def _request_without_code(client: Client) -> None:
    await client.start("wait", "a", {"key": "a"}, host=0)
    await client.waits("a")
    await client.world.retire(0)
    await client.control("terminate", "a", host=1)
    await client.end("a", host=1)


# Readers and upkeep


async def _follow(client: Client) -> None:
    """A subscriber that goes on after its cursor sees everything in order, some of it perhaps twice."""
    world = client.world
    seen: list[LifecycleEvent] = []

    async def read(host: WorkflowHost) -> None:
        since = seen[-1].cursor if seen else "start"
        async for event in host.subscribe(workflow_id="a", since=since):
            seen.append(event)
            if event.kind == "workflow completed":
                return

    await client.start("pause", "a")
    await client.ask(read)
    sequence = [event.sequence for event in seen]
    world.notes["seen"] = sorted(set(sequence))
    world.notes["in order"] = sequence == sorted(set(sequence))


async def _tell(client: Client) -> None:
    """A callback of the host is told of everything that happens while the host lives."""
    world = client.world
    told: dict[str, set[int]] = {}

    async def listen(host: WorkflowHost) -> None:
        life = present_life()

        def take(event: LifecycleEvent) -> None:
            told.setdefault(life.name, set()).add(event.sequence)

        await host.events.subscribe(take, workflow_id="a").ready()

    await client.ask(listen)
    await client.start("pause", "a")
    await client.end("a")

    async def all_told() -> bool:
        history = await world.admin.store.history("a")
        last = history[-1].first_sequence + history[-1].count - 1
        return bool(world.died) or any(last in each for each in told.values())

    await client.until(all_told)


async def _read_everything(client: Client) -> None:
    await client.start("wait", "a", {"key": "a"}, reference="r")
    await client.waits("a")
    notes = client.world.notes
    notes["reference"] = [each.id for each in await client.ask(lambda host: host.list_workflows(reference="r"))]
    notes["status"] = (await client.ask(lambda host: host.get_workflow("a"))).status
    notes["history"] = [event.kind for event in await client.ask(lambda host: host.history("a"))]
    notes["errors"] = len(await client.ask(lambda host: host.errors("a")))
    await client.control("suspend", "a")
    until = WorkflowStatus.SUSPENDED
    notes["until"] = (await client.ask(lambda host: host.wait("a", until=until))).status
    await client.control("terminate", "a")
    await client.end("a")


async def _upkeep(client: Client) -> None:
    """What an operator's tools ask of the store itself."""
    await client.start("count", "a")
    await client.start("count", "b")
    await client.publish("e1", "nobody", {"number": 1})
    await client.end("a", "b")
    notes = client.world.notes

    async def tidy(host: WorkflowHost) -> None:
        store = present_life().provider.store
        notes["definitions"] = sorted(row.key.id for row in await store.definitions())
        page = await store.log_after(None, 1_000)
        notes["log"] = len({(row.instance_id, row.revision) for row in page.rows if row.instance_id == "a"})
        await store.purge(ids=["b"])
        notes["purged"] = [row.id for row in (await store.list_instances(ListFilter(), 10))[0]]
        await store.drop_events(client.world.place.clock.now() + 1_000_000)

    await client.ask(tidy)
    await client.sleep(3)


async def _housekeeping(client: Client) -> None:
    """What hosts do only now and then happens now: in real time no run is so long. What is forgotten is not found."""
    world = client.world
    await client.publish("e1", "a", {"number": 1})
    await client.sleep(3)

    async def keep_house(host: WorkflowHost) -> None:
        core = host._life.core()
        core.strays._look_at = core.monotonic()  # so that the next sweep looks for what nobody knows to be held
        assert host._life._housekeeping is not None
        await host._life._housekeeping._forget_events()

    async def has_looked() -> bool:
        return world.gate.passages["store.held"] > 0

    await client.ask(keep_house)
    await client.until(has_looked)
    await client.start("listen", "a", {"key": "a"})
    await client.end("a")


HOSTS = (
    Scenario("same-start-twice", _all_of(_count), _same_start_twice, {"a": "complete"}),
    Scenario("many-starts", _all_of(_count), _many_starts, dict.fromkeys(_TEN, "complete")),
    Scenario("start-later", _all_of(_count), _start_later, {"a": "complete"}),
    Scenario("two-hosts", _all_of(_pause), _share_work, dict.fromkeys(_TEN, "complete"), hosts=2),
    Scenario("hand-over", _all_of(_pause), _hand_over, dict.fromkeys(_TEN[:3], "complete"), hosts=2),
    Scenario(
        "stop-in-a-body", _all_of(_gated), _stop_in_a_body, {"a": "complete"}, hosts=2, about=("store.release",)
    ),
    Scenario(
        "events-across-hosts", _all_of(_wait), _events_across, dict.fromkeys(_TEN[:4], "complete"), hosts=2,
        pipelined=True,
    ),
    Scenario(
        "requests-across-hosts", _all_of(_hang, _wait), _requests_across, {"a": "cancelled", "b": "complete"}, hosts=2
    ),
    Scenario("children-across-hosts", _all_of(_pause, _parent), _children_across, {"a": "complete"}, hosts=2),
    Scenario(
        "registered-late", _all_of(_pause, _count), _registered_late, {"a": "complete"}, hosts=2,
        about=("store.block",),
        knows=lambda machine, definition: machine == 0 or definition == "count",
    ),
    Scenario(
        "request-without-code", _all_of(_wait, _count), _request_without_code, {"a": "terminated"}, hosts=2,
        knows=lambda machine, definition: machine == 0 or definition == "count",
    ),
    Scenario("follower", _all_of(_pause), _follow, {"a": "complete"}, about=("lifecycle.subscribe", "lifecycle.next")),
    Scenario("callback", _all_of(_pause), _tell, {"a": "complete"}, about=("lifecycle.position",)),
    Scenario(
        "reader", _all_of(_wait), _read_everything, {"a": "terminated"},
        about=("store.list_instances", "store.get", "store.history", "store.errors", "store.ended"),
    ),
    Scenario(
        "upkeep", _all_of(_count), _upkeep, {"a": "complete"},
        about=("store.definitions", "store.log_after", "store.purge", "store.drop_events"),
    ),
    Scenario("pipelined", _all_of(_count), _many_starts, dict.fromkeys(_TEN, "complete"), pipelined=True),
    Scenario(
        "housekeeping", _all_of(_listen), _housekeeping, {"a": "failed"}, about=("store.held", "store.drop_events"),
        event_retention=1.0,
    ),
)  # fmt: skip

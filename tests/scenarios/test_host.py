"""What a host does for its callers: start, wait, look, subscribe, stop, go on after a restart."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.scenarios.stage import (
    SECONDS,
    Context,
    Gate,
    Place,
    StartHost,
    ThreadGate,
    eventually,
    failing,
    put,
    stands,
    waits,
)
from wfe import (
    ConfigurationError,
    DataError,
    DefinitionError,
    DefinitionNotFound,
    LifecycleEvent,
    MemoryProvider,
    ShuttingDown,
    StartConflict,
    WaitTimeout,
    WorkflowBuilder,
    WorkflowDefinition,
    WorkflowHost,
    WorkflowHostBuilder,
    WorkflowNotFound,
    WorkflowStatus,
)
from wfe.host.connect import connect
from wfe.ports.provider import Provider
from wfe.testing import Fault, FaultyStore


async def test_starting_with_an_id_is_idempotent(host: WorkflowHost) -> None:
    """The same id with equal definition and data gives the same instance, before and after its end."""
    gate = Gate()
    definition = WorkflowBuilder().start_with(gate.body).build("w")
    other = WorkflowBuilder().then(put("a")).build("other")
    host.register(definition, other)

    first = await host.start_workflow("w", {"x": 1}, id="order-1")
    assert await host.start_workflow("w", {"x": 1}, id="order-1") == first == "order-1"
    for name, data in (("w", {"x": 2}), ("other", {"x": 1})):
        with pytest.raises(StartConflict, match="order-1"):
            await host.start_workflow(name, data, id="order-1")
    await gate.entered()
    gate.open()
    await host.wait("order-1", timeout=SECONDS)
    assert await host.start_workflow("w", {"x": 1}, id="order-1") == "order-1"

    assert gate.runs == 1


async def test_racing_starts_with_one_id_start_one_instance(host: WorkflowHost) -> None:
    """20 at once, in one batch or in several."""
    gate = Gate()
    definition = WorkflowBuilder().start_with(gate.body).build("w")
    host.register(definition)

    ids = await asyncio.gather(*(host.start_workflow("w", {"x": 1}, id="one") for _ in range(20)))
    await gate.entered()
    gate.open()
    await host.wait("one", timeout=SECONDS)

    assert set(ids) == {"one"}
    assert gate.runs == 1
    assert len(await host.list_workflows()) == 1


async def test_ids_are_checked(host: WorkflowHost) -> None:
    """Empty, reserved, too long or not storable: refused."""
    host.register(WorkflowBuilder().then(put("a")).build("w"))

    for given in ("", "a~1.1.0", "x" * 1000, "a\x00b", "\ud800"):
        with pytest.raises(DataError):
            await host.start_workflow("w", id=given)


async def test_bulk_starts(host: WorkflowHost) -> None:
    """One commit; every input is checked before any is started."""
    definition = WorkflowBuilder().then(put("a", done=True)).build("w")
    host.register(definition)

    with pytest.raises(DataError):
        await host.start_workflows("w", [{"n": 1}, {"n": object()}])
    assert len(await host.list_workflows()) == 0
    ids = await host.start_workflows("w", [{"n": n} for n in range(200)])
    results = [await host.wait(each, timeout=SECONDS) for each in ids]

    assert [result.data["n"] for result in results] == list(range(200))
    assert await host.start_workflows("w", []) == []


async def test_wait_has_a_time_limit(host: WorkflowHost) -> None:
    """`WaitTimeout` is a TimeoutError too; the instance goes on, and its state is named."""
    definition = WorkflowBuilder().wait_for("go", "k").build("w")
    instance_id = await host.start_workflow(definition)

    with pytest.raises(WaitTimeout, match="runnable") as caught:
        await host.wait(instance_id, timeout=0.05)

    assert isinstance(caught.value, TimeoutError)
    await host.publish_event("go", "k")
    assert (await host.wait(instance_id, timeout=SECONDS)).status is WorkflowStatus.COMPLETE


class _Slow:
    """A provider whose store can be made not to answer."""

    def __init__(self, inner: Provider) -> None:
        self.url, self.lease, self.hints, self.lifecycle = inner.url, inner.lease, inner.hints, inner.lifecycle
        self.store = FaultyStore(inner.store)

    def never_answers(self, method: str) -> None:
        """Let the next calls of a method take for ever."""
        done = self.store.calls.get(method, 0)
        for number in range(1, 100):
            self.store.plan[method, done + number] = Fault(hook=asyncio.Event().wait)


@pytest.mark.parametrize("method", ["ended", "known", "get"])
async def test_the_time_limit_of_wait_holds_whatever_the_store_does(place: Place, method: str) -> None:
    """`wait` with a timeout comes back with `WaitTimeout` also when the store does not answer."""
    provider = _Slow(connect(place()))
    definition = WorkflowBuilder().wait_for("go", "k").build("w")

    async with WorkflowHost(provider) as host:
        tomorrow = datetime.now(UTC) + timedelta(days=1)  # until then nobody holds it
        instance_id = await host.start_workflow(definition, start_at=tomorrow)
        provider.never_answers(method)

        async with asyncio.timeout(SECONDS):
            with pytest.raises(WaitTimeout, match="The store did not answer in time"):
                await host.wait(instance_id, timeout=0.05)


async def test_waiting_for_no_time_is_a_look(start_host: StartHost) -> None:
    """With a timeout of 0, `wait` gives the result of an instance that has ended, on whatever host."""
    first = await start_host()
    ended = await first.run(WorkflowBuilder().then(put("a", n=1)).build("w"), timeout=SECONDS)
    second = await start_host()

    result = await second.wait(ended.id, timeout=0)

    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"n": 1})


async def test_a_wait_in_vain_tells_what_is_missing(host: WorkflowHost) -> None:
    """The step type that nobody has registered is named at once, before any sweep has found the instance."""
    instance_id = await host.start_workflow(WorkflowBuilder().then("mail").build("w"))

    with pytest.raises(WaitTimeout, match="not registered: step type 'mail' of step 'mail'"):
        await host.wait(instance_id, timeout=0.05)


async def test_what_callers_give_is_checked(host: WorkflowHost) -> None:
    """Times without a zone, and keys that are none, are refused by name; a number or a UUID has a text of its own."""
    definition = WorkflowBuilder().wait_for("e", "5").build("w")
    naive = datetime(2030, 1, 1)  # noqa: DTZ001 - planted

    for what, call in (
        ("start_at", lambda: host.start_workflow(definition, {}, start_at=naive)),
        ("effective_at", lambda: host.publish_event("e", "k", effective_at=naive)),
        ("since", lambda: host.list_workflows(since=naive)),
        ("key", lambda: host.publish_event("e", None)),  # type: ignore[arg-type]  # planted
        ("key", lambda: host.publish_event("e", 1.5)),  # type: ignore[arg-type]  # planted
        ("name", lambda: host.publish_event("", "k")),
    ):
        with pytest.raises(DataError, match=what):
            await call()
    instance_id = await host.start_workflow(definition)
    await host.publish_event("e", 5)  # type: ignore[arg-type]  # waits take numbers as well
    assert (await host.wait(instance_id, timeout=SECONDS)).status is WorkflowStatus.COMPLETE


async def test_a_slip_in_an_id_is_answered_with_the_nearest(host: WorkflowHost) -> None:
    """Whoever asks for a definition that is not there learns which are, and which was probably meant."""
    host.register(WorkflowBuilder().then(put("a")).build("orders"))

    with pytest.raises(DefinitionNotFound, match=r"Registered: orders v1\. Did you mean 'orders'\?"):
        await host.start_workflow("Order", {})


async def test_many_wait_for_one(host: WorkflowHost) -> None:
    """Before and after the end; one that gives up disturbs nobody."""
    gate = Gate()
    instance_id = await host.start_workflow(WorkflowBuilder().start_with(gate.body).build("w"))
    await gate.entered()
    waiting = [asyncio.create_task(host.wait(instance_id, timeout=SECONDS)) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    gate.open()

    results = await asyncio.gather(*waiting[1:])

    assert all(result.status is WorkflowStatus.COMPLETE for result in results)
    assert (await host.wait(instance_id)).status is WorkflowStatus.COMPLETE


async def test_stopping_right_after_registering_is_quiet(
    start_host: StartHost, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that is told to stop while it starts has nothing to warn of; its definitions are known the next time."""
    definition = WorkflowBuilder().then(put("a", a=1)).build("w")
    host = await start_host()
    host.register(definition)

    await host.stop()

    assert [record.getMessage() for record in caplog.records if record.name == "wfe.host"] == []
    await host.start()
    assert (await host.run("w", {}, timeout=SECONDS)).data == {"a": 1}


async def test_a_name_does_for_looking_and_waiting(host: WorkflowHost) -> None:
    """Whoever named an instance may wait for it, and read its history and errors, by that name."""
    instance_id = await host.start_workflow(WorkflowBuilder().start_with(put("a", a=1)).build("w"), name="mine")

    result = await host.wait("mine", timeout=SECONDS)

    assert (result.id, result.data) == (instance_id, {"a": 1})
    assert (await host.history("mine"))[0].workflow_id == instance_id
    assert await host.errors("mine") == []
    for call in (host.wait, host.history, host.errors):
        with pytest.raises(WorkflowNotFound, match="There is no workflow instance 'yours'"):
            await call("yours")


async def test_a_request_wants_the_id_and_says_so(host: WorkflowHost) -> None:
    """The latest of a name may not be the one that is meant: the error gives the id to be used."""
    instance_id = await host.start_workflow(WorkflowBuilder().wait_for("e", "k").build("w"), name="mine")

    for call in (host.suspend_workflow, host.resume_workflow, host.cancel_workflow, host.terminate_workflow):
        with pytest.raises(WorkflowNotFound, match=f"'mine' is the name of workflow instance '{instance_id}'"):
            await call("mine")

    assert (await host.get_workflow(instance_id)).status is WorkflowStatus.RUNNABLE


async def test_get_workflow_by_id_or_name(host: WorkflowHost) -> None:
    """What the store knows now; by name the latest."""
    gate = Gate()
    definition = WorkflowBuilder().start_with(gate.body).id("s").name("The step").build("w", version=3)
    instance_id = await host.start_workflow(definition, {"x": 1}, name="mine", reference="r")
    await gate.entered()

    instance = await host.get_workflow(instance_id)

    assert (await host.get_workflow("mine")).id == instance_id
    assert (instance.name, instance.reference, instance.definition_id, instance.version) == ("mine", "r", "w", 3)
    assert (instance.status, instance.data, instance.run) == (WorkflowStatus.RUNNABLE, {"x": 1}, 1)
    assert datetime.now(UTC) - instance.created_at < timedelta(minutes=1)
    assert instance.ended_at is None
    (state,) = instance.steps
    assert (state.id, state.name, str(state.status), state.attempt) == ("s", "The step", "running", 1)
    gate.open()
    await host.wait(instance_id, timeout=SECONDS)
    ended = await host.get_workflow(instance_id)
    assert ended.ended_at is not None
    assert ended.steps == ()


async def test_list_workflows_by_filter_and_page(host: WorkflowHost) -> None:
    """Newest first; pages neither repeat nor skip."""
    done = WorkflowBuilder().then(put("a")).build("done")
    open_ = WorkflowBuilder().wait_for("go", "k").build("open")
    for number in range(7):
        await host.start_workflow(open_ if number % 2 else done, {"n": number}, reference="odd" if number % 2 else None)

    async def all_done() -> bool:
        return len(await host.list_workflows(status=WorkflowStatus.COMPLETE)) == 4

    await eventually(all_done)
    pages, cursor = [], None
    while True:
        page = await host.list_workflows(limit=3, cursor=cursor)
        pages.append([each.data["n"] for each in page])
        cursor = page.next_cursor
        if cursor is None:
            break

    assert pages == [[6, 5, 4], [3, 2, 1], [0]]
    assert {each.data["n"] for each in await host.list_workflows(reference="odd")} == {1, 3, 5}
    assert {each.data["n"] for each in await host.list_workflows(definition_id="done")} == {0, 2, 4, 6}
    assert len(await host.list_workflows(status=["runnable"])) == 3
    assert len(await host.list_workflows(since=datetime.now(UTC) + timedelta(hours=1))) == 0


async def test_errors_are_listed_oldest_first(host: WorkflowHost) -> None:
    """One entry per failed attempt."""
    from wfe import Continue, Retry

    definition = (
        WorkflowBuilder()
        .then(failing("a"))
        .on_error(Retry(interval=0, max_retries=1, then=Continue()))
        .then(failing("b"))
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)

    assert [str(error) for error in await host.errors(result.id)] == ["a 1", "a 2", "b 1"]


async def test_subscribe_tells_events_in_order(host: WorkflowHost) -> None:
    """Of one instance, from the beginning of the subscription; callbacks and iterators."""
    gate = Gate()
    told: list[LifecycleEvent] = []
    definition = WorkflowBuilder().start_with(gate.body).then(put("b")).build("w")
    instance_id = await host.start_workflow(definition)
    await gate.entered()
    subscription = host.events.subscribe(told.append)
    events = host.subscribe(workflow_id=instance_id)
    reading = asyncio.create_task(_until_end(events))
    await subscription.ready()
    await asyncio.sleep(0)
    gate.open()

    seen = await asyncio.wait_for(reading, SECONDS)

    assert [str(event.kind) for event in seen][-1] == "workflow completed"
    numbers = [event.sequence for event in seen]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    async def all_told() -> bool:
        return bool(told) and str(told[-1].kind) == "workflow completed"

    await eventually(all_told)


async def _until_end(events: Any) -> list[LifecycleEvent]:
    found = []
    async for event in events:
        found.append(event)
        if str(event.kind) == "workflow completed":
            break
    return found


async def test_a_missing_step_type_blocks_visibly(host: WorkflowHost) -> None:
    """The instance waits with its reason, and goes on when the type is registered."""
    definition = WorkflowBuilder().start_with("mail").build("w")
    instance_id = await host.start_workflow(definition)

    async def blocked() -> bool:
        return "mail" in ((await host.get_workflow(instance_id)).blocked_reason or "")

    await eventually(blocked)
    assert (await host.get_workflow(instance_id)).status is WorkflowStatus.RUNNABLE
    host.register_step("mail", put("mail", sent=True))
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.data == {"sent": True}


async def test_a_missing_definition_blocks_visibly(start_host: StartHost) -> None:
    """On a host that does not know it; it goes on when it is registered."""
    definition = WorkflowBuilder().delay(0.01).then(put("a", done=True)).build("w")
    first = await start_host(definition)
    instance_id = await first.start_workflow("w")
    await first.stop()
    second = await start_host()

    async def blocked() -> bool:
        return "'w'" in ((await second.get_workflow(instance_id)).blocked_reason or "")

    if (await second.get_workflow(instance_id)).status is WorkflowStatus.RUNNABLE:
        await eventually(blocked)
        assert (await second.get_workflow(instance_id)).data == {}
    second.register(definition)

    assert (await second.wait(instance_id, timeout=SECONDS)).data == {"done": True}


async def test_a_deregistered_definition_stands_still(host: WorkflowHost) -> None:
    """Until it is back."""
    definition = WorkflowBuilder().wait_for("go", "k").then(put("a", done=True)).build("w")
    instance_id = await host.start_workflow(definition)
    await waits(host, instance_id)

    assert host.deregister("w", 1)
    assert not host.deregister("w", 1)
    await host.publish_event("go", "k")

    async def blocked() -> bool:
        return (await host.get_workflow(instance_id)).blocked_reason is not None

    await eventually(blocked)
    host.register(definition)

    assert (await host.wait(instance_id, timeout=SECONDS)).data == {"done": True}


async def test_a_changed_structure_is_refused_while_it_is_in_use(start_host: StartHost) -> None:
    """Against the store: unfinished instances keep their plan; without any, the new one replaces it."""
    old = WorkflowBuilder().wait_for("go", "k").build("w")
    new = WorkflowBuilder().wait_for("go", "k").then(put("a")).build("w")
    first = await start_host(old)
    instance_id = await first.start_workflow("w")
    await first.stop()

    with pytest.raises(DefinitionError, match="'w' version 1"):
        await start_host(new)
    second = await start_host(old)
    await second.publish_event("go", "k")
    await second.wait(instance_id, timeout=SECONDS)
    await second.stop()
    third = await start_host(new)

    assert [definition.hash for definition in third.definitions()] == [new.hash]


async def test_a_restart_goes_on_where_it_stood(start_host: StartHost) -> None:
    """Sleeping, waiting, suspended, retrying, in a loop: all as they were."""
    from wfe import Retry

    flaky_runs: list[int] = []

    async def flaky(context: Context) -> None:
        flaky_runs.append(context.attempt)
        if context.attempt == 1:
            raise ValueError("broken")

    plans: dict[str, WorkflowDefinition[Any]] = {
        "sleeping": WorkflowBuilder().delay(0.3).then(put("a", done=True)).build("sleeping"),
        "waiting": WorkflowBuilder().wait_for("go", "k", output="done").build("waiting"),
        "suspended": WorkflowBuilder().wait_for("go", "k2").then(put("a", done=True)).build("suspended"),
        "retrying": WorkflowBuilder()
        .start_with(flaky)
        .on_error(Retry(interval=0.3))
        .then(put("a", done=True))
        .build("retrying"),
        "looping": WorkflowBuilder()
        .for_each([1, 2], lambda b: b.wait_for("go", lambda data, context: f"k{context.item}-loop"))
        .then(put("a", done=True))
        .build("looping"),
    }
    first = await start_host(*plans.values())
    ids = {name: await first.start_workflow(name) for name in plans}
    for instance_id in ids.values():
        await waits(first, instance_id)
    await first.suspend_workflow(ids["suspended"])
    await first.stop()

    second = await start_host(*plans.values())
    for key, payload in (("k", True), ("k2", None), ("k1-loop", None), ("k2-loop", None)):
        await second.publish_event("go", key, payload)
    await second.resume_workflow(ids["suspended"])

    for instance_id in ids.values():
        result = await second.wait(instance_id, timeout=SECONDS)
        assert (result.status, result.data["done"]) == (WorkflowStatus.COMPLETE, True)
    assert flaky_runs == [1, 2]


async def test_stop_lets_bodies_finish(start_host: StartHost) -> None:
    """Their answers are recorded, nothing further begins; the next host goes on."""
    gate = Gate(first=True)
    definition = WorkflowBuilder().start_with(gate.body).then(put("b", second=True)).build("w")
    first = await start_host(definition)
    instance_id = await first.start_workflow(definition)
    await gate.entered()

    stopping = asyncio.create_task(first.stop(timeout=SECONDS))
    await asyncio.sleep(0)
    gate.open()
    await stopping
    second = await start_host(definition)
    result = await second.wait(instance_id, timeout=SECONDS)

    assert result.data == {"first": True, "second": True}
    assert gate.runs == 1


async def test_stop_by_force_repeats_what_ran(start_host: StartHost) -> None:
    """Bodies are cancelled; the next host runs them again with the same attempt and key."""
    gate = Gate()
    seen: list[tuple[int, str]] = []

    async def body(context: Context) -> None:
        seen.append((context.attempt, context.idempotency_key))
        if len(seen) == 1:
            await gate.body(context)

    definition = WorkflowBuilder().start_with(body).build("w")
    first = await start_host(definition)
    instance_id = await first.start_workflow(definition)
    await gate.entered()
    await first.stop(force=True)
    assert gate.cancelled == 1

    second = await start_host(definition)
    result = await second.wait(instance_id, timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    assert len(seen) == 2
    assert seen[0] == seen[1]


async def test_a_suspended_body_does_not_run_after_a_crash_until_resumed(start_host: StartHost) -> None:
    """Its host dies while it is suspended; an event reaches the instance; only resuming runs the body."""
    gate = Gate()
    runs: list[int] = []

    async def body(context: Context) -> None:
        runs.append(context.attempt)
        if len(runs) == 1:
            await gate.body(context)

    definition = WorkflowBuilder().parallel(body, lambda b: b.wait_for("go", "k", output="got")).build("w")
    first = await start_host(definition)
    instance_id = await first.start_workflow(definition)
    await gate.entered()
    await first.suspend_workflow(instance_id)
    await first.stop(force=True)

    second = await start_host(definition)
    await second.publish_event("go", "k", 5)

    async def consumed() -> bool:
        states = (await second.get_workflow(instance_id)).steps
        return all(
            str(state.status) not in {"waiting_for_event", "running"} or state.id == "parallel" for state in states
        )

    await eventually(consumed)
    assert len(runs) == 1
    await second.resume_workflow(instance_id)
    result = await second.wait(instance_id, timeout=SECONDS)

    assert result.data == {"got": 5}
    assert runs == [1, 1]


async def test_a_stopped_host_refuses_and_can_start_again(start_host: StartHost) -> None:
    """Calls name what to do."""
    host = await start_host(WorkflowBuilder().then(put("a", done=True)).build("w"))
    await host.stop()

    with pytest.raises(ShuttingDown, match="start"):
        await host.start_workflow("w")
    await host.start()

    assert (await host.run("w", timeout=SECONDS)).data == {"done": True}


async def test_waiting_ends_when_the_host_stops(start_host: StartHost) -> None:
    """Nobody would ever answer."""
    host = await start_host()
    instance_id = await host.start_workflow(WorkflowBuilder().wait_for("never", "k").build("w"))
    waiting = asyncio.create_task(host.wait(instance_id))
    await asyncio.sleep(0)

    await host.stop()

    with pytest.raises(ShuttingDown):
        await asyncio.wait_for(waiting, 1)


async def test_two_hosts_share_the_work(start_host: StartHost) -> None:
    """What one starts the other may wait for, publish to and end."""
    definition = WorkflowBuilder().wait_for("go", "k", output="got").then(put("a", done=True)).build("w")
    first, second = await start_host(definition), await start_host(definition)
    instance_id = await first.start_workflow("w")
    await waits(first, instance_id)

    await second.publish_event("go", "k", 1)
    results = [await each.wait(instance_id, timeout=SECONDS) for each in (first, second)]

    assert all(result.data == {"got": 1, "done": True} for result in results)


async def test_many_instances_on_a_small_host(start_host: StartHost) -> None:
    """More than it may hold at once: all end."""
    definition = WorkflowBuilder().then(put("a", a=1)).delay(0.01).then(put("b", b=1)).build("w")
    host = await start_host(definition, max_active=5, max_concurrency=3)

    ids = await host.start_workflows("w", [{} for _ in range(60)])
    results = [await host.wait(each, timeout=SECONDS) for each in ids]

    assert all(result.data == {"a": 1, "b": 1} for result in results)


class _Crowd:
    """A body that counts how many of it run at once, on a host with room for few instances that sweeps once an hour."""

    ROOM = 3

    def __init__(self) -> None:
        self.running = self.most = 0

    async def body(self, context: Context) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.002)
        self.running -= 1

    async def host(self, start_host: StartHost, definition: object) -> WorkflowHost:
        return await start_host(definition, max_active=self.ROOM, sweep_interval=3600)


async def test_a_burst_of_starts_keeps_to_the_room(start_host: StartHost) -> None:
    """No more instances are held than may be, and each that ends makes room for the next at once, without a sweep."""
    crowd = _Crowd()
    host = await crowd.host(start_host, WorkflowBuilder().start_with(crowd.body).then(crowd.body).build("w"))

    ids = await host.start_workflows("w", [{} for _ in range(30)])
    results = [await host.wait(each, timeout=SECONDS) for each in ids]

    assert {result.status for result in results} == {WorkflowStatus.COMPLETE}
    assert crowd.most == crowd.ROOM


async def test_a_burst_of_events_keeps_to_the_room(start_host: StartHost) -> None:
    """So do instances that events reach, together with new ones."""
    crowd = _Crowd()
    definition = WorkflowBuilder().wait_for("go", "k").then(crowd.body).then(crowd.body).build("waits")
    host = await crowd.host(start_host, definition)
    host.register(WorkflowBuilder().start_with(crowd.body).build("runs"))
    waiting = await host.start_workflows("waits", [{} for _ in range(20)])

    _, running = await asyncio.gather(
        host.publish_event("go", "k"), host.start_workflows("runs", [{} for _ in range(20)])
    )
    results = [await host.wait(each, timeout=SECONDS) for each in [*waiting, *running]]

    assert {result.status for result in results} == {WorkflowStatus.COMPLETE}
    assert crowd.most <= crowd.ROOM


async def test_timers_keep_to_the_room(start_host: StartHost) -> None:
    """And those whose time has come together."""
    crowd = _Crowd()
    host = await crowd.host(start_host, WorkflowBuilder().delay(0.05).then(crowd.body).then(crowd.body).build("w"))

    ids = await host.start_workflows("w", [{} for _ in range(30)])
    results = [await host.wait(each, timeout=SECONDS) for each in ids]

    assert {result.status for result in results} == {WorkflowStatus.COMPLETE}
    assert crowd.most <= crowd.ROOM


async def test_a_full_host_is_asked_no_more_than_room_comes(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While there is no room the store is not asked again and again; requests are applied all the same."""
    gate = Gate()
    host = await start_host(WorkflowBuilder().start_with(gate.body).build("w"), max_active=2, sweep_interval=3600)
    ids = await host.start_workflows("w", [{} for _ in range(5)])
    await gate.entered()
    store = host._life.core().store
    limits: list[int] = []
    claim = store.claim

    async def counted(session: str, runnable: Any, limit: int, **named: Any) -> Any:
        limits.append(limit)
        return await claim(session, runnable, limit, **named)

    monkeypatch.setattr(store, "claim", counted)

    assert await host.cancel_workflow(ids[-1])
    assert len(limits) <= 5
    gate.open()
    ends = [(await host.wait(each, timeout=SECONDS)).status for each in ids]

    assert ends == [WorkflowStatus.COMPLETE] * 4 + [WorkflowStatus.CANCELLED]
    assert len(limits) <= 15


async def test_a_full_host_publishes_what_is_due(start_host: StartHost) -> None:
    """Future events become effective also while there is no room for another instance; other hosts are told of it."""
    gate = Gate()
    host = await start_host(
        WorkflowBuilder().start_with(gate.body).build("full"),
        WorkflowBuilder().wait_for("later", "k").build("waits"),
        max_active=1,
    )
    waiting = await host.start_workflow("waits")
    await host.start_workflow("full")
    await gate.entered()
    other = await start_host(WorkflowBuilder().wait_for("later", "k").build("waits"), sweep_interval=3600)

    await host.publish_event("later", "k", effective_at=datetime.now(UTC) + timedelta(seconds=0.05))
    result = await other.wait(waiting, timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    gate.open()


@pytest.mark.unsound(reason="the host is refused before there is a store")
@pytest.mark.parametrize("setting", ["lease", "lifecycle"])
@pytest.mark.parametrize("foreign", ["sqlite:///:memory:", MemoryProvider()])
def test_what_only_the_store_can_serve_is_refused_from_others(place: Place, setting: str, foreign: object) -> None:
    """When the host is made, with what does go beside a store."""
    url = place()
    builder = WorkflowHostBuilder().use_persistence(url)
    choose = {"lease": builder.use_lock_provider, "lifecycle": builder.use_lifecycle}[setting]

    with pytest.raises(ConfigurationError, match=f"{setting}=.*Supported beside a store: queue .*leave {setting} out"):
        WorkflowHost(url, **{setting: foreign})  # type: ignore[arg-type]  # the name is a parameter
    with pytest.raises(ConfigurationError, match=f"{setting}=.* does not go with the store"):
        choose(foreign).build()  # type: ignore[arg-type]  # one of them is a URL


async def test_the_store_itself_may_be_named_and_hints_may_go_elsewhere(place: Place) -> None:
    """Naming the store for `lease` and `lifecycle` is as leaving them out; `queue` may be another backend."""
    url = place()
    definition = WorkflowBuilder().delay(0.01).build("w")
    host = WorkflowHost(url, lease=url, lifecycle=url, queue=MemoryProvider(), sweep_interval=0.1)

    async with host:
        result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE


async def test_definitions_loaded_from_json_run(host: WorkflowHost) -> None:
    """Its bodies are found by step type."""
    text = WorkflowBuilder().start_with("mail").delay(0.01).then("mail").build("w").to_json()
    definition = WorkflowDefinition.from_json(text)
    host.register_step("mail", put("mail", sent=True))

    result = await host.run(definition, timeout=SECONDS)

    assert result.data == {"sent": True}


async def test_history_of_a_long_run_is_whole(host: WorkflowHost) -> None:
    """More rows than one page of the store; gapless."""

    async def count(context: Context) -> None:
        context.data["n"] += 1

    definition = WorkflowBuilder().while_do(lambda data: data["n"] < 1_200, lambda b: b.then(count)).build("w")

    result = await host.run(definition, {"n": 0}, timeout=60)
    history = await host.history(result.id)

    assert [event.sequence for event in history] == list(range(1, len(history) + 1))
    assert len(history) >= 2_400


async def test_an_instance_of_one_kind_does_not_disturb_another(host: WorkflowHost) -> None:
    """One that blocks its thread for long, one that fails, one that waits: the others go on."""
    thread = ThreadGate()
    stuck = await host.start_workflow(WorkflowBuilder().start_with(thread.body).build("stuck"))
    await host.start_workflow(WorkflowBuilder().start_with(failing("broken")).build("broken"))

    for number in range(5):
        result = await host.run(WorkflowBuilder().then(put("a", n=number)).build(f"w{number}"), timeout=SECONDS)
        assert result.data == {"n": number}

    thread.open()
    await stands(host, stuck, WorkflowStatus.COMPLETE)


async def test_each_of_many_blocked_instances_shows_its_reason(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: also those that a sweep does not see at once, and also when the reason changes."""
    monkeypatch.setattr("wfe.host.unclaimed._PAGE", 4)
    definition = WorkflowBuilder().delay(0.01).then("mail").build("w")
    first = await start_host(definition)
    ids = await first.start_workflows("w", [{} for _ in range(15)])
    await first.stop()
    second = await start_host(sweep_interval=0.02)

    async def all_say(text: str) -> bool:
        return all(text in (each.blocked_reason or "") for each in await second.list_workflows())

    await eventually(lambda: all_say("definition 'w'"))
    second.register(definition)
    await eventually(lambda: all_say("step type 'mail'"))
    second.register_step("mail", put("mail", sent=True))

    assert [(await second.wait(each, timeout=SECONDS)).data for each in ids] == [{"sent": True}] * 15

"""Containers: parallel, for_each, while, if, decide, branch; joins and failures in them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Context, Gate, StartHost, eventually, failing, note, put, steps
from wfe import Continue, ExecutionResult, Retry, WorkflowBuilder, WorkflowHost, WorkflowStatus, ref


async def test_parallel_branches_overlap_in_time(host: WorkflowHost) -> None:
    """Each waits for the other: only if both run at once do both end."""
    first, second = asyncio.Event(), asyncio.Event()

    async def one(context: Context) -> None:
        first.set()
        await second.wait()
        context.data["one"] = 1

    async def two(context: Context) -> None:
        second.set()
        await first.wait()
        context.data["two"] = 2

    definition = WorkflowBuilder().parallel(one, two).then(put("after", after=True)).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert result.data == {"one": 1, "two": 2, "after": True}


async def test_threads_overlap_too(host: WorkflowHost) -> None:
    """Plain bodies run on threads of their own, at the same time."""
    import threading

    barrier = threading.Barrier(3, timeout=SECONDS)

    def meet(context: Context) -> dict[str, bool]:
        barrier.wait()
        return {"met": True}

    result = await host.run(WorkflowBuilder().parallel(meet, meet, meet).build("w"), timeout=SECONDS)

    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"met": True})


async def test_siblings_of_a_failed_branch_are_awaited(host: WorkflowHost) -> None:
    """They run to their end, then the container fails; one error in all."""
    gate = Gate(late=True)
    definition = (
        WorkflowBuilder()
        .parallel(failing("broken"), lambda b: b.then(gate.body).then(put("then", later=True)))
        .then(put("never", never=True))
        .build("w")
    )
    instance_id = await host.start_workflow(definition)

    async def failed() -> bool:
        return bool(await host.errors(instance_id))

    await eventually(failed)
    assert (await host.get_workflow(instance_id)).status is WorkflowStatus.RUNNABLE
    gate.open()
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert result.data == {"late": True, "later": True}
    assert [error.message for error in await host.errors(instance_id)] == ["broken 1"]
    assert [state.id for state in result.failed_steps] == ["broken"]


async def test_fail_fast_cancels_the_siblings(host: WorkflowHost) -> None:
    """The body that runs is cancelled and announced so."""
    gate = Gate()

    async def broken(context: Context) -> None:
        await gate.entered()
        raise ValueError("broken")

    definition = WorkflowBuilder().parallel(gate.body, broken, fail_fast=True).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert gate.cancelled == 1
    assert steps(await host.history(result.id), "cancelled") == ["gate"]


@pytest.mark.parametrize(("amount", "path"), [(150, ["big"]), (50, ["small"])])
async def test_if_and_else(host: WorkflowHost, amount: int, path: list[str]) -> None:
    """By a callable, and by a condition that is part of the plan."""
    trace: list[str] = []
    definition = (
        WorkflowBuilder()
        .if_do(
            lambda data: data["amount"] > 100,
            lambda b: b.then(note("big", trace)),
            lambda b: b.then(note("small", trace)),
        )
        .if_do(ref(".amount") > 100, lambda b: b.then(note("big", trace)), lambda b: b.then(note("small", trace)))
        .if_do(lambda data: False, lambda b: b.then(note("never", trace)))
        .build("w")
    )

    await host.run(definition, {"amount": amount}, timeout=SECONDS)

    assert trace == path * 2


async def test_while_reads_its_condition_before_each_turn(host: WorkflowHost) -> None:
    """And leaves nothing of its turns behind."""

    async def count(context: Context) -> None:
        context.data["n"] += 1

    gate = Gate()
    definition = (
        WorkflowBuilder()
        .while_do(lambda data: data["n"] < 100, lambda b: b.then(count))
        .while_do(lambda data: False, lambda b: b.then(put("never", never=True)))
        .then(gate.body)
        .build("w")
    )
    instance_id = await host.start_workflow(definition, {"n": 0})
    await gate.entered()

    instance = await host.get_workflow(instance_id)

    assert instance.data == {"n": 100}
    assert [state.id for state in instance.steps] == ["gate"]
    gate.open()
    await host.wait(instance_id, timeout=SECONDS)


async def test_for_each_gives_item_index_and_parents(host: WorkflowHost) -> None:
    """Loops nest: the inner first, `parents` outward; conditions and inputs see them too."""
    seen: list[Any] = []

    async def look(context: Context, item: str) -> None:
        seen.append((context.item, context.index, [(frame.item, frame.index) for frame in context.parents], item))

    definition = (
        WorkflowBuilder()
        .for_each(
            "groups",
            lambda b: b.if_do(
                lambda data: True,
                lambda b: b.for_each(
                    lambda data, context: context.item["members"],
                    lambda b: (
                        b.then(look)
                        .when(lambda data, context: context.item != "skip")
                        .input("item", lambda data, context: context.item.upper())
                    ),
                ),
            ),
        )
        .build("w")
    )
    groups = [{"members": ["a", "skip"]}, {"members": ["b"]}]

    result = await host.run(definition, {"groups": groups}, timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    assert sorted(seen, key=str) == [
        ("a", 0, [(groups[0], 0)], "A"),
        ("b", 0, [(groups[1], 1)], "B"),
    ]


@pytest.mark.parametrize(
    ("options", "most"), [({}, 6), ({"parallel": False}, 1), ({"max_parallel": 2}, 2), ({"max_parallel": 50}, 6)]
)
async def test_for_each_runs_so_many_at_a_time(host: WorkflowHost, options: dict[str, Any], most: int) -> None:
    """All at once by default; one after the other; at most so many."""
    running = peak = 0
    order: list[int] = []
    ready = asyncio.Event()

    async def body(context: Context) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        order.append(context.index)
        if running == most:
            ready.set()
        await ready.wait()
        running -= 1

    definition = WorkflowBuilder().for_each([0] * 6, lambda b: b.then(body), **options).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    assert peak == most
    assert sorted(order) == list(range(6))
    if most == 1:
        assert order == sorted(order)


async def test_an_empty_collection_goes_on(host: WorkflowHost) -> None:
    """From a field, a literal or a callable."""
    definition = (
        WorkflowBuilder()
        .for_each("items", lambda b: b.then(put("never", never=1)))
        .for_each([], lambda b: b.then(put("never", never=2)))
        .for_each(lambda data: (), lambda b: b.then(put("never", never=3)))
        .then(put("after", after=True))
        .build("w")
    )

    result = await host.run(definition, {"items": []}, timeout=SECONDS)

    assert result.data == {"items": [], "after": True}


async def test_the_collection_is_read_once(host: WorkflowHost) -> None:
    """A body that changes the field does not change the loop."""
    seen: list[int] = []

    async def body(context: Context) -> None:
        seen.append(context.item)
        context.data["items"] = [9, 9, 9, 9]

    definition = WorkflowBuilder().for_each("items", lambda b: b.then(body), parallel=False).build("w")

    await host.run(definition, {"items": [1, 2]}, timeout=SECONDS)

    assert seen == [1, 2]


async def test_a_missing_field_of_a_collection_fails_the_step(host: WorkflowHost) -> None:
    """The message names it."""
    definition = WorkflowBuilder().for_each("items", lambda b: b.then(put("never"))).build("w")

    result = await host.run(definition, {"other": 1}, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert "items" in result.error.message


@pytest.mark.parametrize(("parallel", "expected"), [(True, 4), (False, 2)])
async def test_for_each_in_order_stops_at_a_failure(host: WorkflowHost, parallel: bool, expected: int) -> None:
    """In parallel the others are awaited, in order those that follow do not begin."""
    seen: list[int] = []

    async def body(context: Context) -> None:
        seen.append(context.index)
        if context.index == 1:
            raise ValueError("broken")

    definition = WorkflowBuilder().for_each([0] * 4, body, parallel=parallel).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert len(seen) == expected


async def test_for_each_fail_fast(host: WorkflowHost) -> None:
    """Items that run are cancelled, the others do not begin."""
    gate = Gate()

    async def body(context: Context) -> None:
        if context.index == 1:
            await gate.entered()
            raise ValueError("broken")
        await gate.body(context)

    definition = WorkflowBuilder().for_each([0] * 10, lambda b: b.then(body), max_parallel=2, fail_fast=True).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert (gate.runs, gate.cancelled) == (1, 1)


@pytest.mark.parametrize(
    ("value", "path"),
    [(5, ["five"]), (5.0, ["five"]), ("x", ["x"]), (True, ["other"]), (None, ["other"]), ("y", ["other"])],
)
async def test_decide(host: WorkflowHost, value: object, path: list[str]) -> None:
    """Equality by value, first match; else the default."""
    trace: list[str] = []
    definition = (
        WorkflowBuilder()
        .decide(
            lambda data: data["value"],
            {5: lambda b: b.then(note("five", trace)), "x": lambda b: b.then(note("x", trace))},
            default=lambda b: b.then(note("other", trace)),
        )
        .then(note("after", trace))
        .build("w")
    )

    await host.run(definition, {"value": value}, timeout=SECONDS)

    assert trace == [*path, "after"]


async def test_decide_without_match_and_default_goes_on(host: WorkflowHost) -> None:
    """A field as selector."""
    trace: list[str] = []
    definition = (
        WorkflowBuilder()
        .decide(ref(".value"), {1: lambda b: b.then(note("one", trace))})
        .then(note("after", trace))
        .build("w")
    )

    await host.run(definition, {"value": 2}, timeout=SECONDS)

    assert trace == ["after"]


async def test_blocks_nest_deeply(host: WorkflowHost) -> None:
    """300 levels, of mixed kinds."""

    def nested(level: int) -> Any:
        if level == 0:
            return lambda b: b.then(put("deep", deep=True))
        inner = nested(level - 1)
        if level % 3 == 0:
            return lambda b: b.parallel(inner)
        if level % 3 == 1:
            return lambda b: b.if_do(lambda data: True, inner)
        return lambda b: b.for_each([level], inner, parallel=False)

    definition = nested(300)(WorkflowBuilder()).then(put("after", after=True)).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert result.data == {"deep": True, "after": True}


@pytest.mark.parametrize("parallel", [True, False])
async def test_a_body_branches_into_its_children_and_runs_again(host: WorkflowHost, parallel: bool) -> None:
    """`do` once per value, in parallel or in order; then the body again with what it kept."""
    trace: list[Any] = []

    async def body(context: Context) -> ExecutionResult:
        trace.append(("body", context.persistence_data))
        if context.persistence_data is None:
            return ExecutionResult.branch(["x", "y"], {"stage": 2}, parallel=parallel)
        return ExecutionResult.next({"done": True})

    async def child(context: Context) -> None:
        trace.append((context.item, context.index))

    definition = WorkflowBuilder().start_with(body).do(child).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert result.data == {"done": True}
    assert trace[0] == ("body", None)
    assert sorted(trace[1:3]) == [("x", 0), ("y", 1)]
    assert trace[3] == ("body", {"stage": 2})


async def test_a_container_has_error_rules(host: WorkflowHost) -> None:
    """Retry runs it anew as a whole, Continue goes on after it."""
    trace: list[Any] = []
    definition = (
        WorkflowBuilder()
        .parallel(failing("broken", trace=trace), note("fine", trace))
        .on_error(Retry(interval=0.01, max_retries=1, then=Continue()))
        .then(note("after", trace))
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    assert sorted(map(str, trace)) == sorted(["('broken', 1)", "fine"] * 2 + ["after"])
    assert len(await host.errors(result.id)) == 2
    assert result.failed_steps == []


async def test_a_wide_loop(start_host: StartHost) -> None:
    """5,000 items, each with a field of its own, join once."""
    seen: list[int] = []

    async def body(context: Context) -> None:
        seen.append(context.index)

    host = await start_host()
    definition = WorkflowBuilder().for_each(lambda data: range(5_000), body).then(put("after", after=True)).build("w")

    result = await host.run(definition, timeout=60)

    assert result.data == {"after": True}
    assert sorted(seen) == list(range(5_000))


async def test_a_host_bounds_how_many_bodies_run(start_host: StartHost) -> None:
    """`max_concurrency` for all, `concurrency` for one kind of step."""
    from wfe import step

    running = {"all": 0, "few": 0}
    peak = {"all": 0, "few": 0}

    def counted(name: str) -> Any:
        async def body(context: Context) -> None:
            for each in {"all", name}:
                running[each] += 1
                peak[each] = max(peak[each], running[each])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for each in {"all", name}:
                running[each] -= 1

        return body

    few = step("few", concurrency=2)(counted("few"))
    host = await start_host(max_concurrency=5)
    definition = (
        WorkflowBuilder()
        .parallel(lambda b: b.for_each([0] * 20, few), lambda b: b.for_each([0] * 20, counted("all")))
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    assert (peak["few"], peak["all"]) == (2, 5)

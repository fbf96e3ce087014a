"""Bodies that answer or store what nobody can keep: their step fails and names it; the host and the others go on."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.scenarios.faults.conftest import StartHost, eventually
from wfe import DataError, ExecutionResult, Limits, StepExecutionContext, WorkflowBuilder, WorkflowStatus

Context = StepExecutionContext[dict[str, Any]]


class _Own:
    pass


class _OwnResult(ExecutionResult):
    """A result that the engine does not know."""


def _numbers() -> Iterator[int]:
    yield from range(3)


def _cycle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def _deep(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


_ANSWERS: dict[str, Callable[[], Any]] = {
    "object": _Own,
    "class": lambda: _Own,
    "true": lambda: True,
    "number": lambda: 5,
    "text": lambda: "done",
    "bytes": lambda: b"done",
    "set": lambda: {1, 2},
    "list of pairs": lambda: [("a", 1)],
    "generator": _numbers,
    "exception": lambda: ValueError("answered, not raised"),
    "result of another kind": _OwnResult,
    "NaN": lambda: {"x": float("nan")},
    "infinity": lambda: {"x": [1.0, float("-inf")]},
    "object inside": lambda: {"x": {"y": [_Own()]}},
    "set inside": lambda: {"x": {1, 2}},
    "generator inside": lambda: {"x": _numbers()},
    "number as key": lambda: {"x": {1: 2}},
    "number as field": lambda: {1: 2},
    "surrogate": lambda: {"x": "\ud800"},
    "surrogate as key": lambda: {"\ud800": 1},
    "nul": lambda: {"x": "a\x00b"},
    "big integer": lambda: {"x": 1 << 70},
    "cycle": lambda: {"x": _cycle()},
    "very deep": lambda: {"x": _deep(100_000)},
    "reserved name": lambda: {"_wfe_pointer": 1},
    "output of next is no mapping": lambda: ExecutionResult.next([1]),  # type: ignore[arg-type]  # the fault
    "persist an object": lambda: ExecutionResult.persist(_Own()),
    "persist NaN": lambda: ExecutionResult.persist(float("nan")),
    "sleep for text": lambda: ExecutionResult.sleep("soon"),
    "sleep for NaN": lambda: ExecutionResult.sleep(float("nan")),
    "sleep until a naive time": lambda: ExecutionResult.sleep_until(datetime(2026, 1, 1)),  # noqa: DTZ001 - the fault
    "sleep until text": lambda: ExecutionResult.sleep_until("tomorrow"),  # type: ignore[arg-type]  # the fault
    "sleep until the end of time": lambda: ExecutionResult.sleep_until(datetime.max),  # noqa: DTZ901 - the fault
    "branch over a number": lambda: ExecutionResult.branch(5),  # type: ignore[arg-type]  # the fault
    "branch without children": lambda: ExecutionResult.branch([1, 2]),
    "wait with a nul in the key": lambda: ExecutionResult.wait_for_event("go", "a\x00b"),
    "wait with a huge key": lambda: ExecutionResult.wait_for_event("go", "k" * 10_000_000),
    "wait as of a naive time": lambda: ExecutionResult.wait_for_event("go", "k", as_of=datetime(2026, 1, 1)),  # noqa: DTZ001
    "fail with an object": lambda: ExecutionResult.fail(_Own()),  # type: ignore[arg-type]  # the fault
    "outcome that is an object": lambda: ExecutionResult.outcome(float("nan"), {"x": float("nan")}),
}


def _answering(make: Callable[[], Any]) -> Callable[[Context], Any]:
    async def body(context: Context) -> Any:
        return make()

    return body


def _storing(make: Callable[[], Any]) -> Callable[[Context], Any]:
    def body(context: Context) -> None:
        context.data["kept"] = make()

    return body


async def _fine(context: Context) -> None:
    context.data["fine"] = True


@pytest.mark.parametrize("answer", _ANSWERS)
async def test_answer_that_is_none(start_host: StartHost, answer: str) -> None:
    """A body that answers something impossible fails its step at once, with a message, and harms nobody else."""
    bad = WorkflowBuilder().start_with(_answering(_ANSWERS[answer])).id("bad").build("bad")
    good = WorkflowBuilder().start_with(_fine).then(_fine).build("good")
    host = await start_host(bad, good)

    result = await host.run(bad, {"before": 1}, timeout=5)
    after = await host.run(good, timeout=5)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert result.error.step == "bad"
    assert len(result.error.message) > 10
    assert result.data == {"before": 1}
    assert after.status is WorkflowStatus.COMPLETE


_STORED = [
    "object", "set", "generator", "NaN", "infinity", "object inside", "number as key", "surrogate", "nul",
    "big integer", "cycle", "very deep",
]  # fmt: skip


@pytest.mark.parametrize("value", _STORED)
async def test_data_that_cannot_be_kept(start_host: StartHost, value: str) -> None:
    """A body that puts something impossible into its data fails with `data_error`, which names the path."""
    bad = WorkflowBuilder().start_with(_storing(_ANSWERS[value])).id("bad").build("bad")
    host = await start_host(bad)

    result = await host.run(bad, timeout=5)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert result.error.code == "data_error"
    assert "kept" in result.error.message
    assert result.data == {}


async def test_coroutine_as_an_answer_of_a_thread_is_awaited(start_host: StartHost) -> None:
    """A plain function that gives a coroutine back meant to be one."""

    def body(context: Context) -> Any:
        return _fine(context)

    definition = WorkflowBuilder().start_with(body).build("wrapped")
    host = await start_host(definition)

    assert (await host.run(definition, timeout=5)).data == {"fine": True}


_COLLECTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "number": lambda _: 5,
    "text": lambda _: "abc",
    "none": lambda _: None,
    "objects": lambda _: [_Own()],
    "generator that raises": lambda _: (1 // (2 - number) for number in range(4)),
    "generator that exits": lambda _: (_leave() for _ in range(4)),
    "without end": lambda _: itertools.count(),
}


def _leave() -> int:
    raise SystemExit(1)


@pytest.mark.parametrize("collection", _COLLECTIONS)
async def test_collection_that_is_none(start_host: StartHost, collection: str) -> None:
    """A loop over something impossible fails its step at once and harms nobody else."""
    bad = (
        WorkflowBuilder()
        .start_with(_fine)
        .for_each(_COLLECTIONS[collection], lambda each: each.start_with(_fine))
        .id("loop")
        .build("bad")
    )
    good = WorkflowBuilder().start_with(_fine).build("good")
    host = await start_host(bad, good)

    result = await host.run(bad, timeout=10)
    after = await host.run(good, timeout=5)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert result.error.step == "loop"
    assert after.status is WorkflowStatus.COMPLETE


@pytest.mark.parametrize("kind", ["sleep", "wait"])
async def test_pause_beyond_the_end_of_time(start_host: StartHost, kind: str) -> None:
    """A pause longer than the calendar ends with it; the instance and the list of all can still be looked at."""

    async def body(context: Context) -> Any:
        if kind == "sleep":
            return ExecutionResult.sleep(timedelta.max)
        return ExecutionResult.wait_for_event("go", "k", timeout=timedelta.max)

    definition = WorkflowBuilder().start_with(body).build("patient")
    host = await start_host(definition)
    instance_id = await host.start_workflow(definition)

    instance = await eventually(lambda: host.get_workflow(instance_id), lambda instance: instance.next_wake is not None)

    assert instance.next_wake is not None
    assert instance.next_wake.year == 9999
    assert [each.id for each in await host.list_workflows()] == [instance_id]


async def test_huge_data(start_host: StartHost) -> None:
    """Data over the limit fail the step with `data_error`, which names the limit; what was there before stays."""
    bad = WorkflowBuilder().start_with(_fine).then(_storing(lambda: "x" * 200_000)).id("bad").build("bad")
    host = await start_host(bad, limits=Limits(max_data_bytes=100_000))

    result = await host.run(bad, timeout=5)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert result.error.code == "data_error"
    assert "100" in result.error.message
    assert result.data == {"fine": True}


async def test_huge_start_and_event(start_host: StartHost) -> None:
    """A start or an event over the limit is refused with a DataError; nothing was started or published."""
    definition = WorkflowBuilder().wait_for("go", "k", output="heard").build("waits")
    host = await start_host(definition, limits=Limits(max_data_bytes=100_000, max_event_bytes=100_000))

    with pytest.raises(DataError, match="100"):
        await host.start_workflow(definition, {"x": "x" * 200_000}, id="too-big")
    instance_id = await host.start_workflow(definition)
    with pytest.raises(DataError, match="100"):
        await host.publish_event("go", "k", "x" * 200_000)
    await host.publish_event("go", "k", "small")

    assert (await host.wait(instance_id, timeout=5)).data == {"heard": "small"}
    assert len(await host.list_workflows()) == 1


@pytest.mark.parametrize("depth", [50, 300, 900, 5_000])
async def test_deep_events_and_starts(start_host: StartHost, depth: int) -> None:
    """A deep value is refused, or is kept and comes back as it was; no instance is left that cannot go on."""
    definition = WorkflowBuilder().wait_for("go", "k", output="heard").then(_fine).build("waits")
    host = await start_host(definition)
    instance_id = await host.start_workflow(definition)

    try:
        await host.publish_event("go", "k", _deep(depth))
    except DataError:
        await host.publish_event("go", "k", "shallow")
    result = await host.wait(instance_id, timeout=5)

    assert result.status in {WorkflowStatus.COMPLETE, WorkflowStatus.FAILED}
    if result.status is WorkflowStatus.COMPLETE:
        assert result.data["heard"] in (_deep(depth), "shallow")


async def test_recursion(start_host: StartHost) -> None:
    """A body that calls itself without end fails its step with a RecursionError."""

    def endless(context: Context) -> None:
        endless(context)

    definition = WorkflowBuilder().start_with(endless).build("recursion")
    host = await start_host(definition)

    result = await host.run(definition, timeout=20)

    assert result.error is not None
    assert result.error.type == "builtins.RecursionError"


async def test_random_answers_never_stop_the_host(start_host: StartHost) -> None:
    """Two hundred instances with answers drawn from all kinds of garbage end soon; the good ones complete."""
    rng = random.Random(5)
    names = [name for name in _ANSWERS if name != "very deep"]

    async def body(context: Context) -> Any:
        name = context.data["answer"]
        return _ANSWERS[name]() if name else None

    definition = WorkflowBuilder().start_with(body).then(_fine).build("mixture")
    host = await start_host(definition)
    wanted = [rng.choice(names) if number % 2 else "" for number in range(200)]

    ids = await host.start_workflows(definition, [{"answer": name} for name in wanted])
    ends = await asyncio.gather(*(host.wait(each, timeout=20) for each in ids))

    for name, end in zip(wanted, ends, strict=True):
        assert end.status is (WorkflowStatus.FAILED if name else WorkflowStatus.COMPLETE), name
    assert datetime.now(UTC) > (await host.get_workflow(ids[0])).created_at

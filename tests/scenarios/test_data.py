"""Data: merging, types, what cannot be stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from tests.scenarios.stage import SECONDS, Context, StartHost, put
from wfe import (
    ContextValueNotFound,
    DataError,
    ExecutionResult,
    Limits,
    Retry,
    StepExecutionContext,
    WorkflowBuilder,
    WorkflowHost,
    WorkflowStatus,
    transient,
)


async def test_parallel_branches_merge_their_fields(host: WorkflowHost) -> None:
    """Each changes its own fields, at the same time; all of them count."""
    meet = asyncio.Barrier(3)

    def branch(name: str) -> Any:
        async def body(context: Context) -> None:
            context.data[name] = 1
            await meet.wait()

        return body

    definition = WorkflowBuilder().parallel(branch("a"), branch("b"), branch("c")).build("w")

    result = await host.run(definition, {"kept": True}, timeout=SECONDS)

    assert result.data == {"kept": True, "a": 1, "b": 1, "c": 1}


def clash() -> tuple[Any, Any]:
    meet = asyncio.Barrier(2)

    async def first(context: Context) -> None:
        context.data["x"] = "first"
        await meet.wait()

    async def second(context: Context) -> None:
        context.data["x"] = "second"
        await meet.wait()

    return first, second


async def test_two_branches_that_write_one_field_are_warned_of(host: WorkflowHost) -> None:
    """The later commit wins; an event names the field and both steps."""
    definition = WorkflowBuilder().parallel(*clash()).build("w")

    result = await host.run(definition, timeout=SECONDS)
    warnings = [event.detail or "" for event in await host.history(result.id) if str(event.kind) == "data overwritten"]

    assert result.status is WorkflowStatus.COMPLETE
    assert len(warnings) == 1
    assert all(word in warnings[0] for word in ("'x'", "first", "second"))


async def test_strict_data_makes_it_an_error(host: WorkflowHost) -> None:
    """The later attempt fails."""
    definition = WorkflowBuilder(strict_data=True).parallel(*clash()).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert result.error.code == "data_error"


async def test_steps_one_after_the_other_may_write_the_same_field(host: WorkflowHost) -> None:
    """Also with strict data, also inside a branch."""
    definition = (
        WorkflowBuilder(strict_data=True)
        .then(put("a", x=1))
        .parallel(lambda b: b.then(put("b", x=2)).then(put("c", x=3)))
        .then(put("d", x=4))
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)

    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"x": 4})


async def test_deleted_keys_are_deleted(host: WorkflowHost) -> None:
    """A dict key that a body removes is gone; assigning new data replaces all."""

    async def remove(context: Context) -> None:
        del context.data["a"]

    async def replace(context: Context) -> None:
        assert context.data == {"b": 2, "c": 3}
        context.data = {"new": True}

    definition = WorkflowBuilder().start_with(remove).then(replace).build("w")

    result = await host.run(definition, {"a": 1, "b": 2, "c": 3}, timeout=SECONDS)

    assert result.data == {"new": True}


async def test_each_body_has_a_copy_of_its_own(host: WorkflowHost) -> None:
    """What one changes without answering is not seen by another; tuples are lists by then."""
    shared: list[Any] = []

    async def first(context: Context) -> None:
        context.data["t"] = (1, 2)
        shared.append(context.data)

    async def second(context: Context) -> None:
        shared[0]["t"] = "changed behind the back"
        assert context.data["t"] == [1, 2]

    result = await host.run(WorkflowBuilder().start_with(first).then(second).build("w"), timeout=SECONDS)

    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"t": [1, 2]})


class Colour(Enum):
    RED = "red"


@dataclass
class Address:
    city: str
    zip: str | None = None


@dataclass
class Rich:
    amount: Decimal = Decimal("1.10")
    when: datetime = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
    day: date = date(2024, 2, 29)
    pause: timedelta = timedelta(seconds=90)
    id: UUID = field(default_factory=lambda: UUID(int=5))
    colour: Colour = Colour.RED
    blob: bytes = b"\x00\xff"
    pair: tuple[int, str] = (1, "a")
    names: set[str] = field(default_factory=lambda: {"x"})
    address: Address = field(default_factory=lambda: Address("Rome"))
    numbers: dict[str, list[Decimal]] = field(default_factory=dict)
    big: int = 2**60
    text: str = "Grüße 🎉 \u2028"


async def test_typed_data_keep_their_types(host: WorkflowHost) -> None:
    """Decimal, datetime, UUID, Enum, bytes, tuples, nested classes: in each body, and in the result."""
    seen: list[Rich] = []

    async def change(context: StepExecutionContext[Rich]) -> None:
        seen.append(context.data)
        context.data.amount += Decimal("0.20")
        context.data.numbers["n"] = [Decimal("0.1")]
        context.data.address.city = "Paris"

    async def look(context: StepExecutionContext[Rich]) -> None:
        seen.append(context.data)

    definition = WorkflowBuilder(Rich).start_with(change).delay(0.01).then(look).build("w")

    result = await host.run(definition, Rich(), timeout=SECONDS)

    expected = Rich(amount=Decimal("1.30"), numbers={"n": [Decimal("0.1")]}, address=Address("Paris"))
    assert result.data == expected
    assert seen[1] == expected
    assert (await host.get_workflow(result.id)).data == expected


@dataclass
class Cached:
    number: int = 0
    cache: list[int] = transient(factory=list)  # noqa: RUF009 - as dataclasses.field
    handle: Any = transient(default="closed")  # noqa: RUF009


async def test_transient_fields_are_never_stored(host: WorkflowHost) -> None:
    """In each body's copy they have the factory's value, else the default."""
    seen: list[Any] = []

    async def body(context: StepExecutionContext[Cached]) -> None:
        seen.append((list(context.data.cache), context.data.handle))
        context.data.cache.append(1)
        context.data.handle = object()
        context.data.number += 1

    definition = WorkflowBuilder(Cached).start_with(body).then(body).build("w")

    result = await host.run(definition, Cached(handle=object()), timeout=SECONDS)

    assert seen == [([], "closed"), ([], "closed")]
    assert (result.data.number, result.data.cache) == (2, [])


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"a": {"b": [1, float("nan")]}}, "$.a.b[1]"),
        ({"a": float("inf")}, "$.a"),
        ({"a": "\ud800"}, "$.a"),
        ({"a": ["x\x00y"]}, "$.a[0]"),
        ({"a": datetime(2024, 1, 1, tzinfo=UTC)}, "$.a"),
        ({"a": {1, 2}}, "$.a"),
        ({"a": Decimal(1)}, "$.a"),
        ({"a": object()}, "$.a"),
        ({"a": {1: "x"}}, "$.a"),
        ({"a": 2**70}, "$.a"),
    ],
)
async def test_what_cannot_be_stored_names_its_path(host: WorkflowHost, data: dict[str, Any], path: str) -> None:
    """At start: refused; from a body: its step fails, without further attempts."""
    definition = WorkflowBuilder().start_with(put("body", **data)).on_error(Retry(interval=0)).build("w")

    with pytest.raises(DataError) as refused:
        await host.start_workflow(definition, data)
    result = await host.run(definition, timeout=SECONDS)

    assert refused.value.path == path
    assert result.status is WorkflowStatus.FAILED
    assert result.data == {}
    assert result.error is not None
    assert (result.error.code, path in result.error.message) == ("data_error", True)
    assert len(await host.errors(result.id)) == 1


async def test_data_of_the_wrong_type_are_refused(host: WorkflowHost) -> None:
    """At start with the path; from a body its step fails and the stored data stay whole."""

    async def body(context: StepExecutionContext[Rich]) -> None:
        context.data.big = "no number"  # type: ignore[assignment]  # the fault

    definition = WorkflowBuilder(Rich).start_with(body).build("w")

    with pytest.raises(DataError, match="big"):
        await host.start_workflow(definition, {"big": "no number"})
    with pytest.raises(DataError, match="amount"):
        await host.start_workflow(definition, {"amuont": 1})
    with pytest.raises(DataError):
        await host.start_workflow("w", 5)
    result = await host.run(definition, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert result.data == Rich()


async def test_data_beyond_the_limit(start_host: StartHost) -> None:
    """The error names the limit, at start and in a step."""
    host = await start_host(limits=Limits(max_data_bytes=1000))
    definition = WorkflowBuilder().start_with(put("body", text="x" * 2000)).build("w")

    with pytest.raises(DataError, match="1,000"):
        await host.start_workflow(definition, {"text": "x" * 2000})
    result = await host.run(definition, {"kept": 1}, timeout=SECONDS)

    assert (result.status, result.data) == (WorkflowStatus.FAILED, {"kept": 1})
    assert result.error is not None
    assert "1,000" in result.error.message
    assert "$.text" in result.error.message


async def test_collection_beyond_the_limit(start_host: StartHost) -> None:
    """What a loop or a branch runs over has the limit of data; the error names it, the step and the largest item."""
    host = await start_host(limits=Limits(max_data_bytes=1000))
    items = ["x" * 100] * 5 + [{"blob": "y" * 600}]

    async def branching(context: Context) -> ExecutionResult:
        return ExecutionResult.branch(items)

    loop = WorkflowBuilder().for_each(lambda _: items, lambda b: b.start_with(put("body", n=1))).id("loop").build("l")
    branch = WorkflowBuilder().start_with(branching).do(lambda b: b.start_with(put("body", n=1))).id("split").build("b")

    for definition, step in ((loop, "loop"), (branch, "split")):
        result = await host.run(definition, timeout=SECONDS)

        assert (result.status, result.data) == (WorkflowStatus.FAILED, {})
        assert result.error is not None
        assert result.error.code == "data_error"
        for part in (f"'{step}'", "1,000", "[5].blob"):
            assert part in result.error.message


async def test_reserved_keys_are_refused(host: WorkflowHost) -> None:
    """Names that begin with `_wfe` belong to the engine: at start, from a body, from an answer."""

    async def answering(context: Context) -> dict[str, int]:
        return {"_wfe_x": 1}

    for number, body in enumerate((put("body", _wfe_x=1), answering)):
        result = await host.run(WorkflowBuilder().start_with(body).build(f"w{number}"), timeout=SECONDS)
        assert result.status is WorkflowStatus.FAILED
        assert result.data == {}
    with pytest.raises(DataError, match="_wfe"):
        await host.start_workflow("w0", {"_wfe_x": 1})


async def test_values_are_kept_with_the_instance(host: WorkflowHost) -> None:
    """Beside the data, key by key, typed on reading."""

    async def keep(context: Context) -> None:
        context.values["count"] = 1
        context.values["when"] = "2024-02-29"

    async def look(context: Context) -> ExecutionResult:
        assert context.value("count", int) == 1
        assert context.value("when", date) == date(2024, 2, 29)
        with pytest.raises(ContextValueNotFound, match="count"):
            context.value("missing", int)
        with pytest.raises(DataError):
            context.value("when", int)
        del context.values["when"]
        return ExecutionResult.next({"values": sorted(context.values)})

    async def last(context: Context) -> None:
        context.data["last"] = dict(context.values)

    definition = WorkflowBuilder().parallel(keep).then(look).delay(0.01).then(last).build("w")

    result = await host.run(definition, timeout=SECONDS)

    assert result.error is None
    assert result.data == {"values": ["count"], "last": {"count": 1}}


async def test_conditions_cannot_change_the_data(host: WorkflowHost) -> None:
    """What they change in their view is lost."""

    def condition(data: dict[str, Any]) -> bool:
        data["x"] = "changed"
        return True

    definition = WorkflowBuilder().if_do(condition, lambda b: b.then(put("a", a=1))).build("w")

    result = await host.run(definition, {"x": 1}, timeout=SECONDS)

    assert result.data == {"x": 1, "a": 1}


async def test_big_and_odd_values_survive(host: WorkflowHost) -> None:
    """A megabyte of text, deep nesting, empty keys, every kind of number and character."""
    deep: Any = "bottom"
    for _ in range(50):
        deep = {"d": [deep]}
    data = {
        "": "empty key",
        "big": "ä" * 500_000,
        "deep": deep,
        "numbers": [0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 0.1, -0.0, 1e308, 5e-324],
        "text": '\t\n\r"\\/\u2028\U0001f600\x7f',
        "keys": {"a.b": 1, "$": 2, "ключ": 3},
    }
    definition = WorkflowBuilder().delay(0.01).then(put("a", done=True)).build("w")

    result = await host.run(definition, data, timeout=SECONDS)

    assert result.data == {**data, "done": True}

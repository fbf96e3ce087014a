"""Kinds of data classes: what each keeps, takes and refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypedDict

import attrs
import msgspec
import pydantic
import pytest

from tests.scenarios.stage import SECONDS
from wfe import DataError, StepExecutionContext, WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.host.data_codec import DataCodec

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)


class Struct(msgspec.Struct):
    count: int = 0
    note: str = ""
    price: Decimal = Decimal("1.10")
    at: datetime = NOON


@dataclass
class Plain:
    count: int = 0
    note: str = ""
    price: Decimal = Decimal("1.10")
    at: datetime = NOON


@attrs.define
class Attrs:
    count: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    note: str = ""
    price: Decimal = Decimal("1.10")
    at: datetime = NOON


@pydantic.dataclasses.dataclass
class Checked:
    count: int = 0
    note: str = ""
    price: Decimal = Decimal("1.10")
    at: datetime = NOON


class Model(pydantic.BaseModel):
    count: int = 0
    note: str = ""
    price: Decimal = Decimal("1.10")
    at: datetime = NOON


class Typed(TypedDict, total=False):
    count: int
    note: str


KINDS = [Struct, Plain, Attrs, Checked, Model]


@pytest.mark.parametrize("kind", KINDS)
async def test_kinds_of_data_classes(host: WorkflowHost, kind: Any) -> None:
    """From an object, from a mapping, from nothing; every body and the result have objects with the types kept."""

    async def body(context: StepExecutionContext[Any]) -> None:
        assert isinstance(context.data, kind)
        context.data.count += 1
        context.data.price += Decimal("0.20")

    definition = WorkflowBuilder(kind).start_with(body).delay(0.01).then(body).build("w")

    for given, expected in ((kind(count=1, note="a"), (3, "a")), ({"count": 5}, (7, "")), (None, (2, ""))):
        result = await host.run(definition, given, timeout=SECONDS)
        assert isinstance(result.data, kind)
        assert (result.data.count, result.data.note) == expected
        assert (result.data.price, result.data.at) == (Decimal("1.50"), NOON)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_start_with_wrong_data_is_refused(host: WorkflowHost, kind: Any) -> None:
    """A value of another type and a field that is not there: the error names class, path and the nearest name."""
    definition = WorkflowBuilder(kind).delay(0).build("w")

    with pytest.raises(DataError) as wrong:
        await host.start_workflow(definition, {"count": "many"})
    with pytest.raises(DataError) as unknown:
        await host.start_workflow(definition, {"coutn": 1})

    assert (wrong.value.path, wrong.value.reason) == ("$.count", "wrong_type")
    assert kind.__qualname__ in str(wrong.value)
    assert "\n" not in str(wrong.value)
    assert "Did you mean 'count'?" in str(unknown.value)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_body_does_to_the_data_is_checked(host: WorkflowHost, kind: Any) -> None:
    """A field of the wrong type fails the step that set it, and the data stay as they were."""

    async def spoil(context: StepExecutionContext[Any]) -> None:
        change = object.__setattr__ if kind is Attrs else setattr  # attrs would ask its validator at once
        change(context.data, "count", "many")

    result = await host.run(WorkflowBuilder(kind).start_with(spoil).build("w"), {"count": 3}, timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert result.error.code == "data_error"
    assert result.data.count == 3


@pytest.mark.parametrize("kind", [Attrs, Model])
def test_what_cannot_be_stored_is_named(kind: Any) -> None:
    """Numbers that are none, NUL and half a surrogate pair: with the path of the value."""
    codec = DataCodec(kind)

    for name, value, reason in (("note", "a\0b", "nul"), ("note", "\ud800", "surrogate")):
        with pytest.raises(DataError) as caught:
            codec.initial(kind(**{name: value}))
        assert (caught.value.path, caught.value.reason) == (f"$.{name}", reason)


async def test_a_typed_dict(host: WorkflowHost) -> None:
    """It is a dict with checked fields."""

    async def body(context: StepExecutionContext[Any]) -> None:
        context.data["count"] += 1

    definition = WorkflowBuilder(Typed).start_with(body).build("w")

    result = await host.run(definition, Typed(count=1), timeout=SECONDS)

    assert result.data == {"count": 2}
    with pytest.raises(DataError):
        await host.start_workflow(definition, {"count": "text"})


# --- attrs


@attrs.define
class Item:
    name: str = ""


@attrs.define
class Basket:
    items: list[Item] = attrs.Factory(list)
    _owner: str = "nobody"


@attrs.frozen
class Frozen:
    count: int = 0


async def test_attrs_classes_keep_private_fields_and_nest(host: WorkflowHost) -> None:
    """What begins with an underscore is kept like any other field, and objects may hold objects."""
    seen: list[Basket] = []

    async def body(context: StepExecutionContext[Basket]) -> None:
        context.data.items.append(Item("pear"))

    async def look(context: StepExecutionContext[Basket]) -> None:
        seen.append(context.data)

    definition = WorkflowBuilder(Basket).start_with(body).then(look).build("w")
    result = await host.run(definition, Basket([Item("plum")], owner="ann"), timeout=SECONDS)

    assert seen == [result.data] == [Basket([Item("plum"), Item("pear")], owner="ann")]


async def test_frozen_data_are_replaced_as_a_whole(host: WorkflowHost) -> None:
    """A body that cannot change its copy gives another object."""

    async def body(context: StepExecutionContext[Frozen]) -> None:
        context.data = attrs.evolve(context.data, count=context.data.count + 1)

    result = await host.run(WorkflowBuilder(Frozen).start_with(body).build("w"), Frozen(1), timeout=SECONDS)

    assert result.data == Frozen(2)


def test_validators_of_attrs_are_asked() -> None:
    """A mapping that a validator refuses starts nothing."""
    with pytest.raises(DataError, match="'count' must be >= 0"):
        DataCodec(Attrs).initial({"count": -1})


# --- pydantic


class Line(pydantic.BaseModel):
    sku: str = pydantic.Field("", alias="stockKeepingUnit")


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    order_id: str = pydantic.Field("", alias="orderId")
    lines: list[Line] = pydantic.Field(default_factory=list)
    tags: set[str] = pydantic.Field(default_factory=set)

    @pydantic.computed_field  # type: ignore[prop-decorator]  # as pydantic's documentation has it
    @property
    def size(self) -> int:
        return len(self.lines)


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    count: int = 0


class Strict(pydantic.BaseModel):
    must: int
    share: float = 0.0


async def test_models_keep_what_has_an_alias(host: WorkflowHost) -> None:
    """Aliases are for what comes from outside; stored are the fields, nested ones too, and nothing computed."""

    async def body(context: StepExecutionContext[Order]) -> None:
        context.data.lines.append(Line(stockKeepingUnit="b"))
        context.data.tags.add("new")

    definition = WorkflowBuilder(Order).start_with(body).build("w")
    outside: Mapping[str, object] = {"orderId": "o-1", "lines": [{"stockKeepingUnit": "a"}]}
    by_name: Mapping[str, object] = {"order_id": "o-1", "lines": [{"sku": "a"}]}

    for given in (Order.model_validate(outside), outside, by_name):
        result = await host.run(definition, given, timeout=SECONDS)
        assert result.data.order_id == "o-1"
        assert [line.sku for line in result.data.lines] == ["a", "b"]
        assert result.data.tags == {"new"}
        assert result.data.size == 2


async def test_models_that_allow_more_keep_more(host: WorkflowHost) -> None:
    """Fields that a model did not declare but allows are data like the others."""

    async def body(context: StepExecutionContext[Open]) -> None:
        context.data.count += 1

    result = await host.run(WorkflowBuilder(Open).start_with(body).build("w"), {"more": [1]}, timeout=SECONDS)

    assert result.data == Open.model_validate({"count": 1, "more": [1]})


def test_all_that_a_model_refuses_is_told() -> None:
    """Each value with its path, without pydantic's layout; nothing given where something is needed is told as well."""
    with pytest.raises(DataError) as caught:
        DataCodec(Order).initial({"orderId": 5, "lines": [{"sku": 1}]})
    with pytest.raises(DataError) as missing:
        DataCodec(Strict).initial(None)

    assert str(caught.value) == (
        "The data does not fit Order: Input should be a valid string - at `$.orderId`; "
        "Input should be a valid string - at `$.lines[0].sku`"
    )
    assert str(missing.value) == "The data does not fit Strict: Field required - at `$.must`"


def test_a_number_that_is_none_is_not_stored_as_null() -> None:
    """Pydantic would write NaN as null and read it back as an error."""
    with pytest.raises(DataError) as caught:
        DataCodec(Strict).initial(Strict(must=1, share=math.nan))

    assert (caught.value.path, caught.value.reason) == ("$.share", "not_finite")


@dataclass
class Holder:
    model: Model = field(default_factory=Model)


def test_a_model_inside_another_kind_of_class_is_refused_by_name() -> None:
    """Models are stored only where they are the whole data; elsewhere the error names their place."""
    with pytest.raises(DataError) as caught:
        DataCodec(Holder).initial(None)

    assert caught.value.path == "$.model"

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypedDict

import msgspec
import pytest

from wfe.authoring import WorkflowBuilder
from wfe.model.conditions import ref
from wfe.model.errors import DefinitionError
from wfe.model.policies import Compensate, CompensateThenSuspend, Fail, Retry, RetryPolicy


@dataclass
class Order:
    amount: float = 0.0
    lines: list[str] = field(default_factory=list)


def pay(context: object) -> None: ...


def charge(context: object, amount: float) -> None: ...


def new() -> Any:
    """Give a builder whose calls no type checker looks at: the mistakes here are planted."""
    return WorkflowBuilder(Order)


def problems_of(build: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(DefinitionError) as caught:
        build()
    return caught.value.problems


def test_every_problem_is_reported_at_once() -> None:
    """One DefinitionError has every problem, each with its step, those inside blocks too."""
    builder = (
        new()
        .name("before any step")
        .then(pay)
        .retry(RetryPolicy())
        .on_error(Retry())
        .parallel(lambda b: b.then(3).go_to("nowhere"))
        .default_retry(5)
    )

    problems = problems_of(lambda: builder.build("", 0))

    assert len(problems) == 7
    assert any(problem.startswith("step 'pay': ") for problem in problems)
    assert any("step 'step': expected a step body" in problem for problem in problems)
    assert any("nowhere" in problem for problem in problems)


CASES: list[tuple[str, Callable[[Any], Any]]] = [
    ("two steps have the id 'x'", lambda b: b.then(pay).id("x").then(pay).id("x")),
    ("step id must not be empty", lambda b: b.then(pay).id("")),
    ("step id is text", lambda b: b.then(pay).id(3)),
    ("at most 200 characters", lambda b: b.then(pay).id("x" * 201)),
    ("control characters", lambda b: b.then(pay).id("a\nb")),
    ("start with _wfe are reserved", lambda b: b.then(pay).id("_wfe.x")),
    ("given two ids", lambda b: b.then(pay).id("x").id("y")),
    ("named twice", lambda b: b.then(pay).name("x").name("y")),
    ("a name must be text", lambda b: b.then(pay).name(" ")),
    ("as has step 'pay' of the same block", lambda b: b.then(pay).name("x").then(pay).name("x")),
    ("stands before any step", lambda b: b.timeout(3)),
    ("there is no step 'pya'; did you mean 'pay'", lambda b: b.then(pay).then(pay).go_to("pya")),
    ("inside another block", lambda b: b.if_do(ref("amount") > 1, lambda b: b.then(pay)).then(pay).go_to("pay")),
    ("a branch of parallel", lambda b: b.then(pay).parallel(lambda b: b.go_to("pay"))),
    (
        "a branch of for_each",
        lambda b: b.then(pay).for_each([1], lambda b: b.if_do(ref("amount") > 1, lambda b: b.go_to("pay"))),
    ),
    ("a branch of do", lambda b: b.then(pay).do(lambda b: b.go_to("pay"))),
    ("go_to is given twice", lambda b: b.then(pay).go_to("pay").go_to("pay")),
    ("ends at this step", lambda b: b.then(pay).end_workflow().go_to("pay")),
    ("go_to takes the id", lambda b: b.then(pay).go_to(None)),
    ("both given", lambda b: b.then(pay).retry(RetryPolicy()).on_error(Retry())),
    ("both given", lambda b: b.default_retry(RetryPolicy()).default_on_error(Retry())),
    ("retry is given twice", lambda b: b.then(pay).retry(RetryPolicy()).retry(RetryPolicy())),
    ("default_retry is given twice", lambda b: b.default_retry(RetryPolicy()).default_retry(RetryPolicy())),
    ("on_error is given twice", lambda b: b.then(pay).on_error(Fail()).on_error(Fail())),
    (r"write Fail\(\)", lambda b: b.then(pay).on_error(Fail)),
    ("a RetryPolicy is given by retry", lambda b: b.then(pay).on_error(RetryPolicy())),
    ("Retry.* is given by on_error", lambda b: b.then(pay).retry(Retry())),
    ("needs a compensation", lambda b: b.then(pay).on_error(Compensate())),
    ("needs a compensation", lambda b: b.then(pay).on_error(Retry(then=CompensateThenSuspend()))),
    ("needs a compensation", lambda b: b.default_on_error(Compensate())),
    ("time limit must be above zero", lambda b: b.then(pay).timeout(0)),
    ("is not a duration", lambda b: b.then(pay).timeout("soon")),
    ("set it on the steps inside", lambda b: b.parallel(pay).timeout(1)),
    ("default_timeout: a time limit", lambda b: b.default_timeout(timedelta(-1))),
    ("outcomes are given twice", lambda b: b.then(pay).outcomes({1: pay}).outcomes({2: pay})),
    ("outcomes.* is for steps with a body", lambda b: b.delay(1).outcomes({1: pay})),
    ("outcomes: expected a mapping", lambda b: b.then(pay).outcomes([pay])),
    ("do is given twice", lambda b: b.then(pay).do(pay).do(pay)),
    ("decide: the value .* is no JSON|no JSON value", lambda b: b.decide(1, {Decimal(1): pay})),
    (r"config 'x': .*\$\.y\[0\]", lambda b: b.then(pay).config(x={"y": [{1, 2}]})),
    ("config 'x' is given twice", lambda b: b.then(pay).config(x=1).config(x=2)),
    (r"input 'amount': .*Decimal.*function may give", lambda b: b.then(charge).input("amount", Decimal(1))),
    ("input 'amount' is given twice", lambda b: b.then(charge).input("amount", 1).input("amount", 2)),
    ("no argument 'amuont' .*did you mean 'amount'", lambda b: b.then(charge).input("amount", 1).input("amuont", 1)),
    ("needs its argument 'amount'", lambda b: b.then(charge)),
    ("not the name of an attribute", lambda b: b.then(pay).input("a b", 1)),
    (r"takes \(data\) or \(data, context\)", lambda b: b.then(charge).input("amount", lambda a, b, c: 1)),
    ("this body is a function", lambda b: b.then(pay).output("amount", "x")),
    ("no field 'amuont'; did you mean 'amount'", lambda b: b.then("x").output("amuont", "x")),
    ("does not start with _wfe", lambda b: b.wait_for("e", "k", output="_wfe_x")),
    ("no field 'itms'", lambda b: b.for_each("itms", pay)),
    ("not the path of a field", lambda b: b.for_each("a b", pay)),
    ("when is given twice", lambda b: b.then(pay).when(ref("amount") > 1).when(ref("amount") > 2)),
    ("expected a function of the data", lambda b: b.if_do(True, pay)),
    ("is a field, not a condition", lambda b: b.while_do(ref("amount"), pay)),
    ("max_parallel must be", lambda b: b.for_each([1], pay, max_parallel=0)),
    ("parallel=False they run one by one", lambda b: b.for_each([1], pay, max_parallel=2, parallel=False)),
    ("expected a list", lambda b: b.for_each(3, pay)),
    ("must not be negative", lambda b: b.delay(-1)),
    ("expected an aware datetime", lambda b: b.delay(datetime(2030, 1, 1))),  # noqa: DTZ001 - planted
    ("expected an aware datetime", lambda b: b.wait_for("e", "k", as_of="yesterday")),
    ("the event key: expected text", lambda b: b.wait_for("e", None)),
    ("the event name: expected text, got an empty", lambda b: b.wait_for("", "k")),
    ("sub_workflow takes a definition", lambda b: b.sub_workflow(None)),
    ("version of a child", lambda b: b.sub_workflow("c", version=0)),
    ("on_parent_end must be", lambda b: b.sub_workflow("c", on_parent_end="kill")),
    ("names of fields are text", lambda b: b.sub_workflow("c", inputs={1: 2})),
    ("expected a mapping", lambda b: b.sub_workflow("c", outputs=3)),
    ("at most one parameter", lambda b: b.then_fn(charge)),
    ("then_fn takes a function", lambda b: b.then_fn(3)),
    ("for the whole workflow", lambda b: b.parallel(lambda b: b.then(pay).default_timeout(3))),
]


@pytest.mark.parametrize(("says", "write"), CASES, ids=[says for says, _ in CASES])
def test_each_mistake_is_found(says: str, write: Callable[[Any], Any]) -> None:
    """Each kind of mistake gives exactly one problem, which says what is wrong."""
    builder = write(new())

    (problem,) = problems_of(lambda: builder.build("orders"))

    assert re.search(says, problem), problem


@pytest.mark.parametrize(
    ("id_", "version"), [("", 1), (" x", 1), ("_wfe", 1), (None, 1), ("x", 0), ("x", True), ("x", "1")]
)
def test_id_and_version_are_checked(id_: Any, version: Any) -> None:
    """A definition needs an id that is not reserved, and a version from 1."""
    assert len(problems_of(lambda: new().build(id_, version))) == 1


def test_build_inside_a_block_is_refused() -> None:
    """A block is built with its workflow."""
    builder = new().parallel(lambda b: b.then(pay).build("inner"))

    assert "inside a block" in problems_of(lambda: builder.build("orders"))[0]


class Struct(msgspec.Struct):
    amount: int = 0


class Typed(TypedDict):
    amount: int


@pytest.mark.parametrize("data_type", [Order, Struct, Typed])
def test_fields_of_every_kind_of_data_are_known(data_type: Any) -> None:
    """Field names are checked for dataclasses, Structs and TypedDicts."""
    builder: Any = WorkflowBuilder(data_type)

    assert "no field 'nothing'" in problems_of(lambda: builder.for_each("nothing", pay).build("x"))[0]


def test_any_field_may_be_named_in_dict_data() -> None:
    """A dict has no fields of its own to check against."""
    assert WorkflowBuilder().for_each("anything", lambda context: None).build("x").steps

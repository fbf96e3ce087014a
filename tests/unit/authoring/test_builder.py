from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from wfe.authoring import WorkflowBuilder
from wfe.model.conditions import ref
from wfe.model.context import StepExecutionContext
from wfe.model.definition import Code, ConditionTree, Field, Literal, Policies, Step, StepKind, WorkflowDefinition
from wfe.model.policies import Continue, Fail, Fixed, Retry, RetryPolicy
from wfe.model.step_body import Answer, NoContext, StepBody, WithContext, step


@dataclass
class Order:
    order_id: str = ""
    amount: float = 0.0
    lines: list[str] = field(default_factory=list)
    receipt: str | None = None


class Validate(StepBody[Order]):
    limit: float = 0.0

    async def run(self, context: StepExecutionContext[Order]) -> None: ...


class Pack(StepBody[Order]):
    def run(self, context: StepExecutionContext[Order]) -> None: ...


def pay(context: StepExecutionContext[Order]) -> None: ...


def charge(context: StepExecutionContext[Order], amount: float, currency: str = "EUR") -> None: ...


@step("billing.refund", timeout="30s", retry=RetryPolicy(5, Fixed(1)))
def refund(context: StepExecutionContext[Order]) -> None: ...


def only(definition: WorkflowDefinition[Order]) -> Step:
    (found,) = definition.root.steps
    return found


def test_a_chain_reads_from_top_to_bottom() -> None:
    """Steps follow one another in the order in which they are written, with bodies bound to their ids."""
    definition = WorkflowBuilder(Order).start_with(Validate).then(pay).add_step(Pack).build("orders", version=3)

    assert [each.id for each in definition.steps] == ["Validate", "pay", "Pack"]
    assert (definition.id, definition.version, definition.data_type) == ("orders", 3, Order)
    assert definition.code["pay", "body"] is pay
    assert definition.steps[0].step_type == f"{__name__}:Validate"


def test_an_empty_workflow_builds() -> None:
    """A workflow without steps is valid."""
    assert WorkflowBuilder().build("nothing").steps == ()


def test_what_is_said_of_the_workflow_is_kept() -> None:
    """Name, description, strictness and defaults stand in the definition."""
    definition = (
        WorkflowBuilder(Order, name="Orders", description="Sells.", strict_data=True)
        .default_on_error(Continue())
        .default_retry(RetryPolicy(2))
        .default_timeout("1m")
        .build("orders")
    )

    assert (definition.name, definition.description, definition.strict_data) == ("Orders", "Sells.", True)
    assert definition.default_policies == Policies(Continue(), RetryPolicy(2), timedelta(minutes=1))


def test_names_leave_ids_and_hash_alone() -> None:
    """A display name changes neither the id that is derived nor the hash."""
    plain = WorkflowBuilder(Order).start_with(Validate).build("orders")
    named = WorkflowBuilder(Order).start_with(Validate).name("Check the order").build("orders")

    assert named.steps[0].name == "Check the order"
    assert named.steps[0].id == "Validate"
    assert named.hash == plain.hash


def test_derived_ids_are_numbered_in_order_and_avoid_given_ones() -> None:
    """The second step of a body gets `-2`, outer before inner; an id of the author's is never taken away."""
    definition = (
        WorkflowBuilder(Order)
        .then(pay)
        .if_do(lambda data: data.amount > 0, lambda b: b.then(pay).then(pay).id("pay-2"))
        .then(pay)
        .build("orders")
    )

    assert [each.id for each in definition.steps] == ["pay", "if", "pay-3", "pay-2", "pay-4"]


def test_a_step_decorator_gives_type_id_and_defaults() -> None:
    """`@step` names the step type and supplies the policies that the builder does not."""
    definition = WorkflowBuilder(Order).then(refund).then(refund).timeout(5).on_error(Retry(1, 2)).build("orders")

    first, second = definition.steps
    assert (first.id, first.step_type, second.id) == ("billing.refund", "billing.refund", "billing.refund-2")
    assert definition.policies_of(first.id) == Policies(None, RetryPolicy(5, Fixed(1)), timedelta(seconds=30))
    assert definition.policies_of(second.id) == Policies(Retry(1, 2), None, timedelta(seconds=5))


def test_a_step_type_by_name_has_no_code() -> None:
    """A body given as text is a step type that the host knows."""
    definition = WorkflowBuilder(Order).then("billing.charge").config(currency="EUR").build("orders")

    assert (only(definition).step_type, only(definition).config) == ("billing.charge", {"currency": "EUR"})
    assert definition.code == {}


def test_inputs_and_outputs_are_slots() -> None:
    """An input is a literal, a field, or code with or without the context; an output an attribute or code."""
    definition = (
        WorkflowBuilder(Order)
        .then(Validate)
        .input("a", (1, "two"))
        .input("b", ref(".lines[0]"))
        .input("c", lambda data: data.amount)
        .input("d", lambda data, context: context.index)
        .output("receipt", "limit")
        .output("amount", lambda body: body.limit)
        .build("orders")
    )

    values = only(definition).values
    assert values["input.a"] == Literal([1, "two"])
    assert values["input.b"] == Field("lines.0")
    assert isinstance(values["input.c"], Code)
    assert not isinstance(definition.code["Validate", "input.c"], WithContext)
    assert isinstance(definition.code["Validate", "input.d"], WithContext)
    assert values["output.receipt"] == Field("limit")
    assert isinstance(values["output.amount"], Code)


def test_literals_are_copied() -> None:
    """Changing a list after it was given does not change the plan."""
    items = ["a"]
    builder = WorkflowBuilder(Order).then(charge).input("amount", items)
    items.append("b")

    assert only(builder.build("orders")).values["input.amount"] == Literal(["a"])


def test_policies_of_a_step() -> None:
    """Error rule, retry and timeout of a step stand in the definition's policies, not in the plan."""
    definition = (
        WorkflowBuilder(Order).then(pay).retry(RetryPolicy(3, Fixed(1))).on_error(Continue()).timeout("1m").build("o")
    )

    assert definition.policies == {"pay": Policies(Continue(), RetryPolicy(3, Fixed(1)), timedelta(minutes=1))}
    assert definition.hash == WorkflowBuilder(Order).then(pay).build("o").hash


def test_conditions_are_trees_or_code() -> None:
    """`when`, `if_do` and `while_do` take a serialisable condition or a callable."""
    condition = ref(".amount") > 100
    definition = (
        WorkflowBuilder(Order)
        .then(pay)
        .when(condition)
        .if_do(condition, Validate, else_do=lambda b: b.then(pay))
        .while_do(lambda data: data.amount > 0, Pack)
        .build("orders")
    )

    assert definition.steps[0].values == {"when": ConditionTree(condition.to_plain())}
    branch = definition.place("if").step
    assert [[each.id for each in block.steps] for block in branch.blocks] == [["Validate"], ["pay-2"]]
    assert definition.code["while", "condition"](Order(amount=1)) is True


def test_parallel_and_for_each_keep_what_differs_from_the_default() -> None:
    """Options that have their default value are left out, so that equal plans have equal hashes."""
    definition = (
        WorkflowBuilder(Order)
        .parallel(Validate, lambda b: b.then(pay).then(Pack), fail_fast=True)
        .for_each("lines", Pack)
        .for_each(["x"], Pack, parallel=False)
        .for_each(lambda data: data.lines, Pack, max_parallel=2, fail_fast=True)
        .build("orders")
    )

    containers = definition.root.steps
    assert [each.options for each in containers] == [
        {"fail_fast": True},
        {},
        {"parallel": False},
        {"max_parallel": 2, "fail_fast": True},
    ]
    assert len(containers[0].blocks) == 2
    assert containers[1].values == {"collection": Field("lines")}
    assert containers[2].values == {"collection": Literal(["x"])}


def test_decide_and_outcomes_have_labelled_blocks() -> None:
    """Each case is a block with its value as label; the default one is marked."""
    definition = (
        WorkflowBuilder(Order)
        .decide(lambda data: data.amount, {5: Validate, "x": pay}, default=Pack)
        .then(pay)
        .outcomes({"again": lambda b: b.go_to("decide"), None: Pack})
        .build("orders")
    )

    decide, body = definition.root.steps
    assert [(each.label, each.is_default) for each in decide.blocks] == [(5, False), ("x", False), (None, True)]
    assert [(each.label, each.is_default) for each in body.blocks] == [("again", False), (None, False)]


def test_a_jump_may_open_a_block() -> None:
    """`go_to` on a step sets where it goes on; at the beginning of a block it is a step that only jumps."""
    definition = (
        WorkflowBuilder(Order)
        .then(Validate)
        .if_do(lambda data: data.amount < 0, lambda b: b.go_to("Validate"))
        .then(pay)
        .go_to("Validate")
        .build("orders")
    )

    jump = definition.place("go-to").step
    assert (jump.kind, jump.go_to, jump.blocks) == (StepKind.SEQUENCE, "Validate", ())
    assert definition.place("pay").step.go_to == "Validate"


def test_jumps_may_leave_blocks_that_run_alone() -> None:
    """A jump may leave if, while, a sequential for_each, decide and outcomes, however deep."""
    definition = (
        WorkflowBuilder(Order)
        .then(Validate)
        .for_each(
            "lines",
            lambda b: b.while_do(
                lambda data: True,
                lambda b: b.decide(1, {1: lambda b: b.then(pay).outcomes({1: lambda b: b.go_to("Validate")})}),
            ),
            parallel=False,
        )
        .build("orders")
    )

    assert definition.place("go-to").step.go_to == "Validate"


def test_do_gives_children() -> None:
    """`do` is what a body starts by `branch`."""
    definition = WorkflowBuilder(Order).then(pay).do(lambda b: b.then(Pack)).build("orders")

    children = only(definition).children
    assert children is not None
    assert [each.id for each in children.steps] == ["Pack"]
    assert definition.place("Pack").block == -1


def test_delays_are_seconds_moments_or_code() -> None:
    """A duration is stored as seconds, an aware datetime in UTC."""
    when = datetime(2030, 1, 1, 12, tzinfo=UTC)
    definition = (
        WorkflowBuilder(Order)
        .delay("1h30m")
        .delay(timedelta(milliseconds=1500))
        .delay(when)
        .delay(lambda data: data.amount)
        .build("orders")
    )

    values = [each.values["duration"] for each in definition.steps]
    assert values[:3] == [Literal(5400), Literal(1.5), Literal({"at": when.isoformat()})]
    assert isinstance(values[3], Code)


def test_waits_name_event_key_and_output() -> None:
    """A wait has its event, key and `as_of` as values, its time limit and output as options."""
    definition = (
        WorkflowBuilder(Order)
        .wait_for("paid", lambda data: data.order_id, as_of="any", timeout="2m", output="receipt")
        .wait_for("paid", 7)
        .build("orders")
    )

    first, second = definition.steps
    assert first.values["event_name"] == Literal("paid")
    assert isinstance(first.values["event_key"], Code)
    assert first.values["as_of"] == Literal("any")
    assert first.options == {"output": "receipt", "timeout_us": 120_000_000}
    assert second.values == {"event_name": Literal("paid"), "event_key": Literal("7")}


def test_children_are_named_by_id_or_definition() -> None:
    """A child is an id with an optional version, or a definition with its own."""
    child = WorkflowBuilder().build("child", version=4)
    definition = (
        WorkflowBuilder(Order)
        .sub_workflow(child)
        .sub_workflow("child", on_parent_end="abandon", inputs={"n": 1})
        .build("orders")
    )

    first, second = definition.steps
    assert first.options == {"definition_id": "child", "version": 4}
    assert second.options == {"definition_id": "child", "on_parent_end": "abandon"}
    assert second.values == {"inputs": Literal({"n": 1})}


def test_inputs_and_outputs_of_children_are_put_together() -> None:
    """A mapping with callables or fields is evaluated entry by entry."""
    context: Any = object()
    definition = (
        WorkflowBuilder(Order)
        .sub_workflow(
            "child",
            inputs={
                "id": lambda data: data.order_id,
                "first": ref("lines[0]"),
                "same": lambda data, context: context,
                "n": 1,
            },
            outputs={"receipt": "paper.number", "amount": lambda child: child["sum"]},
        )
        .build("orders")
    )

    inputs = definition.code["sub-workflow", "inputs"](Order("o-1", lines=["x"]), context)
    outputs = definition.code["sub-workflow", "outputs"]({"paper": {"number": "r"}, "sum": 2})
    assert inputs == {"id": "o-1", "first": "x", "same": context, "n": 1}
    assert outputs == {"receipt": "r", "amount": 2}


def test_end_workflow_is_a_step() -> None:
    """The end of a workflow may stand inside a block."""
    definition = WorkflowBuilder(Order).if_do(lambda data: True, lambda b: b.end_workflow()).build("orders")

    assert definition.place("end").step.kind is StepKind.END


async def test_then_fn_takes_functions_without_parameters() -> None:
    """A function without parameters, plain or async, becomes a body; one with the context is one already."""

    def plain() -> Answer:
        return {"a": 1}

    async def waiting() -> Answer:
        return {"b": 2}

    definition = WorkflowBuilder(Order).then_fn(plain).then_fn(waiting).then_fn(pay).build("orders")

    code = definition.code
    assert isinstance(code["plain", "body"], NoContext)
    assert code["plain", "body"](None) == {"a": 1}
    assert await code["waiting", "body"](None) == {"b": 2}  # type: ignore[misc]  # a coroutine function
    assert code["pay", "body"] is pay
    assert [each.step_type.rpartition(".")[2] for each in definition.steps[:2]] == ["plain", "waiting"]


def test_building_again_gives_the_same() -> None:
    """The same builder gives equal definitions, and may go on after a build."""
    builder = WorkflowBuilder(Order).then(pay).parallel(lambda b: b.then(pay))

    first, second = builder.build("orders"), builder.build("orders")
    longer = builder.then(pay).build("orders")

    assert first == second
    assert [each.id for each in longer.steps] == ["pay", "parallel", "pay-2", "pay-3"]
    assert len(first.steps) == 3


def test_a_subclass_of_the_builder_is_handed_to_blocks() -> None:
    """Blocks get a builder of the same class, with its further methods."""

    class Ours(WorkflowBuilder[Order]):
        def twice(self, body: Any) -> Ours:
            return self.then(body).then(body)

    definition = Ours(Order).parallel(lambda b: b.twice(pay)).build("orders")  # type: ignore[attr-defined]  # Ours

    assert len(definition.steps) == 3


@pytest.mark.parametrize("rule", [Fail(), Retry(1, 1, then=Continue())])
def test_every_error_rule_of_a_step_is_kept(rule: Any) -> None:
    """Error rules are kept as they are given."""
    assert WorkflowBuilder(Order).then(pay).on_error(rule).build("o").policies_of("pay").error == rule

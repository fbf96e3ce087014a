"""What users write: accepted by mypy --strict and by pyright."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, assert_type

from wfe.authoring import WorkflowBuilder, block
from wfe.model.conditions import all_of, ref
from wfe.model.context import StepExecutionContext
from wfe.model.definition import WorkflowDefinition
from wfe.model.policies import Continue, Exponential, Fixed, Retry, RetryPolicy
from wfe.model.result import ExecutionResult
from wfe.model.step_body import StepBody, step


@dataclass
class Order:
    order_id: str = ""
    amount: float = 0.0
    lines: list[str] = field(default_factory=list)
    receipt: str | None = None


class Validate(StepBody[Order]):
    limit: float = 0.0

    async def run(self, context: StepExecutionContext[Order]) -> None:
        assert_type(context.data, Order)
        if context.data.amount <= self.limit:
            raise ValueError("amount must be positive")


class Ship(StepBody[Order]):
    def run(self, context: StepExecutionContext[Order]) -> ExecutionResult:
        if context.persistence_data is None:
            return ExecutionResult.sleep(timedelta(minutes=5), data={"asked": True})
        assert_type(context.value("limits", dict[str, int]), dict[str, int])
        return ExecutionResult.next({"receipt": context.data.order_id})

    def is_retryable(self, error: BaseException) -> bool:
        return not isinstance(error, ValueError)

    async def on_success(self, context: StepExecutionContext[Order]) -> None:
        context.log(f"shipped at attempt {context.attempt}")


def pay(context: StepExecutionContext[Order]) -> None:
    context.data.receipt = f"paid {context.data.order_id}"


async def charge(context: StepExecutionContext[Order], amount: float, *, currency: str = "EUR") -> Mapping[str, object]:
    return {"receipt": f"{amount} {currency} {context.item} {context.index}"}


@step("billing.refund", timeout="30s", retry=RetryPolicy(3, Fixed(1)), executor="process", concurrency=2)
def refund(context: StepExecutionContext[Order]) -> dict[str, int]:
    return {"amount": 0}


@step
def note(context: StepExecutionContext[Order]) -> None: ...


def returns(b: WorkflowBuilder[Order]) -> WorkflowBuilder[Order]:
    return b.then(refund).then(Ship)


def answer() -> None: ...


definition = (
    WorkflowBuilder(Order, name="Orders")
    .start_with(Validate)
    .name("Validate")
    .input("limit", 1.5)
    .input("limit", lambda data: data.amount / 2)
    .input("limit", lambda data, context: data.amount * context.index)
    .output("amount", lambda body: body.limit)
    .then(pay)
    .when(lambda data: data.amount > 0)
    .when(ref(".amount") > 0)
    .when(lambda data, context: context.data.amount > context.index)
    .then(charge)
    .input("amount", ref(".amount"))
    .retry(RetryPolicy(5, Exponential("100ms", "1m")))
    .on_error(Continue())
    .timeout(timedelta(seconds=5))
    .then(lambda context: {"amount": context.data.amount + 1})
    .then("billing.notify")
    .config(to=["a", "b"])
    .then_fn(answer)
    .then_fn(lambda: None)
    .then_fn(pay)
    .if_do(lambda data: data.amount > 100, lambda b: b.then(pay).if_do(lambda data: data.receipt is None, note))
    .if_do(all_of(ref("amount") > 1, ref("receipt").is_null()), returns, else_do=lambda b: b.end_workflow())
    .while_do(lambda data: data.amount < 0, block(lambda b: b.then(pay)))
    .while_do(ref("amount") < 0, block(returns))
    .parallel(lambda b: b.then(pay), Validate, pay, note, refund, returns, "billing.notify", fail_fast=True)
    .for_each(lambda data: data.lines, lambda b: b.then(charge).input("amount", lambda data, context: context.item))
    .for_each("lines", pay, parallel=False)
    .for_each(["a", "b"], Validate, max_parallel=3)
    .decide(lambda data: data.amount, {5: pay, 7.5: lambda b: b.then(pay)}, default=Validate)
    .then(Ship)
    .outcomes({"again": lambda b: b.go_to("Validate"), "done": Validate})
    .do(lambda b: b.then(pay))
    .wait_for("paid", lambda data: data.order_id, as_of="any", timeout="2h", output="receipt")
    .wait_for("paid", lambda data, context: context.workflow.id)
    .delay("1h30m")
    .delay(lambda data: timedelta(seconds=data.amount))
    .delay(datetime.now(UTC))
    .sub_workflow("billing", inputs={"id": lambda data: data.order_id}, outputs={"receipt": "number"})
    .sub_workflow("billing", inputs=lambda data: {"id": data.order_id}, outputs=lambda child: child["x"])
    .default_on_error(Retry(interval=1))
    .default_timeout("1m")
    .build("orders", version=2)
)
assert_type(definition, WorkflowDefinition[Order])


class Plain(StepBody):
    """Without a data type: dict data."""

    def run(self, context: StepExecutionContext) -> None:
        assert_type(context.data, dict[str, Any])
        context.data["seen"] = True


class Rows(TypedDict):
    names: list[str]


plain = (
    WorkflowBuilder()
    .start_with(Plain)
    .when(lambda data: data["x"] > 1)
    .then(lambda context: {"a": context.item})
    .build("plain")
)
assert_type(plain, WorkflowDefinition[dict[str, Any]])
rows = WorkflowBuilder(Rows).for_each(lambda data: data["names"], lambda b: b.then("named")).build("rows")
assert_type(rows, WorkflowDefinition[Rows])

"""Planted mistakes. Each line that a checker must refuse ends with a mark; every other line must be accepted."""

from __future__ import annotations

from dataclasses import dataclass, field

from wfe.authoring import WorkflowBuilder
from wfe.model.conditions import ref
from wfe.model.context import StepExecutionContext
from wfe.model.step_body import StepBody, step
from wfe.model.policies import Fail, RetryPolicy


@dataclass
class Order:
    amount: float = 0.0
    lines: list[str] = field(default_factory=list)


class Other:
    name: str = ""


class Validate(StepBody[Order]):
    async def run(self, context: StepExecutionContext[Order]) -> None:
        context.data.amuont = 1  # error: no such field


class ForOther(StepBody[Other]):
    def run(self, context: StepExecutionContext[Other]) -> None:
        context.data.name = 3  # error: wrong type
        context.worfklow.id  # error: no such attribute


class ForDict(StepBody):
    def run(self, context: StepExecutionContext) -> int:  # error: not an answer
        return 1


def pay(context: StepExecutionContext[Order]) -> None: ...


def pay_other(context: StepExecutionContext[Other]) -> None: ...


def number(context: StepExecutionContext[Order]) -> int:
    return 1


def builds_other(b: WorkflowBuilder[Other]) -> None: ...


@step(timeout=[])  # error: no duration
def marked(context: StepExecutionContext[Order]) -> None: ...


b = WorkflowBuilder(Order)

b.then(ForOther)  # error: body of other data
b.then(ForDict)  # error: body of other data
b.then(pay_other)  # error: body of other data
b.then(number)  # error: not an answer
b.then(Validate())  # error: an object, not the class
b.then(lambda context: context.data.amuont)  # error: no such field
b.then_fn(lambda context, more: None)  # error: too many parameters
b.start_wiht(Validate)  # error: no such method

b.when(lambda data: data.amuont > 0)  # error: no such field
b.when(lambda data, context: context.data.amuont > 0)  # error: no such field
b.when(ref(".amount"))  # error: a field is no condition
b.input("x", lambda data: data.amuont)  # error: no such field
b.input("x", lambda data, context: data.amuont)  # error: no such field
b.input("x", object())  # error: not JSON
b.on_error(Fail)  # error: the class
b.retry(3)  # error: no policy
b.timeout(None)  # error: no duration

b.if_do(lambda data: data.amuont > 0, pay)  # error: no such field
b.if_do(lambda data: data.amount > 0, lambda b: b.thne(pay))  # error: no such method
b.if_do(lambda data: data.amount > 0, lambda b: b.when(lambda data: data.amuont > 0))  # error: no such field
b.if_do(lambda data: data.amount > 0, pay, else_do=ForOther)  # error: body of other data
b.while_do(lambda data: data.amount > 0, builds_other)  # error: block of other data
b.parallel(pay, lambda b: b.then(pay_other))  # error: body of other data
b.parallel(pay, pay_other)  # error: body of other data
b.for_each(lambda data: data.amount, pay)  # error: not a collection
b.for_each(lambda data: data.lines, lambda b: b.then(ForOther))  # error: body of other data
b.decide(lambda data: data.knid, {1: pay})  # error: no such field
b.then(pay).outcomes({"a": lambda b: b.thne(pay)})  # error: no such method
b.delay(lambda data: data.lines)  # error: no duration
b.wait_for("paid", lambda data: data.ordre_id)  # error: no such field
b.sub_workflow(3)  # error: no definition
b.sub_workflow("x", on_parent_end="kill")  # error: no such word
b.default_retry(RetryPolicy)  # error: the class

definition = b.build("orders")
definition.data_type().amuont  # error: no such field
b.build(3)  # error: no id

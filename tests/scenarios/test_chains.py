"""Chains of bodies: what a body may be, what it sees, what it answers."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.scenarios.stage import SECONDS, Context, StartHost, note, put, steps
from wfe import (
    Continue,
    DefinitionError,
    ExecutionResult,
    StepBody,
    StepExecutionContext,
    StepFailed,
    WorkflowBuilder,
    WorkflowDefinition,
    WorkflowHost,
    WorkflowStatus,
    block,
    ref,
    step,
)


@dataclass
class Order:
    order_id: str = ""
    amount: float = 0.0
    receipt: str | None = None


class Validate(StepBody[Order]):
    """A body as a class."""

    async def run(self, context: StepExecutionContext[Order]) -> None:
        if context.data.amount <= 0:
            raise ValueError("amount must be positive")


def pay(context: StepExecutionContext[Order]) -> None:
    """A body as a plain function: on a thread."""
    assert threading.current_thread() is not threading.main_thread()
    context.data.receipt = f"paid {context.data.order_id}"


async def test_first_contact(start_host: StartHost) -> None:
    """The program of the first page: a class, a function, typed data, a result."""
    definition = (
        WorkflowBuilder(Order).start_with(Validate).name("Validate").then(pay).name("Payment").build("order-pipeline")
    )
    host = await start_host(definition)

    instance_id = await host.start_workflow("order-pipeline", Order("o-1", 25.0))
    result = await host.wait(instance_id, timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    assert result.data == Order("o-1", 25.0, "paid o-1")
    assert result.raise_for_status() is result


async def test_a_failed_workflow_says_why(start_host: StartHost) -> None:
    """Status, error, failed steps; `raise_for_status` raises with the cause."""
    definition = WorkflowBuilder(Order).start_with(Validate).then(pay).build("order-pipeline")
    host = await start_host(definition)

    result = await host.run(definition, Order("o-1", -1), timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert (result.error.message, result.error.type) == ("amount must be positive", "builtins.ValueError")
    assert "ValueError" in result.error.traceback
    assert [state.id for state in result.failed_steps] == ["Validate"]
    with pytest.raises(StepFailed, match="amount must be positive"):
        result.raise_for_status()


async def test_steps_run_in_order_and_are_announced(host: WorkflowHost) -> None:
    """The history has every step once, in order, with gapless numbers."""
    trace: list[str] = []
    chain = WorkflowBuilder().start_with(note("a", trace)).then(note("b", trace)).add_step(note("c", trace)).build("w")

    result = await host.run(chain, timeout=SECONDS)
    history = await host.history(result.id)

    assert trace == ["a", "b", "c"]
    assert steps(history, "started", "succeeded") == ["a", "a", "b", "b", "c", "c"]
    assert [event.sequence for event in history] == list(range(1, len(history) + 1))
    assert [str(history[0].kind), str(history[-1].kind)] == ["workflow started", "workflow completed"]


async def test_an_empty_workflow_completes(host: WorkflowHost) -> None:
    """At once."""
    result = await host.run(WorkflowBuilder().build("empty"), {"x": 1}, timeout=SECONDS)

    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"x": 1})


async def test_then_fn_takes_functions_without_parameters(host: WorkflowHost) -> None:
    """Sync or async, with the context or without."""
    trace: list[str] = []

    def plain() -> None:
        trace.append("plain")

    async def coroutine() -> None:
        trace.append("coroutine")

    def answering() -> dict[str, int]:
        return {"x": 1}

    result = await host.run(
        WorkflowBuilder().then_fn(plain).then_fn(coroutine).then_fn(answering).build("w"), timeout=SECONDS
    )

    assert trace == ["plain", "coroutine"]
    assert result.data == {"x": 1}


async def test_a_mapping_is_an_output(host: WorkflowHost) -> None:
    """It merges into the data, over what the body changed in its copy."""

    async def body(context: Context) -> dict[str, int]:
        context.data["x"] = 1
        context.data["y"] = 1
        return {"x": 2}

    result = await host.run(WorkflowBuilder().start_with(body).build("w"), {"z": 0}, timeout=SECONDS)

    assert result.data == {"x": 2, "y": 1, "z": 0}


@pytest.mark.parametrize("answer", [5, "text", ["list"], object()])
async def test_any_other_answer_fails_the_step_naming_its_type(start_host: StartHost, answer: object) -> None:
    """A body answers an execution result, a mapping or None."""

    async def body(context: Context) -> Any:
        return answer

    host = await start_host()
    result = await host.run(WorkflowBuilder().start_with(body).build("w"), timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert type(answer).__name__ in result.error.message


class Add(StepBody[Any]):
    """Its inputs are set before, its result is read after."""

    left = 0
    right = 0
    total = 0

    def run(self, context: StepExecutionContext[Any]) -> None:
        self.total = self.left + self.right


async def test_inputs_and_outputs_of_a_class(host: WorkflowHost) -> None:
    """Attributes of the object: literals, fields, callables in; attributes or callables out."""
    definition = (
        WorkflowBuilder()
        .start_with(Add)
        .input("left", lambda data: data["a"])
        .input("right", ref(".b"))
        .output("sum", "total")
        .then(Add)
        .input("left", 10)
        .input("right", lambda data, context: data["sum"] + len(context.workflow.id) * 0)
        .output("again", lambda body: body.total * 2)
        .build("w")
    )

    result = await host.run(definition, {"a": 1, "b": 2}, timeout=SECONDS)

    assert result.data == {"a": 1, "b": 2, "sum": 3, "again": 26}


async def test_inputs_of_a_function_are_keyword_arguments(host: WorkflowHost) -> None:
    """Of a coroutine and of a plain function."""

    async def add(context: Context, left: int, right: int) -> dict[str, int]:
        return {"sum": left + right}

    def double(context: Context, value: int) -> dict[str, int]:
        return {"double": value * 2}

    definition = (
        WorkflowBuilder()
        .start_with(add)
        .input("left", 1)
        .input("right", lambda data: data["b"])
        .then(double)
        .input("value", lambda data: data["sum"])
        .build("w")
    )

    result = await host.run(definition, {"b": 2}, timeout=SECONDS)

    assert result.data == {"b": 2, "sum": 3, "double": 6}


async def test_what_a_body_sees_of_its_instance(host: WorkflowHost) -> None:
    """Workflow, step, attempt, key, and nothing of a loop or an event outside of one."""
    seen: dict[str, Any] = {}

    async def look(context: Context) -> None:
        info = context.workflow
        seen.update(
            workflow=(info.id, info.name, info.definition_id, info.version, info.reference, info.run),
            step=(context.step.id, context.step.name, dict(context.step.config)),
            attempt=context.attempt,
            key=context.idempotency_key,
            none=(context.item, context.index, context.parents, context.persistence_data, context.event_data),
            cancelled=context.cancelled.is_set(),
            deadline=context.deadline,
        )

    definition = WorkflowBuilder().start_with(look).id("s1").name("Look").config(depth=3).build("w", version=4)
    host.register(definition)
    instance_id = await host.start_workflow("w", name="my own", reference="r-1")
    await host.wait(instance_id, timeout=SECONDS)

    assert seen["workflow"] == (instance_id, "my own", "w", 4, "r-1", 1)
    assert seen["step"] == ("s1", "Look", {"depth": 3})
    assert seen["attempt"] == 1
    assert seen["key"].startswith(instance_id)
    assert seen["none"] == (None, -1, (), None, None)
    assert (seen["cancelled"], seen["deadline"]) == (False, None)


@pytest.mark.parametrize(
    ("value", "path"), [("a", ["a"]), (5, ["five"]), (5.0, ["five"]), ("z", ["other"]), (True, ["other"])]
)
async def test_outcomes_lead_to_blocks_and_join(host: WorkflowHost, value: object, path: list[str]) -> None:
    """By equality; else the default; then on with the chain."""
    trace: list[str] = []

    async def choose(context: Context) -> ExecutionResult:
        return ExecutionResult.outcome(value, {"chosen": True})

    definition = (
        WorkflowBuilder()
        .start_with(choose)
        .outcomes(
            {"a": lambda b: b.then(note("a", trace)), 5: lambda b: b.then(note("five", trace))},
            default=lambda b: b.then(note("other", trace)),
        )
        .then(note("after", trace))
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)

    assert trace == [*path, "after"]
    assert result.data == {"chosen": True}


@pytest.mark.parametrize("wanted", [True, False])
async def test_when_runs_or_skips(host: WorkflowHost, wanted: bool) -> None:
    """A callable or a serialisable condition, on bodies and on containers; a skipped step is announced."""
    trace: list[str] = []
    definition = (
        WorkflowBuilder()
        .start_with(note("a", trace))
        .when(lambda data: data["wanted"])
        .parallel(lambda b: b.then(note("b", trace)))
        .when(ref(".wanted") == True)  # noqa: E712 - builds a condition
        .then(note("c", trace))
        .build("w")
    )

    result = await host.run(definition, {"wanted": wanted}, timeout=SECONDS)
    history = await host.history(result.id)

    assert trace == (["a", "b", "c"] if wanted else ["c"])
    assert steps(history, "skipped") == ([] if wanted else ["a", "parallel"])


async def test_a_condition_that_raises_fails_its_step(host: WorkflowHost) -> None:
    """And obeys its rule."""
    trace: list[str] = []
    definition = (
        WorkflowBuilder()
        .start_with(note("a", trace))
        .when(lambda data: bool(data["missing"]))
        .on_error(Continue())
        .then(note("b", trace))
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)

    assert trace == ["b"]
    assert result.status is WorkflowStatus.COMPLETE
    assert [error.type for error in await host.errors(result.id)] == ["builtins.KeyError"]


async def test_a_body_may_skip_itself_or_end_the_workflow(host: WorkflowHost) -> None:
    """`skip(reason)` goes on; `end(output)` completes the instance at once."""
    trace: list[str] = []

    async def passed(context: Context) -> ExecutionResult:
        return ExecutionResult.skip("not needed")

    async def last(context: Context) -> ExecutionResult:
        return ExecutionResult.end({"done": True})

    definition = WorkflowBuilder().start_with(passed).then(last).then(note("never", trace)).build("w")

    result = await host.run(definition, timeout=SECONDS)
    history = await host.history(result.id)

    assert (result.status, result.data, trace) == (WorkflowStatus.COMPLETE, {"done": True}, [])
    assert [event.detail for event in history if str(event.kind) == "step skipped"] == ["not needed"]


async def test_go_to_makes_loops(host: WorkflowHost) -> None:
    """From inside a block to a step of the enclosing one; each time with a new pointer and a new key."""
    keys: list[str] = []

    async def count(context: Context) -> None:
        keys.append(context.idempotency_key)
        context.data["n"] = context.data.get("n", 0) + 1

    definition = (
        WorkflowBuilder()
        .start_with(count)
        .id("count")
        .if_do(lambda data: data["n"] < 4, lambda b: b.go_to("count"))
        .then(put("after", done=True))
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)

    assert result.data == {"n": 4, "done": True}
    assert len(set(keys)) == 4


async def test_end_workflow_in_a_block_ends_it_all(host: WorkflowHost) -> None:
    """The instance is COMPLETE; a sibling that runs is cancelled; nothing further starts."""
    from tests.scenarios.stage import Gate

    gate = Gate()
    trace: list[str] = []

    async def quick(context: Context) -> None:
        await gate.entered()

    definition = (
        WorkflowBuilder()
        .parallel(lambda b: b.then(gate.body), lambda b: b.then(quick).end_workflow())
        .then(note("never", trace))
        .build("w")
    )

    result = await host.run(definition, timeout=SECONDS)
    history = await host.history(result.id)

    assert (result.status, trace) == (WorkflowStatus.COMPLETE, [])
    assert "gate" in steps(history, "cancelled")


async def test_register_step_names_bodies(host: WorkflowHost) -> None:
    """A definition that names step types finds their bodies on the host, by name or by their own."""

    @step("mail")
    async def send(context: Context) -> dict[str, str]:
        return {"mail": "sent"}

    host.register_step(send)
    host.register_step("pay", put("anything", paid=True))

    result = await host.run(WorkflowBuilder().start_with("mail").then("pay").build("w"), timeout=SECONDS)

    assert result.data == {"mail": "sent", "paid": True}


async def test_register_workflow_builds(host: WorkflowHost) -> None:
    """The builder function form."""
    definition: WorkflowDefinition[dict[str, Any]] = host.register_workflow(
        lambda builder: builder.start_with(put("a", x=1)), "built", 2
    )

    result = await host.run("built", timeout=SECONDS)

    assert (definition.id, definition.version, result.data) == ("built", 2, {"x": 1})


async def test_a_step_factory_makes_bodies(start_host: StartHost) -> None:
    """Dependency injection: the host asks it for each object."""

    class Greet(StepBody[Any]):
        def __init__(self, greeting: str) -> None:
            self.greeting = greeting

        async def run(self, context: StepExecutionContext[Any]) -> dict[str, str]:
            return {"said": self.greeting}

    host = await start_host(step_factory=lambda kind: kind("hello"))

    result = await host.run(WorkflowBuilder().start_with(Greet).build("w"), timeout=SECONDS)

    assert result.data == {"said": "hello"}


class Hooked(StepBody[Any]):
    """Notes its hooks."""

    trace: list[str] = []  # noqa: RUF012 - shared by the runs of a test
    fail_on_success = False

    async def run(self, context: StepExecutionContext[Any]) -> None:
        self.trace.append(f"run {context.attempt}")
        if context.data.get("broken"):
            raise ValueError("broken")

    def is_retryable(self, error: BaseException) -> bool:
        self.trace.append(f"is_retryable {error}")
        return False

    async def on_success(self, context: StepExecutionContext[Any]) -> None:
        self.trace.append("on_success")
        context.data["hook"] = True
        if self.fail_on_success:
            raise ValueError("in on_success")

    def on_failure(self, context: StepExecutionContext[Any], error: BaseException) -> None:
        self.trace.append(f"on_failure {error}")
        if context.data.get("broken") == "twice":
            raise ValueError("in on_failure")


@pytest.mark.parametrize(
    ("data", "trace", "message"),
    [
        ({}, ["run 1", "on_success"], None),
        ({"broken": "once"}, ["run 1", "is_retryable broken", "on_failure broken"], "broken"),
        ({"broken": "twice"}, ["run 1", "is_retryable broken", "on_failure broken"], "in on_failure"),
    ],
)
async def test_hooks_of_a_class(
    host: WorkflowHost, data: dict[str, Any], trace: list[str], message: str | None
) -> None:
    """They run before the commit on the body's copy; an error in `on_failure` is recorded beside the first."""
    Hooked.trace = []
    from wfe import Retry

    definition = WorkflowBuilder().start_with(Hooked).on_error(Retry(interval=0, max_retries=3)).build("w")

    result = await host.run(definition, data, timeout=SECONDS)

    assert Hooked.trace == trace
    if message is None:
        assert result.data == {"hook": True}
    else:
        assert result.error is not None
        assert message in result.error.message
        assert "broken" in result.error.message


async def test_an_error_in_on_success_fails_the_attempt(host: WorkflowHost) -> None:
    """Nothing of what the body wrote counts."""
    Hooked.trace = []

    class Failing(Hooked):
        fail_on_success = True

    result = await host.run(WorkflowBuilder().start_with(Failing).build("w"), timeout=SECONDS)

    assert result.status is WorkflowStatus.FAILED
    assert result.data == {}


async def test_two_closures_of_one_function_stay_two_bodies(host: WorkflowHost) -> None:
    """Bodies belong to their step, whatever their names."""

    def make(value: int) -> Callable[[Context], Awaitable[None]]:
        async def body(context: Context) -> None:
            context.data[f"v{value}"] = value

        return body

    result = await host.run(WorkflowBuilder().start_with(make(1)).then(make(2)).build("w"), timeout=SECONDS)

    assert result.data == {"v1": 1, "v2": 2}


async def test_a_block_may_be_a_body_or_be_marked(host: WorkflowHost) -> None:
    """A coroutine function or a class where a block is allowed is a block of one step; `block(fn)` builds one."""
    trace: list[str] = []

    def build(b: Any) -> Any:
        return b.then(note("built", trace))

    result = await host.run(WorkflowBuilder().parallel(note("body", trace), block(build)).build("w"), timeout=SECONDS)

    assert result.status is WorkflowStatus.COMPLETE
    assert sorted(trace) == ["body", "built"]


async def test_unknown_definitions_name_what_is_known(host: WorkflowHost) -> None:
    """Starting what is not registered says what is."""
    from wfe import DefinitionNotFound

    host.register(WorkflowBuilder().start_with(put("a")).build("known"))

    with pytest.raises(DefinitionNotFound, match="known v1"):
        await host.start_workflow("unknown")


async def test_the_latest_version_is_started_by_default(host: WorkflowHost) -> None:
    """Another one when it is named."""
    for version in (1, 2):
        host.register(WorkflowBuilder().start_with(put("a", version=version)).build("w", version=version))

    latest = await host.run("w", timeout=SECONDS)
    first = await host.wait(await host.start_workflow("w", version=1), timeout=SECONDS)

    assert (latest.data, first.data) == ({"version": 2}, {"version": 1})


async def test_another_structure_under_the_same_version_is_refused(host: WorkflowHost) -> None:
    """A definition never changes once it is registered; the same again is fine."""
    host.register(WorkflowBuilder().start_with(put("a")).build("w"))
    host.register(WorkflowBuilder().start_with(put("a")).build("w"))

    with pytest.raises(DefinitionError, match="version"):
        host.register(WorkflowBuilder().start_with(put("a")).then(put("b")).build("w"))

"""Scenarios of one instance that runs by itself: chains, branches, loops, pauses and failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.crashpoints.scenario import Body, Builder, Context, Scenario, act, add, fails, put
from tests.crashpoints.world import present_life
from wfe import (
    Continue,
    ExecutionResult,
    Fail,
    Fixed,
    RetryPolicy,
    Suspend,
    Terminate,
    WorkflowBuilder,
    WorkflowDefinition,
)

if TYPE_CHECKING:
    from tests.crashpoints.world import Client

__all__ = ["FLOWS"]


def _flow(
    name: str,
    fill: Callable[[Builder, float], Builder],
    end: str = "complete",
    data: dict[str, Any] | None = None,
) -> Scenario:
    """One instance of one definition, which runs to its end by itself."""

    def build(pace: float) -> list[WorkflowDefinition[Any]]:
        return [fill(WorkflowBuilder[Any](), pace).build(name)]

    async def drive(client: Client) -> None:
        await client.start(name, "a", data)
        await client.end("a")

    return Scenario(name, build, drive, {"a": end})


def _retrying(times: int, pace: float) -> RetryPolicy:
    return RetryPolicy(max_attempts=times, backoff=Fixed(0.3 * pace))


def _sleeps(times: int, pace: float) -> Body:
    def work(context: Context) -> object:
        done = context.persistence_data or 0
        if done < times:
            return ExecutionResult.sleep(0.4 * pace, done + 1)
        context.data["slept"] = done
        return None

    return act("sleeps", work)


def _polls(times: int, pace: float) -> Body:
    def work(context: Context) -> object:
        done = context.persistence_data or 0
        context.data["polls"] = done
        return ExecutionResult.persist(done + 1, poll=0.3 * pace) if done < times else None

    return act("polls", work)


def _branches() -> Body:
    def work(context: Context) -> object:
        return None if context.persistence_data else ExecutionResult.branch([1, 2, 3], data=1)

    return act("branches", work)


def _square(context: Context) -> None:
    context.data[f"square {context.index}"] = context.item**2


def _slow_once(name: str) -> Body:
    """Too slow in its first attempt."""

    async def body(context: Context) -> None:
        await act(name, takes=1_000.0 if context.attempt == 1 else 0.01)(context)
        context.data[name] = context.attempt

    body.__name__ = body.__qualname__ = name
    return body


def _chain(flow: Builder, pace: float) -> Builder:
    return flow.then(add("one")).then(add("two")).then(add("three")).then(add("four")).then(add("five"))


def _outcomes(flow: Builder, pace: float) -> Builder:
    return (
        flow.then(act("choose", lambda context: ExecutionResult.outcome("left", {"chose": "left"})))
        .outcomes({"left": lambda block: block.then(put("left", side="left")), "right": lambda b: b.then(put("right"))})
        .then(add("after"))
    )


def _if_else(flow: Builder, pace: float) -> Builder:
    return (
        flow.if_do(lambda data: True, lambda block: block.then(add("yes")), lambda block: block.then(add("no")))
        .if_do(lambda data: False, lambda block: block.then(add("yes2")), lambda block: block.then(add("no2")))
        .then(add("after"))
    )


def _while(flow: Builder, pace: float) -> Builder:
    turn: Callable[[Builder], object] = lambda block: block.then(add("turn"))  # noqa: E731
    return flow.while_do(lambda data: data.get("count", 0) < 4, turn).then(put("after", done=True))


def _each(flow: Builder, pace: float) -> Builder:
    return flow.for_each("items", lambda block: block.then(act("square", _square)).then(put("also"))).then(add("after"))


def _each_in_order(flow: Builder, pace: float) -> Builder:
    def work(context: Context) -> None:
        context.data["seen"] = [*context.data.get("seen", []), context.item]

    return flow.for_each("items", lambda block: block.then(act("see", work)), parallel=False).then(add("after"))


def _each_bounded(flow: Builder, pace: float) -> Builder:
    return flow.for_each("items", lambda block: block.then(act("square", _square)), max_parallel=2).then(add("after"))


def _parallel(flow: Builder, pace: float) -> Builder:
    return flow.parallel(
        lambda one: one.then(put("a", a=1)),
        lambda two: two.then(put("b", b=1)).then(put("bb", bb=2)),
        lambda three: three.delay(0.5 * pace).then(put("c", c=1)),
    ).then(add("after"))


def _fail_fast(flow: Builder, pace: float) -> Builder:
    return flow.parallel(
        lambda one: one.then(fails("breaks")),
        lambda two: two.wait_for("never", "never").then(put("unreachable")),
        lambda three: three.then(act("hangs", takes=1_000.0)),
        fail_fast=True,
    ).then(add("after"))


def _failure_awaited(flow: Builder, pace: float) -> Builder:
    return flow.parallel(
        lambda one: one.then(fails("breaks")),
        lambda two: two.delay(0.6 * pace).then(put("b", b=1)).then(put("bb", bb=1)),
    ).then(add("after"))


def _decide(flow: Builder, pace: float) -> Builder:
    return (
        flow.decide(lambda data: 2.0, {1: lambda b: b.then(add("one")), 2: lambda b: b.then(add("two"))})
        .decide(lambda data: 9, {1: lambda b: b.then(add("three"))}, lambda b: b.then(add("default")))
        .then(add("after"))
    )


def _nested(flow: Builder, pace: float) -> Builder:
    def note(context: Context) -> None:
        context.data[f"{context.parents[0].index}.{context.index}"] = context.item

    inner: Callable[[Builder], object] = lambda block: block.for_each(  # noqa: E731
        lambda data: [1, 2], lambda deep: deep.then(act("note", note))
    ).then(put("inner"))
    return flow.for_each(lambda data: [10, 20], inner, parallel=False).parallel(
        lambda one: one.while_do(lambda data: data.get("count", 0) < 2, lambda turn: turn.then(add("turn"))),
        lambda two: two.if_do(lambda data: True, lambda block: block.then(put("deep", deep=True))),
    )


def _when(flow: Builder, pace: float) -> Builder:
    return flow.then(add("one")).then(add("never")).when(lambda data: False).then(add("two")).when(lambda data: True)


def _end_workflow(flow: Builder, pace: float) -> Builder:
    return flow.parallel(
        lambda one: one.delay(0.3 * pace).then(add("last")).end_workflow(),
        lambda two: two.wait_for("never", "never").then(put("unreachable")),
        lambda three: three.then(act("hangs", takes=1_000.0)),
    ).then(put("unreachable2"))


def _go_to(flow: Builder, pace: float) -> Builder:
    return (
        flow.then(add("top"))
        .id("top")
        .then(add("back", 10))
        .when(lambda data: data["count"] < 20)
        .go_to("top")
        .then(put("after"))
    )


def _branch(flow: Builder, pace: float) -> Builder:
    return flow.then(_branches()).do(lambda block: block.then(act("square", _square))).then(add("after"))


def _answers(flow: Builder, pace: float) -> Builder:
    return (
        flow.then(act("output", lambda context: {"given": 1}))
        .then(act("skips", lambda context: ExecutionResult.skip("as planned")))
        .then(act("ends", lambda context: ExecutionResult.end({"ended": True})))
        .then(put("unreachable"))
    )


def _delay(flow: Builder, pace: float) -> Builder:
    return flow.delay(0.7 * pace).then(add("one")).delay(lambda data: 0.9 * pace).then(add("two"))


def _long_delay(flow: Builder, pace: float) -> Builder:
    return flow.then(add("one")).delay(35 * pace).then(add("two"))


def _timeout(flow: Builder, pace: float) -> Builder:
    return flow.then(_slow_once("slow")).timeout(3 * pace).retry(_retrying(3, pace)).then(add("after"))


def _workflow_timeout(flow: Builder, pace: float) -> Builder:
    flow.workflow_timeout(30 * pace)
    return flow.then(add("one")).wait_for("never", "never").then(put("unreachable"))


def _retries(flow: Builder, pace: float) -> Builder:
    return flow.then(fails("flaky", 2)).retry(_retrying(4, pace)).then(add("after"))


def _exhausted(flow: Builder, pace: float) -> Builder:
    return flow.then(add("one")).then(fails("broken")).retry(_retrying(3, pace)).then(put("unreachable"))


def _rules(flow: Builder, pace: float) -> Builder:
    flow.default_on_error(Continue())
    return (
        flow.then(fails("goes-on"))
        .then(fails("retried"))
        .retry(_retrying(2, pace))
        .on_error(Continue())
        .then(fails("fails"))
        .on_error(Fail())
        .then(put("unreachable"))
    )


def _terminate(flow: Builder, pace: float) -> Builder:
    return flow.parallel(
        lambda one: one.delay(0.3 * pace).then(fails("breaks")).on_error(Terminate()),
        lambda two: two.then(act("hangs", takes=1_000.0)),
    )


def _suspends(name: str) -> Scenario:
    """A step fails into suspension, and goes on after a resume."""

    def work(context: Context) -> None:
        if "mended" not in present_life().world.flags:
            msg = "not mended"
            raise ValueError(msg)
        context.data["worked"] = True

    def build(pace: float) -> list[WorkflowDefinition[Any]]:
        flow = WorkflowBuilder[Any]().then(act("tries", work)).on_error(Suspend()).then(add("after"))
        return [flow.build(name)]

    async def drive(client: Client) -> None:
        await client.start(name, "a")
        await client.stands("a", "suspended")
        client.world.flags.add("mended")
        await client.control("resume", "a")
        await client.end("a")

    return Scenario(name, build, drive, {"a": "complete"})


def _counting(name: str) -> Scenario:
    """Every step counts crashes, beside others and again after a pause; attempts are left for one crash."""

    def build(pace: float) -> list[WorkflowDefinition[Any]]:
        policy = _retrying(4, pace)
        flow = (
            WorkflowBuilder[Any]()
            .then(add("one"))
            .retry(policy)
            .count_crashes()
            .parallel(
                lambda left: left.then(add("left")).retry(policy).count_crashes(),
                lambda right: right.then(_sleeps(1, pace)).retry(policy).count_crashes(),
            )
            .then(add("after"))
            .retry(policy)
            .count_crashes()
        )
        return [flow.build(name)]

    async def drive(client: Client) -> None:
        await client.start(name, "a")
        await client.end("a")

    return Scenario(name, build, drive, {"a": "complete"}, counts_crashes=True)


_ITEMS = {"items": [3, 1, 4, 1]}

FLOWS = (
    _flow("chain", _chain),
    _flow("outcomes", _outcomes),
    _flow("if-else", _if_else),
    _flow("while", _while),
    _flow("for-each", _each, data=_ITEMS),
    _flow("for-each-in-order", _each_in_order, data=_ITEMS),
    _flow("for-each-bounded", _each_bounded, data=_ITEMS),
    _flow("parallel", _parallel),
    _flow("fail-fast", _fail_fast, "failed"),
    _flow("failure-awaited", _failure_awaited, "failed"),
    _flow("decide", _decide),
    _flow("nested", _nested),
    _flow("when", _when),
    _flow("end-workflow", _end_workflow),
    _flow("go-to", _go_to),
    _flow("branch", _branch),
    _flow("answers", _answers),
    _flow("delay", _delay),
    _flow("long-delay", _long_delay),
    _flow("sleep", lambda flow, pace: flow.then(_sleeps(3, pace)).then(add("after"))),
    _flow("persist", lambda flow, pace: flow.then(_polls(3, pace)).then(add("after"))),
    _flow("step-timeout", _timeout),
    _flow("workflow-timeout", _workflow_timeout, "failed"),
    _flow("retries", _retries),
    _flow("exhausted", _exhausted, "failed"),
    _flow("error-rules", _rules, "failed"),
    _flow("terminate-rule", _terminate, "terminated"),
    _suspends("suspend-rule"),
    _counting("counted-crashes"),
)

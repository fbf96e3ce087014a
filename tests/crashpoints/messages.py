"""Scenarios in which something comes from outside: events, requests, children."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.crashpoints.scenario import Builder, Context, Scenario, act, add, fails, put
from wfe import Continue, ExecutionResult, WorkflowBuilder, WorkflowDefinition
from wfe.model.moment import to_datetime

if TYPE_CHECKING:
    from datetime import datetime

    from tests.crashpoints.world import Client

__all__ = ["MESSAGES"]

_COMPLETE = {"a": "complete"}


def _scenario(
    name: str,
    fill: Callable[[Builder, float], Builder],
    drive: Callable[[Client], Awaitable[None]],
    ends: dict[str, str] | None = None,
    *others: Callable[[float], WorkflowDefinition[Any]],
    hosts: int = 1,
) -> Scenario:
    def build(pace: float) -> list[WorkflowDefinition[Any]]:
        return [*(make(pace) for make in others), fill(WorkflowBuilder[Any](), pace).build("main")]

    return Scenario(name, build, drive, ends or _COMPLETE, hosts=hosts)


def _soon(client: Client, seconds: float) -> datetime:
    now = client.world.place.clock.now()
    return to_datetime(now) + timedelta(seconds=seconds * client.world.pace)


# Events


def _one_wait(flow: Builder, pace: float) -> Builder:
    return flow.then(add("before")).wait_for("news", "k", output="news").then(add("after"))


async def _event_after_wait(client: Client) -> None:
    await client.start("main", "a")
    await client.waits("a")
    await client.publish("e1", "k", {"number": 1})
    await client.end("a")


def _late_wait(flow: Builder, pace: float) -> Builder:
    return flow.delay(1.0 * pace).wait_for("news", "k", output="news").then(add("after"))


async def _event_before_wait(client: Client) -> None:
    await client.start("main", "a")
    await client.publish("e1", "k", {"number": 1})
    await client.end("a")


def _any_wait(flow: Builder, pace: float) -> Builder:
    return flow.wait_for("news", "k", as_of="any", output="news").then(add("after"))


async def _event_before_start(client: Client) -> None:
    await client.publish("e1", "k", {"number": 1})
    await client.start("main", "a")
    await client.end("a")


def _event_or_timeout(flow: Builder, pace: float) -> Builder:
    return (
        flow.wait_for("news", "k", timeout=40 * pace, output="news")
        .on_error(Continue())
        .then(act("tell", lambda context: context.data.update(came="news" in context.data)))
    )


def _timeout_or_event(flow: Builder, pace: float) -> Builder:
    return (
        flow.wait_for("news", "k", timeout=1.0 * pace, output="news")
        .on_error(Continue())
        .then(act("tell", lambda context: context.data.update(came="news" in context.data)))
        .wait_for("more", "k")
    )


async def _timeout_first(client: Client) -> None:
    await client.start("main", "a")
    await client.begun("tell")
    await client.publish("e1", "k", {"number": 1})
    await client.ask(lambda host: host.publish_event("more", "k", id="e2"))
    await client.end("a")


def _burst(flow: Builder, pace: float) -> Builder:
    def hear(context: Context) -> None:
        context.data["heard"] = [*context.data.get("heard", []), context.data["news"]["number"]]

    turn: Callable[[Builder], object] = lambda block: block.wait_for("news", "k", output="news").then(  # noqa: E731
        act("hear", hear)
    )
    return flow.while_do(lambda data: len(data.get("heard", [])) < 4, turn)


async def _publish_burst(client: Client) -> None:
    await client.start("main", "a")
    for number in range(4):
        await client.publish(f"e{number}", "k", {"number": number})
        await client.publish(f"e{number}", "k", {"number": number})  # asked for twice, published once
    await client.end("a")


async def _future_event(client: Client) -> None:
    when = _soon(client, 2.0)
    await client.start("main", "a")
    await client.publish("e1", "k", {"number": 1}, effective_at=when)
    await client.end("a")


async def _two_waiters(client: Client) -> None:
    await client.start("main", "a")
    await client.start("main", "b")
    await client.waits("a")
    await client.waits("b")
    await client.publish("e1", "k", {"number": 1})
    await client.end("a", "b")


def _body_waits(flow: Builder, pace: float) -> Builder:
    def work(context: Context) -> object:
        if context.event_data is None:
            return ExecutionResult.wait_for_event("news", "k", timeout=100 * pace)
        return {"news": context.event_data}

    return flow.then(act("asks", work)).then(add("after"))


def _two_keys(flow: Builder, pace: float) -> Builder:
    return flow.parallel(
        lambda one: one.wait_for("news", "k", output="first").then(add("a", to="one")),
        lambda two: two.wait_for("news", "l", output="second").then(add("b", to="two")),
    ).then(add("after"))


async def _events_of_two_keys(client: Client) -> None:
    await client.start("main", "a")
    await client.waits("a", 2)
    await client.publish("e1", "l", {"number": 1})
    await client.publish("e2", "k", {"number": 2})
    await client.end("a")


# Requests


async def _suspend_and_resume(client: Client) -> None:
    await client.start("main", "a")
    await client.waits("a")
    await client.control("suspend", "a")
    await client.stands("a", "suspended")
    await client.publish("e1", "k", {"number": 1})
    await client.sleep(1.5)
    await client.control("resume", "a")
    await client.end("a")


def _pause(flow: Builder, pace: float) -> Builder:
    return flow.then(add("before")).delay(20 * pace).then(add("after"))


async def _suspend_over_a_timer(client: Client) -> None:
    await client.start("main", "a")
    await client.waits("a")
    await client.control("suspend", "a")
    await client.sleep(22)
    await client.control("resume", "a")
    await client.end("a")


async def _cancel_wait(client: Client) -> None:
    await client.start("main", "a")
    await client.waits("a")
    await client.control("cancel", "a")
    await client.publish("e1", "k", {"number": 1})
    await client.end("a")


def _hang(flow: Builder, pace: float) -> Builder:
    return flow.then(act("hangs", takes=1_000.0)).then(put("unreachable"))


async def _cancel_body(client: Client) -> None:
    await client.start("main", "a")
    await client.begun("hangs")
    await client.control("cancel", "a")
    await client.end("a")


async def _terminate_body(client: Client) -> None:
    await client.start("main", "a")
    await client.begun("hangs")
    await client.control("terminate", "a")
    await client.end("a")


async def _requests_for_the_ended(client: Client) -> None:
    await client.start("main", "a")
    await client.waits("a")
    await client.control("terminate", "a")
    await client.control("cancel", "a")
    await client.control("suspend", "a")
    await client.end("a")


# Children


def _child(pace: float) -> WorkflowDefinition[Any]:
    return WorkflowBuilder[Any]().then(add("one")).then(add("two")).build("child")


def _failing_child(pace: float) -> WorkflowDefinition[Any]:
    return WorkflowBuilder[Any]().then(add("one")).then(fails("breaks")).build("child")


def _waiting_child(pace: float) -> WorkflowDefinition[Any]:
    return WorkflowBuilder[Any]().then(add("one")).wait_for("news", "k").then(add("two")).build("child")


def _middle(pace: float) -> WorkflowDefinition[Any]:
    return WorkflowBuilder[Any]().then(add("middle")).sub_workflow("child").then(add("middle 2")).build("middle")


def _parent(flow: Builder, pace: float) -> Builder:
    return (
        flow.then(put("before", before=True))
        .sub_workflow("child", inputs=lambda data: {"count": 40}, outputs=lambda child: {"total": child["count"]})
        .then(add("after"))
    )


async def _run(client: Client) -> None:
    await client.start("main", "a")
    await client.end("a")


def _forgiving_parent(flow: Builder, pace: float) -> Builder:
    return flow.sub_workflow("child").on_error(Continue()).then(add("after"))


def _grandparent(flow: Builder, pace: float) -> Builder:
    return flow.sub_workflow(
        "middle", inputs=lambda data: {}, outputs=lambda child: {"of middle": child["count"]}
    ).then(add("after"))


def _two_children(flow: Builder, pace: float) -> Builder:
    return flow.for_each(
        lambda data: [1, 2, 3],
        lambda block: block.sub_workflow(
            "child",
            inputs=lambda data, context: {"count": context.item},
            outputs=lambda child: {f"child {child['count']}": True},
        ),
    ).then(add("after"))


def _children_stand(client: Client, *statuses: str) -> Callable[[], Awaitable[bool]]:
    """Look whether all children have one of the statuses."""

    async def so() -> bool:
        rows = await client.world.children()
        return bool(rows) and all(row.status in statuses for row in rows)

    return so


async def _cancel_family(client: Client) -> None:
    await client.start("main", "a")
    await client.until(client.world.children_wait)
    await client.control("cancel", "a")
    await client.end("a")
    await client.until(_children_stand(client, "cancelled"))


def _abandoning_parent(flow: Builder, pace: float) -> Builder:
    return flow.sub_workflow("child", on_parent_end="abandon").then(put("unreachable"))


async def _abandon(client: Client) -> None:
    await client.start("main", "a")
    await client.until(client.world.children_wait)
    await client.control("terminate", "a")
    await client.publish("e1", "k", {"number": 1})
    await client.until(_children_stand(client, "complete"))


MESSAGES = (
    _scenario("event-after-wait", _one_wait, _event_after_wait),
    _scenario("event-before-wait", _late_wait, _event_before_wait),
    _scenario("event-before-start", _any_wait, _event_before_start),
    _scenario("event-before-timeout", _event_or_timeout, _event_after_wait),
    _scenario("timeout-before-event", _timeout_or_event, _timeout_first),
    _scenario("burst-of-events", _burst, _publish_burst),
    _scenario("future-event", _one_wait, _future_event),
    _scenario("two-waiters", _one_wait, _two_waiters, {"a": "complete", "b": "complete"}),
    _scenario("body-waits", _body_waits, _event_after_wait),
    _scenario("two-keys", _two_keys, _events_of_two_keys),
    _scenario("suspend-and-resume", _one_wait, _suspend_and_resume),
    _scenario("suspend-over-a-timer", _pause, _suspend_over_a_timer),
    _scenario("cancel-wait", _one_wait, _cancel_wait, {"a": "cancelled"}),
    _scenario("cancel-body", _hang, _cancel_body, {"a": "cancelled"}),
    _scenario("terminate-body", _hang, _terminate_body, {"a": "terminated"}),
    _scenario("requests-for-the-ended", _one_wait, _requests_for_the_ended, {"a": "terminated"}),
    _scenario("child", _parent, _run, None, _child),
    _scenario("failing-child", _parent, _run, {"a": "failed"}, _failing_child),
    _scenario("forgiven-child", _forgiving_parent, _run, None, _failing_child),
    _scenario("grandchild", _grandparent, _run, None, _child, _middle),
    _scenario("children-of-a-loop", _two_children, _run, None, _child),
    _scenario("cancel-family", _parent, _cancel_family, {"a": "cancelled"}, _waiting_child),
    _scenario("abandoned-child", _abandoning_parent, _abandon, {"a": "terminated"}, _waiting_child),
)

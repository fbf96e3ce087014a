"""Makes workflow definitions of drawn plans. Their bodies tell the simulation what they do."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias, cast

from wfe.authoring.builder import WorkflowBuilder
from wfe.model.context import StepExecutionContext
from wfe.model.definition import WorkflowDefinition
from wfe.model.moment import MICROSECONDS_PER_SECOND, Moment, to_datetime
from wfe.model.policies import (
    Backoff,
    Continue,
    ErrorBehavior,
    Exponential,
    Fail,
    Fixed,
    Linear,
    Retry,
    RetryPolicy,
    Suspend,
    Terminate,
)
from wfe.model.result import ExecutionResult
from wfe.testing.simulation.clocks import BEGINNING
from wfe.testing.simulation.loop import PROCESS
from wfe.testing.simulation.shapes import (
    Block,
    Child,
    Choice,
    Each,
    End,
    Fork,
    If,
    Node,
    Pause,
    Plan,
    Rule,
    Wait,
    While,
    Work,
)

__all__ = [
    "CLAIMED",
    "COMMON",
    "EVENT",
    "Bodies",
    "PlannedFailure",
    "Unretryable",
    "build",
    "field_of",
    "key_of",
    "rule_of",
]

Data: TypeAlias = dict[str, Any]
Context: TypeAlias = StepExecutionContext[Data]
Builder: TypeAlias = WorkflowBuilder[Data]

EVENT = "news"
"""Name of all events."""
CLAIMED = "claimed"
"""Name of the field that several steps write."""
COMMON = "common"
"""Key of the waits that many instances share."""
_LIMIT = 0.7
_FOREVER = 10_000.0


class PlannedFailure(Exception):
    """What a body raises because the plan says so."""


class Unretryable(Exception):
    """What a body raises whose rule says that trying again is no use."""


class Bodies(Protocol):
    """Is told what bodies do; the owner of each simulated process is one."""

    def begun(self, context: Context, step: str, kills: int) -> None:
        """A body begins; so many times it kills its process."""
        ...

    def store_time(self) -> Moment:
        """Give store time: what pauses until a time go by."""
        ...

    def ended(self, context: Context, step: str, how: str) -> None:
        """A body ends."""
        ...


def field_of(step: str, path: tuple[int, ...]) -> str:
    """Name the field of the data that belongs to a step, in one round of the loops around it (outer first)."""
    return f"{step}@{'.'.join(map(str, path))}"


def key_of(own: object, step: str, path: tuple[int, ...]) -> str:
    """Give the key of the events that a step waits for."""
    return f"{own}/{field_of(step, path)}"


def rule_of(node: Work | Wait | Child, plan: Plan) -> Rule:
    """Give the rule that counts for a step: its own, else the workflow's."""
    if node.rule.final != "fail" or plan.default.final == "fail":
        return _with_default_attempts(node.rule, plan)
    final = plan.default.final
    if final == "suspend" and not (isinstance(node, Work) and node.answer != "wait"):
        final = "continue"  # trying again for ever would be no use
    return _with_default_attempts(replace(node.rule, final=final), plan)


def _with_default_attempts(rule: Rule, plan: Plan) -> Rule:
    """`default_retry` is for steps that say nothing of retries."""
    return replace(rule, attempts=plan.default.attempts) if rule.attempts == 1 else rule


def build(plan: Plan) -> WorkflowDefinition[Data]:
    """Make the definition."""
    builder: Builder = WorkflowBuilder(dict)
    if plan.default.final != "fail":
        builder.default_on_error(_behavior(plan.default))
    if plan.default.attempts > 1:
        builder.default_retry(_policy(plan.default))
    if plan.limit is not None:
        builder.workflow_timeout(plan.limit)
    if plan.patience is not None:
        builder.default_timeout(plan.patience)
    _Making(plan).block(builder, plan.root, looped=False)
    return builder.build(plan.id)


def _behavior(rule: Rule) -> ErrorBehavior:
    found: Mapping[str, ErrorBehavior] = {
        "fail": Fail(),
        "continue": Continue(),
        "suspend": Suspend(),
        "terminate": Terminate(),
    }
    return found[rule.final]


class _Making:
    """Adds nodes to builders."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def block(self, builder: Builder, block: Block, *, looped: bool) -> Builder:
        for node in block:
            self._add(builder, node, looped=looped)
        return builder

    def _nested(self, block: Block, *, looped: bool) -> Callable[[Builder], object]:
        def fill(builder: WorkflowBuilder[Data]) -> object:
            return self.block(builder, block, looped=looped)

        return fill

    def _add(self, builder: Builder, node: Node, *, looped: bool) -> None:
        match node:
            case Work():
                self._work(builder, node, looped=looped)
            case If():
                otherwise = None if node.otherwise is None else self._nested(node.otherwise, looped=looped)
                builder.if_do(_constant(value=node.truth), self._nested(node.then, looped=looped), otherwise).id(
                    node.id
                )
            case While():
                turn = Work(f"{node.id}.t", answer="turn", slow=0.0)
                body = self._nested((*node.body, turn), looped=looped)
                builder.while_do(_below(turn.id, node.turns), body).id(node.id)
            case Each():
                self._each(builder, node)
            case Fork():
                blocks = [self._nested(block, looped=looped) for block in node.blocks]
                builder.parallel(*blocks, fail_fast=node.fail_fast).id(node.id)
                _say(builder, node.rule)
            case Choice():
                cases = {number: self._nested(block, looped=looped) for number, block in enumerate(node.cases)}
                default = None if node.default is None else self._nested(node.default, looped=looped)
                chosen = node.chosen
                builder.decide(lambda data: chosen, cases, default).id(node.id)
            case Pause():
                if node.until:
                    builder.delay(_moment(node.seconds)).id(node.id)
                else:
                    builder.delay(timedelta(seconds=node.seconds)).id(node.id)
            case Wait():
                self._wait(builder, node, looped=looped)
            case Child():
                self._child(builder, node)
            case End():
                builder.end_workflow().id(node.id)

    def _each(self, builder: Builder, node: Each) -> None:
        items = list(node.items)
        body = self._nested(node.body, looped=True)
        builder.for_each(
            lambda data: items,
            body,
            parallel=node.parallel,
            max_parallel=node.max_parallel,
            fail_fast=node.fail_fast,
        ).id(node.id)
        _say(builder, node.rule)

    def _wait(self, builder: Builder, node: Wait, *, looped: bool) -> None:
        output = None if looped else node.id
        as_of: Any = None if not node.as_of else "any" if node.as_of == "any" else _moment(float(node.as_of))
        if node.shared:
            builder.wait_for(EVENT, COMMON, as_of=as_of, timeout=node.timeout, output=output)
        else:
            builder.wait_for(EVENT, _own_key(node.id), as_of=as_of, timeout=node.timeout, output=output)
        builder.id(node.id)
        _say(builder, _own_rule(node, self._plan))

    def _child(self, builder: Builder, node: Child) -> None:
        step = node.id

        def inputs(data: Data, context: Context) -> Data:
            path = _path(context)
            return {"x": data["x"], "key": key_of(data["key"], step, path), "from": field_of(step, path)}

        builder.sub_workflow(
            node.definition,
            inputs=inputs,
            outputs=lambda child: {f"{child['from']}": dict(child)},
            on_parent_end="abandon" if node.abandon else "cancel",
        ).id(node.id)
        _say(builder, _own_rule(node, self._plan))

    def _work(self, builder: Builder, node: Work, *, looped: bool) -> None:
        builder.then(cast("Any", _body(node))).id(node.id)
        if not node.when:
            builder.when(_constant(value=False))
        elif node.back_to:
            builder.when(_below(node.id, node.jumps)).go_to(node.back_to)
        if node.hangs and self._plan.patience is None:
            builder.timeout(_LIMIT)
        if node.counts:
            builder.count_crashes()
        if node.answer == "outcome":
            builder.outcomes({number: self._nested(block, looped=looped) for number, block in enumerate(node.blocks)})
        elif node.answer == "branch":
            builder.do(self._nested(node.blocks[0], looped=True))
        _say(builder, _own_rule(node, self._plan))


def _own_rule(node: Work | Wait | Child, plan: Plan) -> Rule:
    """Give what is said of the step itself: nothing of what the workflow's own rule says too."""
    final = rule_of(node, plan).final
    if node.rule.way == "retry" and node.rule.attempts > 1:
        return replace(node.rule, final=final)  # said in one, so it says both
    return replace(node.rule, final="fail" if final == plan.default.final else final)


def _say(builder: Builder, rule: Rule) -> None:
    if rule.attempts > 1 and rule.way == "retry":
        builder.on_error(
            Retry(rule.pause, rule.attempts - 1, backoff=_backoff(rule), not_on=(Unretryable,), then=_behavior(rule))
        )
        return
    if rule.attempts > 1:
        builder.retry(_policy(rule))
    if rule.final != "fail":
        builder.on_error(_behavior(rule))


def _policy(rule: Rule) -> RetryPolicy:
    jitter = 0.5 if rule.backoff == "exponential" else 0.0
    return RetryPolicy(
        rule.attempts, _backoff(rule), jitter=jitter, retryable=lambda error: not isinstance(error, Unretryable)
    )


def _backoff(rule: Rule) -> Backoff:
    match rule.backoff:
        case "linear":
            return Linear(rule.pause)
        case "exponential":
            return Exponential(rule.pause, 4)
        case _:
            return Fixed(rule.pause)


def _moment(seconds: float) -> datetime:
    """Give the time so many seconds after the beginning of every run."""
    return to_datetime(BEGINNING + int(seconds * MICROSECONDS_PER_SECOND))


def _constant(*, value: bool) -> Callable[[Data], bool]:
    return lambda data: (data["x"] >= 0) is value


def _below(step: str, limit: int) -> Callable[[Data, Context], bool]:
    def condition(data: Data, context: Context) -> bool:
        return int(data.get(field_of(step, _path(context)), 0)) < limit

    return condition


def _own_key(step: str) -> Callable[[Data, Context], object]:
    def key(data: Data, context: Context) -> object:
        return key_of(data["key"], step, _path(context))

    return key


def _path(context: Context) -> tuple[int, ...]:
    if context.index < 0:
        return ()
    return (*(loop.index for loop in reversed(context.parents)), context.index)


def _body(work: Work) -> Callable[[Context], object]:
    async def body(context: Context) -> ExecutionResult | Data | None:
        told = cast("Bodies", PROCESS.get().owner)
        told.begun(context, work.id, work.kills)
        how = "cut off"
        try:
            answer = await run(context)
            how = type(answer).__name__
        except (PlannedFailure, Unretryable):
            how = "raised"
            raise
        finally:
            told.ended(context, work.id, how)
        return answer

    async def run(context: Context) -> ExecutionResult | Data | None:
        share = zlib.crc32(f"{context.idempotency_key}/{context.attempt}".encode()) % 1000 / 1000
        await asyncio.sleep(work.slow * share)
        if context.attempt <= work.fails:
            return _failed(work, f"attempt {context.attempt} of {work.id}")
        if context.attempt <= work.fails + work.hangs:
            await asyncio.sleep(_FOREVER)
        return _answer(work, context)

    return body


def _failed(work: Work, text: str) -> ExecutionResult:
    if work.how in {"answer", "fatal"}:
        return ExecutionResult.fail(PlannedFailure(text), retryable=work.how == "answer")
    raise (Unretryable if work.how == "not on" else PlannedFailure)(text)


def _answer(work: Work, context: Context) -> ExecutionResult | Data | None:
    done = context.persistence_data or 0
    match work.answer:
        case "turn":
            _count(work, context, 1)
            return None
        case "sleep" if done < work.times:
            return ExecutionResult.sleep(0.3, done + 1)
        case "until" if done < work.times:
            when = cast("Bodies", PROCESS.get().owner).store_time() + MICROSECONDS_PER_SECOND // 3
            return ExecutionResult.sleep_until(to_datetime(when), done + 1)
        case "persist" if done < work.times:
            return ExecutionResult.persist(done + 1, poll=0.2)
        case "wait" if context.event_data is None:
            key = key_of(context.data["key"], work.id, _path(context))
            return ExecutionResult.wait_for_event(EVENT, key, timeout=work.timeout)
        case "branch" if not done:
            return ExecutionResult.branch(range(1, work.times + 1), data=1, parallel=not work.in_order)
        case _:
            return _last_answer(work, context)


def _last_answer(work: Work, context: Context) -> ExecutionResult | Data | None:
    field = field_of(work.id, _path(context))
    if work.answer == "wait":
        context.data[field] = [*context.data.get(field, []), context.event_data]
        return None
    _count(work, context, 1 if work.back_to else 1 + (context.item or 0))
    if work.claims:
        context.data[CLAIMED] = context.idempotency_key
    match work.answer:
        case "output":
            return {f"out {field}": context.data[field]}
        case "skip":
            return ExecutionResult.skip("as planned")
        case "end":
            return ExecutionResult.end({"ended by": work.id})
        case "outcome":
            return ExecutionResult.outcome(work.times)
        case _:
            return None


def _count(work: Work, context: Context, step: int) -> None:
    field = field_of(work.id, _path(context))
    context.data[field] = context.data.get(field, 0) + step

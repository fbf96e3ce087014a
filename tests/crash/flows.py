"""The work of the crash tests: definitions whose bodies write the ledger, and what must come of each."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from tests.crash.ledger import Ledger
from wfe import Fixed, RetryPolicy, StepExecutionContext, WorkflowBuilder, WorkflowDefinition, WorkflowStatus

__all__ = [
    "CAREFUL",
    "EVENTS",
    "STUCK",
    "Expected",
    "Planned",
    "definitions",
    "expected",
    "gate_of",
    "initial",
    "plan",
    "plan_gated",
    "use_ledger",
]

Data: TypeAlias = dict[str, Any]
Context: TypeAlias = StepExecutionContext[Data]

EVENTS = 3
"""How many events each `events` instance waits for, one after another."""
STUCK = "stuck"
"""A process of this name does not get past the middle of a `gated` instance until the gate is open."""
CAREFUL = "careful"
"""A process of this name survives a `poison` instance."""
_TURNS = 6
_ITEMS = (3, 1, 4, 1, 5)
_CHAIN = 10
_LONGEST_PAUSE = 0.012


def gate_of(ledger: Path) -> Path:
    """Give the file whose existence opens the gate."""
    return ledger.with_name("gate")


class _Now:
    """The ledger of the present round; bodies of one process all write to one."""

    ledger: Ledger | None = None


def use_ledger(ledger: Ledger) -> None:
    """Let the bodies of this process write there from now on."""
    _Now.ledger = ledger


def _ledger() -> Ledger:
    assert _Now.ledger is not None
    return _Now.ledger


def _pause_of(context: Context) -> float:
    return random.Random(context.idempotency_key).random() * _LONGEST_PAUSE


def _body(work: Callable[[Context], None]) -> Callable[[Context], Any]:
    """Make a coroutine body that takes a little while, the same whenever it is repeated."""

    async def body(context: Context) -> None:
        with _ledger().body(context):
            await asyncio.sleep(_pause_of(context))
            work(context)

    return body


def _thread_body(work: Callable[[Context], None]) -> Callable[[Context], Any]:
    def body(context: Context) -> None:
        with _ledger().body(context):
            time.sleep(_pause_of(context))
            work(context)

    return body


def _count(context: Context) -> None:
    context.data["count"] = context.data.get("count", 0) + 1


def _set(name: str, value: object) -> Callable[[Context], None]:
    def work(context: Context) -> None:
        context.data[name] = value

    return work


def _total(context: Context) -> None:
    context.data["total"] = sum(context.data[name] for name in ("a", "b", "c"))


def _square(context: Context) -> None:
    context.data[f"square {context.index}"] = context.item**2


def _add(context: Context) -> None:
    context.data["sum"] = context.data.get("sum", 0) + context.item


def _hear(context: Context) -> None:
    context.data["heard"] = [*context.data.get("heard", []), context.data["news"]["number"]]


def _fail_twice(context: Context) -> None:
    if context.attempt <= 2:
        msg = f"attempt {context.attempt} fails as planned"
        raise RuntimeError(msg)
    context.data["attempt"] = context.attempt


def _chain() -> WorkflowDefinition[Data]:
    chain = WorkflowBuilder[Data]()
    for number in range(_CHAIN):
        chain = chain.then(_thread_body(_count) if number % 5 == 3 else _body(_count)).id(f"link {number}")
    return chain.build("chain")


def _parallel() -> WorkflowDefinition[Data]:
    return (
        WorkflowBuilder[Data]()
        .parallel(
            lambda one: one.start_with(_body(_set("a", 1))).id("a"),
            lambda two: two.start_with(_body(_set("x", 0))).id("x").then(_body(_set("b", 2))).id("b"),
            lambda three: three.start_with(_thread_body(_set("c", 3))).id("c"),
        )
        .then(_body(_total))
        .id("total")
        .build("parallel")
    )


def _for_each() -> WorkflowDefinition[Data]:
    return (
        WorkflowBuilder[Data]()
        .for_each("items", lambda each: each.start_with(_body(_square)).id("square"), max_parallel=3)
        .for_each("items", lambda each: each.start_with(_body(_add)).id("add"), parallel=False)
        .build("for_each")
    )


def _loop() -> WorkflowDefinition[Data]:
    return (
        WorkflowBuilder[Data]()
        .while_do(
            lambda data: data.get("count", 0) < _TURNS,
            lambda turn: turn.start_with(_body(_count)).id("turn"),
        )
        .build("loop")
    )


def _events() -> WorkflowDefinition[Data]:
    return (
        WorkflowBuilder[Data]()
        .while_do(
            lambda data: len(data.get("heard", [])) < EVENTS,
            lambda turn: turn.wait_for("news", lambda data: data["key"], output="news").then(_body(_hear)).id("hear"),
        )
        .build("events")
    )


def _delay() -> WorkflowDefinition[Data]:
    return (
        WorkflowBuilder[Data]()
        .delay(timedelta(milliseconds=60))
        .then(_body(_count))
        .id("after")
        .delay(timedelta(milliseconds=40))
        .then(_body(_count))
        .id("after all")
        .build("delay")
    )


def _retry() -> WorkflowDefinition[Data]:
    return (
        WorkflowBuilder[Data]()
        .start_with(_body(_fail_twice))
        .id("third time")
        .retry(RetryPolicy(max_attempts=3, backoff=Fixed(timedelta(milliseconds=20))))
        .then(_body(_count))
        .id("after")
        .build("retry")
    )


def _child() -> WorkflowDefinition[Data]:
    return WorkflowBuilder[Data]().start_with(_body(_count)).id("one").then(_body(_count)).id("two").build("child")


def _parent() -> WorkflowDefinition[Data]:
    return (
        WorkflowBuilder[Data]()
        .start_with(_body(_set("before", 1)))
        .id("before")
        .sub_workflow("child", inputs=lambda _: {"count": 40}, outputs=lambda child: {"from child": child["count"]})
        .then(_body(_count))
        .id("after")
        .build("parent")
    )


def _endless() -> WorkflowDefinition[Data]:
    return (
        WorkflowBuilder[Data]()
        .start_with(_body(_count))
        .id("first")
        .wait_for("never", "never")
        .then(_body(_count))
        .id("unreachable")
        .build("endless")
    )


async def _stuck(context: Context) -> None:
    with _ledger().body(context):
        gate = gate_of(_ledger().path)
        while _ledger().life == STUCK and not gate.exists():  # noqa: ASYNC110 - the gate is a file, for other processes
            await asyncio.sleep(0.01)
        _count(context)


def _stuck_thread(context: Context) -> None:
    with _ledger().body(context):
        gate = gate_of(_ledger().path)
        while _ledger().life == STUCK and not gate.exists():
            time.sleep(0.01)
        _count(context)


def _gated() -> WorkflowDefinition[Data]:
    return (
        WorkflowBuilder[Data]()
        .start_with(_body(_count))
        .id("first")
        .then(_stuck)
        .id("stuck")
        .then(_stuck_thread)
        .id("stuck thread")
        .then(_body(_count))
        .id("last")
        .build("gated")
    )


def _poison() -> WorkflowDefinition[Data]:
    async def kill_the_host(context: Context) -> None:
        with _ledger().body(context):
            if _ledger().life != CAREFUL:
                os.kill(os.getpid(), signal.SIGKILL)
            _count(context)

    return WorkflowBuilder[Data]().start_with(kill_the_host).id("poison").build("poison")


def _counted() -> WorkflowDefinition[Data]:
    async def die_twice(context: Context) -> None:
        with _ledger().body(context):
            if context.attempt <= 2:
                os.kill(os.getpid(), signal.SIGKILL)
            _count(context)

    return (
        WorkflowBuilder[Data]()
        .start_with(die_twice)
        .id("counted")
        .retry(RetryPolicy(max_attempts=3, backoff=Fixed(timedelta(milliseconds=20))))
        .count_crashes()
        .then(_body(_count))
        .id("after")
        .build("counted")
    )


def _slow() -> WorkflowDefinition[Data]:
    async def slow(context: Context) -> None:
        with _ledger().body(context):
            await asyncio.sleep(0.5)
            _count(context)

    return WorkflowBuilder[Data]().start_with(slow).id("slow").build("slow")


def definitions() -> list[WorkflowDefinition[Data]]:
    """Build all of them; the same in every process."""
    makers = (
        _chain,
        _parallel,
        _for_each,
        _loop,
        _events,
        _delay,
        _retry,
        _child,
        _parent,
        _endless,
        _gated,
        _poison,
        _counted,
        _slow,
    )
    return [make() for make in makers]


@dataclass(frozen=True)
class Planned:
    """One instance that a client wants."""

    definition: str
    id: str | None
    """None: the host gives the id, so an answer that is lost leaves open whether it exists."""
    control: str = ""
    """What the client asks for after the start: `hold` (suspend, then resume), `cancel` or `terminate`."""
    wait_before: float = 0.0
    """Seconds after which the client begins with it."""


def plan(rng: random.Random, prefix: str, count: int) -> list[Planned]:
    """Draw what the client of one round wants: every kind of instance, in random order and at random times."""
    kinds = ["chain", "parallel", "for_each", "loop", "events", "delay", "retry", "parent", "endless"]
    drawn = kinds + rng.choices(kinds, k=max(0, count - len(kinds)))
    rng.shuffle(drawn)
    return [_planned(rng, kind, f"{prefix}-{kind}-{number}") for number, kind in enumerate(drawn)]


def plan_gated(prefix: str, count: int) -> list[Planned]:
    """Plan instances that stay in the middle of a body where the process is the stuck one."""
    return [Planned("gated", f"{prefix}-gated-{number}") for number in range(count)]


def _planned(rng: random.Random, kind: str, instance_id: str) -> Planned:
    control = ""
    if kind == "endless":
        control = rng.choice(["cancel", "terminate"])
    elif kind in {"chain", "loop", "events"} and rng.random() < 0.4:
        control = "hold"
    named = kind in {"events", "endless"} or bool(control) or rng.random() < 0.7
    return Planned(kind, instance_id if named else None, control, rng.random() * 0.25)


@dataclass(frozen=True)
class Expected:
    """What must have become of an instance, however often its hosts died."""

    statuses: frozenset[WorkflowStatus]
    data: Data | None
    """None: it depends on the moment at which a request came."""
    successes: Counter[str] | None
    """How often each step that has a body succeeded."""
    errors: list[int] = field(default_factory=list)
    """Numbers of the attempts that failed."""


def expected(definition: str, instance_id: str) -> Expected:
    """Say what must have become of an instance."""
    if definition == "endless":
        ended = frozenset({WorkflowStatus.CANCELLED, WorkflowStatus.TERMINATED})
        return Expected(ended, None, None)
    data, successes = _OUTCOMES[definition](instance_id)
    failed = [1, 2] if definition == "retry" else []
    return Expected(frozenset({WorkflowStatus.COMPLETE}), data, Counter(successes), failed)


def initial(definition: str, instance_id: str) -> Data:
    """Give the data to start with."""
    if definition == "for_each":
        return {"items": list(_ITEMS)}
    return {"key": instance_id} if definition == "events" else {}


_OUTCOMES: dict[str, Callable[[str], tuple[Data, dict[str, int]]]] = {
    "chain": lambda _: ({"count": _CHAIN}, {f"link {number}": 1 for number in range(_CHAIN)}),
    "parallel": lambda _: (
        {"a": 1, "b": 2, "c": 3, "x": 0, "total": 6},
        {"a": 1, "b": 1, "c": 1, "x": 1, "total": 1},
    ),
    "for_each": lambda _: (
        {"items": list(_ITEMS), "sum": sum(_ITEMS)} | {f"square {index}": item**2 for index, item in enumerate(_ITEMS)},
        {"square": len(_ITEMS), "add": len(_ITEMS)},
    ),
    "loop": lambda _: ({"count": _TURNS}, {"turn": _TURNS}),
    "events": lambda key: (
        {"key": key, "heard": list(range(EVENTS)), "news": {"number": EVENTS - 1}},
        {"hear": EVENTS},
    ),
    "delay": lambda _: ({"count": 2}, {"after": 1, "after all": 1}),
    "retry": lambda _: ({"attempt": 3, "count": 1}, {"third time": 1, "after": 1}),
    "child": lambda _: ({"count": 42}, {"one": 1, "two": 1}),
    "poison": lambda _: ({"count": 1}, {"poison": 1}),
    "counted": lambda _: ({"count": 2}, {"counted": 1, "after": 1}),
    "slow": lambda _: ({"count": 1}, {"slow": 1}),
    "gated": lambda _: ({"count": 4}, {"first": 1, "stuck": 1, "stuck thread": 1, "last": 1}),
    "parent": lambda _: ({"before": 1, "from child": 42, "count": 1}, {"before": 1, "after": 1}),
}

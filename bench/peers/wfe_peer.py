"""`wfe` as a benchmark peer, used through its public names alone, and the measurements that only it has.

Beyond the common workloads: `fan-parallel` (`parallel` with many blocks instead of `for_each`), `loop` and `chains`
(does the cost of a step grow with the history or the length?), `count-plain` and `count-data` (what one chain writes
and reads).
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench import measure
from bench.counting import StatementCounter
from bench.measure import Figures, Stopwatch
from bench.workloads import Order, read_order, require, run_order

# Before `wfe` is imported, so that the store's connections are seen being opened; it does nothing until armed.
COUNTER = StatementCounter.install()

_import_begun = time.perf_counter()

from wfe import (  # noqa: E402
    StepExecutionContext,
    WorkflowBuilder,
    WorkflowDefinition,
    WorkflowHost,
    WorkflowStatus,
    block,
)

IMPORT_SECONDS = time.perf_counter() - _import_begun

Data = dict[str, Any]
Context = StepExecutionContext[Data]

PAGE = 500
LOOP_SIZES = (100, 1_000, 20_000)
SHORT_CHAIN = 50
STEPS_PER_SIZE = 4_000  # short loops and chains are repeated until so many steps have been measured
MAX_REPEATS = 20


async def plus_one(context: Context) -> Data:
    """A step whose answer changes the data, as every step of the peers records its answer."""
    return {"x": context.data["x"] + 1}


async def nothing(context: Context) -> None:
    """A plain step: it completes and changes no data."""


def chain_definition(steps: int, body: Callable[[Context], Awaitable[Any]] = plus_one) -> WorkflowDefinition[Data]:
    builder = WorkflowBuilder().start_with(body)
    for _ in range(steps - 1):
        builder = builder.then(body)
    return builder.build(f"{body.__name__}-{steps}")


class WfePeer:
    """A host on one store. A handle is the instance id."""

    def __init__(self, order: Order, **host_options: Any) -> None:  # noqa: ANN401 - handed on as they are
        self._order = order
        self.host = WorkflowHost(order.url, durability=order.durability, **host_options)
        self._chains: dict[int, WorkflowDefinition[Data]] = {}
        self._waiter = WorkflowBuilder().wait_for("go", lambda data: data["key"], output="x").build("waiter")
        self._sleeper = WorkflowBuilder().delay(1).build("sleeper")
        self._touched = 0
        self._fan = WorkflowBuilder().for_each("items", block(lambda b: b.start_with(self._touch))).build("fan")

    async def open(self) -> None:
        self.host.register(self._waiter, self._sleeper, self._fan)
        await self.host.start()

    async def close(self) -> None:
        await self.host.stop()

    def start_chain(self, steps: int, x: int) -> Awaitable[str]:
        definition = self._chains.get(steps)
        if definition is None:
            definition = self._chains[steps] = chain_definition(steps)
            self.host.register(definition)
        return self.host.start_workflow(definition, {"x": x})

    def start_waiter(self, key: str) -> Awaitable[str]:
        return self.host.start_workflow(self._waiter, {"key": key}, id=key)

    def start_sleeper(self) -> Awaitable[str]:
        return self.host.start_workflow(self._sleeper, {"x": 1})

    def signal(self, key: str, payload: int) -> Awaitable[object]:
        return self.host.publish_event("go", key, payload)

    async def result(self, handle: str) -> object:
        result = await self.host.wait(handle)
        return self._value(result.raise_for_status().data)

    async def find(self, key: str) -> str:
        return key

    async def run_fan(self, width: int) -> int:
        return await self.run_wide(self._fan, {"items": list(range(width))})

    async def run_wide(self, definition: WorkflowDefinition[Data], data: Data) -> int:
        """Run one instance whose branches all call `_touch`; the number of branches that ran."""
        before = self._touched
        result = await self.host.wait(await self.host.start_workflow(definition, data))
        result.raise_for_status()
        return self._touched - before

    def parallel_definition(self, width: int) -> WorkflowDefinition[Data]:
        branch = block(lambda b: b.start_with(self._touch))
        return WorkflowBuilder().parallel(*[branch] * width).build(f"parallel-{width}")

    async def run_one(self, definition: WorkflowDefinition[Data], data: Data, *, expected: int) -> float:
        """Run one instance until it has ended with *expected* as `x`; the seconds from start to result."""
        begun = time.perf_counter()
        result = await self.host.wait(await self.host.start_workflow(definition, dict(data)))
        elapsed = time.perf_counter() - begun
        require(result.raise_for_status().data["x"] == expected, f"{definition.id} gave a wrong result")
        return elapsed

    async def finished(self) -> int:
        count, cursor = 0, None
        while True:
            page = await self.host.list_workflows(status=WorkflowStatus.COMPLETE, limit=PAGE, cursor=cursor)
            count += len(page)
            cursor = page.next_cursor
            if cursor is None:
                return count

    async def _touch(self, context: Context) -> None:
        self._touched += 1

    @staticmethod
    def _value(data: Data) -> object:
        return data["x"]


async def fan_parallel(peer: WfePeer, order: Order) -> Figures:
    """Like `fan`, written with `parallel`."""
    definition = peer.parallel_definition(order.size)
    peer.host.register(definition)
    with Stopwatch() as watch:
        done = await peer.run_wide(definition, {})
    require(done == order.size, f"{done} of {order.size} blocks ran")
    return {"count": order.size, "wall_s": round(watch.wall, 4), "cpu_s": round(watch.cpu, 3)}


async def loop(peer: WfePeer, order: Order) -> Figures:
    """Microseconds per turn of loops of different lengths, one instance at a time; `size` is the longest loop."""
    definition = (
        WorkflowBuilder()
        .while_do(lambda data: data["x"] < data["turns"], block(lambda b: b.start_with(plus_one)))
        .build("loop")
    )
    peer.host.register(definition)
    sizes = [size for size in LOOP_SIZES if size < order.size] + [order.size]
    await peer.run_one(definition, {"x": 0, "turns": 10}, expected=10)  # warm
    costs = await _costs(peer, {turns: (definition, {"x": 0, "turns": turns}) for turns in sizes})
    return {f"turns_{turns}_us": cost for turns, cost in costs.items()}


async def chains(peer: WfePeer, order: Order) -> Figures:
    """Microseconds per step of chains of different lengths, one instance at a time; `size` is the longest."""
    definitions = {steps: chain_definition(steps) for steps in (SHORT_CHAIN, order.size)}
    for steps, definition in definitions.items():
        peer.host.register(definition)
        await peer.run_one(definition, {"x": 0}, expected=steps)  # warm
    costs = await _costs(peer, {steps: (definition, {"x": 0}) for steps, definition in definitions.items()})
    return {f"steps_{steps}_us": cost for steps, cost in costs.items()}


async def _costs(peer: WfePeer, cases: dict[int, tuple[WorkflowDefinition[Data], Data]]) -> dict[int, float]:
    """Microseconds per step of runs of several lengths: steps of the run → median.

    The runs of all lengths are spread over the same time: a disk that becomes slower meanwhile hits all of them.
    """
    repeats = {steps: min(MAX_REPEATS, max(1, STEPS_PER_SIZE // steps)) for steps in cases}
    most = max(repeats.values())
    samples: dict[int, list[float]] = {steps: [] for steps in cases}
    for turn in range(most):
        for steps, (definition, data) in cases.items():
            if turn * repeats[steps] // most < (turn + 1) * repeats[steps] // most:
                samples[steps].append(await peer.run_one(definition, data, expected=steps))
    return {steps: round(statistics.median(found) / steps * 1e6, 2) for steps, found in samples.items()}


async def count(peer: WfePeer, order: Order) -> Figures:
    """What one chain of `size` steps writes and reads in SQLite; on PostgreSQL the runner asks the server instead."""
    body = nothing if order.workload == "count-plain" else plus_one
    definition = chain_definition(order.size, body)
    peer.host.register(definition)
    await asyncio.sleep(0.5)  # what the start of the host still has to write shall not be counted
    COUNTER.begin()
    await peer.run_one(definition, {"x": 0}, expected=0 if body is nothing else order.size)
    await asyncio.sleep(0.2)
    figures = {"steps": order.size, **COUNTER.end()}
    for statement, times in COUNTER.reads.most_common(5):  # for whoever runs this by hand to find out why it reads
        print(f"{times} times: {statement}", file=sys.stderr)
    return figures


OWN: dict[str, Callable[[WfePeer, Order], Awaitable[Figures]]] = {
    "fan-parallel": fan_parallel,
    "loop": loop,
    "chains": chains,
    "count-plain": count,
    "count-data": count,
}
OWN_SIZES = {"fan-parallel": 1_000, "loop": 20_000, "chains": 800, "count-plain": 10, "count-data": 10}


async def run_own(order: Order) -> Figures:
    """One of the measurements that only `wfe` has."""
    # Counting shall see the chain alone, not the sweep or the renewal of the lease.
    counting = order.workload.startswith("count")
    quiet = {"sweep_interval": 60, "lease_ttl": 300} if counting else {}
    if counting:
        COUNTER.arm()
    peer = WfePeer(order, **quiet)
    await peer.open()
    figures = await OWN[order.workload](peer, order)
    await peer.close()
    return figures


async def run(order: Order) -> Figures:
    """Any workload of this peer."""
    if order.workload in OWN:
        return await run_own(order)
    return await run_order(WfePeer(order), order, import_s=IMPORT_SECONDS)


async def _main(order: Order) -> None:
    figures = await run(order)
    measure.emit({"workload": order.workload, **figures})
    measure.leave()


if __name__ == "__main__":
    asyncio.run(_main(read_order(extra_sizes=OWN_SIZES)))

"""The workloads, written once: every peer runs exactly these through a small adapter.

A peer is asked for the same durable points whatever it is: a start is acknowledged once it is recorded, each step's
answer is recorded before the next step begins, and a result is given out once the outcome is recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from bench import measure
from bench.measure import Figures, Stopwatch

HandleT = TypeVar("HandleT")

# Seconds given to a started waiter to reach its wait before the event is sent; the slowest peer needs most of them.
SETTLE = 0.05
# Starts in flight at once where thousands of instances are only prepared, not measured.
PREPARE_CHUNK = 500


class Peer(Protocol[HandleT]):
    """An engine under measurement. `HandleT` is whatever names a started workflow there."""

    async def open(self) -> None:
        """Open the store (creating it where it is new) and be ready to run."""
        ...

    async def close(self) -> None:
        """Let go of the store; may do nothing where the engine's own shutdown is slow."""
        ...

    def start_chain(self, steps: int, x: int) -> Awaitable[HandleT]:
        """Start a workflow of so many steps, each recording its input plus one; the result is `x + steps`."""
        ...

    def start_waiter(self, key: str) -> Awaitable[HandleT]:
        """Start a workflow under the id *key* that waits for one event; the result is the event's payload."""
        ...

    def start_sleeper(self) -> Awaitable[HandleT]:
        """Start a workflow that sleeps durably for one second; the result is 1."""
        ...

    def signal(self, key: str, payload: int) -> Awaitable[object]:
        """Send the event for which the waiter *key* waits; returns once the event is recorded."""
        ...

    def result(self, handle: HandleT) -> Awaitable[object]:
        """The recorded result of a workflow, once it has ended; raises if it failed."""
        ...

    def find(self, key: str) -> Awaitable[HandleT]:
        """The handle of a workflow that an earlier process started under the id *key*."""
        ...

    async def run_fan(self, width: int) -> int:
        """Run one workflow with so many steps at the same time; the number of steps that were done."""
        ...

    async def finished(self) -> int:
        """How many workflows the store records as completed."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """What one benchmark process is told to do."""

    workload: str
    url: str
    size: int
    durability: Literal["power", "process"] = "power"


async def many_chains(peer: Peer[HandleT], count: int, steps: int) -> Figures:
    """`count` workflows of `steps` steps, all started at once: throughput."""
    before = await peer.finished()
    with Stopwatch() as watch:
        handles = await asyncio.gather(*[peer.start_chain(steps, x) for x in range(count)])
        results = await asyncio.gather(*[peer.result(handle) for handle in handles])
    require(list(results) == [x + steps for x in range(count)], "a chain gave a wrong result")
    require(await peer.finished() - before == count, "the store does not record every chain as completed")
    return {
        "count": count,
        "wall_s": round(watch.wall, 4),
        "cpu_s": round(watch.cpu, 3),
        "workflows_per_s": round(count / watch.wall, 1),
        "steps_per_s": round(count * steps / watch.wall, 1),
    }


async def w1(peer: Peer[HandleT], size: int) -> Figures:
    """One-step workflows, started at once."""
    return await many_chains(peer, size, 1)


async def w10(peer: Peer[HandleT], size: int) -> Figures:
    """Ten-step workflows, started at once."""
    return await many_chains(peer, size, 10)


async def fan(peer: Peer[HandleT], size: int) -> Figures:
    """One workflow with `size` parallel steps."""
    with Stopwatch() as watch:
        done = await peer.run_fan(size)
    require(done == size, f"{done} of {size} parallel steps were done")
    return {"count": size, "wall_s": round(watch.wall, 4), "cpu_s": round(watch.cpu, 3)}


async def lat(peer: Peer[HandleT], size: int) -> Figures:
    """One caller, one step: from start to result."""
    samples = []
    for x in range(size):
        begun = time.perf_counter()
        answer = await peer.result(await peer.start_chain(1, x))
        samples.append(time.perf_counter() - begun)
        require(answer == x + 1, "a chain gave a wrong result")
        await asyncio.sleep(0.005)
    return measure.latency_figures(samples)


async def evt(peer: Peer[HandleT], size: int) -> Figures:
    """From publishing an event until the caller holds the result of the one waiter that it ended."""
    samples = []
    for number in range(size):
        key = f"single-{number}"
        handle = await peer.start_waiter(key)
        await asyncio.sleep(SETTLE)
        begun = time.perf_counter()
        await peer.signal(key, number)
        answer = await peer.result(handle)
        samples.append(time.perf_counter() - begun)
        require(answer == number, "a waiter got a wrong payload")
    return measure.latency_figures(samples)


async def tmr(peer: Peer[HandleT], size: int) -> Figures:
    """`size` workflows that sleep one second, started at once: until the last has ended."""
    with Stopwatch() as watch:
        handles = await asyncio.gather(*[peer.start_sleeper() for _ in range(size)])
        results = await asyncio.gather(*[peer.result(handle) for handle in handles])
    require(list(results) == [1] * size, "a sleeper gave a wrong result")
    require(watch.wall >= 1.0, "the sleepers ended early")
    return {"count": size, "wall_s": round(watch.wall, 3), "rss_mb": round(measure.resident_mb(), 1)}


async def mem(peer: Peer[HandleT], size: int) -> Figures:
    """`size` waiting workflows: memory of the host that started them. The process dies with them waiting."""
    base = measure.resident_mb()
    with Stopwatch() as watch:
        for first in range(0, size, PREPARE_CHUNK):
            chunk = range(first, min(size, first + PREPARE_CHUNK))
            await asyncio.gather(*[peer.start_waiter(f"w{number}") for number in chunk])
    await asyncio.sleep(1)
    return {
        "count": size,
        "start_s": round(watch.wall, 3),
        "rss_mb": round(measure.resident_mb(), 1),
        "rss_base_mb": round(base, 1),
    }


WORKLOADS: dict[str, Callable[[Peer[Any], int], Awaitable[Figures]]] = {
    "w1": w1,
    "w10": w10,
    "fan": fan,
    "lat": lat,
    "evt": evt,
    "tmr": tmr,
    "mem": mem,
}

DEFAULT_SIZES = {"w1": 1000, "w10": 300, "fan": 1000, "lat": 200, "evt": 40, "tmr": 1000, "mem": 10_000}


async def cold(peer: Peer[HandleT], *, import_s: float) -> Figures:
    """From nothing to the first result on a fresh store; the import is given apart."""
    with Stopwatch() as watch:
        await peer.open()
        answer = await peer.result(await peer.start_chain(1, 1))
    require(answer == 2, "the first workflow gave a wrong result")
    return {"import_ms": round(import_s * 1000, 1), "first_ms": round(watch.wall * 1000, 1)}


async def mem_again(peer: Peer[HandleT], size: int) -> Figures:
    """A new host on a store with `size` waiting workflows: its start, and the first event afterwards."""
    with Stopwatch() as opening:
        await peer.open()
    key = f"w{size // 2}"
    handle = await peer.find(key)
    with Stopwatch() as waking:
        await peer.signal(key, 7)
        answer = await peer.result(handle)
    require(answer == 7, "a waiter of the earlier process got a wrong payload")
    return {
        "count": size,
        "open_s": round(opening.wall, 4),
        "first_event_ms": round(waking.wall * 1000, 2),
        "rss_mb": round(measure.resident_mb(), 1),
    }


async def run_order(peer: Peer[HandleT], order: Order, *, import_s: float) -> Figures:
    """Carry out one order on a peer that is not open yet."""
    if order.workload == "cold":
        return await cold(peer, import_s=import_s)
    if order.workload == "mem-again":
        return await mem_again(peer, order.size)
    await peer.open()
    await peer.result(await peer.start_chain(1, 0))  # the first workflow pays for caches; `cold` measures that
    figures = await WORKLOADS[order.workload](peer, order.size)
    if order.workload != "mem":  # that one must look like a crash
        await peer.close()
    return figures


def read_order(argv: Sequence[str] | None = None, *, extra_sizes: Mapping[str, int] | None = None) -> Order:
    """The order on the command line; *extra_sizes* names the workloads that only this peer knows, with their sizes."""
    sizes = {**DEFAULT_SIZES, "cold": 1, "mem-again": DEFAULT_SIZES["mem"], **(extra_sizes or {})}
    parser = argparse.ArgumentParser(description="Run one benchmark workload and print one RESULT line.")
    parser.add_argument("workload", choices=list(sizes))
    parser.add_argument("--url", required=True, help="sqlite:///FILE or postgresql://…; a fresh store")
    parser.add_argument("--size", type=int, default=0, help="number of workflows, branches or samples (0: the usual)")
    parser.add_argument("--durability", choices=["power", "process"], default="power")
    options = parser.parse_args(argv)
    return Order(options.workload, options.url, options.size or sizes[options.workload], options.durability)


def run_and_leave(peer: Peer[HandleT], order: Order, *, import_s: float) -> None:
    """Run the order, print the figures, end the process at once: with waiting workflows that is the crash of `mem`."""

    async def main() -> None:
        figures = await run_order(peer, order, import_s=import_s)
        measure.emit({"workload": order.workload, **figures})
        measure.leave()

    asyncio.run(main())


def require(condition: bool, message: str) -> None:  # noqa: FBT001
    """Stop the measurement if it measured something wrong."""
    if not condition:
        raise AssertionError(message)

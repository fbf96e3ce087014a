"""What one plain transition and one start cost in the PostgreSQL store, without engine and host.

    python -m bench.micro_postgres_store                      # on a server of its own, every durability default
    python -m bench.micro_postgres_store --url postgresql://… --seconds 5 --only step300 --profile

A plain transition is what a step of a chain writes: instance row, one pointer, the data, one log row. `flight` is how
many batches are written at the same time. Each line gives microseconds per transition: of wall time, of processor time
in this process (`here`) and in the server (`there`, of a server of its own). On a busy machine look at processor time.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from uuid import uuid4

from tests.servers.postgres import PostgresServer
from wfe.model.definition import DefinitionKey
from wfe.ports.store import Batch, Changes, PointerRow, Start, StartOutcome, TransitionOutcome, TransitionWrite
from wfe.providers.postgres import PostgresProvider

SESSION = "bench"
DEFINITION = DefinitionKey("bench", 1, "hash")
HEAD = b"h" * 60
STATE = b"p" * 60
DATA = b'{"x": 1, "name": "some text of a usual length", "lines": [1, 2, 3]}'
RECORDS = b"r" * 90


def start(instance_id: str, *, hold: bool = True) -> Start:
    changes = Changes(
        status="runnable", head=HEAD, wake_at=0, hold=hold, pointers=[PointerRow(1, STATE)], data=DATA,
        first_sequence=1, record_count=2, records=RECORDS,
    )  # fmt: skip
    return Start(id=instance_id, definition=DEFINITION, digest=b"d" * 16, changes=changes)


def step(instance_id: str, revision: int, *, ended: bool = False) -> TransitionWrite:
    changes = Changes(
        status="complete" if ended else "runnable", head=HEAD, wake_at=0, hold=not ended, ended=ended,
        pointers=[] if ended else [PointerRow(1, STATE)], pointers_gone=[1] if ended else [], data=DATA,
        first_sequence=revision * 2 + 1, record_count=2, records=RECORDS,
    )  # fmt: skip
    return TransitionWrite(instance_id=instance_id, revision=revision, fence=1, changes=changes)


class Bench:
    def __init__(self, provider: PostgresProvider, seconds: float) -> None:
        self.store = provider.store
        self.seconds = seconds

    async def commit(self, *, transitions: Sequence[TransitionWrite] = (), starts: Sequence[Start] = ()) -> None:
        batch = Batch(id=uuid4().hex, session=SESSION, transitions=transitions, starts=starts)
        reply = await self.store.commit(batch)
        assert all(outcome is TransitionOutcome.ACCEPTED for outcome in reply.transitions), reply.transitions
        assert all(outcome is StartOutcome.CREATED for outcome in reply.starts), reply.starts

    async def steps(self, size: int, flight: int) -> tuple[int, float, float]:
        """Chains: every instance of a lane makes one step per batch."""
        lanes = [[uuid4().hex for _ in range(size)] for _ in range(flight)]
        for ids in lanes:
            await self.commit(starts=[start(instance_id) for instance_id in ids])
        revisions = [0] * flight

        async def round_of(lane: int) -> int:
            revisions[lane] += 1
            await self.commit(transitions=[step(instance_id, revisions[lane]) for instance_id in lanes[lane]])
            return size

        return await self._measure(flight, round_of)

    async def starts(self, size: int, flight: int) -> tuple[int, float, float]:
        async def round_of(_lane: int) -> int:
            await self.commit(starts=[start(uuid4().hex) for _ in range(size)])
            return size

        return await self._measure(flight, round_of)

    async def lives(self, size: int, flight: int) -> tuple[int, float, float]:
        """One-step workflows: a start and the transition that ends it, in batches of both."""
        before: list[list[str]] = [[] for _ in range(flight)]

        async def round_of(lane: int) -> int:
            ended = [step(instance_id, 1, ended=True) for instance_id in before[lane]]
            before[lane] = [uuid4().hex for _ in range(size)]
            await self.commit(transitions=ended, starts=[start(instance_id) for instance_id in before[lane]])
            return len(ended)

        return await self._measure(flight, round_of)

    async def _measure(self, flight: int, round_of: Callable[[int], Awaitable[int]]) -> tuple[int, float, float]:
        for lane in range(flight):  # plans are made, buffers grow
            for _ in range(3):
                await round_of(lane)
        begun, computed = time.perf_counter(), time.process_time()
        deadline = begun + self.seconds

        async def run(lane: int) -> int:
            done = 0
            while time.perf_counter() < deadline:
                done += await round_of(lane)
            return done

        done = sum(await asyncio.gather(*(run(lane) for lane in range(flight))))
        return done, time.perf_counter() - begun, time.process_time() - computed


def computed_by(parent: int) -> float:
    """Processor seconds of a process and its children, those that have ended aside."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdecimal() else []
        except OSError:
            continue
        if fields and (int(fields[1]) == parent or int(entry.name) == parent):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def measure(url: str, options: argparse.Namespace, server: int = 0) -> None:
    provider = PostgresProvider(url, durability=options.durability)
    await provider.store.open()
    bench = Bench(provider, options.seconds)
    cases: dict[str, Callable[[], Awaitable[tuple[int, float, float]]]] = {
        "step1": lambda: bench.steps(1, 1),
        "step32": lambda: bench.steps(32, 2),
        "step300": lambda: bench.steps(300, 2),
        "step300x1": lambda: bench.steps(300, 1),
        "start300": lambda: bench.starts(300, 2),
        "life300": lambda: bench.lives(300, 2),
    }
    try:
        for name, case in cases.items():
            if options.only and name not in options.only:
                continue
            there = computed_by(server) if server else 0.0
            done, wall, cpu = await case()
            there = (computed_by(server) if server else 0.0) - there
            each, here, there = wall / done * 1e6, cpu / done * 1e6, there / done * 1e6
            print(
                f"{name:10} {each:9.1f} µs {1e6 / each:8.0f}/s   here {here:7.1f} µs   there {there:7.1f} µs",
                flush=True,
            )
    finally:
        await provider.store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--durability", choices=["power", "process"], default="power")
    parser.add_argument("--profile", action="store_true", help="also print where this process spends its time")
    options = parser.parse_args()
    server = None if options.url else PostgresServer().start()
    profiler = cProfile.Profile() if options.profile else None
    try:
        if profiler:
            profiler.enable()
        asyncio.run(measure(server.url, options, server.pid) if server else measure(options.url, options))
        if profiler:
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    finally:
        if server:
            server.stop()


if __name__ == "__main__":
    main()

"""What the SQLite store costs by itself: µs per plain transition by batch size, starts per second, latency of a commit.

    python -m bench.micro_sqlite_store [--profile] [--folder DIR] [--durability process]

A plain transition is what a step of a chain writes: head, one pointer, the data document, one log row.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from wfe.model.definition import DefinitionKey
from wfe.ports.store import Batch, Changes, PointerRow, Start, TransitionWrite
from wfe.providers.sqlite import SQLiteProvider

KEY = DefinitionKey("bench", 1, "0" * 32)
HEAD, POINTER, DATA, RECORDS = b"h" * 60, b"p" * 60, b'{"a":' + b"1" * 100 + b"}", b"r" * 80


def changes(sequence: int, *, ended: bool = False) -> Changes:
    return Changes(
        status="complete" if ended else "runnable",
        head=HEAD,
        wake_at=None if ended else 0,
        hold=not ended,
        ended=ended,
        pointers=() if ended else (PointerRow(1, POINTER),),
        pointers_gone=(1,) if ended else (),
        data=DATA,
        first_sequence=sequence,
        record_count=2,
        records=RECORDS,
    )


def start_batch(size: int) -> tuple[Batch, list[str]]:
    ids = [uuid.uuid4().hex for _ in range(size)]
    starts = [Start(id=one, definition=KEY, digest=b"d" * 16, changes=changes(1)) for one in ids]
    return Batch(id=uuid.uuid4().hex, session="s", starts=starts), ids


def transition_batches(ids: list[str], rounds: int, first: int = 1) -> Iterator[Batch]:
    for revision in range(first, first + rounds):
        plain = changes(revision * 2)
        writes = [TransitionWrite(instance_id=one, revision=revision, fence=1, changes=plain) for one in ids]
        yield Batch(id=uuid.uuid4().hex, session="s", transitions=writes)


def end_batch(ids: list[str], revision: int) -> Batch:
    end = changes(revision * 2, ended=True)
    writes = [TransitionWrite(instance_id=one, revision=revision, fence=1, changes=end) for one in ids]
    return Batch(id=uuid.uuid4().hex, session="s", transitions=writes)


async def measure(provider: SQLiteProvider) -> None:
    store = provider.store
    await store.open()
    await provider.lease.begin("s", name="bench", ttl=timedelta(hours=1))

    starts = [start_batch(300) for _ in range(50)]
    began = time.perf_counter()
    for batch, _ in starts:
        await store.commit(batch)
    took = time.perf_counter() - began
    print(f"starts, batches of 300: {took / 15_000 * 1e6:6.1f} µs each, {15_000 / took:8,.0f} /s")

    for size, rounds in ((1, 500), (32, 150), (300, 60)):
        ids = [one for _, some in starts[: (size + 299) // 300] for one in some][:size]
        first = {1: 1, 32: 501, 300: 1}[size]
        if size == 300:
            ids = starts[1][1]
        elif size == 32:
            ids, first = starts[2][1][:32], 1
        batches = list(transition_batches(ids, rounds, first))
        latencies = []
        cpu = time.process_time()
        began = time.perf_counter()
        for batch in batches:
            at = time.perf_counter()
            await store.commit(batch)
            latencies.append(time.perf_counter() - at)
        took = time.perf_counter() - began
        cpu = time.process_time() - cpu
        count = size * rounds
        print(
            f"transitions, batches of {size:3}: {took / count * 1e6:6.1f} µs each ({cpu / count * 1e6:5.1f} µs CPU), "
            f"{count / took:8,.0f} /s, commit p50 {statistics.median(latencies) * 1e3:.2f} ms, "
            f"max {max(latencies) * 1e3:.1f} ms"
        )

    ends = [end_batch(ids, 1) for _, ids in starts[3:]]
    began = time.perf_counter()
    for batch in ends:
        await store.commit(batch)
    took = time.perf_counter() - began
    count = 300 * len(ends)
    print(f"ends, batches of 300:   {took / count * 1e6:6.1f} µs each, {count / took:8,.0f} /s")
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", default=None)
    parser.add_argument("--durability", choices=("power", "process"), default="power")
    parser.add_argument("--profile", action="store_true", help="profile the writer's thread")
    options = parser.parse_args()
    profile = cProfile.Profile()
    if options.profile:
        from wfe.providers.sqlite import worker

        run = worker.Worker._run  # noqa: SLF001

        def profiled(self: worker.Worker) -> None:
            if "writer" in self._name:
                profile.runcall(run, self)
            else:
                run(self)

        worker.Worker._run = profiled  # type: ignore[method-assign]  # noqa: SLF001
    with tempfile.TemporaryDirectory(dir=options.folder or os.environ.get("WFE_BENCH_FOLDER")) as folder:
        provider = SQLiteProvider(Path(folder) / "bench.db", durability=options.durability)
        asyncio.run(measure(provider))
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()

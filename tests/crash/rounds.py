"""One round: give work, kill, look, repeat, and let everything be finished."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.crash.checks import Record, repeated_bodies, violations
from tests.crash.client import carry_out
from tests.crash.flows import STUCK, Planned, definitions, plan, use_ledger
from tests.crash.ledger import Ledger, read_ledger
from tests.crash.processes import Process
from tests.crash.snapshot import Snapshot, take_snapshot
from tests.soundness import check
from wfe import WorkflowHost

__all__ = ["Bench", "seed_of_run", "until_bitten"]

_COUNT = 18
_FINISH_SECONDS = 40.0


def seed_of_run() -> str:
    """Give the seed of this run: WFE_CRASH_SEED, or a new one. Failures name it, so that a run can be repeated."""
    seed = os.environ.get("WFE_CRASH_SEED") or os.urandom(4).hex()
    sys.stdout.write(f"seed {seed}\n")
    return seed


def until_bitten(rounds: int, repeated: list[int]) -> Iterator[int]:
    """Number the rounds of a run. A short one goes on, up to five times as long, until a kill has hit a running body.

    Args:
        repeated: How many bodies were repeated in each round so far.
    """
    yield from range(rounds)
    number = rounds
    while not any(repeated) and number < 5 * rounds:
        yield number
        number += 1


@dataclass
class Bench:
    """One database with its ledger, and what was seen of it so far."""

    url: str
    folder: Path
    seed: str
    ttl: float = 15.0
    durability: str = "power"
    settle: Callable[[], None] = lambda: None
    """Returns once the store has done all that a killed process had asked of it."""

    def __post_init__(self) -> None:
        self.ledger = self.folder / "ledger"
        self.rng = random.Random(self.seed)
        self.snapshots: list[Snapshot] = []
        self.prefixes: list[str] = []
        self.lives = 0

    def spawn_stuck(self, gated: int) -> Process:
        """Start a process whose instances stay in the middle until the gate is open."""
        self.lives += 1
        return Process(self.url, self.ledger, STUCK, "--ttl", str(self.ttl), "--gated", str(gated), "--prefix", STUCK)

    def spawn(self, *, work: bool = True, max_active: int = 10_000) -> Process:
        """Start a process; with a client of its own, unless it shall only help."""
        self.lives += 1
        life = f"life{self.lives}"
        arguments = ["--ttl", str(self.ttl), "--active", str(max_active), "--durability", self.durability]
        if work:
            self.prefixes.append(life)
            arguments += ["--seed", f"{self.seed}/{life}", "--prefix", life, "--count", str(_COUNT)]
        return Process(self.url, self.ledger, life, *arguments)

    def crash_once(self) -> None:
        """Let a process work for a random time, kill it, and read what it left."""
        with self.spawn() as process:
            # Now and then so early that it is still making its tables or beginning its session.
            if self.rng.random() > 0.1:
                process.wait_ready()
                process.kill_after(self.rng.uniform(0.02, 0.45))
            else:
                process.kill_after(self.rng.uniform(0.15, 0.5))
            self.check_log(process)
        self.look()

    def look(self) -> None:
        """Read the store as it is now, and check it."""
        self.settle()
        # First, as it makes the store where the process was killed before it had.
        self.snapshots.append(asyncio.run(take_snapshot(self.url, self.ledger)))
        check([self.url])

    def recover(self) -> Record:
        """Ask for everything again, let it all be finished, and give what is known."""
        with _complaints() as complaints:
            asyncio.run(self._finish())
        final = asyncio.run(take_snapshot(self.url, self.ledger))
        assert not complaints, f"{self}: the recovering host complained: {complaints}"
        check([self.url])
        planned = [each for prefix in self.prefixes for each in self._plan(prefix) if each.id is not None]
        return Record(planned, read_ledger(self.ledger), self.snapshots, final)

    def check(self, record: Record) -> int:
        """Fail on any violation; give how many bodies were repeated."""
        found = violations(record)
        assert not found, f"{self}:\n" + "\n".join(found)
        return repeated_bodies(record.ledger)

    def _plan(self, prefix: str) -> list[Planned]:
        return plan(random.Random(f"{self.seed}/{prefix}"), prefix, _COUNT)

    async def _finish(self) -> None:
        ledger = Ledger(self.ledger, "recovery")
        use_ledger(ledger)
        host = WorkflowHost(self.url, lease_ttl=self.ttl, sweep_interval=0.1, name="recovery")
        host.register(*definitions())
        async with host:
            for prefix in self.prefixes:
                wanted = [each for each in self._plan(prefix) if each.id is not None]
                await carry_out(host, wanted, ledger, at_once=True, limit=_FINISH_SECONDS)
            for page_status in ("runnable", "suspended"):
                for instance in await host.list_workflows(status=page_status, limit=1000):
                    await host.wait(instance.id, timeout=_FINISH_SECONDS)
        ledger.close()

    def check_log(self, process: Process) -> None:
        """Fail if a process complained of anything that the crash of another one does not explain."""
        log = process.log
        for sign in ("ERROR", "Traceback", "Background work"):
            assert sign not in log, f"{self}: {log}"

    def __str__(self) -> str:
        return f"seed {self.seed} (WFE_CRASH_SEED repeats a run), files in {self.folder}"


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Gather what the host of this process logs as a warning or worse."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]  # the shortest handler
    logger = logging.getLogger("wfe")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)

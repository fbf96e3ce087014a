"""Where runs take place: the loop, the clock and the store, and what a dead process leaves of its connections."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextvars import Context
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from tests.crashpoints.exchange import Exchange, ExchangeHints
from tests.crashpoints.inline_sqlite import InlineSQLite
from wfe.engine.state import decode_pointers
from wfe.model.status import PointerStatus
from wfe.providers.memory import MemoryProvider
from wfe.testing.failpoints import Crashed
from wfe.testing.simulation.clocks import SkewedClock
from wfe.testing.simulation.loop import Process, SimulatedLoop, last_words
from wfe.testing.simulation.machines import TaskRenewal

if TYPE_CHECKING:
    from wfe import WorkflowHost
    from wfe.ports.clock import Clock
    from wfe.ports.provider import Provider

__all__ = ["MemoryPlace", "Place", "SQLitePlace"]

_LATENCY = 0.002
_RESTING = {PointerStatus.SLEEPING, PointerStatus.WAITING_FOR_EVENT}


class Place:
    """A loop in virtual time with a store that all processes share. One for each run."""

    is_virtual = True
    pace = 1.0
    clock: Clock
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        """Make it; `latency` is what a request takes, and a reply (None: whatever it takes)."""
        self.latency: Callable[[], Awaitable[None]] | None = _take_time
        self.simulated = SimulatedLoop(Random(0), max_turns=400_000)
        self.loop = self.simulated
        self.clock = SkewedClock(self.loop)
        self.exchange = Exchange()

    def connect(self) -> Provider:
        """Connect to the store, as another process does."""
        raise NotImplementedError

    async def bury(self, backend: Provider) -> None:
        """Do what the operating system does with the connections of a dead process."""

    def process(self, name: str) -> Process:
        """Make a process."""
        return self.simulated.process(name)

    def context_of(self, process: Process) -> Context:
        """Give a context whose callbacks belong to a process."""
        return SimulatedLoop.context_of(process)

    def root_context(self) -> Context:
        """Give a context whose callbacks belong to no process."""
        return SimulatedLoop.context_of(self.simulated.root)

    def prepare(self, host: WorkflowHost) -> None:
        """Fit a host to the place, before it starts."""
        host._life.renewal = TaskRenewal

    def in_loop(self, call: Callable[[], None]) -> None:
        """Call something in the loop, from whatever thread of a process."""
        call()

    async def waits(self, admin: Provider, instance_id: str, count: int) -> bool:
        """Tell whether so many pointers of an instance sleep or wait."""
        row = await admin.store.get(instance_id)
        if row is None:
            return False
        return sum(pointer.status in _RESTING for pointer in decode_pointers(row.pointers).values()) >= count

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run something in the loop to its end."""
        self.loop.run_until_complete(cast("Any", work()))

    def close(self) -> list[str]:
        """Leave nothing behind. Gives what callbacks raised and nobody caught."""
        silent = [task for task in self.simulated.unheard() if not isinstance(task.exception(), Crashed)]
        problems = [*self.simulated.problems, *map(last_words, silent)]
        self.simulated.dispose()
        return problems


async def _take_time() -> None:
    await asyncio.sleep(_LATENCY)


class MemoryPlace(Place):
    """The memory store."""

    def __init__(self) -> None:
        super().__init__()
        self._memory = MemoryProvider(clock=self.clock)

    def connect(self) -> Provider:
        view = self._memory.share()
        view.hints = ExchangeHints(self.exchange)  # those of the provider do not know of processes
        return view


class SQLitePlace(Place):
    """A file, in memory where the system has a place for such files."""

    _template: Path | None = None

    def __init__(self) -> None:
        super().__init__()
        shared_memory = Path("/dev/shm")
        self._folder = Path(
            tempfile.mkdtemp(prefix="wfe-points-", dir=shared_memory if os.access(shared_memory, os.W_OK) else None)
        )
        self.path = self._folder / "wfe.db"
        self._connections: list[InlineSQLite] = []

    def connect(self) -> Provider:
        connection = InlineSQLite(self.path, self.clock, self.exchange)
        self._connections.append(connection)
        return connection

    async def bury(self, backend: Provider) -> None:
        cast("InlineSQLite", backend).abandon()

    def close(self) -> list[str]:
        problems = super().close()
        for each in self._connections:
            each.abandon()
        shutil.rmtree(self._folder)
        return problems

"""The memory provider: the reference model of the ports, and the store of simulations."""

from __future__ import annotations

from wfe.ports.clock import Clock
from wfe.ports.hints import Hints
from wfe.ports.lease import Lease
from wfe.ports.lifecycle import LifecyclePublisher
from wfe.ports.store import Store
from wfe.providers.memory.clock import SystemClock
from wfe.providers.memory.hints import HintExchange, MemoryHints
from wfe.providers.memory.lease import MemoryLease
from wfe.providers.memory.lifecycle import MemoryLifecycle
from wfe.providers.memory.store import MemoryStore
from wfe.providers.memory.tables import Tables

__all__ = ["MemoryProvider"]


class MemoryProvider:
    """Serves every port from the memory of this process.

    What it keeps lives as long as the object. It takes time from `clock` alone, makes no ids and no threads, and does
    everything in the order of the calls, so that a run with a given clock and given ids repeats itself exactly. It may
    be used from several loops and threads.

    Several hosts of one process share what it keeps: by using the object together, or better each a view of its own
    made by `share`, so that its hints know who sends and who leaves.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._connect(Tables(clock or SystemClock()), HintExchange())

    def share(self) -> MemoryProvider:
        """Make another view of the same tables, as a second host on one database has it."""
        view = MemoryProvider.__new__(MemoryProvider)
        view._connect(self._tables, self._exchange)  # noqa: SLF001 - the same class
        return view

    def _connect(self, tables: Tables, exchange: HintExchange) -> None:
        self._tables = tables
        self._exchange = exchange
        self.url = "memory:"
        self.clock = tables.clock
        self.store: Store = MemoryStore(tables)
        self.lease: Lease = MemoryLease(tables)
        self.hints: Hints = MemoryHints(exchange, tables)
        self.announcements = MemoryLifecycle(tables)
        self.lifecycle: LifecyclePublisher = self.announcements

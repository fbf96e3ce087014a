"""Everything in the memory of one process: for tests, simulation and work that need not survive it."""

from __future__ import annotations

from wfe.providers.memory.clock import SystemClock
from wfe.providers.memory.provider import MemoryProvider

__all__ = ["MemoryProvider", "SystemClock"]

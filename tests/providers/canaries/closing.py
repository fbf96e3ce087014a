"""Closing and opening again, second processes and lost connections, broken."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from tests.providers.canaries.planting import breaks
from wfe.model.errors import ProviderUnavailable
from wfe.ports.store import Batch
from wfe.providers.memory import MemoryProvider
from wfe.providers.memory.store import MemoryStore
from wfe.testing import FaultyStore


@breaks(MemoryStore, "close", "test_closing_twice_is_harmless")
async def closing_needs_an_open_store(original: Any, self: Any) -> None:
    assert not vars(self).get("is_closed"), "the store is closed already"
    self.is_closed = True


@breaks(MemoryStore, "close", "test_sequence_numbers_go_on")
async def closing_forgets_the_sequence_numbers(original: Any, self: Any) -> None:
    self._tables.last_event = 0


@breaks(MemoryStore, "close", "test_batch_is_known_again")
async def closing_forgets_the_batches(original: Any, self: Any) -> None:
    self._tables.replies.clear()


@breaks(MemoryStore, "commit", "test_close_finishes_what_is_being_written")
async def closing_cuts_a_batch_in_two(original: Any, self: Any, batch: Batch) -> Any:
    await original(self, replace(batch, id=f"first of {batch.id}", starts=batch.starts[:1]))
    await asyncio.sleep(0)
    raise ProviderUnavailable("The store was closed.")


@breaks(MemoryProvider, "share", "test_second_process_sees_every_commit")
def second_process_sees_its_own_commits(original: Any, self: Any) -> Any:
    return MemoryProvider(clock=self.clock)


@breaks(FaultyStore, "_pass", "test_store_goes_on_after_a_lost_connection")
async def lost_connections_stay_lost(original: Any, self: Any, *args: Any) -> Any:
    if vars(self).get("is_cut"):
        raise ProviderUnavailable("The connection is closed.")
    try:
        return await original(self, *args)
    except ProviderUnavailable:
        self.is_cut = True
        raise

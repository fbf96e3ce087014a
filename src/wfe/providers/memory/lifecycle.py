"""Announcements of one process, read from the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from wfe.model.errors import ConfigurationError
from wfe.model.lifecycle import LifecycleEvent, decode_records
from wfe.ports.store import LogRow
from wfe.providers.memory.loops import call_in
from wfe.providers.memory.tables import Tables

__all__ = ["MemoryLifecycle"]


class MemoryLifecycle:
    """Follows the log. A cursor is the place of the log row and how many of its records were seen: `12.3`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def subscribe(
        self, *, workflow_id: str | None = None, since: str | None = None
    ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
        if since is None:
            return self._follow(workflow_id, self._tables.last_log + 1, 0)
        return self._follow(workflow_id, *_place_in(since))

    async def position(self) -> str:
        return f"{self._tables.last_log + 1}.0"

    def announced(self, cursor: str, *, workflow_id: str | None = None) -> list[tuple[str, LifecycleEvent]]:
        """Give what has been announced after a cursor, without waiting for more.

        Raises:
            ConfigurationError: It is no cursor of these announcements.
        """
        tables, (place, seen) = self._tables, _place_in(cursor)
        rows = [tables.log.get(each) for each in range(place, tables.last_log + 1)]
        return [
            (f"{number}.{index}", event)
            for number, row in enumerate(rows, place)
            if row is not None and workflow_id in (None, row.instance_id)
            for index, event in _events_of(row, seen if number == place else 0)
        ]

    def wake(self) -> None:
        """Nothing to do: every commit tells its readers."""

    async def _follow(
        self, workflow_id: str | None, place: int, seen: int
    ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
        tables = self._tables
        loop = asyncio.get_running_loop()
        news = asyncio.Event()

        me = object()
        tables.listeners[me] = lambda: call_in(loop, news.set)
        try:
            while True:
                news.clear()
                while place <= tables.last_log:
                    row = tables.log.get(place)
                    if row is not None and workflow_id in (None, row.instance_id):
                        for index, event in _events_of(row, seen):
                            yield f"{place}.{index}", event
                    place, seen = place + 1, 0
                await news.wait()
        finally:
            tables.listeners.pop(me, None)


def _events_of(row: LogRow, seen: int) -> Iterator[tuple[int, LifecycleEvent]]:
    if not row.count:
        return
    for index, record in enumerate(decode_records(row.records), 1):
        if index > seen:
            yield (
                index,
                LifecycleEvent.from_record(
                    record,
                    sequence=row.first_sequence + index - 1,
                    time=row.time,
                    workflow_id=row.instance_id,
                    definition_id=row.definition_id,
                    version=row.version,
                    run=row.run,
                ),
            )


def _place_in(cursor: str) -> tuple[int, int]:
    if cursor == "start":
        return 1, 0
    place, _, seen = cursor.partition(".")
    if not (cursor.isascii() and place.isdecimal() and seen.isdecimal()):
        msg = f'{cursor!r} is no cursor of these announcements; pass one that came with an event, or "start".'
        raise ConfigurationError(msg)
    return int(place), int(seen)

"""Announcements, read from the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from wfe.model.errors import ConfigurationError
from wfe.model.lifecycle import LifecycleEvent, decode_records
from wfe.ports.store import LogRow
from wfe.providers.postgres.cursor import LogCursor
from wfe.providers.postgres.reads import Reads

__all__ = ["PostgresLifecycle"]

_PAGE = 500
_SHORTEST_PAUSE = 0.005
_LONGEST_PAUSE = 1.0


class PostgresLifecycle:
    """Follows the log. A cursor is the place of a log row and how many of its records were seen: `901.7.3/2`.

    Rows are read once every transaction that began before theirs is over. So after `wake` the log is read several times
    at growing distances, and else once a second, for what other processes commit.
    """

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._followers: set[asyncio.Event] = set()
        self._beginnings: set[asyncio.Task[LogCursor]] = set()

    def subscribe(
        self, *, workflow_id: str | None = None, since: str | None = None
    ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
        if since == "start":
            return self._follow(workflow_id, LogCursor(), 0)
        if since is not None:
            return self._follow(workflow_id, *_place_in(since))
        beginning = asyncio.get_running_loop().create_task(self._reads.log_end())
        self._beginnings.add(beginning)
        beginning.add_done_callback(self._beginnings.discard)
        return self._follow_from(workflow_id, beginning)

    async def position(self) -> str:
        return f"{await self._reads.log_end()}/0"

    def wake(self) -> None:
        for follower in self._followers:
            follower.set()

    async def began(self) -> None:
        """Wait until those who subscribed "from now on" know where that is; they get what is committed after this."""
        while self._beginnings:
            await asyncio.wait(self._beginnings)

    async def _follow_from(
        self, workflow_id: str | None, beginning: asyncio.Task[LogCursor]
    ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
        place = await beginning
        async for found in self._follow(workflow_id, place, 0):
            yield found

    async def _follow(
        self, workflow_id: str | None, place: LogCursor, seen: int
    ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
        woken = asyncio.Event()
        self._followers.add(woken)
        pause = _SHORTEST_PAUSE
        try:
            while True:
                # With some records of a row unread, that row is read again: its place is the one just before it.
                after = place._replace(revision=place.revision - 1) if seen else place
                rows = await self._reads.log_rows(after, _PAGE, workflow_id)
                for cursor, row in rows:
                    skip = seen if cursor[:3] == place[:3] else 0
                    for index, event in _events_of(row, skip):
                        yield f"{cursor}/{index}", event
                if rows:
                    place, seen = rows[-1][0], 0
                    pause = _SHORTEST_PAUSE
                    continue
                seen = 0
                pause = _SHORTEST_PAUSE if await _woken(woken, pause) else min(pause * 2, _LONGEST_PAUSE)
        finally:
            self._followers.discard(woken)


async def _woken(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, and tell whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True


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


def _place_in(text: str) -> tuple[LogCursor, int]:
    place, _, seen = text.partition("/")
    if not (seen.isascii() and seen.isdecimal()):
        raise ConfigurationError(
            f'{text!r} is no cursor of these announcements; pass one that came with an event, or "start".'
        )
    return LogCursor.of(place), int(seen)

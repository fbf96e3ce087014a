"""Announcements, read from the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from wfe.model.errors import ConfigurationError, ProviderUnavailable
from wfe.model.lifecycle import LifecycleEvent, decode_records
from wfe.ports.store import LogRow
from wfe.providers.sqlite.store import SQLiteStore

__all__ = ["SQLiteLifecycle"]

_PAGE_ROWS = 500
_POLL_SECONDS = 0.5
_MOST_DIGITS = 18


class SQLiteLifecycle:
    """Follows the log, however many processes write it.

    A cursor is the place of the log row and how many of its records were seen: `12.3`.
    """

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store
        self._readers: set[asyncio.Event] = set()
        store.committed = self.wake

    def subscribe(
        self, *, workflow_id: str | None = None, since: str | None = None
    ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
        if since is not None:
            return self._follow(workflow_id, *_place_in(since))
        # Asked of the writer now, so that whatever is committed after this call comes after the end that it tells.
        return self._follow_from_end(workflow_id, self._store.log_end())

    async def position(self) -> str:
        return f"{await self._store.log_end() + 1}.0"

    def wake(self) -> None:
        for news in self._readers:
            news.set()

    async def _follow_from_end(
        self, workflow_id: str | None, end: asyncio.Future[int]
    ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
        async for announced in self._follow(workflow_id, await end, 0, whole=True):
            yield announced

    async def _follow(
        self, workflow_id: str | None, place: int, seen: int, *, whole: bool = False
    ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
        """Follow from a place on: after its row if that was seen as a whole, else from its first record not seen."""
        news = asyncio.Event()
        self._readers.add(news)
        after = place if whole else place - 1
        try:
            while True:
                news.clear()
                version = await self._store.data_version()
                rows = await self._store.numbered_log(after, _PAGE_ROWS, workflow_id)
                for number, row in rows:
                    for index, event in _events_of(row, seen if number == place else 0):
                        yield f"{number}.{index}", event
                    after = number
                if not rows:
                    await self._until_news(news, version)
        finally:
            self._readers.discard(news)

    async def _until_news(self, news: asyncio.Event, version: int) -> None:
        """Wait for a commit: of this process at once, of others by looking whether the file has changed."""
        while not news.is_set():
            try:
                async with asyncio.timeout(_POLL_SECONDS):
                    await news.wait()
            except TimeoutError:
                if await self._changed(version):
                    return

    async def _changed(self, version: int) -> bool:
        try:
            return await self._store.data_version() != version
        except ProviderUnavailable:
            # Looking at the log itself will tell, or work again.
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


def _place_in(cursor: str) -> tuple[int, int]:
    if cursor == "start":
        return 1, 0
    place, _, seen = cursor.partition(".")
    if not (cursor.isascii() and place.isdecimal() and seen.isdecimal() and len(cursor) <= 2 * _MOST_DIGITS):
        raise ConfigurationError(
            f'{cursor!r} is no cursor of these announcements; pass one that came with an event, or "start".'
        )
    return int(place), int(seen)

"""The store port on one SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar

from wfe.model.definition import DefinitionKey
from wfe.model.errors import ProviderUnavailable
from wfe.model.moment import Moment
from wfe.ports.inspection import Inspector
from wfe.ports.provider import StoreMode, only_read
from wfe.ports.store import (
    Batch,
    ClaimReply,
    CommitReply,
    DefinitionRow,
    EndedRow,
    InboxRow,
    InstanceRow,
    ListFilter,
    LogCursorPage,
    LogRow,
    UnclaimedRow,
)
from wfe.providers.sqlite.claim import Claims
from wfe.providers.sqlite.commit import BatchWriter
from wfe.providers.sqlite.connection import Durability, checkpoint, connect
from wfe.providers.sqlite.counters import SystemClock
from wfe.providers.sqlite.creation import create
from wfe.providers.sqlite.faults import CommitUnknown
from wfe.providers.sqlite.inspection import (
    inspect_batch,
    inspect_events,
    inspect_log,
    inspect_structure,
    inspect_whole,
)
from wfe.providers.sqlite.names import DefinitionNumbers
from wfe.providers.sqlite.place import Place
from wfe.providers.sqlite.reading import Reading
from wfe.providers.sqlite.reads import Reads
from wfe.providers.sqlite.schema import check_there, migrate, version_of
from wfe.providers.sqlite.soundness import SoundnessCheck
from wfe.providers.sqlite.upkeep import Upkeep
from wfe.providers.sqlite.worker import NoWriter, Worker

__all__ = ["SQLiteStore"]

T = TypeVar("T")
_FIND_OUT_SECONDS = 10.0


class SQLiteStore:
    """One thread writes and another reads, each on a connection of its own; a database in memory has one for both."""

    def __init__(self, place: Place, durability: Durability, clock: SystemClock, mode: StoreMode = "create") -> None:
        self._place = place
        self._durability: Durability = durability
        self._mode: StoreMode = mode
        self._definitions = DefinitionNumbers()
        self._batches = BatchWriter(place, clock, self._definitions)
        self._claims = Claims(place, clock, self._definitions)
        self._upkeep = Upkeep(place)
        self._reads = Reads()
        self._writer = Worker("wfe-sqlite-writer", place, self._open_writer, idle=checkpoint)
        self._reader = self._writer
        if mode == "read":
            self._writer = NoWriter("", place, self._open_writer)
            self._reader = self._only_reader()
        elif place.path is not None:
            self._reader = Worker("wfe-sqlite-reader", place, self._open_reader)
        self._check: SoundnessCheck | None = None
        self.committed: Callable[[], None] = lambda: None
        """Called in the loop after each commit that may have written announcements."""

    # Life

    async def open(self) -> None:
        if self.is_open:
            return
        await self._writer.start()
        if self._reader is not self._writer:
            try:
                await self._reader.start()
            except BaseException:
                await self._writer.stop()
                raise

    async def close(self) -> None:
        if self._check is not None:
            check, self._check = self._check, None
            await asyncio.get_running_loop().run_in_executor(None, check.stop)
        # The writer last: as the last connection it moves the write-ahead log into the file.
        await self._reader.stop()
        await self._writer.stop()

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed."""
        return self._reader.is_running

    def refuse_reader(self) -> None:
        """Make sure that this store may be written.

        Raises:
            ConfigurationError: It is one that only reads.
        """
        if self._mode == "read":
            raise only_read(self._place.url)

    async def check(self) -> None:
        """Look whether the file is sound. What takes longer than a moment goes on beside the work.

        Raises:
            ConfigurationError: It is damaged.
        """
        if self._place.path is not None and self._check is None:
            self._check = SoundnessCheck(self._place, self._refuse)
            await self._check.begin()

    def _refuse(self, why: str) -> None:
        self._writer.refuse(why)
        self._reader.refuse(why)

    async def write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job on the writer's connection."""
        return await self._writer.call(job)

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job on the reader's connection."""
        return await self._reader.call(job)

    def write_blocking(self, job: Callable[[sqlite3.Connection], None]) -> None:
        """Run a job on the writer's connection, from another thread than the loop's."""
        self._writer.call_blocking(job)

    # Commit

    async def commit(self, batch: Batch) -> CommitReply:
        try:
            reply = await self._writer.call(lambda connection: self._batches.write(connection, batch))
        except CommitUnknown as unknown:
            reply = await self._find_out(batch, unknown)
        self.committed()
        return reply

    async def _find_out(self, batch: Batch, unknown: CommitUnknown) -> CommitReply:
        """Look whether a batch was written, on a new connection, which reads what the disk really has."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _FIND_OUT_SECONDS
        pause = 0.02
        while True:
            try:
                reply = await self._writer.call(lambda connection: self._batches.find(connection, batch))
            except ProviderUnavailable as still:
                if loop.time() > deadline:
                    raise ProviderUnavailable(
                        f"{unknown} Whether batch {batch.id} was written could not be found out; commit it again."
                    ) from still
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
                continue
            if reply is None:
                raise ProviderUnavailable(f"{unknown} Nothing of the batch was written.") from unknown.__cause__
            return reply

    # Claims

    async def claim(
        self,
        session: str,
        runnable: Collection[DefinitionKey],
        limit: int,
        *,
        ids: Sequence[str] | None = None,
        any_definition: bool = False,
        activations_below: int | None = None,
    ) -> ClaimReply:
        return await self._writer.call(
            lambda connection: self._claims.claim(
                connection,
                session,
                runnable,
                limit,
                ids,
                any_definition=any_definition,
                activations_below=activations_below,
            )
        )

    async def release(self, session: str, holds: Sequence[tuple[str, int]]) -> None:
        await self._writer.call(lambda connection: self._claims.release(connection, session, holds))

    async def unclaimed(self, limit: int, *, after: tuple[Moment, int] | None = None) -> Sequence[UnclaimedRow]:
        if self._mode == "read":
            return await self._reader.call(lambda connection: self._claims.unclaimed(connection, limit, after))
        return await self._writer.call(lambda connection: self._claims.bury_and_list(connection, limit, after))

    async def block(self, reasons: Mapping[str, str]) -> Collection[str]:
        return await self._writer.call(lambda connection: self._claims.block(connection, reasons))

    # Reads

    async def held(self, session: str) -> Sequence[tuple[str, int]]:
        return await self._reader.call(lambda connection: self._reads.held(connection, session))

    async def inbox(self, ids: Sequence[str]) -> Sequence[InboxRow]:
        return await self._reader.call(lambda connection: self._reads.inbox(connection, ids))

    async def pending_control(self, request_ids: Sequence[str]) -> Collection[str]:
        return await self._reader.call(lambda connection: self._reads.pending_control(connection, request_ids))

    async def get(self, id_or_name: str) -> InstanceRow | None:
        return await self._reader.call(lambda connection: self._reads.get(connection, id_or_name))

    async def ended(self, ids: Sequence[str], *, until: Collection[str] = ()) -> Sequence[EndedRow]:
        return await self._reader.call(lambda connection: self._reads.ended(connection, ids, until))

    async def list_instances(
        self, where: ListFilter, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[InstanceRow], str | None]:
        return await self._reader.call(lambda connection: self._reads.list_instances(connection, where, limit, cursor))

    async def known(self, ids: Sequence[str]) -> Collection[str]:
        return await self._reader.call(lambda connection: self._reads.known(connection, ids))

    async def history(self, instance_id: str, after: int = 0, limit: int = 1000) -> Sequence[LogRow]:
        return await self._reader.call(lambda connection: self._reads.history(connection, instance_id, after, limit))

    async def errors(self, instance_id: str) -> Sequence[bytes]:
        return await self._reader.call(lambda connection: self._reads.errors(connection, instance_id))

    async def log_after(self, cursor: str | None, limit: int, *, instance_id: str | None = None) -> LogCursorPage:
        return await self._reader.call(lambda connection: self._reads.log_after(connection, cursor, limit, instance_id))

    async def numbered_log(self, after: int, limit: int, instance_id: str | None) -> Sequence[tuple[int, LogRow]]:
        """Read log rows in commit order with their places."""
        return await self._reader.call(
            lambda connection: self._reads.numbered_log(connection, after, limit, instance_id)
        )

    def log_end(self) -> asyncio.Future[int]:
        """Ask for the place of the last log row; what is committed after this call lies behind it."""
        return (self._reader if self._mode == "read" else self._writer).call(self._reads.log_end)

    async def data_version(self) -> int:
        """Give a number that changes whenever something was committed, by whatever process."""
        return await self._reader.call(self._reads.data_version)

    async def inspect(self, inspector: Inspector) -> None:
        if self.is_open:
            await _inspect(self._reader, inspector)
            return
        reader = self._only_reader()
        await reader.start()
        try:
            await _inspect(reader, inspector)
        finally:
            await reader.stop()

    # Upkeep

    async def save_definition(self, row: DefinitionRow) -> DefinitionKey | None:
        return await self._writer.call(lambda connection: self._upkeep.save_definition(connection, row))

    async def definitions(self) -> Sequence[DefinitionRow]:
        return await self._reader.call(self._upkeep.recorded)

    async def purge(
        self,
        *,
        ids: Sequence[str] | None = None,
        status: Sequence[str] = (),
        ended_before: Moment | None = None,
        limit: int = 100,
    ) -> int:
        return await self._writer.call(
            lambda connection: self._upkeep.purge(connection, ids, status, ended_before, limit)
        )

    async def drop_events(self, before: Moment, limit: int = 1000) -> int:
        return await self._writer.call(lambda connection: self._upkeep.drop_events(connection, before, limit))

    # Connections

    def _open_writer(self) -> sqlite3.Connection:
        self._batches.forget_all()
        self._definitions.forget()
        self._place.check(self._mode)
        first: Callable[[sqlite3.Connection, Place], object] = check_there
        if self._mode == "create":
            create(self._place)
            first = version_of
        connection = connect(self._place, self._durability, writes=True, first=first)
        try:
            migrate(connection, self._place)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_reader(self) -> sqlite3.Connection:
        self._reads.definitions.forget()
        return connect(self._place, self._durability, writes=False)

    def _only_reader(self) -> Worker:
        """Give the worker on a connection for which nothing is made or changed."""
        reading = Reading(self._place)

        def opened() -> sqlite3.Connection:
            self._reads.definitions.forget()
            return reading.open()

        return Worker("wfe-sqlite-only-reader", self._place, opened, check=reading.check)


async def _inspect(reader: Worker, inspector: Inspector) -> None:
    if not await reader.call(partial(inspect_structure, inspector=inspector)):
        return
    for inspect in (inspect_batch, inspect_log, inspect_events):
        after: int | None = 0
        while after is not None:
            after = await reader.call(partial(inspect, inspector=inspector, after=after))
    await reader.call(partial(inspect_whole, inspector=inspector))

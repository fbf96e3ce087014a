"""The store port on plain tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from wfe.model.definition import DefinitionKey
from wfe.model.errors import ConfigurationError
from wfe.model.moment import Moment
from wfe.ports.inspection import Inspector
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
from wfe.providers.memory.claim import due_since, next_event, next_wake, place_of, take, unheld_and_due
from wfe.providers.memory.commit import Commit
from wfe.providers.memory.inspection import inspect
from wfe.providers.memory.tables import Instance, Tables

__all__ = ["MemoryStore"]

_REPLIES_KEPT = 1_000
_LIST_CURSOR = "instances-before-"
_LOG_CURSOR = "log-after-"


class MemoryStore:
    """Keeps everything in `Tables`. Every method does all its work between two awaits of its caller.

    Closing it loses nothing; the tables go when the last view of them goes.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def open(self) -> None:
        """Nothing to connect."""

    async def close(self) -> None:
        """Nothing to disconnect."""

    async def commit(self, batch: Batch) -> CommitReply:
        tables = self._tables
        with tables.lock:
            reply = tables.replies.get(batch.id)
            if reply is None:
                reply = Commit(tables, batch).apply()
                tables.replies[batch.id] = reply
                if len(tables.replies) > _REPLIES_KEPT:
                    tables.replies.popitem(last=False)
            listeners = tuple(tables.listeners.values())
        for tell in listeners:
            tell()
        return reply

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
        tables = self._tables
        with tables.lock:
            now = tables.now()
            candidates = unheld_and_due(tables, now) if ids is None else self._named(ids, now, even_idle=any_definition)
            if not tables.is_alive(session):
                candidates = []
            fitting = [
                instance
                for instance in candidates
                if (any_definition or instance.definition in runnable)
                and (activations_below is None or instance.activations < activations_below)
            ]
            taken = [take(instance, session) for instance in fitting[:limit]]
            return ClaimReply(now, taken, next_wake(tables, now), next_event(tables))

    def _named(self, ids: Sequence[str], now: Moment, *, even_idle: bool) -> list[Instance]:
        tables = self._tables
        named = (tables.instances.get(instance_id) for instance_id in dict.fromkeys(ids))
        free = [
            instance
            for instance in named
            if instance is not None and tables.holder(instance) is None and (even_idle or instance.is_due(now))
        ]
        return sorted(free, key=lambda instance: due_since(instance, now))

    async def release(self, session: str, holds: Sequence[tuple[str, int]]) -> None:
        with self._tables.lock:
            for instance_id, fence in holds:
                instance = self._tables.instances.get(instance_id)
                if instance is not None and instance.owner == session and instance.fence == fence:
                    instance.owner = None
                    instance.activations = max(0, instance.activations - 1)

    async def held(self, session: str) -> Sequence[tuple[str, int]]:
        with self._tables.lock:
            return [(each.id, each.fence) for each in self._tables.live.values() if each.owner == session]

    async def inbox(self, ids: Sequence[str]) -> Sequence[InboxRow]:
        with self._tables.lock:
            rows = [row for instance in self._existing(ids) for row in instance.inbox.values()]
        return sorted(rows, key=lambda row: row.id)

    async def pending_control(self, request_ids: Sequence[str]) -> Collection[str]:
        with self._tables.lock:
            pending = [request for instance in self._tables.live.values() for request in instance.requests.values()]
        wanted = dict.fromkeys(request_ids)
        return [request for request in dict.fromkeys(pending) if request in wanted]

    async def unclaimed(self, limit: int, *, after: tuple[Moment, int] | None = None) -> Sequence[UnclaimedRow]:
        with self._tables.lock:
            now = self._tables.now()
            placed = sorted((place_of(one, now), one.id) for one in unheld_and_due(self._tables, now))
            page = [(place, self._tables.instances[each]) for place, each in placed if after is None or place > after]
            return [
                UnclaimedRow(one.id, one.definition, one.blocked_reason, one.activations, place, one.has_message)
                for place, one in page[:limit]
            ]

    async def block(self, reasons: Mapping[str, str]) -> Collection[str]:
        with self._tables.lock:
            free = [
                instance
                for instance in self._existing(list(reasons))
                if not instance.has_ended and self._tables.holder(instance) is None
            ]
            for instance in free:
                instance.blocked_reason = reasons[instance.id]
        return [instance.id for instance in free]

    async def get(self, id_or_name: str) -> InstanceRow | None:
        with self._tables.lock:
            instance = self._tables.instances.get(id_or_name)
            if instance is None and self._tables.names.get(id_or_name):
                instance = self._tables.instances[self._tables.names[id_or_name][-1]]
            return None if instance is None else _row_of(instance, instance.packed_pointers())

    async def ended(self, ids: Sequence[str], *, until: Collection[str] = ()) -> Sequence[EndedRow]:
        with self._tables.lock:
            return [
                EndedRow(
                    id=instance.id,
                    definition=instance.definition,
                    status=instance.status,
                    head=instance.head,
                    data=instance.data,
                    pointers=instance.packed_pointers(),
                )
                for instance in self._existing(ids)
                if instance.has_ended or instance.status in until
            ]

    async def list_instances(
        self, where: ListFilter, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[InstanceRow], str | None]:
        before = None if cursor is None else _number_in(cursor, _LIST_CURSOR)
        with self._tables.lock:
            found = [
                instance
                for instance in reversed(self._tables.instances.values())
                if (before is None or instance.number < before) and _fits(instance, where)
            ][: limit + 1]
            page = [_row_of(instance) for instance in found[:limit]]
        return page, f"{_LIST_CURSOR}{found[limit - 1].number}" if len(found) > limit else None

    async def known(self, ids: Sequence[str]) -> Collection[str]:
        with self._tables.lock:
            return [instance.id for instance in self._existing(ids)]

    async def history(self, instance_id: str, after: int = 0, limit: int = 1000) -> Sequence[LogRow]:
        with self._tables.lock:
            rows = [row for row in self._tables.log.values() if row.instance_id == instance_id]
        return [row for row in rows if row.count and row.first_sequence + row.count - 1 > after][:limit]

    async def errors(self, instance_id: str) -> Sequence[bytes]:
        with self._tables.lock:
            instance = self._tables.instances.get(instance_id)
            return [] if instance is None else [instance.errors[number] for number in sorted(instance.errors)]

    async def log_after(self, cursor: str | None, limit: int, *, instance_id: str | None = None) -> LogCursorPage:
        tables = self._tables
        with tables.lock:
            if cursor == "now":
                return LogCursorPage([], f"{_LOG_CURSOR}{tables.last_log}")
            place = 0 if cursor is None else _number_in(cursor, _LOG_CURSOR)
            rows: list[LogRow] = []
            while place < tables.last_log and len(rows) < limit:
                place += 1
                row = tables.log.get(place)
                if row is not None and instance_id in (None, row.instance_id):
                    rows.append(row)
        return LogCursorPage(rows, f"{_LOG_CURSOR}{place}")

    async def save_definition(self, row: DefinitionRow) -> DefinitionKey | None:
        definitions = self._tables.definitions
        place = row.key.id, row.key.version
        with self._tables.lock:
            there = definitions.get(place)
            if (
                there is not None
                and there.key != row.key
                and any(i.definition == there.key for i in self._tables.live.values())
            ):
                return there.key
            definitions[place] = row
            return None

    async def definitions(self) -> Sequence[DefinitionRow]:
        with self._tables.lock:
            return list(self._tables.definitions.values())

    async def purge(
        self,
        *,
        ids: Sequence[str] | None = None,
        status: Sequence[str] = (),
        ended_before: Moment | None = None,
        limit: int = 100,
    ) -> int:
        with self._tables.lock:
            looked_at = list(self._tables.instances.values()) if ids is None else list(self._existing(ids))
            over = [
                instance
                for instance in looked_at
                if _ended_by(instance, ended_before) and (not status or instance.status in status)
            ]
            over.sort(key=lambda instance: instance.ended_at or 0)
            gone = over[:limit]
            self._remove(gone)
        return len(gone)

    def _remove(self, gone: Sequence[Instance]) -> None:
        tables = self._tables
        ids = dict.fromkeys(instance.id for instance in gone)
        for instance in gone:
            del tables.instances[instance.id]
            if instance.name is not None:
                tables.names[instance.name].remove(instance.id)
            if instance.parent is not None:
                tables.children[instance.parent.instance_id].pop(instance.id)
        if ids:
            tables.log = {place: row for place, row in tables.log.items() if row.instance_id not in ids}

    async def drop_events(self, before: Moment, limit: int = 1000) -> int:
        # A wait that a stored event fits took it when one of the two came, so no live wait would match a stored event.
        tables = self._tables
        with tables.lock:
            old = [event for event in tables.events.values() if event.time < before][:limit]
            for event in old:
                del tables.events[event.id]
                topic = tables.topics[event.name, event.key]
                topic.remove(event)
                if not topic:
                    del tables.topics[event.name, event.key]
        return len(old)

    async def inspect(self, inspector: Inspector) -> None:
        with self._tables.lock:
            inspect(self._tables, inspector)

    def _existing(self, ids: Sequence[str]) -> Iterator[Instance]:
        for instance_id in dict.fromkeys(ids):
            instance = self._tables.instances.get(instance_id)
            if instance is not None:
                yield instance


def _ended_by(instance: Instance, moment: Moment | None) -> bool:
    return instance.ended_at is not None and (moment is None or instance.ended_at < moment)


def _fits(instance: Instance, where: ListFilter) -> bool:
    parent_id = None if instance.parent is None else instance.parent.instance_id
    return (
        (not where.status or instance.status in where.status)
        and (where.definition_id is None or instance.definition.id == where.definition_id)
        and (where.reference is None or instance.reference == where.reference)
        and (where.since is None or instance.created_at >= where.since)
        and (where.parent_id is None or parent_id == where.parent_id)
    )


def _number_in(cursor: str, prefix: str) -> int:
    number = cursor.removeprefix(prefix)
    if number == cursor or not (number.isascii() and number.isdecimal()):
        msg = f"{cursor!r} is no cursor of this store; pass one that a page gave, unchanged, or None to begin."
        raise ConfigurationError(msg)
    return int(number)


def _row_of(instance: Instance, pointers: Sequence[bytes] = ()) -> InstanceRow:
    return InstanceRow(
        id=instance.id,
        definition=instance.definition,
        status=instance.status,
        run=instance.run,
        revision=instance.revision,
        fence=instance.fence,
        owner=instance.owner,
        head=instance.head,
        data=instance.data,
        values=instance.values,
        created_at=instance.created_at,
        ended_at=instance.ended_at,
        wake_at=instance.wake_at,
        blocked_reason=instance.blocked_reason,
        activations=instance.activations,
        name=instance.name,
        reference=instance.reference,
        parent_id=None if instance.parent is None else instance.parent.instance_id,
        pointers=pointers,
    )

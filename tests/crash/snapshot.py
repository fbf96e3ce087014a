"""What a store holds at one moment, read without a host."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wfe import LifecycleEvent, StepError, WorkflowStatus
from wfe.host.connect import connect
from wfe.host.views import errors_from, events_from
from wfe.model.document import decode_plain
from wfe.model.status import LifecycleKind
from wfe.ports.store import ListFilter

if TYPE_CHECKING:
    from wfe.ports.store import InstanceRow, Store

__all__ = ["Snapshot", "Stored", "integrity", "take_snapshot"]

_PAGE = 500


@dataclass(frozen=True)
class Stored:
    """One instance as the store has it."""

    id: str
    definition: str
    status: WorkflowStatus
    data: Any
    blocked_reason: str | None
    history: tuple[LifecycleEvent, ...]
    errors: tuple[StepError, ...]

    @property
    def succeeded(self) -> frozenset[str]:
        """Pointers whose success is recorded."""
        return frozenset(event.pointer_id or "" for event in self.history if event.kind is LifecycleKind.STEP_SUCCEEDED)

    @property
    def has_ended(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.status.is_terminal


@dataclass(frozen=True)
class Snapshot:
    """All instances, and how many lines the ledger had once they were read."""

    instances: Mapping[str, Stored]
    ledger_lines: int


async def take_snapshot(url: str, ledger: Path) -> Snapshot:
    """Read all instances. What the ledger gets after this is later than what was read."""
    store = connect(url).store
    await store.open()
    try:
        found = {row.id: await _read(store, row) for row in await _rows(store)}
    finally:
        await store.close()
    return Snapshot(found, _lines(ledger))


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


async def _rows(store: Store) -> list[InstanceRow]:
    rows: list[InstanceRow] = []
    cursor: str | None = None
    while True:
        page, cursor = await store.list_instances(ListFilter(), _PAGE, cursor)
        rows.extend(page)
        if cursor is None:
            return rows


async def _read(store: Store, row: InstanceRow) -> Stored:
    # The history first: what is read after it is at least as new, so a success seen here is in the data read below.
    history = events_from(await store.history(row.id))
    errors = errors_from(await store.errors(row.id))
    now = await store.get(row.id)
    assert now is not None
    return Stored(
        row.id,
        row.definition.id,
        WorkflowStatus(now.status),
        decode_plain(now.data),
        now.blocked_reason,
        tuple(history),
        tuple(errors),
    )


def integrity(path: Path) -> str:
    """Let SQLite check a database file; `ok` if nothing is wrong with it."""
    connection = sqlite3.connect(path)
    try:
        return "; ".join(str(row[0]) for row in connection.execute("PRAGMA integrity_check"))
    finally:
        connection.close()

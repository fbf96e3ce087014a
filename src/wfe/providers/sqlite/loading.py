"""Taking instances, and reading them whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from wfe.model.moment import Moment
from wfe.ports.store import DATA_ARE_MISSING, InboxRow, ItemsRow, LoadedInstance, ParentLink
from wfe.providers.sqlite.columns import Shape
from wfe.providers.sqlite.names import DefinitionNumbers

__all__ = ["EMPTY", "inbox_rows", "inbox_rows_by_id", "inbox_rows_of", "json_list", "load", "take"]

EMPTY = b"{}"
"""The data or values of an instance that was started without any."""

_json = msgspec.json.Encoder(enc_hook=str)  # of texts that are no UTF-8; all others never ask the hook
_GIVEN = "(SELECT value FROM json_each(?))"
_LOAD = (
    "SELECT i.n, i.id, i.definition, i.fence, i.revision, i.run, i.head, d.data, c.vals, i.created_at, i.name, "
    "i.reference, i.parent_id, i.parent_pointer, i.on_parent_end, i.activations "
    "FROM instance i LEFT JOIN document d ON d.n = i.n LEFT JOIN context c ON c.n = i.n "
    f"WHERE i.n IN {_GIVEN}"
)
_INBOX_COLUMNS = "b.k, i.id, b.message, b.pointer, b.wait, b.sequence, b.name, b.key, b.payload"


class _InboxColumns(NamedTuple):
    """The columns of an inbox row."""

    k: int
    id: str
    message: bytes | None
    pointer: int | None
    wait: int | None
    sequence: int | None
    name: str | None
    key: str | None
    payload: bytes | None


class _Columns(NamedTuple):
    """A row of `_LOAD`."""

    n: int
    id: str
    definition: int
    fence: int
    revision: int
    run: int
    head: bytes
    data: bytes | None
    values: bytes | None
    created_at: Moment
    name: str | None
    reference: str | None
    parent_id: str | None
    parent_pointer: int | None
    on_parent_end: str | None
    activations: int

    @property
    def parent(self) -> ParentLink | None:
        """The pointer that waits for it."""
        if self.parent_id is None:
            return None
        return ParentLink(self.parent_id, self.parent_pointer or 0, self.on_parent_end or "")


_SHAPE = Shape(_Columns)
_INBOX_SHAPE = Shape(_InboxColumns)


def json_list(values: Sequence[int] | Sequence[str]) -> str:
    """Pack values for a statement that reads them with `json_each`: one text of SQL, whatever their number."""
    return _json.encode(values).decode()


def take(
    connection: sqlite3.Connection, definitions: DefinitionNumbers, numbers: Sequence[int], session: int
) -> list[LoadedInstance]:
    """Give instances to a session, with new fences, and load them, in the given order; inside a write transaction."""
    if not numbers:
        return []
    given = json_list(numbers)
    connection.execute(
        "UPDATE instance SET fence = fence + 1, owner = ?, activations = activations + 1, blocked_reason = NULL "
        f"WHERE n IN {_GIVEN}",
        (session, given),
    )
    connection.execute(
        f"DELETE FROM called WHERE (definition, n) IN (SELECT definition, n FROM instance WHERE n IN {_GIVEN})",
        (given,),
    )
    return load(connection, definitions, numbers)


def load(
    connection: sqlite3.Connection, definitions: DefinitionNumbers, numbers: Sequence[int]
) -> list[LoadedInstance]:
    """Read instances whole, in the given order."""
    given = json_list(numbers)
    pointers: dict[int, list[bytes]] = {n: [] for n in numbers}
    items: dict[int, list[ItemsRow]] = {n: [] for n in numbers}
    inbox: dict[str, list[InboxRow]] = {}
    for n, state in connection.execute(f"SELECT n, state FROM pointer WHERE n IN {_GIVEN} ORDER BY n, slot", (given,)):
        pointers[n].append(state)
    for n, pointer, packed in connection.execute(
        f"SELECT n, pointer, items FROM item WHERE n IN {_GIVEN} ORDER BY n, pointer", (given,)
    ):
        items[n].append(ItemsRow(pointer, packed))
    for row in inbox_rows(connection, given):
        inbox.setdefault(row.instance_id, []).append(row)
    rows = _SHAPE.read_all(connection.execute(_LOAD, (given,)).fetchall())
    found = {
        row.n: LoadedInstance(
            id=row.id,
            definition=definitions.key(connection, row.definition),
            fence=row.fence,
            revision=row.revision,
            run=row.run,
            head=row.head,
            data=row.data or b"",
            values=row.values or b"",
            created_at=row.created_at,
            pointers=pointers[row.n],
            items=items[row.n],
            inbox=inbox.get(row.id, ()),
            name=row.name,
            reference=row.reference,
            parent=row.parent,
            activations=row.activations,
            damage=damage or (DATA_ARE_MISSING if row.data is None or row.values is None else ""),
        )
        for row, damage in rows
    }
    return [found[n] for n in numbers if n in found]  # all of them, unless an index is damaged


def inbox_rows(connection: sqlite3.Connection, given: str) -> list[InboxRow]:
    """Read the inbox rows of instances (numbers as a JSON list), in the order of their ids."""
    return [
        inbox_row(row)
        for row in connection.execute(
            f"SELECT {_INBOX_COLUMNS} FROM inbox b JOIN instance i ON i.n = b.n WHERE b.n IN {_GIVEN} ORDER BY b.k",
            (given,),
        )
    ]


def inbox_rows_of(connection: sqlite3.Connection, ids: Sequence[str]) -> list[InboxRow]:
    """Read the inbox rows of instances named by id, in the order of the rows' ids."""
    return [
        inbox_row(row)
        for row in connection.execute(
            f"SELECT {_INBOX_COLUMNS} FROM inbox b JOIN instance i ON i.n = b.n "
            f"WHERE b.n IN (SELECT n FROM instance WHERE id IN {_GIVEN}) ORDER BY b.k",
            (json_list(list(ids)),),
        )
    ]


def inbox_rows_by_id(connection: sqlite3.Connection, first: int, last: int) -> list[InboxRow]:
    """Read the inbox rows whose ids lie in a range."""
    return [
        inbox_row(row)
        for row in connection.execute(
            f"SELECT {_INBOX_COLUMNS} FROM inbox b JOIN instance i ON i.n = b.n WHERE b.k BETWEEN ? AND ? ORDER BY b.k",
            (first, last),
        )
    ]


def inbox_row(row: Sequence[object]) -> InboxRow:
    """Make an inbox row of the columns that the statements of this module select. A damaged one has no message."""
    read, damage = _INBOX_SHAPE.read(row)
    number, instance_id, message, pointer, wait, sequence, name, key, payload = read
    if damage:
        return InboxRow(number, instance_id, b"")
    if message is not None:
        return InboxRow(number, instance_id, message)
    return InboxRow(
        number, instance_id, None, pointer or 0, wait or 0, sequence or 0, name or "", key or "", payload or b""
    )

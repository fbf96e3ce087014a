"""The rows that the functions answer with, and what stands in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from wfe.model.definition import DefinitionKey
from wfe.ports.store import DATA_ARE_MISSING, NO_DEFINITION, Delivery, InboxRow, ItemsRow, LoadedInstance, ParentLink

__all__ = ["Answer", "Answers", "definition_key", "delivery", "inbox_row"]


class Answer(NamedTuple):
    """One row: its kind (see the functions), numbers, texts and byte strings."""

    kind: int
    i: Sequence[int]
    s: Sequence[str]
    b: Sequence[bytes]
    """The database may have nulls in any of them; where a kind has, its reader says so."""


class Answers:
    """All rows of one call, by kind."""

    END, REFUSED, NOT_STARTED, NOT_PUBLISHED, SEQUENCES, HITS, REACHED, UNREAD, DELIVERY = 0, 1, 2, 4, 5, 6, 7, 8, 9
    INSTANCE, INBOX = 10, 13

    def __init__(self, records: Iterable[object]) -> None:
        self._rows: dict[int, list[Answer]] = defaultdict(list)
        for record in records:
            kind, i, s, b = cast("tuple[int, list[int], list[str], list[bytes]]", record)
            self._rows[kind].append(Answer(kind, i, s, b))

    def one(self, kind: int) -> Answer | None:
        """Give the row of a kind of which there is one at most."""
        rows = self._rows.get(kind)
        return rows[0] if rows else None

    def all(self, kind: int) -> Sequence[Answer]:
        """Give the rows of a kind."""
        return self._rows.get(kind, ())

    def pairs(self, kind: int) -> Mapping[int, int]:
        """Give what stands by turns in the numbers of a row, as a mapping."""
        row = self.one(kind)
        if row is None:
            return {}
        return dict(zip(row.i[::2], row.i[1::2], strict=True))

    def loaded(self) -> list[LoadedInstance]:
        """Give the instances that were taken, in the order of the rows."""
        inbox: dict[int, list[Answer]] = defaultdict(list)
        for row in self.all(self.INBOX):
            inbox[row.i[0]].append(row)
        return [_loaded(row, inbox.get(row.i[0], ())) for row in self.all(self.INSTANCE)]


def _loaded(row: Answer, inbox: Sequence[Answer]) -> LoadedInstance:
    _, fence, revision, run, created_at, activations, version, parent_pointer, count, *with_items = row.i
    head, data, values, *states = row.b
    instance_id, definition_id, definition_hash = row.s[:3]
    name, reference, parent_id, on_parent_end = cast("Sequence[str | None]", row.s[3:])
    parent = None if parent_id is None else ParentLink(parent_id, parent_pointer, on_parent_end or "")
    return LoadedInstance(
        id=instance_id,
        definition=definition_key(definition_id, version, definition_hash),
        fence=fence,
        revision=revision,
        run=run,
        head=head,
        data=data or b"",
        values=values or b"",
        created_at=created_at,
        pointers=states[:count],
        items=[ItemsRow(*items) for items in zip(with_items, states[count:], strict=True)],
        inbox=[inbox_row(message, instance_id, *message.s) for message in inbox],
        name=name,
        reference=reference,
        parent=parent,
        activations=activations,
        damage="" if data and values else DATA_ARE_MISSING,
    )


def definition_key(definition_id: str | None, version: int | None, structure: str | None) -> DefinitionKey:
    """Give a definition as it was joined to an instance."""
    if definition_id is None or version is None or structure is None:
        return NO_DEFINITION
    return DefinitionKey(definition_id, version, structure)


def inbox_row(row: Answer, instance_id: str, name: str, key: str) -> InboxRow:
    """Give the inbox row in an answer of kind INBOX or DELIVERY."""
    _, row_id, pointer, wait, sequence = row.i
    message, payload = row.b
    return InboxRow(row_id, instance_id, message, pointer, wait, sequence, name, key, payload)


def delivery(row: Answer) -> Delivery:
    """Give what an answer of kind DELIVERY tells."""
    instance_id, owner, name, key = row.s
    return Delivery(instance_id, owner, inbox_row(row, instance_id, name, key))

"""Reads the packed parts of a stored instance, as far as they can be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from wfe.engine.inbox import pack, unpack
from wfe.engine.state import decode_head, encode_head, encode_pointer
from wfe.host.fsck.findings import Problem
from wfe.model.instance import Head
from wfe.model.message import ChildEnded, Control, EventMatched
from wfe.model.pointer import ErrorRecord, Pointer
from wfe.ports.inspection import StoredInstance
from wfe.ports.store import InboxRow

__all__ = ["UNREADABLE", "Contents", "encode_error", "is_json", "read_error"]

T = TypeVar("T")

_pointers = msgspec.msgpack.Decoder(Pointer)
_errors = msgspec.msgpack.Decoder(ErrorRecord)
_documents = msgspec.json.Decoder(dict[str, msgspec.Raw])
_lists = msgspec.json.Decoder(list[msgspec.Raw])

read_error = _errors.decode
encode_error = msgspec.msgpack.Encoder().encode
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""What the decoders may raise for bytes that they cannot read."""


@dataclass
class Contents:
    """What is in the packed parts of an instance."""

    stored: StoredInstance
    head: Head | None = None
    pointers: dict[int, Pointer] = field(default_factory=dict[int, Pointer])
    is_readable: bool = True
    """Whether head and all pointers could be read; rules that compare them apply only then."""
    item_counts: dict[int, int] = field(default_factory=dict[int, int])
    """Container → how many items its loop walks."""
    events: list[EventMatched] = field(default_factory=list[EventMatched])
    controls: list[Control] = field(default_factory=list[Control])
    children: list[ChildEnded] = field(default_factory=list[ChildEnded])
    """Messages of the inbox, by kind."""

    def read(self) -> Iterator[Problem]:
        """Read everything, and tell what cannot be read or is not what would have been written (T10)."""
        yield from self._read_head()
        yield from self._read_pointers()
        stored = self.stored
        if stored.data is None or stored.values is None:
            yield Problem("S1", "the row with its data is missing", "document")
        for text, table in ((stored.data, "document"), (stored.values, "document")):
            if text is not None and not _is_object(text):
                yield Problem("T10", f"its data or values are not a JSON object ({text[:40]!r})", table)
        for row in stored.items:
            try:
                self.item_counts[row.pointer] = len(_lists.decode(row.items))
            except UNREADABLE as error:
                yield Problem("T10", f"the items of its loop cannot be read: {error}", "item", row.pointer)
        for message in stored.inbox:
            yield from self._read_message(message)

    def _read_head(self) -> Iterator[Problem]:
        try:
            self.head = decode_head(self.stored.head)
        except UNREADABLE as error:
            self.is_readable = False
            yield Problem("T10", f"its head cannot be read: {error}")
            return
        if encode_head(self.head) != self.stored.head:
            yield Problem("T10", "its head is not what this version would write")

    def _read_pointers(self) -> Iterator[Problem]:
        for row in self.stored.pointers:
            try:
                pointer = _pointers.decode(row.state)
            except UNREADABLE as error:
                self.is_readable = False
                yield Problem("T10", f"the pointer in slot {row.slot} cannot be read: {error}", "pointer")
                continue
            if pointer.slot != row.slot:
                yield Problem("T10", f"it is stored in slot {row.slot}, not {pointer.slot}", "pointer", pointer.id)
            if pointer.id in self.pointers:
                yield Problem("T10", "it is stored in two slots", "pointer", pointer.id)
            if encode_pointer(pointer) != row.state:
                yield Problem("T10", "it is not what this version would write", "pointer", pointer.id)
            self.pointers[pointer.id] = pointer

    def _read_message(self, row: InboxRow) -> Iterator[Problem]:
        try:
            message = unpack(row)
        except UNREADABLE as error:
            yield Problem("T10", f"message {row.id} of its inbox cannot be read: {error}", "inbox")
            return
        if isinstance(message, EventMatched):
            self.events.append(message)
            if not is_json(message.payload):
                yield Problem("T10", f"the event in message {row.id} of its inbox is not JSON", "inbox")
            return
        if isinstance(message, Control):
            self.controls.append(message)
        else:
            self.children.append(message)
        if pack(message) != row.message:
            yield Problem("T10", f"message {row.id} of its inbox is not what this version would write", "inbox")


def _is_object(text: bytes) -> bool:
    try:
        _documents.decode(text)
    except UNREADABLE:
        return False
    return True


def is_json(text: bytes) -> bool:
    """Tell whether bytes are a JSON text."""
    try:
        msgspec.json.decode(text)
    except UNREADABLE:
        return False
    return True

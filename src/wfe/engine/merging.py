"""The data document of an instance while a draft merges answers into it: split into its fields once, joined once.

So the cost of an answer is that of the fields it writes, however many others there are and however many answers one
transition takes.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from wfe.model.document import Document, Patch, check_size

__all__ = ["Merging", "Writer"]

Writer: TypeAlias = tuple[int, int, str]
"""Revision, pointer and step of the last writer of a field."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])

_AROUND_FIELD = 4
"""Quotes, colon and comma."""
_LONGEST_CHARACTER = 6
"""Bytes that one character of a name takes at most in JSON."""


class Merging:
    """The fields of one document, and what has been written to them."""

    __slots__ = ("_fields", "_joined", "_most_bytes", "_undo", "writers")

    def __init__(self, document: Document) -> None:
        self._fields: dict[str, msgspec.Raw] = _decoder.decode(document)
        self._joined: Document | None = document
        self._most_bytes = len(document)
        """The joined document is not larger than this."""
        self._undo: list[tuple[str, msgspec.Raw | None, Writer | None]] = []
        self.writers: dict[str, Writer] = {}
        """Who wrote the fields that were written."""

    @property
    def document(self) -> Document:
        """The document with all that was written so far."""
        if self._joined is None:
            self._joined = _encoder.encode(self._fields)
        return self._joined

    def write(self, patch: Patch, writer: Writer, *, limit: int, what: str) -> None:
        """Write the fields of a patch.

        Raises:
            DataError: The document would be larger than `limit` bytes. What was written is to be undone.
        """
        fields, writers, undo = self._fields, self.writers, self._undo
        self._joined = None
        for name in patch.removed:
            undo.append((name, fields.pop(name, None), writers.get(name)))
            writers[name] = writer
        for name, text in patch.changed.items():
            undo.append((name, fields.get(name), writers.get(name)))
            fields[name] = msgspec.Raw(text)
            writers[name] = writer
            self._most_bytes += len(text) + _LONGEST_CHARACTER * len(name) + _AROUND_FIELD
        if self._most_bytes > limit:
            check_size(self.document, limit, what)
            self._most_bytes = len(self.document)

    def mark(self) -> int:
        """Give a mark to go back to."""
        return len(self._undo)

    def undo(self, mark: int) -> None:
        """Take back what was written since a mark."""
        self._joined = None
        for name, before, writer in reversed(self._undo[mark:]):
            if before is None:
                self._fields.pop(name, None)
            else:
                self._fields[name] = before
            if writer is None:
                self.writers.pop(name, None)
            else:
                self.writers[name] = writer
        del self._undo[mark:]

    @property
    def has_changed(self) -> bool:
        """Whether anything is written that was not taken back."""
        return bool(self._undo)

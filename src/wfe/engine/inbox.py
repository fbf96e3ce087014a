"""How messages for an instance are packed into its inbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wfe.model.message import ChildEnded, Control, EventMatched

if TYPE_CHECKING:
    from wfe.model.message import InboxMessage
    from wfe.ports.store import InboxRow

__all__ = ["pack", "unpack"]

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Control | ChildEnded] = msgspec.msgpack.Decoder(Control | ChildEnded)


def pack(message: Control | ChildEnded) -> bytes:
    """Pack a message that a caller, a child or a parent sends."""
    return _encoder.encode(message)


def unpack(row: InboxRow) -> InboxMessage:
    """Read the message of an inbox row.

    Raises:
        msgspec.DecodeError, msgspec.ValidationError: The row is corrupt.
    """
    if row.message is None:
        return EventMatched(row.pointer, row.wait, row.sequence, row.payload, row.name, row.key)
    return _decoder.decode(row.message)

"""Lifecycle events: what is announced about instances, in order per instance."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from wfe.model.moment import Moment, to_datetime
from wfe.model.pointer import ErrorRecord
from wfe.model.status import LifecycleKind

__all__ = ["LifecycleEvent", "LogRecord", "decode_records", "encode_records"]


class LogRecord(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """One announcement as it is packed into the log row of its transition."""

    kind: LifecycleKind
    step: str = ""
    pointer: int = 0
    attempt: int = 0
    duration: int = -1
    """Microseconds; -1: none."""
    error: ErrorRecord | None = None
    detail: str = ""


@dataclass(frozen=True)
class LifecycleEvent:
    """One announcement as subscribers get it."""

    sequence: int
    """Counts from 1 within the instance, without gaps."""
    time: datetime
    kind: LifecycleKind
    workflow_id: str
    definition_id: str
    version: int
    run: int = 1
    step: str | None = None
    pointer_id: str | None = None
    attempt: int | None = None
    duration: timedelta | None = None
    error: str | None = None
    detail: str | None = None
    cursor: str = ""
    """Opaque: `subscribe(since=…)` with the cursor of the last event handled goes on after it. Empty in histories."""

    @staticmethod
    def from_record(
        record: LogRecord, *, sequence: int, time: Moment, workflow_id: str, definition_id: str, version: int, run: int
    ) -> LifecycleEvent:
        """Give the record as subscribers see it."""
        return LifecycleEvent(
            sequence,
            to_datetime(time),
            record.kind,
            workflow_id,
            definition_id,
            version,
            run,
            record.step or None,
            str(record.pointer) if record.pointer else None,
            record.attempt or None,
            timedelta(microseconds=record.duration) if record.duration >= 0 else None,
            record.error.summary if record.error is not None else None,
            record.detail or None,
        )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[LogRecord])


def encode_records(records: list[LogRecord]) -> bytes:
    """Pack the announcements of one transition."""
    return _encoder.encode(records)


def decode_records(packed: bytes) -> list[LogRecord]:
    """Unpack the announcements of one transition."""
    return _decoder.decode(packed)

"""Turns stored rows into what people see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from wfe.engine.state import decode_head, decode_pointers
from wfe.host.data_codec import DataCodec
from wfe.model.errors import DataError
from wfe.model.instance import Head, Heartbeat, StepError, StepState, WorkflowInstance, WorkflowResult
from wfe.model.lifecycle import LifecycleEvent, decode_records
from wfe.model.moment import to_datetime
from wfe.model.pointer import ErrorRecord, Pointer
from wfe.model.status import PointerStatus, WorkflowStatus

if TYPE_CHECKING:
    from datetime import datetime

    from wfe.host.registry import Registration, Registry
    from wfe.model.definition import DefinitionKey
    from wfe.model.moment import Moment
    from wfe.ports.store import EndedRow, InstanceRow, LogRow

__all__ = ["Page", "corrupt_reason", "errors_from", "events_from", "instance_from", "result_from"]

_T = TypeVar("_T")
_PLAIN = DataCodec(dict)
_error_decoder = msgspec.msgpack.Decoder(ErrorRecord)


class Page(Sequence[_T]):
    """Some items of a longer list, and the cursor of the next page (None: this was the last)."""

    def __init__(self, items: Sequence[_T], next_cursor: str | None) -> None:
        self._items = list(items)
        self.next_cursor = next_cursor

    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_T]: ...
    def __getitem__(self, index: int | slice) -> _T | Sequence[_T]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"Page({self._items!r}, next_cursor={self.next_cursor!r})"


def result_from(row: EndedRow, registry: Registry, codec: DataCodec | None = None) -> WorkflowResult[Any]:
    """Give the result of an instance.

    Raises:
        DataError: What is stored of it is damaged, or its data do not fit their class.
    """
    registration = registry.by_key(row.definition)
    try:
        status, head = WorkflowStatus(row.status), decode_head(row.head)
        live = sorted(decode_pointers(row.pointers).values(), key=_failed_at) if row.pointers else []
    except (ValueError, TypeError) as error:
        raise DataError(f"Instance {row.id!r}: {corrupt_reason(error)}", reason="corrupt") from error
    failed = [
        _step_state(pointer, registration)
        for pointer in live
        if pointer.status is PointerStatus.FAILED and _is_leaf(pointer)
    ]
    return WorkflowResult(
        row.id,
        status,
        _data(row.definition, row.data, registry, codec),
        None if head.error is None else StepError.from_record(head.error),
        failed,
    )


def _failed_at(pointer: Pointer) -> tuple[int, int]:
    return (pointer.error.time if pointer.error is not None else 0, pointer.id)


def _is_leaf(pointer: Pointer) -> bool:
    """A container that failed only passes on the failure of what is in it."""
    return not pointer.failed


def instance_from(
    row: InstanceRow,
    registry: Registry,
    beats: Mapping[int, Heartbeat] = MappingProxyType({}),
    *,
    parked: str = "",
) -> WorkflowInstance[Any]:
    """Give an instance as people see it. Of one whose stored state is damaged, `blocked_reason` says what.

    Args:
        beats: Pointer → last heartbeat of its body, of those that run here.
        parked: Why this host keeps it aside.
    """
    damage = [row.damage] if row.damage else []
    registration = registry.by_key(row.definition)
    head = _read(lambda: decode_head(row.head), Head(), damage)
    live: dict[int, Pointer] = _read(lambda: decode_pointers(row.pointers), {}, damage)
    data = None if row.damage else _read(lambda: _data_to_show(row, registry), None, damage)
    status = _read(lambda: WorkflowStatus(row.status), head.status, damage)
    created_at = _read(lambda: to_datetime(row.created_at), to_datetime(0), damage)
    ended_at = _read(lambda: _time(row.ended_at), None, damage)
    wake_at = _read(lambda: _time(row.wake_at or None), None, damage)
    pointers = sorted(live.values(), key=lambda pointer: pointer.id)
    held_back = head.reason if status == WorkflowStatus.SUSPENDED else ""
    reason = row.blocked_reason or parked or held_back or None
    return WorkflowInstance(
        row.id,
        row.definition.id,
        row.definition.version,
        status,
        data,
        created_at,
        row.name,
        row.reference,
        corrupt_reason("; ".join(damage)) if damage else reason,
        None if head.error is None else StepError.from_record(head.error),
        row.parent_id,
        row.run,
        ended_at,
        wake_at,
        tuple(_step_state(pointer, registration, beats.get(pointer.id)) for pointer in pointers),
    )


def _time(moment: Moment | None) -> datetime | None:
    return None if moment is None else to_datetime(moment)


def corrupt_reason(what: object) -> str:
    """Say why an instance whose stored state is damaged does not go on."""
    return f"state_corrupt: the stored state cannot be read: {what}"


def _read(decode: Callable[[], _T], otherwise: _T, damage: list[str]) -> _T:
    try:
        return decode()
    except Exception as error:  # noqa: BLE001 - whatever damaged bytes make a decoder raise
        damage.append(str(error))
        return otherwise


def _data_to_show(row: InstanceRow, registry: Registry) -> Any:  # noqa: ANN401 - the author's class, else a dict
    try:
        return _data(row.definition, row.data, registry, None)
    except DataError:  # it does not fit the class any more
        return _PLAIN.decode(row.data)


def _data(key: DefinitionKey, document: bytes, registry: Registry, codec: DataCodec | None) -> Any:  # noqa: ANN401
    registration = registry.by_key(key)
    chosen = codec or (registration.codec if registration is not None else _PLAIN)
    try:
        return chosen.decode(document)
    except msgspec.DecodeError as error:
        raise DataError(corrupt_reason(error), reason="corrupt") from error


def _step_state(pointer: Pointer, registration: Registration | None, heartbeat: Heartbeat | None = None) -> StepState:
    place = registration.definition.places.get(pointer.step) if registration is not None else None
    error = None if pointer.error is None else StepError.from_record(pointer.error)
    ended = pointer.status is PointerStatus.FAILED and pointer.error is not None
    return StepState(
        pointer.step,
        (place.step.name if place is not None else "") or pointer.step,
        pointer.status,
        pointer.failures if pointer.status is PointerStatus.FAILED else pointer.attempt,
        to_datetime(pointer.started) if pointer.started else None,
        to_datetime(pointer.error.time) if ended and pointer.error is not None and pointer.error.time else None,
        error,
        None,
        str(pointer.id),
        heartbeat,
        _waiting_for(pointer),
    )


def _waiting_for(pointer: Pointer) -> str | None:
    if pointer.status is not PointerStatus.WAITING_FOR_EVENT:
        return None
    return pointer.awaits or (f"child {pointer.child!r}" if pointer.child else None)


def events_from(rows: Sequence[LogRow]) -> list[LifecycleEvent]:
    """Unpack log rows."""
    return [
        LifecycleEvent.from_record(
            record,
            sequence=row.first_sequence + number,
            time=row.time,
            workflow_id=row.instance_id,
            definition_id=row.definition_id,
            version=row.version,
            run=row.run,
        )
        for row in rows
        for number, record in enumerate(decode_records(row.records) if row.records else ())
    ]


def errors_from(rows: Sequence[bytes]) -> list[StepError]:
    """Unpack failed attempts."""
    return [StepError.from_record(_error_decoder.decode(row)) for row in rows]

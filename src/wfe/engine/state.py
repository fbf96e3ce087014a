"""The state of one instance as its holder keeps it in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from wfe.engine.merging import Writer
from wfe.engine.timers import Timers
from wfe.model.document import EMPTY_DOCUMENT
from wfe.model.instance import Head
from wfe.model.pointer import Pointer
from wfe.model.status import PointerStatus

if TYPE_CHECKING:
    from wfe.engine.transition import Transition
    from wfe.model.definition import DefinitionKey
    from wfe.model.moment import Moment
    from wfe.ports.store import LoadedInstance, ParentLink

__all__ = ["InstanceState", "decode_head", "decode_pointers", "encode_head", "encode_pointer"]

_pointer_encoder = msgspec.msgpack.Encoder()
_pointer_decoder = msgspec.msgpack.Decoder(Pointer)
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_head_decoder = msgspec.msgpack.Decoder(Head)

encode_pointer = _pointer_encoder.encode
encode_head = _pointer_encoder.encode
decode_head = _head_decoder.decode


def decode_pointers(packed: Iterable[bytes]) -> dict[int, Pointer]:
    """Unpack pointers, by id."""
    decode = _pointer_decoder.decode
    return {pointer.id: pointer for pointer in map(decode, packed)}


class InstanceState:
    """What is known of a held instance. Only `apply` changes it, after the transition was committed."""

    __slots__ = (
        "_split",
        "begun_again",
        "created_at",
        "data",
        "definition_key",
        "head",
        "id",
        "items",
        "name",
        "parent",
        "pending",
        "pointers",
        "reference",
        "revision",
        "running",
        "timers",
        "values",
        "writers",
    )

    def __init__(
        self,
        id: str,  # noqa: A002 - the word of the model
        definition_key: DefinitionKey,
        *,
        head: Head | None = None,
        revision: int = 0,
        data: bytes = EMPTY_DOCUMENT,
        values: bytes = EMPTY_DOCUMENT,
        created_at: Moment = 0,
        name: str | None = None,
        reference: str | None = None,
        parent: ParentLink | None = None,
        pointers: dict[int, Pointer] | None = None,
        items: dict[int, bytes] | None = None,
    ) -> None:
        self.id = id
        self.definition_key = definition_key
        self.head = Head() if head is None else head
        self.revision = revision
        self.data = data
        self.values = values
        self.created_at = created_at
        self.name = name
        self.reference = reference
        self.parent = parent
        self.pointers = {} if pointers is None else pointers
        self.items = {} if items is None else items
        """Container pointer id → the JSON list that its loop walks."""
        self._split: dict[int, list[msgspec.Raw]] = {}
        self.timers = Timers(self.pointers)
        self.running = {pointer.id for pointer in self.pointers.values() if pointer.runs_body}
        """Pointers whose bodies run or may run."""
        self.pending = {pointer.id for pointer in self.pointers.values() if pointer.status is PointerStatus.PENDING}
        """Pointers that were reached but have not begun."""
        self.begun_again: dict[int, Moment] = {}
        """Pointer → when its body, which another holder had begun, was begun here. Durations alone are told by it."""
        self.writers: dict[str, Writer] = {}
        """Data field → (revision, pointer, step) of its last writer since the instance was taken."""

    @staticmethod
    def loaded(row: LoadedInstance) -> InstanceState:
        """Make the state of an instance that was just taken.

        Raises:
            ValueError, msgspec.MsgspecError: Its rows are damaged.
        """
        if row.damage:
            raise ValueError(row.damage)
        return InstanceState(
            row.id,
            row.definition,
            head=decode_head(row.head),
            revision=row.revision,
            data=row.data,
            values=row.values,
            created_at=row.created_at,
            name=row.name,
            reference=row.reference,
            parent=row.parent,
            pointers=decode_pointers(row.pointers),
            items={item.pointer: item.items for item in row.items},
        )

    def item(self, container: int, index: int) -> bytes:
        """Give one item of a loop as JSON text."""
        split = self._split.get(container)
        if split is None:
            split = self._split[container] = _list_decoder.decode(self.items[container])
        return bytes(split[index])

    @property
    def deadline(self) -> Moment:
        """When the run has taken too long; 0: never."""
        return self.head.deadline(self.created_at)

    def begin_again(self, numbers: Iterable[int], now: Moment) -> None:
        """Bodies that were cut off run again: the time in which nobody ran them does not count as theirs."""
        self.begun_again.update(dict.fromkeys(numbers, now))

    def apply(self, transition: Transition) -> None:
        """Take over what a transition changed, now that it is committed."""
        self.revision += 1
        self.head = transition.head
        self.data = transition.data
        self.values = transition.values
        for gone in transition.gone:
            self._forget(gone)
        for pointer in transition.changed:
            self._keep(pointer)
        if transition.items:
            self.items.update(transition.items)
            for container in transition.items:
                self._split.pop(container, None)
        if transition.writers:
            self.writers.update(transition.writers)

    def _forget(self, number: int) -> None:
        self.pointers.pop(number, None)
        self.running.discard(number)
        self.pending.discard(number)
        if self.begun_again:
            self.begun_again.pop(number, None)
        if self.items and self.items.pop(number, None) is not None:
            self._split.pop(number, None)

    def _keep(self, pointer: Pointer) -> None:
        number = pointer.id
        self.pointers[number] = pointer
        if pointer.wake:
            self.timers.add(pointer)
        if pointer.runs_body:
            self.running.add(number)
        else:
            self.running.discard(number)
        if pointer.status is PointerStatus.PENDING:
            self.pending.add(number)
        elif self.pending:
            self.pending.discard(number)

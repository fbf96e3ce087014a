"""A batch as columns: the parallel arrays that `commit_v1` takes, in the order of its parameters.

A row of a side table (pointers, waits, messages …) names the transition or start that it belongs to by its place in the
columns: transitions count from 1 in the order of their ids, starts go on after them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from typing import TypeAlias, TypeVar

from wfe.model.definition import DefinitionKey
from wfe.model.document import EMPTY_DOCUMENT
from wfe.ports.store import Batch, Changes, InboxInsert, ParentLink, PointerRow, Publish, Start, TransitionWrite

__all__ = [
    "Argument",
    "Columns",
    "batch_key",
    "keep_of",
    "known_plans",
    "plans_of",
    "topic_of",
    "with_last_of_each_slot",
]

Argument: TypeAlias = object
"""What asyncpg encodes: scalars, and lists of them for arrays."""

T = TypeVar("T")

PROCESS_DURABILITY = 1
REPEATABLE_BY_MARK = 2
REQUIRED_WAITS = 4

_GIVEN_BACK, _HELD, _ENDED = 0, 1, 2
_BY_INSTANCE = attrgetter("instance_id")
_SLOT, _POINTER, _NUMBER = attrgetter("slot"), attrgetter("pointer"), attrgetter("number")
_WAIT = attrgetter("pointer", "wait")
_SEVERAL = 2
_START_COLUMNS = 20
_NO_LINK = ParentLink("", 0, "")


def topic_of(name: str, key: str) -> bytes:
    """Give the digest of an event's name and key. Its first byte is the stripe that its commits lock."""
    text = f"{len(name)}:{name}{key}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()


def batch_key(batch_id: str) -> bytes:
    """Give a batch id as it is stored: short, and of one length whatever the caller's ids look like."""
    return blake2b(batch_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def plans_of(batch: Batch) -> set[DefinitionKey]:
    """Give the definitions that the starts of a batch, children included, are of."""
    found = {start.definition for start in batch.starts}
    pending = [write.changes for write in batch.transitions if write.changes.children]
    pending += [start.changes for start in batch.starts if start.changes.children]
    while pending:
        for child in pending.pop().children:
            found.add(child.definition)
            if child.changes.children:
                pending.append(child.changes)
    return found


@dataclass
class Rows:
    """Rows of the side tables, one list a column, in the order of the parameters of `commit_v1`."""

    pointers: tuple[list[int], list[int], list[bytes]] = field(default_factory=lambda: ([], [], []))
    pointers_gone: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    documents: tuple[list[int], list[bytes | None], list[bytes | None]] = field(default_factory=lambda: ([], [], []))
    items: tuple[list[int], list[int], list[bytes]] = field(default_factory=lambda: ([], [], []))
    items_gone: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    errors: tuple[list[int], list[int], list[bytes]] = field(default_factory=lambda: ([], [], []))
    consumed: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    positions: dict[tuple[int, bytes], int] = field(default_factory=dict[tuple[int, bytes], int])
    subscribe: tuple[list[int], list[int], list[int], list[bytes], list[int | None]] = field(
        default_factory=lambda: ([], [], [], [], [])
    )
    unsubscribe: tuple[list[int], list[int], list[int], list[bool]] = field(default_factory=lambda: ([], [], [], []))
    messages: tuple[list[int], list[str], list[bytes], list[str]] = field(default_factory=lambda: ([], [], [], []))
    cancel_children: tuple[list[int], list[bytes]] = field(default_factory=lambda: ([], []))

    def add(self, place: int, changes: Changes) -> None:
        """Add what one transition or start writes besides its instance row, log row and first document."""
        places, slots, states = self.pointers
        for pointer in with_last_of_each_slot(changes.pointers):
            places.append(place)
            slots.append(pointer.slot)
            states.append(pointer.state)
        if changes.subscribe or changes.unsubscribe or changes.positions:
            self._add_waits(place, changes)
        if changes.messages or changes.cancel_children is not None:
            self._add_messages(place, changes)
        for slot in changes.pointers_gone:
            _append(self.pointers_gone, place, slot)
        for row_id in changes.consumed:
            _append(self.consumed, place, row_id)
        for items in _last_of_each(changes.items, _POINTER) if changes.items else ():
            _append(self.items, place, items.pointer, items.items)
        for gone in changes.items_gone:
            _append(self.items_gone, place, gone)
        for error in _last_of_each(changes.errors, _NUMBER) if changes.errors else ():
            _append(self.errors, place, error.number, error.error)

    def add_document(self, place: int, changes: Changes) -> None:
        """Add what a transition changes in the documents of its instance."""
        if changes.data is not None or changes.values is not None:
            _append(self.documents, place, changes.data, changes.values)

    def _add_waits(self, place: int, changes: Changes) -> None:
        for name, key, sequence in changes.positions:
            position = place, topic_of(name, key)
            self.positions[position] = max(sequence, self.positions.get(position, 0))
        for gone in changes.unsubscribe:
            _append(self.unsubscribe, place, gone.pointer, gone.wait, gone.required)
        for wait in _last_of_each(changes.subscribe, _WAIT):
            _append(self.subscribe, place, wait.pointer, wait.wait, topic_of(wait.name, wait.key), wait.as_of)

    def _add_messages(self, place: int, changes: Changes) -> None:
        for message in changes.messages:
            self.add_message(place, message)
        if changes.cancel_children is not None:
            _append(self.cancel_children, place, changes.cancel_children)

    def add_message(self, place: int, message: InboxInsert) -> None:
        """Add a message; place 0: of the batch itself."""
        _append(self.messages, place, message.instance_id, message.message, message.id)

    def arguments(self) -> list[Argument]:
        """Give the columns up to those of the messages."""
        positions = (
            [place for place, _ in self.positions],
            [topic for _, topic in self.positions],
            list(self.positions.values()),
        )
        return [
            *self.pointers,
            *self.pointers_gone,
            *self.documents,
            *self.items,
            *self.items_gone,
            *self.errors,
            *self.consumed,
            *positions,
            *self.subscribe,
            *self.unsubscribe,
            *self.messages,
            *self.cancel_children,
        ]


def _append(columns: tuple[list[object], ...] | tuple[object, ...], *values: object) -> None:
    for column, value in zip(columns, values, strict=True):
        column.append(value)  # type: ignore[attr-defined]  # columns are lists, each of its own type


@dataclass(frozen=True)
class _PlacedStart:
    start: Start
    level: int
    cause: int
    order: int
    """Place in `Batch.starts`; -1 for a child."""


class Columns:
    """The arrays of one batch, and what is needed to read its answer."""

    def __init__(self, batch: Batch, plans: Mapping[DefinitionKey, int], *, durable: bool) -> None:
        self._batch = batch
        self._plans = plans
        self._durable = durable
        self.transitions = _in_lock_order(batch.transitions)
        """One for each instance, in the order of their places."""
        self.rows = Rows()
        self.starts: list[_PlacedStart] = []
        """In the order of their places."""
        self.publishes = _first_of_each_id(batch.publishes)
        """In the order of their places, as (index in the batch, publish)."""

    def arguments(self) -> list[Argument]:
        """Give the arguments of `commit_v1`."""
        for place, write in enumerate(self.transitions, 1):
            self.rows.add(place, write.changes)
            self.rows.add_document(place, write.changes)
        transitions = self._transition_columns()
        starts = self._start_columns()
        for insert in self._batch.inbox:
            self.rows.add_message(0, insert)
        events = self._event_columns()
        columns = [*transitions, *starts, *self.rows.arguments(), *events]
        # An empty array would cost what a small one costs, on both sides.
        return [*self._head(), *(column or None for column in columns)]

    def _head(self) -> list[Argument]:
        batch = self._batch
        flags = 0 if self._durable else PROCESS_DURABILITY
        if batch.inbox or batch.promote:
            flags |= REPEATABLE_BY_MARK
        if True in self.rows.unsubscribe[3]:
            flags |= REQUIRED_WAITS
        topics = {topic[0] for topic in self.rows.subscribe[3]}
        topics.update(topic_of(publish.name, publish.key)[0] for _, publish in self.publishes)
        plans = known_plans(batch.runnable, self._plans) if batch.room else None
        return [batch_key(batch.id), batch.session, flags, sorted(topics) or None, batch.promote, batch.room, plans]

    def _transition_columns(self) -> list[Argument]:
        writes = self.transitions
        changes = [write.changes for write in writes]
        return [
            [write.instance_id for write in writes],
            [write.revision for write in writes],
            [write.fence for write in writes],
            *_state_columns(changes),
        ]

    def _start_columns(self) -> list[Argument]:
        self.starts = self._place_starts()
        if not self.starts:
            return [None] * _START_COLUMNS
        starts = [placed.start for placed in self.starts]
        links = [start.parent or _NO_LINK for start in starts]
        changes = [start.changes for start in starts]
        for place, change in enumerate(changes, len(self.transitions) + 1):
            self.rows.add(place, change)
        return [
            [placed.level for placed in self.starts],
            [placed.cause for placed in self.starts],
            [start.id for start in starts],
            [self._plans[start.definition] for start in starts],
            [start.digest for start in starts],
            [start.name for start in starts],
            [start.reference for start in starts],
            [link.instance_id if link is not _NO_LINK else None for link in links],
            [link.pointer if link is not _NO_LINK else None for link in links],
            [link.on_parent_end if link is not _NO_LINK else None for link in links],
            *_state_columns(changes),
            [EMPTY_DOCUMENT if change.data is None else change.data for change in changes],
            [EMPTY_DOCUMENT if change.values is None else change.values for change in changes],
        ]

    def _place_starts(self) -> list[_PlacedStart]:
        """Put starts and children into the order of their locks: by level, then by id, of equal ids as they came."""
        level = [_PlacedStart(start, 0, 0, order) for order, start in enumerate(self._batch.starts)]
        level += [
            _PlacedStart(child, 0, place, -1)
            for place, write in enumerate(self.transitions, 1)
            for child in write.changes.children
        ]
        placed: list[_PlacedStart] = []
        while level:
            level.sort(key=lambda each: each.start.id)
            first = len(self.transitions) + len(placed) + 1
            placed += level
            level = [
                _PlacedStart(child, each.level + 1, place, -1)
                for place, each in enumerate(level, first)
                for child in each.start.changes.children
            ]
        return placed

    def _event_columns(self) -> list[Argument]:
        publishes = [publish for _, publish in self.publishes]
        return [
            # Numbers follow the batch, locks follow the ids.
            _ranks([index for index, _ in self.publishes]),
            [publish.id for publish in publishes],
            [publish.name for publish in publishes],
            [publish.key for publish in publishes],
            [topic_of(publish.name, publish.key) for publish in publishes],
            [publish.payload for publish in publishes],
            [publish.effective_at for publish in publishes],
        ]


def keep_of(changes: Changes) -> int:
    """Say what becomes of the hold on an instance, in the numbers of the functions."""
    return _ENDED if changes.ended else _HELD if changes.hold else _GIVEN_BACK


def with_last_of_each_slot(pointers: Sequence[PointerRow]) -> Collection[PointerRow]:
    """Give the pointers without those that a later one of the same slot replaces."""
    return pointers if len(pointers) < _SEVERAL else _last_of_each(pointers, _SLOT)


def known_plans(runnable: Collection[DefinitionKey], plans: Mapping[DefinitionKey, int]) -> list[int]:
    """Give the numbers of definitions; one that has none yet has no instance to take."""
    return [plans[key] for key in runnable if key in plans]


def _state_columns(changes: Sequence[Changes]) -> list[Argument]:
    return [
        [change.status for change in changes],
        [change.run for change in changes],
        [change.head for change in changes],
        [change.wake_at for change in changes],
        [keep_of(change) for change in changes],
        [change.first_sequence for change in changes],
        [change.record_count for change in changes],
        [change.records for change in changes],
    ]


def _in_lock_order(writes: Sequence[TransitionWrite]) -> list[TransitionWrite]:
    ordered = sorted(writes, key=_BY_INSTANCE)
    if len({write.instance_id for write in ordered}) == len(ordered):
        return ordered
    first: dict[str, TransitionWrite] = {}
    for write in ordered:
        first.setdefault(write.instance_id, write)
    return list(first.values())


def _last_of_each(rows: Sequence[T], key: Callable[[T], object]) -> Collection[T]:
    # One statement cannot write a row twice.
    return {key(row): row for row in rows}.values()


def _first_of_each_id(publishes: Sequence[Publish]) -> list[tuple[int, Publish]]:
    first: dict[str, tuple[int, Publish]] = {}
    for index, publish in enumerate(publishes):
        first.setdefault(publish.id, (index, publish))
    return sorted(first.values(), key=lambda indexed: indexed[1].id)


def _ranks(numbers: Sequence[int]) -> list[int]:
    rank = {number: place for place, number in enumerate(sorted(numbers), 1)}
    return [rank[number] for number in numbers]

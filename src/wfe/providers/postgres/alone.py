"""A batch of one plain transition, one plain start, or one event: what a caller who does one thing at a time waits for.

Each has a function of its own in the database, which does for it what `commit_v1` does, with a third of the parameters
and without joins. They decide only on success. Everything else (an old revision, an id that is known, a repeat after a
lost answer) they leave untouched for `commit_v1`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

from wfe.model.definition import DefinitionKey
from wfe.model.document import EMPTY_DOCUMENT
from wfe.ports.store import (
    Batch,
    Changes,
    CommitReply,
    Publication,
    Publish,
    PublishOutcome,
    Start,
    StartOutcome,
    TransitionOutcome,
    TransitionWrite,
)
from wfe.providers.postgres.answers import Answers, delivery
from wfe.providers.postgres.columns import (
    Argument,
    batch_key,
    keep_of,
    known_plans,
    topic_of,
    with_last_of_each_slot,
)
from wfe.providers.postgres.place import Place

__all__ = ["Alone", "Small"]

Rows = Sequence[object]

_TRANSITION_PARAMETERS = 21
_START_PARAMETERS = 20
_PUBLISH_PARAMETERS = 10
_ACCEPTED = (TransitionOutcome.ACCEPTED,)
_CREATED = (StartOutcome.CREATED,)


class Alone(NamedTuple):
    """How a small batch is sent, and how its answer is read. None: the function has left it untouched."""

    statement: str
    arguments: Sequence[Argument]
    read: Callable[[Batch, Rows], CommitReply | None]


class Small:
    """Finds the batches that are sent alone."""

    def __init__(self, place: Place, *, durable: bool) -> None:
        self._durable = durable
        self._transition = "SELECT " + _call(place, "transition_v1", _TRANSITION_PARAMETERS)
        self._start = "SELECT " + _call(place, "start_v1", _START_PARAMETERS)
        self._publish = "SELECT * FROM " + _call(place, "publish_v1", _PUBLISH_PARAMETERS)

    def alone(self, batch: Batch, plans: Mapping[DefinitionKey, int]) -> Alone | None:
        """Say how to send a batch of one plain transition, start or event; None for every other batch."""
        transitions, starts, publishes = batch.transitions, batch.starts, batch.publishes
        if len(transitions) + len(starts) + len(publishes) != 1 or batch.inbox or batch.promote:
            return None
        if transitions and _is_plain(transitions[0].changes):
            return Alone(self._transition, self._of_transition(batch, transitions[0]), _read_transition)
        if starts and _is_plain_start(starts[0]):
            return Alone(self._start, self._of_start(batch, starts[0], plans[starts[0].definition]), _read_start)
        if publishes and publishes[0].effective_at is None:
            return Alone(self._publish, self._of_publish(batch, publishes[0], plans), _read_publish)
        return None

    def _of_transition(self, batch: Batch, write: TransitionWrite) -> list[Argument]:
        changes = write.changes
        topics, sequences = _positions(changes)
        return [
            batch_key(batch.id), self._durable,
            write.instance_id, write.revision, write.fence, changes.status, changes.run, changes.head, changes.wake_at,
            keep_of(changes), changes.first_sequence, changes.record_count, changes.records,
            *_pointers(changes), changes.pointers_gone or None, changes.data, changes.values, changes.consumed or None,
            topics, sequences,
        ]  # fmt: skip

    def _of_start(self, batch: Batch, start: Start, plan: int) -> list[Argument]:
        changes = start.changes
        return [
            batch_key(batch.id), self._durable, batch.session,
            start.id, plan, start.digest, start.name, start.reference,
            changes.status, changes.run, changes.head, changes.wake_at, keep_of(changes), changes.first_sequence,
            changes.record_count, changes.records,
            EMPTY_DOCUMENT if changes.data is None else changes.data,
            EMPTY_DOCUMENT if changes.values is None else changes.values,
            *_pointers(changes),
        ]  # fmt: skip

    def _of_publish(self, batch: Batch, publish: Publish, plans: Mapping[DefinitionKey, int]) -> list[Argument]:
        return [
            batch_key(batch.id), self._durable, batch.session, batch.room,
            known_plans(batch.runnable, plans) if batch.room else None,
            publish.id, publish.name, publish.key, topic_of(publish.name, publish.key), publish.payload,
        ]  # fmt: skip


def _read_transition(batch: Batch, rows: Rows) -> CommitReply | None:
    answer = _only(rows)
    if answer is None:
        return None
    now, has_unread = answer
    return CommitReply(now=now, transitions=_ACCEPTED, unread=(batch.transitions[0].instance_id,) if has_unread else ())


def _read_start(_batch: Batch, rows: Rows) -> CommitReply | None:
    answer = _only(rows)
    return None if answer is None else CommitReply(now=answer[0], starts=_CREATED)


def _read_publish(_batch: Batch, rows: Rows) -> CommitReply | None:
    if not rows:
        return None
    answers = Answers(rows)
    end = answers.one(Answers.END)
    assert end is not None, "publish_v1 ends with its summary if it did anything"
    now, reached = end.i
    return CommitReply(
        now=now,
        publishes=(Publication(PublishOutcome.CREATED, reached),),
        deliveries=[delivery(row) for row in answers.all(Answers.DELIVERY)],
        taken=answers.loaded(),
    )


def _only(rows: Rows) -> Sequence[int] | None:
    return cast("Sequence[Sequence[Sequence[int] | None]]", rows)[0][0]


def _is_plain(changes: Changes) -> bool:
    """Whether all of it stands in rows of the instance that most transitions write."""
    return not (
        changes.subscribe
        or changes.unsubscribe
        or changes.messages
        or changes.children
        or changes.items
        or changes.items_gone
        or changes.errors
        or changes.cancel_children is not None
    )


def _is_plain_start(start: Start) -> bool:
    return start.parent is None and not start.changes.positions and _is_plain(start.changes)


def _pointers(changes: Changes) -> tuple[list[int] | None, list[bytes] | None]:
    pointers = with_last_of_each_slot(changes.pointers)
    if not pointers:
        return None, None
    return [pointer.slot for pointer in pointers], [pointer.state for pointer in pointers]


def _positions(changes: Changes) -> tuple[list[bytes] | None, list[int] | None]:
    if not changes.positions:
        return None, None
    latest: dict[bytes, int] = {}
    for name, key, sequence in changes.positions:
        topic = topic_of(name, key)
        latest[topic] = max(sequence, latest.get(topic, 0))
    return list(latest), list(latest.values())


def _call(place: Place, function: str, count: int) -> str:
    parameters = ", ".join(f"${number}" for number in range(1, count + 1))
    return f"{place.quoted_schema}.{function}({parameters})"

"""The marker of a written batch, from which its reply can be told again."""

from __future__ import annotations

import sqlite3

import msgspec

from wfe.ports.store import (
    Batch,
    CommitReply,
    Delivery,
    Publication,
    PublishOutcome,
    StartOutcome,
    TransitionOutcome,
)
from wfe.providers.sqlite.counters import Counters
from wfe.providers.sqlite.loading import inbox_rows_by_id, json_list, load
from wfe.providers.sqlite.names import DefinitionNumbers

__all__ = ["LOG_ROWS_UNINDEXED", "recorded_reply", "write_marker"]

LOG_ROWS_UNINDEXED = 4096
"""So many rows at the end of the log are not in its index yet."""
_MARKERS_KEPT = 20_000
_MARKERS_DROPPED_AT_ONCE = 256


class _Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What in a reply is not plain success."""

    transitions: dict[int, str] = {}
    starts: dict[int, str] = {}
    publishes: list[tuple[str, int]] = []
    inbox: list[bool] = []
    taken: list[str] = []
    children: list[str] = []


_PLAIN = _Outcome()
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Outcome)


def write_marker(
    connection: sqlite3.Connection, batch: Batch, counters: Counters, first_inbox: int, reply: CommitReply
) -> None:
    """Record the batch with the counters; the last write before the COMMIT.

    It fails on a constraint if the batch was written before.
    """
    if counters.log - counters.indexed >= LOG_ROWS_UNINDEXED:
        _index_log(connection, counters)
    counters.batch += 1
    connection.execute(
        "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            counters.batch,
            batch.id,
            counters.now,
            counters.instance,
            counters.log,
            counters.inbox,
            counters.event,
            counters.indexed,
            first_inbox,
            _packed(reply),
        ),
    )
    if counters.batch % _MARKERS_DROPPED_AT_ONCE == 0:
        connection.execute("DELETE FROM batch WHERE k <= ?", (counters.batch - _MARKERS_KEPT,))


def _index_log(connection: sqlite3.Connection, counters: Counters) -> None:
    connection.execute(
        "INSERT INTO log_index SELECT n, first_sequence, k FROM log WHERE k > ? ORDER BY n, first_sequence, k",
        (counters.indexed,),
    )
    counters.indexed = counters.log


def recorded_reply(connection: sqlite3.Connection, definitions: DefinitionNumbers, batch: Batch) -> CommitReply | None:
    """Tell again what became of a batch; None: it was not written."""
    row = connection.execute("SELECT now, inbox_first, inbox, outcome FROM batch WHERE id = ?", (batch.id,)).fetchone()
    if row is None:
        return None
    now, inbox_first, inbox_last, packed = row
    outcome = _PLAIN if packed is None else _decoder.decode(packed)
    taken = _still_held(connection, batch.session, outcome.taken)
    gone = {instance_id for _, instance_id in taken}
    accepted = TransitionOutcome.ACCEPTED.value
    transitions = [TransitionOutcome(outcome.transitions.get(i, accepted)) for i in range(len(batch.transitions))]
    return CommitReply(
        now=now,
        transitions=transitions,
        starts=[StartOutcome(outcome.starts.get(i, StartOutcome.CREATED.value)) for i in range(len(batch.starts))],
        publishes=[Publication(PublishOutcome(what), reached) for what, reached in outcome.publishes],
        inbox=outcome.inbox,
        unread=_unread(connection, [write.instance_id for write in batch.transitions]),
        deliveries=[
            Delivery(row.instance_id, _owner(connection, row.instance_id, now), row)
            for row in inbox_rows_by_id(connection, inbox_first, inbox_last)
            if row.instance_id not in gone
        ],
        taken=load(connection, definitions, [n for n, _ in taken]),
        children=outcome.children,
    )


def _packed(reply: CommitReply) -> bytes | None:
    outcome = _Outcome(
        transitions={
            i: what.value for i, what in enumerate(reply.transitions) if what is not TransitionOutcome.ACCEPTED
        },
        starts={i: what.value for i, what in enumerate(reply.starts) if what is not StartOutcome.CREATED},
        publishes=[(publication.outcome.value, publication.deliveries) for publication in reply.publishes],
        inbox=list(reply.inbox),
        taken=[instance.id for instance in reply.taken],
        children=list(reply.children),
    )
    return None if outcome == _PLAIN else _encoder.encode(outcome)


def _still_held(connection: sqlite3.Connection, session: str, ids: list[str]) -> list[tuple[int, str]]:
    return connection.execute(
        "SELECT i.n, i.id FROM json_each(?) j JOIN instance i ON i.id = j.value JOIN session s ON s.k = i.owner "
        "WHERE s.id = ?",
        (json_list(ids), session),
    ).fetchall()


def _unread(connection: sqlite3.Connection, ids: list[str]) -> list[str]:
    return [
        instance_id
        for (instance_id,) in connection.execute(
            "SELECT i.id FROM json_each(?) j JOIN instance i ON i.id = j.value "
            "WHERE EXISTS (SELECT 1 FROM inbox WHERE inbox.n = i.n)",
            (json_list(ids),),
        )
    ]


def _owner(connection: sqlite3.Connection, instance_id: str, now: int) -> str | None:
    row = connection.execute(
        "SELECT s.id FROM instance i JOIN session s ON s.k = i.owner AND s.expires_at > ? WHERE i.id = ?",
        (now, instance_id),
    ).fetchone()
    return None if row is None else str(row[0])

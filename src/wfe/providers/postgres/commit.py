"""How a batch is sent, and what its answer says.

Sending a batch twice is safe, whichever of the two the server works on first and whether or not the other still runs:

- a transition is guarded by its revision, and its log row names the batch that wrote it;
- a start and an event keep the batch that made them, and their ids are unique;
- what has no such row (messages of the batch itself, events that are promoted) is done only if the batch can insert its
  marker; what was taken is written down in the marker.

So an outcome that a lost connection left unknown needs no look-up of its own: the batch is sent again, and finds what
the first try did. Row locks and unique indexes make it wait for a first try that still runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wfe.model.definition import DefinitionKey
from wfe.ports import gaps
from wfe.ports.gaps import Gap
from wfe.ports.store import (
    Batch,
    CommitReply,
    Publication,
    PublishOutcome,
    StartOutcome,
    TransitionOutcome,
)
from wfe.providers.postgres.alone import Small
from wfe.providers.postgres.answers import Answers, delivery
from wfe.providers.postgres.columns import Columns
from wfe.providers.postgres.place import Place
from wfe.providers.postgres.pool import Pool

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Commit", "Disturbed"]

_PARAMETERS = 81
_TRANSITION_OUTCOMES = (
    TransitionOutcome.ACCEPTED,
    TransitionOutcome.FENCED,
    TransitionOutcome.STALE,
    TransitionOutcome.WAIT_GONE,
)
_START_OUTCOMES = {0: StartOutcome.CREATED, 1: StartOutcome.EXISTS, 2: StartOutcome.CONFLICT}
_PUBLISH_OUTCOMES = (PublishOutcome.CREATED, PublishOutcome.EXISTS, PublishOutcome.CONFLICT)


class Disturbed(Exception):
    """Something was purged between two looks at it; sending the batch again settles it."""


class Commit:
    """Sends batches on a pool."""

    def __init__(self, pool: Pool, *, durable: bool) -> None:
        self._pool = pool
        self._durable = durable
        self._statement = _statement(pool.place)
        self._small = Small(pool.place, durable=durable)

    async def __call__(self, batch: Batch, plans: Mapping[DefinitionKey, int]) -> CommitReply:
        """Write a batch; `plans` has the numbers of its definitions."""
        alone = self._small.alone(batch, plans)
        if alone is not None:
            reply = alone.read(batch, await self._send(alone.statement, alone.arguments))
            if reply is not None:
                return reply
        return await self._commit(batch, plans)

    async def _send(self, statement: str, arguments: Sequence[object]) -> Sequence[object]:
        async def send(connection: asyncpg.Connection, _attempt: int) -> Sequence[object]:
            if gaps.reached is not None:
                gaps.reached(Gap.POSTGRES_SENDING)
            rows: Sequence[object] = await connection.fetch(statement, *arguments)
            if gaps.reached is not None:
                gaps.reached(Gap.POSTGRES_ANSWERED)
            return rows

        return await self._pool.run("commit a batch", send, first=True)

    async def _commit(self, batch: Batch, plans: Mapping[DefinitionKey, int]) -> CommitReply:
        columns = Columns(batch, plans, durable=self._durable)
        arguments = columns.arguments()
        while True:
            answers = Answers(await self._send(self._statement, arguments))
            try:
                return _Reply(batch, columns, answers).read()
            except Disturbed:
                continue


def _statement(place: Place) -> str:
    parameters = ", ".join(f"${number}" for number in range(1, _PARAMETERS + 1))
    return f"SELECT * FROM {place.quoted_schema}.commit_v1({parameters})"


class _Reply:
    """Reads the answer of one batch."""

    def __init__(self, batch: Batch, columns: Columns, answers: Answers) -> None:
        self._batch = batch
        self._columns = columns
        self._answers = answers
        end = answers.one(Answers.END)
        assert end is not None, "commit_v1 always ends with its summary"
        self._now = end.i[0]

    def read(self) -> CommitReply:
        transitions = self._transitions()
        starts, children = self._starts()
        unread = self._answers.one(Answers.UNREAD)
        return CommitReply(
            now=self._now,
            transitions=transitions,
            starts=starts,
            publishes=self._publications() if self._batch.publishes else (),
            inbox=self._inbox() if self._batch.inbox else (),
            unread=() if unread is None else unread.s,
            deliveries=[delivery(row) for row in self._answers.all(Answers.DELIVERY)],
            taken=self._answers.loaded(),
            children=children,
        )

    def _transitions(self) -> Sequence[TransitionOutcome]:
        writes = self._batch.transitions
        refused = self._answers.pairs(Answers.REFUSED)
        if not refused and len(self._columns.transitions) == len(writes):
            return [TransitionOutcome.ACCEPTED] * len(writes)
        # Of several for one instance the first was sent; the others were decided on a revision that it made old.
        outcomes = {
            id(write): _TRANSITION_OUTCOMES[refused.get(place, 0)]
            for place, write in enumerate(self._columns.transitions, 1)
        }
        return [outcomes.get(id(write), TransitionOutcome.STALE) for write in writes]

    def _starts(self) -> tuple[Sequence[StartOutcome], Sequence[str]]:
        refused = self._answers.pairs(Answers.NOT_STARTED)
        outcomes = [StartOutcome.CREATED] * len(self._batch.starts)
        children: list[str] = []
        first: set[str] = set()
        for place, placed in enumerate(self._columns.starts, 1):
            code = refused.get(place, 0)
            if placed.order < 0:
                if code == 0:
                    children.append(placed.start.id)
                continue
            if code not in _START_OUTCOMES:
                raise Disturbed
            outcome = _START_OUTCOMES[code]
            # In a repeat all of one id find the instance that the first of them made.
            if outcome is StartOutcome.CREATED and placed.start.id in first:
                outcome = StartOutcome.EXISTS
            first.add(placed.start.id)
            outcomes[placed.order] = outcome
        return outcomes, children

    def _publications(self) -> Sequence[Publication]:
        row = self._answers.one(Answers.SEQUENCES)
        assert row is not None, "commit_v1 tells the numbers of events"
        refused = self._answers.pairs(Answers.NOT_PUBLISHED)
        hits = self._answers.one(Answers.HITS)
        deliveries = Counter(() if hits is None else hits.i)
        outcomes: dict[str, Publication] = {}
        for place, (_, publish) in enumerate(sorted(self._columns.publishes), 1):
            outcome = _PUBLISH_OUTCOMES[refused.get(place, 0)]
            outcomes[publish.id] = Publication(outcome, deliveries.get(row.i[place - 1], 0))
        sent = {index for index, _ in self._columns.publishes}
        content = {publish.id: (publish.name, publish.key, publish.payload) for _, publish in self._columns.publishes}
        return [
            outcomes[publish.id]
            if index in sent
            else Publication(
                PublishOutcome.EXISTS
                if content[publish.id] == (publish.name, publish.key, publish.payload)
                else PublishOutcome.CONFLICT
            )
            for index, publish in enumerate(self._batch.publishes)
        ]

    def _inbox(self) -> Sequence[bool]:
        row = self._answers.one(Answers.REACHED)
        assert row is not None, "commit_v1 tells whom messages reached"
        own = len(self._batch.inbox)
        return [n != 0 for n in row.i[-own:]]

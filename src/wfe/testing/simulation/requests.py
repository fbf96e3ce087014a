"""The rule of requests: each is there from its acknowledgement until a transition applies it, or its instance ends."""

from __future__ import annotations

from collections.abc import Callable

from wfe.ports.store import Batch, CommitReply, TransitionOutcome
from wfe.providers.memory.tables import Tables

__all__ = ["Requests"]


class Requests:
    """Follows control requests from the batches alone, and compares with what is stored."""

    def __init__(self, tables: Tables, broken: Callable[[str, str], None]) -> None:
        self._tables = tables
        self._broken = broken
        self._open: dict[str, set[str]] = {}
        """Instance → its requests that no transition has applied."""
        self._rows: dict[int, str] = {}
        """Inbox row → the request that is in it."""

    def after_commit(self, batch: Batch, reply: CommitReply) -> None:
        """Follow a batch that was written."""
        touched: dict[str, None] = {}
        # As the store does: what a transition applies is gone before what comes with it is there.
        for write, outcome in zip(batch.transitions, reply.transitions, strict=True):
            if outcome is TransitionOutcome.ACCEPTED and write.instance_id in self._open:
                applied = {self._rows.get(row) for row in write.changes.consumed}
                self._open[write.instance_id] -= applied
                touched[write.instance_id] = None
        for insert, is_there in zip(batch.inbox, reply.inbox, strict=True):
            if insert.id and is_there:
                self._open.setdefault(insert.instance_id, set()).add(insert.id)
                self._rows.update(self._tables.instances[insert.instance_id].requests)
                touched[insert.instance_id] = None
        for instance_id in touched:
            self._compare(instance_id)

    def _compare(self, instance_id: str) -> None:
        instance = self._tables.instances[instance_id]
        if instance.has_ended:
            del self._open[instance_id]
            return
        there = {request for row, request in instance.requests.items() if row in instance.inbox}
        lost = self._open[instance_id] - there
        if lost:
            self._broken("A5", f"{instance_id} has lost the requests {sorted(lost)}, which nothing has applied")
            self._open[instance_id] -= lost

"""The store port: the truth about every instance.

Everything that changes goes through `Store.commit`, as part of a batch that is one database transaction. Instance rows
are written by their holder only, guarded by revision and fence; whatever one instance, caller or event means for
another instance is an inserted inbox row. Reads never lock.

Times are whole microseconds since the epoch (UTC) of *store time*: the database's clock for PostgreSQL, the system
clock for a local file, never earlier than the last commit's. JSON and packed values are opaque bytes to a store.

What a store is given stands in `wfe.ports.batch`, what it answers in `wfe.ports.rows`; both can be imported from here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from wfe.model.definition import DefinitionKey
from wfe.model.moment import Moment
from wfe.ports.batch import (
    Batch,
    Changes,
    ErrorRow,
    InboxInsert,
    ItemsRow,
    ParentLink,
    PointerRow,
    Publication,
    Publish,
    PublishOutcome,
    Start,
    StartOutcome,
    Subscribe,
    TransitionOutcome,
    TransitionWrite,
    Unsubscribe,
)
from wfe.ports.rows import (
    DATA_ARE_MISSING,
    NO_DEFINITION,
    ClaimReply,
    CommitReply,
    DefinitionRow,
    Delivery,
    EndedRow,
    EventRow,
    InboxRow,
    InstanceRow,
    ListFilter,
    LoadedInstance,
    LogCursorPage,
    LogRow,
    UnclaimedRow,
)

__all__ = [
    "DATA_ARE_MISSING",
    "NO_DEFINITION",
    "Batch",
    "Changes",
    "ClaimReply",
    "CommitReply",
    "DefinitionRow",
    "Delivery",
    "EndedRow",
    "ErrorRow",
    "EventRow",
    "InboxInsert",
    "InboxRow",
    "InstanceRow",
    "ItemsRow",
    "ListFilter",
    "LoadedInstance",
    "LogCursorPage",
    "LogRow",
    "ParentLink",
    "PointerRow",
    "Publication",
    "Publish",
    "PublishOutcome",
    "Start",
    "StartOutcome",
    "Store",
    "Subscribe",
    "TransitionOutcome",
    "TransitionWrite",
    "UnclaimedRow",
    "Unsubscribe",
]


class Store(Protocol):
    """Keeps instances, messages, events and history.

    A store is opened before and closed after use, by the loop that uses it. Every method may raise
    `ProviderUnavailable`: the backend did not answer; the operation has or has not happened, as the method says.
    Several hosts, processes and threads may use stores on one database at the same time.
    """

    async def open(self) -> None:
        """Connect, and bring the schema up to date (numbered migrations, each in a transaction, guarded by one lock).

        Raises:
            ConfigurationError: The schema is newer than this program, or the place is not possible (a network mount).
        """
        ...

    async def close(self) -> None:
        """Finish what is being written and disconnect. Closing twice is harmless."""
        ...

    async def commit(self, batch: Batch) -> CommitReply:
        """Write a batch in one durable transaction.

        When it returns, everything accepted survives a crash of the process and of the machine. An outcome that a lost
        connection left unknown is resolved before it returns or raises: `ProviderUnavailable` from here means that
        nothing of the batch was written, or that the store could not find out within its limit; committing the same
        batch again (same id) is then safe and gives the outcome of the first.

        Guards: a transition is accepted only if the instance's revision and fence are the given ones. A refused one
        writes nothing. Fences and revisions are counted by the store alone.
        """
        ...

    async def claim(
        self,
        session: str,
        runnable: Collection[DefinitionKey],
        limit: int,
        *,
        ids: Sequence[str] | None = None,
        any_definition: bool = False,
        activations_below: int | None = None,
    ) -> ClaimReply:
        """Take up to `limit` instances that have something to do and that no living session holds.

        Something to do: not ended, and its wake time is at or before store time, or its inbox has rows. A SUSPENDED
        instance has something to do only for its inbox. One statement raises the fence, sets the owner, counts the
        activation, clears `blocked_reason` and loads. Instances of others are skipped, never waited for; an instance
        that a *dead* session (see the lease port) held counts as unheld. Earliest wake time first.

        Args:
            session: The new owner; must be a living session, else nothing is taken.
            runnable: Only instances of these definitions are taken.
            ids: Only these are looked at (a hint or a timer named them).
            any_definition: Take whatever definition they have (used to apply a control request without its code). With
                this, instances named by `ids` are taken even when they have nothing to do, or have ended (for a retry).
            activations_below: Leave those that were taken so often, or more often, since their last transition.
        """
        ...

    async def release(self, session: str, holds: Sequence[tuple[str, int]]) -> None:
        """Give instances back unchanged: (id, fence) pairs; old fences are ignored. The activation does not count."""
        ...

    async def held(self, session: str) -> Sequence[tuple[str, int]]:
        """Give (id, fence) of the instances that a session holds.

        So a host finds what was taken for it by a request whose reply was lost.
        """
        ...

    async def inbox(self, ids: Sequence[str]) -> Sequence[InboxRow]:
        """Read the inbox rows of instances, in the order of their ids."""
        ...

    async def pending_control(self, request_ids: Sequence[str]) -> Collection[str]:
        """Give those control requests (by `InboxInsert.id`) whose rows have not been consumed yet."""
        ...

    async def unclaimed(self, limit: int, *, after: tuple[Moment, int] | None = None) -> Sequence[UnclaimedRow]:
        """List instances that are due and that no living session holds, longest due first, one page of them.

        Those that have only messages come last.

        Args:
            after: Go on after this place (`UnclaimedRow.place`), whether its row is still there or not. Pages neither
                repeat nor skip an instance that is there all the time and whose wake time does not come meanwhile.
        """
        ...

    async def block(self, reasons: Mapping[str, str]) -> Collection[str]:
        """Set `blocked_reason` of instances that are still unheld; revision, fence and lease stay.

        Give the ids changed.
        """
        ...

    async def get(self, id_or_name: str) -> InstanceRow | None:
        """Read one instance with its live pointers, by id or else by name (the latest of that name)."""
        ...

    async def ended(self, ids: Sequence[str], *, until: Collection[str] = ()) -> Sequence[EndedRow]:
        """Read those of the instances that have ended, or whose status is one of `until`."""
        ...

    async def list_instances(
        self, where: ListFilter, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[InstanceRow], str | None]:
        """List instances, newest first, without pointers; and the cursor of the next page (None: no more).

        Pages neither repeat nor skip an instance that was there at the first page and still matches.

        Raises:
            ConfigurationError: The cursor is not one that this store made.
        """
        ...

    async def known(self, ids: Sequence[str]) -> Collection[str]:
        """Give those of the ids that exist."""
        ...

    async def history(self, instance_id: str, after: int = 0, limit: int = 1000) -> Sequence[LogRow]:
        """Read log rows of one instance whose last sequence number is above `after`, in order."""
        ...

    async def errors(self, instance_id: str) -> Sequence[bytes]:
        """Read the failed attempts of one instance, oldest first."""
        ...

    async def log_after(self, cursor: str | None, limit: int, *, instance_id: str | None = None) -> LogCursorPage:
        """Read log rows of all instances in commit order.

        Only rows below the oldest transaction still running are given, so that a cursor never passes a row that becomes
        visible later. `None` begins with the oldest row kept; `"now"` gives no rows and the cursor of the end.
        """
        ...

    async def save_definition(self, row: DefinitionRow) -> DefinitionKey | None:
        """Record a definition. Recording the same key again replaces plan and source by those of now.

        (Scripts, settings, policies and names are no part of the structure, so that they may be mended.)

        Returns:
            None if it is recorded now; it replaced another structure of the same id and version if no unfinished
            instance uses that. Else the key of the recorded structure that is in use; nothing was changed.
        """
        ...

    async def definitions(self) -> Sequence[DefinitionRow]:
        """Read the recorded definitions."""
        ...

    async def purge(
        self,
        *,
        ids: Sequence[str] | None = None,
        status: Sequence[str] = (),
        ended_before: Moment | None = None,
        limit: int = 100,
    ) -> int:
        """Delete up to `limit` ended instances, whole: rows, pointers, inbox, subscriptions, errors, log.

        Live ones stay.

        Returns:
            How many were deleted.
        """
        ...

    async def drop_events(self, before: Moment, limit: int = 1000) -> int:
        """Delete up to `limit` stored events older than a time that no live subscription would match. Give how many."""
        ...

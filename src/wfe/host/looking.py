"""What can be seen of instances: the verbs of a host that change nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, overload

from wfe.host.events import Events
from wfe.host.registering import Registering
from wfe.host.settings import checked_moment, checked_status, positive
from wfe.host.views import Page, errors_from, events_from, instance_from, result_from
from wfe.host.waiting import wait_for_end
from wfe.model.errors import WorkflowNotFound
from wfe.model.status import WorkflowStatus
from wfe.ports.store import ListFilter

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.model.definition import WorkflowDefinition
    from wfe.model.durations import DurationLike
    from wfe.model.instance import StepError, WorkflowInstance, WorkflowResult
    from wfe.model.lifecycle import LifecycleEvent

__all__ = ["Looking"]

D = TypeVar("D")
_HISTORY_PAGE = 1000


class Looking(Registering):
    """The part of a host that reads."""

    events: Events

    def _running(self) -> HostCore:
        return self._life.core()

    @overload
    async def wait(
        self,
        id: str,
        timeout: DurationLike | None = None,
        until: WorkflowStatus | Collection[WorkflowStatus] | None = None,
        *,
        of: WorkflowDefinition[D],
    ) -> WorkflowResult[D]: ...
    @overload
    async def wait(
        self,
        id: str,
        timeout: DurationLike | None = None,
        until: WorkflowStatus | Collection[WorkflowStatus] | None = None,
        of: None = None,
    ) -> WorkflowResult[Any]: ...
    async def wait(
        self,
        id: str,  # noqa: A002 - the public name
        timeout: DurationLike | None = None,
        until: WorkflowStatus | Collection[WorkflowStatus] | None = None,
        of: WorkflowDefinition[Any] | None = None,
    ) -> WorkflowResult[Any]:
        """Wait for the end of an instance, wherever it runs.

        Args:
            id: Its id, or its name (the latest of that name).
            timeout: How long at most; None: for ever. Only a store that does not answer may make it a second longer.
            until: Further statuses that count as an end (SUSPENDED does not by itself).
            of: The definition, for the type of the result's data.

        Raises:
            WaitTimeout: It has not ended in time. It goes on.
            WorkflowNotFound: There is no such instance.
            ShuttingDown: This host was stopped meanwhile.
        """
        row = await wait_for_end(
            self._running(),
            id,
            None if timeout is None else positive(timeout, "timeout", zero=True),
            frozenset([until] if isinstance(until, WorkflowStatus) else until or ()),
        )
        codec = None if of is None else self._find(of, None).codec
        return result_from(row, self.registry, codec)

    async def get_workflow(self, id_or_name: str) -> WorkflowInstance[Any]:
        """Give what the store knows of an instance now.

        Raises:
            WorkflowNotFound: There is none of that id or name.
        """
        core = self._running()
        row = await core.store.get(id_or_name)
        if row is None:
            raise WorkflowNotFound(id_or_name)
        runner = core.runners.get(row.id)
        beats = {} if runner is None else runner.heartbeats()
        return instance_from(row, self.registry, beats, parked=core.parked.reason(row.id))

    async def list_workflows(
        self,
        *,
        status: WorkflowStatus | str | Sequence[WorkflowStatus | str] | None = None,
        definition_id: str | None = None,
        reference: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[WorkflowInstance[Any]]:
        """List instances, newest first. `next_cursor` of the page leads to the next one."""
        statuses = () if status is None else ((status,) if isinstance(status, str) else tuple(status))
        where = ListFilter(
            status=tuple(checked_status(each) for each in statuses),
            definition_id=definition_id,
            reference=reference,
            since=None if since is None else checked_moment(since, "since"),
        )
        core = self._running()
        rows, following = await core.store.list_instances(where, max(1, min(limit, 1000)), cursor)
        return Page([instance_from(row, self.registry, parked=core.parked.reason(row.id)) for row in rows], following)

    async def history(self, id: str) -> list[LifecycleEvent]:  # noqa: A002 - the public name
        """Give all lifecycle events of an instance, by id or name, in order.

        Raises:
            WorkflowNotFound: There is no such instance.
        """
        core = self._running()
        found: list[LifecycleEvent] = []
        after = 0
        while True:
            rows = await core.store.history(id, after, _HISTORY_PAGE)
            found.extend(events_from(rows))
            if len(rows) < _HISTORY_PAGE:
                break
            after = rows[-1].first_sequence + rows[-1].count - 1
        if not found and not await core.store.known([id]):
            return await self.history(await self._id_of(id))
        return found

    async def errors(self, id: str) -> list[StepError]:  # noqa: A002 - the public name
        """Give every failed attempt of an instance, by id or name, oldest first.

        Raises:
            WorkflowNotFound: There is no such instance.
        """
        core = self._running()
        rows = await core.store.errors(id)
        if not rows and not await core.store.known([id]):
            return await self.errors(await self._id_of(id))
        return errors_from(rows)

    async def _id_of(self, name: str) -> str:
        row = await self._running().store.get(name)
        if row is None:
            raise WorkflowNotFound(name)
        return row.id

    def subscribe(self, *, workflow_id: str | None = None, since: str | None = None) -> AsyncIterator[LifecycleEvent]:
        """Iterate over lifecycle events, in order per instance, as they are committed by any host on this store."""
        self._running()
        return self.events.iterate(workflow_id=workflow_id, since=since)

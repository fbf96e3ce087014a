"""The host: what a program makes, starts and talks to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from wfe.host.connect import connect, refuse_foreign
from wfe.host.events import Events
from wfe.host.life import Life
from wfe.host.registry import Registration, Registry, step_type_name
from wfe.host.requests import request
from wfe.host.settings import (
    Durability,
    Settings,
    at_least_one,
    checked_id,
    checked_key,
    checked_moment,
    checked_status,
    checked_text,
    positive,
)
from wfe.host.starting import submit_start
from wfe.host.system import SystemClock, SystemEntropy
from wfe.host.views import Page, errors_from, events_from, instance_from, result_from
from wfe.host.waiting import wait_for_end
from wfe.model.definition import WorkflowDefinition
from wfe.model.document import Limits, check_size, encode_typed
from wfe.model.durations import DurationLike, to_timedelta
from wfe.model.errors import ConfigurationError, DataError, StartConflict, WorkflowNotFound
from wfe.model.message import ControlVerb
from wfe.model.status import WorkflowStatus
from wfe.ports.store import ListFilter, Publish, PublishOutcome, StartOutcome

if TYPE_CHECKING:
    from wfe.host.blocking import BlockingHost
    from wfe.host.core import HostCore
    from wfe.model.instance import StepError, WorkflowInstance, WorkflowResult
    from wfe.model.lifecycle import LifecycleEvent
    from wfe.ports.clock import Clock, Entropy
    from wfe.ports.executor import StepExecutor
    from wfe.ports.provider import Provider

__all__ = ["WorkflowHost"]

D = TypeVar("D")
_HISTORY_PAGE = 1000


class WorkflowHost:
    """Runs workflow instances on one store.

    Several hosts on one store share the work: each instance is run by one host at a time, and goes on elsewhere when
    that host dies. Use it as `async with WorkflowHost(url) as host:`, or call `start` and `stop`; a stopped host can
    start again.
    """

    def __init__(
        self,
        url: str | Provider = "sqlite:///wfe.db",
        *,
        queue: Provider | str | None = None,
        lease: Provider | str | None = None,
        lifecycle: Provider | str | None = None,
        max_concurrency: int = 1000,
        max_threads: int = 32,
        max_processes: int | None = None,
        max_active: int = 10_000,
        step_factory: Callable[[type], object] | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        name: str | None = None,
        lease_ttl: DurationLike = 15,
        sweep_interval: DurationLike = 1,
        cancel_grace: DurationLike = 10,
        loop_stall_limit: DurationLike = 600,
        durability: Durability = "power",
        event_retention: DurationLike = "7d",
        limits: Limits | None = None,
    ) -> None:
        """Make a host. Nothing is opened before `start`.

        Args:
            url: Where the truth is: `sqlite:///file.db`, `postgresql://…`, `memory:`, or a provider object.
            queue: Another backend for wake-up hints.
            lease: Who knows which hosts are alive: the store itself is all that is supported so far.
            lifecycle: Who announces lifecycle events: the store itself is all that is supported so far.
            max_concurrency: Bodies that run at once on this host.
            max_threads: Bodies that are plain functions at once.
            max_processes: Size of the pool for bodies marked `executor="process"`; one per core when left out.
            max_active: Instances held in memory at once. More can be started: they wait in the store for room.
            step_factory: Makes the object for a `StepBody` class; it is called without arguments when left out.
            name: A label for people. Identity is random for every start.
            lease_ttl: How long a host that has died, or is cut off, keeps its instances.
            sweep_interval: How often the store is asked what is due.
            cancel_grace: How long a cancelled body may take to end.
            loop_stall_limit: A host whose event loop stands still for so long gives up its instances.
            durability: `power`: what is acknowledged survives power loss. `process`: it survives the death of the
                process, and is acknowledged sooner.
            event_retention: How long published events are kept for waits that begin later.

        Raises:
            ConfigurationError: The URL or a setting is not possible, or the backends do not go together.
        """
        provider = connect(url, durability=durability)
        for setting, place in (("lease", lease), ("lifecycle", lifecycle)):
            if place is not None and place != url:
                refuse_foreign(setting, connect(place, durability=durability), provider)
        hints = (provider if queue is None or queue == url else connect(queue, durability=durability)).hints
        settings = Settings(
            name=name,
            max_concurrency=at_least_one(max_concurrency, "max_concurrency"),
            max_threads=at_least_one(max_threads, "max_threads"),
            max_processes=max_processes,
            max_active=at_least_one(max_active, "max_active"),
            step_factory=step_factory,
            lease_ttl=positive(lease_ttl, "lease_ttl"),
            sweep_interval=positive(sweep_interval, "sweep_interval"),
            cancel_grace=positive(cancel_grace, "cancel_grace", zero=True),
            loop_stall_limit=positive(loop_stall_limit, "loop_stall_limit"),
            event_retention=positive(event_retention, "event_retention"),
            limits=limits or Limits(),
        )
        self.name = name
        self.registry = Registry()
        self.events = Events(provider.lifecycle)
        self._cancel_grace = settings.cancel_grace.total_seconds()
        self._life = Life(
            settings,
            store=provider.store,
            # A second batch can be on its way while PostgreSQL writes the first; SQLite has one writer.
            in_flight=2 if provider.url.startswith("postgres") else 1,
            hints=hints,
            lease=provider.lease,
            lifecycle=provider.lifecycle,
            registry=self.registry,
            events=self.events,
            clock=clock or SystemClock(),
            entropy=entropy or SystemEntropy(),
        )
        self._blocking: BlockingHost | None = None

    # Life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self.stop(force=error is not None)

    @property
    def is_running(self) -> bool:
        """Whether the host has been started and not stopped."""
        return self._life.is_running

    async def start(self) -> None:
        """Open the store, check the registered definitions against it, and begin to run what is due.

        Raises:
            DefinitionError: A registered definition has another structure than unfinished instances in the store use.
            ConfigurationError, ProviderUnavailable: The store cannot be opened.
        """
        await self._life.start()

    async def stop(self, timeout: DurationLike = 30, *, force: bool = False) -> None:
        """Stop in good order.

        Nothing more begins, running bodies may end for at most `timeout`, what they answered is written, and
        everything is given back. Bodies that still run then are cancelled; another host repeats them. `force` cancels
        at once. A second call waits for nothing.
        """
        await self._life.stop(to_timedelta(timeout), force=force)

    def _running(self) -> HostCore:
        return self._life.core()

    def on_log(self, sink: Callable[[str, str, str, str], None]) -> None:
        """Be given each line that steps write: (workflow id, step id, stream, text). May be called from any thread."""
        self._life.log_sinks.append(sink)

    # Definitions

    def register(self, *definitions: object) -> None:
        """Make definitions (or compiled YAML workflows) known to this host; also while it runs.

        Raises:
            DefinitionError: Another structure is registered here under the same id and version.
        """
        for each in definitions:
            definition = getattr(each, "definition", each)
            if not isinstance(definition, WorkflowDefinition):
                msg = (
                    f"register takes workflow definitions, got a {type(each).__qualname__}. Did you forget .build(id)?"
                )
                raise ConfigurationError(msg)
            self._bring_executors(definition)
            self._life.registered(self.registry.register(definition))

    def _bring_executors(self, definition: WorkflowDefinition[Any]) -> None:
        """A plan with shell steps brings the executor for them, unless the host was given another one."""
        if not self.registry.knows_step_type("shell") and any(step.step_type == "shell" for step in definition.steps):
            from wfe.executors.shell import ShellStepExecutor

            self.registry.register_executor(ShellStepExecutor())

    def register_step(self, body_or_name: Callable[..., Any] | str, body: Callable[..., Any] | None = None) -> None:
        """Name a body, for definitions whose steps name their type (YAML, JSON): `register_step("mail", send)`."""
        if isinstance(body_or_name, str):
            if body is None:
                msg = f"register_step({body_or_name!r}) needs the body too."
                raise ConfigurationError(msg)
            self.registry.register_step(body_or_name, body)
        else:
            self.registry.register_step(step_type_name(body_or_name), body_or_name)
        self._life.registered()

    def register_executor(self, executor: StepExecutor) -> None:
        """Add an executor for steps of its type."""
        self.registry.register_executor(executor)
        self._life.registered()

    def deregister(self, definition_id: str, version: int) -> bool:
        """Take a definition away: its unfinished instances, and those of its parents, are blocked until it is back.

        False: it was not registered.
        """
        return self.registry.deregister(definition_id, version)

    def definitions(self) -> list[WorkflowDefinition[Any]]:
        """List what is registered."""
        return [registration.definition for registration in self.registry]

    def register_workflow(
        self,
        build_fn: Callable[[Any], Any],
        id: str,  # noqa: A002 - the public name
        version: int = 1,
        data_type: type[D] = dict,  # type: ignore[assignment]  # the default of D
    ) -> WorkflowDefinition[D]:
        """Build a definition with a function that is given a builder, and register it."""
        from wfe.authoring.builder import WorkflowBuilder

        chain = build_fn(WorkflowBuilder(data_type))
        definition: WorkflowDefinition[D] = chain.build(id, version=version)
        self.register(definition)
        return definition

    # Starting

    def _find(self, definition: str | WorkflowDefinition[Any], version: int | None) -> Registration:
        definition = getattr(definition, "definition", definition)  # a compiled YAML workflow has its plan inside
        if isinstance(definition, WorkflowDefinition):
            known = self.registry.by_key(definition.key)
            if known is None or known.is_recalled:
                self.register(definition)
            return self.registry.find(definition.id, definition.version)
        return self.registry.find(definition, version)

    @overload
    async def start_workflow(
        self,
        definition_id: WorkflowDefinition[D],
        data: D | Mapping[str, object] | None = None,
        *,
        version: int | None = None,
        name: str | None = None,
        reference: str | None = None,
        id: str | None = None,
        start_at: datetime | None = None,
    ) -> str: ...
    @overload
    async def start_workflow(
        self,
        definition_id: str,
        data: object = None,
        *,
        version: int | None = None,
        name: str | None = None,
        reference: str | None = None,
        id: str | None = None,
        start_at: datetime | None = None,
    ) -> str: ...
    async def start_workflow(
        self,
        definition_id: str | WorkflowDefinition[Any],
        data: object = None,
        *,
        version: int | None = None,
        name: str | None = None,
        reference: str | None = None,
        id: str | None = None,  # noqa: A002 - the public name
        start_at: datetime | None = None,
    ) -> str:
        """Start an instance and return its id, once it is durable.

        Args:
            definition_id: The definition, or its id.
            data: An object of the data class, a mapping that is checked and converted, or None for an empty one. Where
                the definition declares inputs, they are checked, and missing ones get their defaults.
            version: The latest registered one when left out.
            name: A name for people; `get_workflow` finds the instance by it too.
            reference: The caller's own key, to list by.
            id: Makes the start idempotent: the same id with equal definition id and data gives the same instance.
            start_at: Do not begin before this time.

        Raises:
            DefinitionNotFound: No such definition is registered here.
            DataError: The data does not fit, or cannot be stored.
            StartConflict: An instance of that id was started with another definition or other data.
            ProviderUnavailable: The store did not answer. With an `id`, starting again is safe.
        """
        self._running()
        registration = self._find(definition_id, version)
        await self._life.check(registration)
        document = registration.initial(data)
        future, instance_id = self._start(
            registration, document, given_id=id, name=name, reference=reference, start_at=start_at
        )
        await self._settled(future, instance_id)
        return instance_id

    async def start_workflows(
        self,
        definition_id: str | WorkflowDefinition[Any],
        data: Sequence[object],
        *,
        version: int | None = None,
        reference: str | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[str]:
        """Start many instances together; see `start_workflow`. Every input is checked before any is started.

        Raises:
            StartConflict: One of `ids` was started with something else; the others have been started.
        """
        self._running()
        registration = self._find(definition_id, version)
        await self._life.check(registration)
        documents = [registration.initial(each) for each in data]
        if ids is not None and len(ids) != len(documents):
            msg = f"There are {len(documents)} inputs and {len(ids)} ids."
            raise DataError(msg)
        pending = [
            self._start(registration, document, given_id=None if ids is None else ids[number], reference=reference)
            for number, document in enumerate(documents)
        ]
        # Every outcome is asked for, also after the first that is an error: nobody else will ask.
        outcomes = await asyncio.gather(*(self._settled(*each) for each in pending), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        return [instance_id for _, instance_id in pending]

    def _start(
        self,
        registration: Registration,
        document: bytes,
        *,
        given_id: str | None,
        name: str | None = None,
        reference: str | None = None,
        start_at: datetime | None = None,
    ) -> tuple[asyncio.Future[StartOutcome], str]:
        return submit_start(
            self._running(),
            registration,
            document,
            given_id=None if given_id is None else checked_id(given_id),
            name=None if name is None else checked_text(name, "name"),
            reference=None if reference is None else checked_text(reference, "reference"),
            start_at=None if start_at is None else checked_moment(start_at, "start_at"),
        )

    @staticmethod
    async def _settled(future: asyncio.Future[StartOutcome], instance_id: str) -> None:
        if await future is StartOutcome.CONFLICT:
            raise StartConflict(instance_id)

    # Waiting

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

    @overload
    async def run(
        self,
        definition: WorkflowDefinition[D],
        data: D | Mapping[str, object] | None = None,
        *,
        timeout: DurationLike | None = None,
    ) -> WorkflowResult[D]: ...
    @overload
    async def run(
        self, definition: str, data: object = None, *, timeout: DurationLike | None = None
    ) -> WorkflowResult[Any]: ...
    async def run(
        self, definition: str | WorkflowDefinition[Any], data: Any = None, *, timeout: DurationLike | None = None
    ) -> WorkflowResult[Any]:
        """Start an instance and wait for its end."""
        instance_id = await self.start_workflow(definition, data)
        return await self.wait(instance_id, timeout)

    # Looking

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
        return instance_from(row, self.registry, beats)

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
        rows, following = await self._running().store.list_instances(where, max(1, min(limit, 1000)), cursor)
        return Page([instance_from(row, self.registry) for row in rows], following)

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

    # Events and requests

    async def publish_event(
        self,
        name: str,
        key: str,
        data: object = None,
        *,
        effective_at: datetime | None = None,
        id: str | None = None,  # noqa: A002 - the public name
    ) -> str:
        """Publish an event and return its id, once it is durable. It reaches every wait of that name and key once.

        Args:
            data: The payload: JSON values, or an object of a class that msgspec can encode.
            effective_at: Deliver it then, not before.
            id: Makes publishing idempotent.

        Raises:
            DataError: The payload cannot be stored or is too large.
            StartConflict: An event of that id with other content was published.
        """
        core = self._running()
        payload = encode_typed(data, path="$event")
        check_size(payload, core.limits.max_event_bytes, f"The event {name!r}")
        event_id = core.entropy.new_id() if id is None else checked_id(id)
        when = None if effective_at is None else checked_moment(effective_at, "effective_at")
        publish = Publish(event_id, checked_key(name, "name"), checked_key(key, "key"), payload, when)
        future = core.committer.publish(publish)
        core.pump()
        publication = await future
        if publication.outcome is PublishOutcome.CONFLICT:
            raise StartConflict(event_id, detail="another event name, key or payload")
        if when is not None:
            core.alarms.look(when, self._life.look_around)
        return event_id

    async def suspend_workflow(self, id: str, reason: str | None = None) -> bool:  # noqa: A002 - the public name
        """Let nothing begin until it is resumed; running bodies finish and are recorded. False: already so, or over."""
        return await self._request(id, ControlVerb.SUSPEND, reason)

    async def resume_workflow(self, id: str) -> bool:  # noqa: A002 - the public name
        """Let a suspended instance go on; a step that failed into suspension is tried again. False: not suspended."""
        return await self._request(id, ControlVerb.RESUME, None)

    async def cancel_workflow(self, id: str, reason: str | None = None) -> bool:  # noqa: A002 - the public name
        """Cancel: running bodies are asked to stop and have `cancel_grace` to do so, no further step starts.

        False: it is over.
        """
        return await self._request(id, ControlVerb.CANCEL, reason)

    async def terminate_workflow(self, id: str, reason: str | None = None) -> bool:  # noqa: A002 - the public name
        """End an instance at once; bodies are cancelled and late answers dropped. False: it is over."""
        return await self._request(id, ControlVerb.TERMINATE, reason)

    async def _request(self, instance_id: str, verb: ControlVerb, reason: str | None) -> bool:
        core = self._running()
        return await request(core, instance_id, verb, reason or "", grace=self._cancel_grace)

    # Blocking

    @property
    def sync(self) -> BlockingHost:
        """A blocking view of this host, for programs without a loop: it owns a loop in a thread of its own."""
        from wfe.host.blocking import BlockingHost

        if self._blocking is None:
            self._blocking = BlockingHost(self)
        return self._blocking

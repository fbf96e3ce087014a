"""The host: what a program makes, starts and talks to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from wfe.host.connect import connect, refuse_foreign
from wfe.host.events import Events
from wfe.host.life import Life
from wfe.host.looking import Looking
from wfe.host.registry import Registration, Registry
from wfe.host.requests import request
from wfe.host.settings import (
    Durability,
    Settings,
    at_least_one,
    checked_id,
    checked_key,
    checked_moment,
    checked_text,
    positive,
)
from wfe.host.starting import submit_start
from wfe.host.system import SystemClock, SystemEntropy, session_ttl
from wfe.model.definition import WorkflowDefinition
from wfe.model.document import Limits, check_size, encode_typed
from wfe.model.durations import DurationLike, to_timedelta
from wfe.model.errors import DataError, StartConflict
from wfe.model.message import ControlVerb
from wfe.ports.store import Publish, PublishOutcome, StartOutcome

if TYPE_CHECKING:
    from wfe.host.blocking import BlockingHost
    from wfe.model.instance import WorkflowResult
    from wfe.ports.clock import Clock, Entropy
    from wfe.ports.provider import Provider

__all__ = ["WorkflowHost"]

D = TypeVar("D")


class WorkflowHost(Looking):
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
            clock: Time for tests, also of the memory or SQLite store that is made from `url`.
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
        provider = connect(url, durability=durability, clock=clock)
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
            lease_ttl=session_ttl(positive(lease_ttl, "lease_ttl"), clock, provider),
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
            ShuttingDown: The host was stopped while it started.
        """
        await self._life.start()

    async def stop(self, timeout: DurationLike = 30, *, force: bool = False) -> None:
        """Stop in good order.

        Nothing more begins, running bodies may end for at most `timeout`, what they answered is written, and
        everything is given back. Bodies that still run then are cancelled; another host repeats them. `force` cancels
        at once.

        It is carried through: if the call is cancelled, bodies are not waited for any longer, and it passes the
        cancellation on when the host has stopped (a second one at once, while the rest goes on in the loop). A second
        call waits for the same end, and hastens it by `force`. A start that is under way is given up.
        """
        await self._life.stop(to_timedelta(timeout), force=force)

    def on_log(self, sink: Callable[[str, str, str, str], None]) -> None:
        """Be given each line that steps write: (workflow id, step id, stream, text). May be called from any thread."""
        self._life.log_sinks.append(sink)

    # Starting

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

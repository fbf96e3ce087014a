"""The host: what a program makes, starts and talks to."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from wfe.host.bodies import BodySurroundings
from wfe.host.connect import connect
from wfe.host.core import HostCore
from wfe.host.events import Events
from wfe.host.registry import Registration, Registry, step_type_name
from wfe.host.requests import request
from wfe.host.session import Session
from wfe.host.starting import make_start
from wfe.host.sweeper import Sweeper
from wfe.host.system import SystemClock, SystemEntropy
from wfe.host.threads import ThreadPool
from wfe.host.views import Page, errors_from, events_from, instance_from, result_from
from wfe.host.committer import PendingStart
from wfe.model.definition import WorkflowDefinition
from wfe.model.document import Limits, check_size, encode_typed
from wfe.model.durations import DurationLike, to_timedelta
from wfe.model.errors import (
    ConfigurationError,
    DataError,
    DefinitionError,
    ShuttingDown,
    StartConflict,
    WaitTimeout,
    WfeError,
    WorkflowNotFound,
)
from wfe.model.message import ControlVerb
from wfe.model.moment import from_datetime
from wfe.model.status import WorkflowStatus
from wfe.ports.store import DefinitionRow, ListFilter, Publish, PublishOutcome, Start, StartOutcome

if TYPE_CHECKING:
    from wfe.engine.state import InstanceState
    from wfe.engine.transition import Transition
    from wfe.model.instance import StepError, WorkflowInstance, WorkflowResult
    from wfe.model.lifecycle import LifecycleEvent
    from wfe.ports.clock import Clock, Entropy
    from wfe.ports.executor import StepExecutor
    from wfe.ports.hints import Hints
    from wfe.ports.lease import Lease
    from wfe.ports.lifecycle import LifecyclePublisher
    from wfe.ports.provider import Provider
    from wfe.ports.store import CommitReply

__all__ = ["WorkflowHost"]

_log = logging.getLogger("wfe.host")
_log_lines = logging.getLogger("wfe.step")

D = TypeVar("D")
_MAX_ID = 200


class WorkflowHost:
    """Runs workflow instances on one store.

    Several hosts on one store share the work: each instance is run by one host at a time, and goes on elsewhere when that host
    dies. Use it as `async with WorkflowHost(url) as host:`, or call `start` and `stop`; a stopped host can start again.
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
        durability: Literal["power", "process"] = "power",
        event_retention: DurationLike = "7d",
        limits: Limits | None = None,
    ) -> None:
        """Make a host. Nothing is opened before `start`.

        Args:
            url: Where the truth is: `sqlite:///file.db`, `postgresql://…`, `memory:`, or a provider object.
            queue: Another backend for wake-up hints.
            lease: Another backend that knows which hosts are alive.
            lifecycle: Another backend that announces lifecycle events.
            max_concurrency: Bodies that run at once on this host.
            max_threads: Bodies that are plain functions at once.
            max_processes: Size of the pool for bodies marked `executor="process"`; one per core when left out.
            max_active: Instances held in memory at once.
            step_factory: Makes the object for a `StepBody` class; calling the class without arguments when left out.
            name: A label for people. Identity is random for every start.
            lease_ttl: How long a host that has died, or is cut off, keeps its instances.
            sweep_interval: How often the store is asked what is due.
            cancel_grace: How long a cancelled body may take to end.
            loop_stall_limit: A host whose event loop stands still for so long gives up its instances.
            durability: `power`: what is acknowledged survives power loss. `process`: it survives the death of the process,
                faster.
            event_retention: How long published events are kept for waits that begin later.

        Raises:
            ConfigurationError: The URL or a setting is not possible.
        """
        self.name = name
        self._durability: Literal["power", "process"] = durability
        self._place = url
        self._provider = connect(url, durability=durability)
        self._hints: Hints = self._port(queue).hints
        self._lease: Lease = self._port(lease).lease
        self._lifecycle: LifecyclePublisher = self._port(lifecycle).lifecycle
        self.registry = Registry()
        self.events = Events(self._lifecycle)
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()
        self._limits = limits or Limits()
        self._max_concurrency = _at_least_one(max_concurrency, "max_concurrency")
        self._max_threads = _at_least_one(max_threads, "max_threads")
        self._max_active = _at_least_one(max_active, "max_active")
        self._max_processes = max_processes
        self._step_factory = step_factory
        self._lease_ttl = _positive(lease_ttl, "lease_ttl")
        self._sweep_interval = _positive(sweep_interval, "sweep_interval").total_seconds()
        self._cancel_grace = to_timedelta(cancel_grace).total_seconds()
        self._stall_limit = _positive(loop_stall_limit, "loop_stall_limit").total_seconds()
        self._event_retention = _positive(event_retention, "event_retention")
        self._core: HostCore | None = None
        self._session: Session | None = None
        self._sweeper: Sweeper | None = None
        self._threads: ThreadPool | None = None
        self._processes: concurrent.futures.ProcessPoolExecutor | None = None
        self._housekeeping: asyncio.Task[None] | None = None
        self._unsaved: list[Registration] = []
        self._log_sinks: list[Callable[[str, str, str, str], None]] = []
        self._pid = os.getpid()
        self._blocking: Any = None

    def _port(self, place: Provider | str | None) -> Provider:
        return self._provider if place is None else connect(place, durability=self._durability)

    # Life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self.stop(force=error is not None)

    @property
    def is_running(self) -> bool:
        """Whether the host has been started and not stopped."""
        return self._core is not None

    async def start(self) -> None:
        """Open the store, begin a session, check the registered definitions against the store, and begin to run what is due.

        Raises:
            DefinitionError: A registered definition has another structure than unfinished instances in the store use.
            ConfigurationError, ProviderUnavailable: The store cannot be opened.
        """
        if self._core is not None:
            return
        store = self._provider.store
        await store.open()
        try:
            await self._begin()
        except BaseException:
            await self._abandon_start()
            raise

    async def _begin(self) -> None:
        self._threads = ThreadPool(self._max_threads, "wfe-body")
        around = BodySurroundings(
            threads=self._threads,
            step_factory=self._step_factory,
            log=self._body_log,
            process_pool=self._process_pool,
        )
        core = HostCore(
            store=self._provider.store,
            hints=self._hints,
            registry=self.registry,
            clock=self._clock,
            entropy=self._entropy,
            limits=self._limits,
            around=around,
            max_concurrency=self._max_concurrency,
            max_active=self._max_active,
            cancel_grace=self._cancel_grace,
            in_flight=2 if self._provider.url.startswith("postgres") else 1,
            alone=lambda: self._is_alone,
        )
        core.on_commit.append(self._lifecycle.wake)
        self._is_alone = True
        self._core = core
        self._unsaved = list(self.registry)
        await self._save_definitions(fail=True)
        await self._begin_session(core)
        sweeper = Sweeper(core, self._sweep_interval)
        self._sweeper = sweeper
        sweeper.start()
        self._housekeeping = core.loop.create_task(self._keep_house(core))

    async def _begin_session(self, core: HostCore) -> None:
        session = Session(
            self._lease,
            self._entropy.new_id(),
            ttl=self._lease_ttl,
            clock=self._clock,
            stall_limit=self._stall_limit,
            lost=self._session_lost,
        )
        await session.begin(self.name or f"pid {os.getpid()}")
        self._session = session
        core.session_id = session.id
        self._is_alone = len(await self._lease.alive()) <= 1
        await self._hints.open(session.id, core.received_hint)

    async def _abandon_start(self) -> None:
        self._core = None
        if self._threads is not None:
            self._threads.close()
        if self._session is not None:
            await self._session.end()
            self._session = None
        await self._provider.store.close()

    def _session_lost(self, reason: str) -> None:
        """The lease is lost: stop every body, write nothing, and begin anew."""
        core = self._core
        if core is None or self._session is None or self._session.id != core.session_id:
            return
        _log.error("This host lost its session (%s): it stops its bodies and writes nothing of what they did", reason)
        core.drop_all()
        core.draining = True
        core.background(self._renew_session(core))

    async def _renew_session(self, core: HostCore) -> None:
        pause = 0.1
        while self._core is core:
            try:
                await self._hints.close()
                await self._begin_session(core)
            except WfeError as error:
                _log.warning("A new session could not be begun, trying again: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5)
            else:
                core.draining = False
                if self._sweeper is not None:
                    self._sweeper.soon()
                return

    async def _keep_house(self, core: HostCore) -> None:
        """Now and then: forget old events, see whether other sessions live."""
        rounds = 0
        while True:
            await asyncio.sleep(max(1.0, self._lease_ttl.total_seconds() / 3))
            rounds += 1
            try:
                self._is_alone = len(await self._lease.alive()) <= 1
                if self._unsaved:
                    await self._save_definitions(fail=False)
                if rounds % 60 == 1:
                    before = core.now() - self._event_retention // timedelta(microseconds=1)
                    while await core.store.drop_events(before) >= 1000:  # noqa: PLR2004 - the size of one portion
                        await asyncio.sleep(0)
            except WfeError as error:
                _log.warning("Housekeeping could not reach the store: %s", error)

    async def stop(self, timeout: DurationLike = 30, *, force: bool = False) -> None:
        """Stop: begin nothing more, let running bodies end for at most `timeout`, write what they answered, give everything back.

        Bodies that are still running then are cancelled; another host repeats them. `force` cancels at once. A second call waits for
        nothing.
        """
        core, self._core = self._core, None
        if core is None:
            return
        core.draining = True
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        if self._sweeper is not None:
            await self._sweeper.stop()
        if not force:
            await self._drain(core, to_timedelta(timeout).total_seconds())
        holds = [(runner.id, runner.fence) for runner in core.runners.values()]
        core.drop_all()
        await self._end_tasks(core)
        try:
            if holds:
                await core.store.release(core.session_id, holds)
        except WfeError as error:
            _log.warning("Instances could not be given back (their lease expires by itself): %s", error)
        await self.events.close()
        await self._hints.close()
        if self._session is not None:
            await self._session.end()
            self._session = None
        if self._threads is not None:
            self._threads.close()
        if self._processes is not None:
            self._processes.shutdown(wait=False, cancel_futures=True)
            self._processes = None
        await core.store.close()

    @staticmethod
    async def _drain(core: HostCore, timeout: float) -> None:
        deadline = core.monotonic() + timeout
        while any(runner.bodies for runner in core.runners.values()):
            left = deadline - core.monotonic()
            bodies = [run.task for runner in core.runners.values() for run in runner.bodies.values() if run.task]
            if left <= 0 or not bodies:
                break
            await asyncio.wait(bodies, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
        core.pump()
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(max(1.0, deadline - core.monotonic())):
                await core.committer.drained()
        except TimeoutError:
            _log.warning("The store did not take the last transitions in time; what they did will be repeated")

    @staticmethod
    async def _end_tasks(core: HostCore) -> None:
        tasks = [task for task in core.tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    def _running(self) -> HostCore:
        if self._core is None:
            msg = "The host is not running. Use it as `async with WorkflowHost(…) as host:`, or await host.start() first."
            raise ShuttingDown(msg)
        if os.getpid() != self._pid:
            msg = "This host belongs to the process that made it; make a new one after a fork."
            raise ConfigurationError(msg)
        return self._core

    def _process_pool(self) -> concurrent.futures.ProcessPoolExecutor:
        if self._processes is None:
            import multiprocessing  # noqa: PLC0415 - only where bodies ask for it

            self._processes = concurrent.futures.ProcessPoolExecutor(
                self._max_processes, mp_context=multiprocessing.get_context("spawn")
            )
        return self._processes

    def _body_log(self, workflow_id: str, step: str, stream: str, text: str) -> None:
        _log_lines.info("%s %s %s: %s", workflow_id, step, stream, text)
        for sink in self._log_sinks:
            sink(workflow_id, step, stream, text)

    def on_log(self, sink: Callable[[str, str, str, str], None]) -> None:
        """Be given each line that steps write: (workflow id, step id, stream, text). May be called from any thread."""
        self._log_sinks.append(sink)

    # Definitions

    def register(self, *definitions: object) -> None:
        """Make definitions (or compiled YAML workflows) known to this host; also while it runs.

        Raises:
            DefinitionError: Another structure is registered here under the same id and version.
        """
        for each in definitions:
            definition = getattr(each, "definition", each)
            if not isinstance(definition, WorkflowDefinition):
                msg = f"register takes workflow definitions, got a {type(each).__qualname__}. Did you forget .build(id)?"
                raise ConfigurationError(msg)
            self._unsaved.append(self.registry.register(definition))
        self._registered()

    def _registered(self) -> None:
        core = self._core
        if core is not None and self._unsaved:
            core.background(self._save_definitions(fail=False))
        if self._sweeper is not None:
            self._sweeper.soon()

    async def _save_definitions(self, *, fail: bool) -> None:
        """Record definitions in the store; one whose id and version is in use with another structure is refused."""
        core = self._running()
        problems: list[str] = []
        while self._unsaved:
            registration = self._unsaved[0]
            definition = registration.definition
            row = DefinitionRow(registration.key, definition.to_json(), definition.source)
            in_use = await core.store.save_definition(row)
            self._unsaved.pop(0)
            if in_use is not None:
                self.registry.deregister(definition.id, definition.version)
                problems.append(
                    f"{definition.id!r} version {definition.version} has another structure than the one that unfinished "
                    f"instances in the store use ({in_use.hash[:8]}, this one is {definition.hash[:8]}). Give the changed "
                    "definition a new version."
                )
        if problems and fail:
            raise DefinitionError(problems)
        for problem in problems:
            _log.error("A definition was refused: %s", problem)

    def register_step(self, body_or_name: Callable[..., Any] | str, body: Callable[..., Any] | None = None) -> None:
        """Name a body, for definitions whose steps name their type (YAML, JSON): `register_step("mail", send)`."""
        if isinstance(body_or_name, str):
            if body is None:
                msg = f"register_step({body_or_name!r}) needs the body too."
                raise ConfigurationError(msg)
            self.registry.register_step(body_or_name, body)
        else:
            self.registry.register_step(step_type_name(body_or_name), body_or_name)
        self._registered()

    def register_executor(self, executor: StepExecutor) -> None:
        """Add an executor for steps of its type."""
        self.registry.register_executor(executor)
        self._registered()

    def deregister(self, definition_id: str, version: int) -> bool:
        """Take a definition away; its unfinished instances become blocked until it is back. False: it was not registered."""
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
        from wfe.authoring.builder import WorkflowBuilder  # noqa: PLC0415 - only where it is used

        chain = build_fn(WorkflowBuilder(data_type))
        definition: WorkflowDefinition[D] = chain.build(id, version=version)
        self.register(definition)
        return definition

    # Starting

    def _find(self, definition: str | WorkflowDefinition[Any], version: int | None) -> Registration:
        if isinstance(definition, WorkflowDefinition):
            known = self.registry.by_key(definition.key)
            if known is None:
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
            data: An object of the data class, a mapping that is checked and converted, or None for an empty one.
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
        core = self._running()
        registration = self._find(definition_id, version)
        document = registration.codec.initial(data)
        future, instance_id = self._start(core, registration, document, id, name, reference, start_at)
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
        core = self._running()
        registration = self._find(definition_id, version)
        documents = [registration.codec.initial(each) for each in data]
        if ids is not None and len(ids) != len(documents):
            msg = f"There are {len(documents)} inputs and {len(ids)} ids."
            raise DataError(msg)
        pending = [
            self._start(core, registration, document, None if ids is None else ids[number], None, reference, None)
            for number, document in enumerate(documents)
        ]
        await asyncio.wait([future for future, _ in pending]) if pending else None
        for future, instance_id in pending:
            await self._settled(future, instance_id)
        return [instance_id for _, instance_id in pending]

    def _start(
        self,
        core: HostCore,
        registration: Registration,
        document: bytes,
        given_id: str | None,
        name: str | None,
        reference: str | None,
        start_at: datetime | None,
    ) -> tuple[asyncio.Future[StartOutcome], str]:
        instance_id = core.entropy.new_id() if given_id is None else _checked_id(given_id)
        when = None if start_at is None else from_datetime(start_at)
        start, state, transition = make_start(
            core,
            registration,
            document,
            instance_id=instance_id,
            name=None if name is None else _checked_text(name, "name"),
            reference=None if reference is None else _checked_text(reference, "reference"),
            start_at=when,
        )
        future: asyncio.Future[StartOutcome] = core.loop.create_future()

        def accepted(reply: CommitReply) -> None:
            _begin_started(core, registration, start, state, transition, reply)

        core.committer.start(PendingStart(start, future, accepted))
        core.pump()
        return future, instance_id

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
        until: Sequence[WorkflowStatus] | None = None,
        *,
        of: WorkflowDefinition[D],
    ) -> WorkflowResult[D]: ...
    @overload
    async def wait(
        self,
        id: str,
        timeout: DurationLike | None = None,
        until: Sequence[WorkflowStatus] | None = None,
        of: None = None,
    ) -> WorkflowResult[Any]: ...
    async def wait(
        self,
        id: str,  # noqa: A002 - the public name
        timeout: DurationLike | None = None,
        until: Sequence[WorkflowStatus] | None = None,
        of: WorkflowDefinition[Any] | None = None,
    ) -> WorkflowResult[Any]:
        """Wait for the end of an instance, wherever it runs.

        Args:
            timeout: How long at most; None: for ever.
            until: Further statuses that count as an end (SUSPENDED does not by itself).
            of: The definition, for the type of the result's data.

        Raises:
            WaitTimeout: It has not ended in time. It goes on.
            WorkflowNotFound: There is no such instance.
        """
        del of
        core = self._running()
        row = core.waiters.result(id)
        if row is not None:
            return result_from(row, self.registry)
        further = frozenset(until or ())
        future = core.waiters.add(id, further)
        try:
            if id not in core.runners or further:
                found = await core.store.ended([id], until=further)
                if found:
                    return result_from(found[0], self.registry)
                if id not in core.runners and not future.done() and not await core.store.known([id]):
                    raise WorkflowNotFound(id)
            if timeout is None:
                row = await future
            else:
                async with asyncio.timeout(to_timedelta(timeout).total_seconds()):
                    row = await future
        except TimeoutError as error:
            if isinstance(error, WfeError):
                raise
            msg = f"Workflow instance {id!r} has not ended within {timeout}; it goes on. {await self._standing(core, id)}"
            raise WaitTimeout(msg) from None
        finally:
            core.waiters.discard(id, future)
        return result_from(row, self.registry)

    @staticmethod
    async def _standing(core: HostCore, instance_id: str) -> str:
        try:
            row = await core.store.get(instance_id)
        except WfeError:
            return ""
        if row is None:
            return ""
        why = f" ({row.blocked_reason})" if row.blocked_reason else ""
        return f"It is {row.status}{why}."

    @overload
    async def run(
        self, definition: WorkflowDefinition[D], data: D | Mapping[str, object] | None = None, *, timeout: DurationLike | None = None
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
        row = await self._running().store.get(id_or_name)
        if row is None:
            raise WorkflowNotFound(id_or_name)
        return instance_from(row, self.registry)

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
            status=tuple(str(WorkflowStatus(each)) for each in statuses),
            definition_id=definition_id,
            reference=reference,
            since=None if since is None else from_datetime(since),
        )
        rows, following = await self._running().store.list_instances(where, max(1, min(limit, 1000)), cursor)
        return Page([instance_from(row, self.registry) for row in rows], following)

    async def history(self, id: str) -> list[LifecycleEvent]:  # noqa: A002 - the public name
        """Give all lifecycle events of an instance, in order.

        Raises:
            WorkflowNotFound: There is no such instance.
        """
        core = self._running()
        found: list[LifecycleEvent] = []
        after = 0
        while True:
            rows = await core.store.history(id, after)
            found.extend(events_from(rows))
            if len(rows) < 1000:  # noqa: PLR2004 - the store's page
                break
            after = rows[-1].first_sequence + rows[-1].count - 1
        if not found and not await core.store.known([id]):
            raise WorkflowNotFound(id)
        return found

    async def errors(self, id: str) -> list[StepError]:  # noqa: A002 - the public name
        """Give every failed attempt of an instance, oldest first.

        Raises:
            WorkflowNotFound: There is no such instance.
        """
        core = self._running()
        rows = await core.store.errors(id)
        if not rows and not await core.store.known([id]):
            raise WorkflowNotFound(id)
        return errors_from(rows)

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
        event_id = core.entropy.new_id() if id is None else _checked_id(id)
        when = None if effective_at is None else from_datetime(effective_at)
        publish = Publish(event_id, _checked_text(str(name), "name"), _checked_text(str(key), "key"), payload, when)
        future = core.committer.publish(publish)
        core.pump()
        publication = await future
        if publication.outcome is PublishOutcome.CONFLICT:
            raise StartConflict(event_id, detail="another event name, key or payload")
        if when is not None and self._sweeper is not None:
            core.wake_soon(when, self._sweeper.soon)
        return event_id

    async def suspend_workflow(self, id: str, reason: str | None = None) -> bool:  # noqa: A002 - the public name
        """Let nothing begin until it is resumed; running bodies finish and are recorded. False: already so, or over."""
        return await self._request(id, ControlVerb.SUSPEND, reason)

    async def resume_workflow(self, id: str) -> bool:  # noqa: A002 - the public name
        """Let a suspended instance go on; a step that failed into suspension is tried again. False: not suspended."""
        return await self._request(id, ControlVerb.RESUME, None)

    async def cancel_workflow(self, id: str, reason: str | None = None) -> bool:  # noqa: A002 - the public name
        """Cancel: running bodies are asked to stop and have `cancel_grace` to do so, no further step starts. False: it is over."""
        return await self._request(id, ControlVerb.CANCEL, reason)

    async def terminate_workflow(self, id: str, reason: str | None = None) -> bool:  # noqa: A002 - the public name
        """End an instance at once; bodies are cancelled and late answers dropped. False: it is over."""
        return await self._request(id, ControlVerb.TERMINATE, reason)

    async def _request(self, instance_id: str, verb: ControlVerb, reason: str | None) -> bool:
        core = self._running()
        return await request(core, instance_id, verb, reason or "", grace=self._cancel_grace)

    # Blocking

    @property
    def sync(self) -> Any:  # noqa: ANN401 - typed by `BlockingHost`
        """A blocking view of this host, for programs without a loop: it owns a loop in a thread of its own."""
        from wfe.host.blocking import BlockingHost  # noqa: PLC0415 - only where it is used

        if self._blocking is None:
            self._blocking = BlockingHost(self)
        return self._blocking


def _begin_started(
    core: HostCore,
    registration: Registration,
    start: Start,
    state: InstanceState,
    transition: Transition | None,
    reply: CommitReply,
) -> None:
    """A start was accepted: take over its state and run what it made ready."""
    if transition is None:
        if start.changes.wake_at:
            core.wake_at(start.id, start.changes.wake_at)
        elif not registration.missing:
            core.want([start.id])
        return
    state.created_at = reply.now
    state.apply(transition)
    if transition.changes.ended:
        from wfe.host.waiting import ended_row  # noqa: PLC0415 - rare: a workflow without bodies

        core.waiters.ended(ended_row(state))
    elif start.changes.hold:
        core.started(registration, state, transition.run)
    elif transition.changes.hold:
        core.want([start.id])  # there was no room: whoever has some takes it
    elif start.id in reply.unread:
        core.want([start.id])
    elif start.changes.wake_at is not None:
        core.wake_at(start.id, start.changes.wake_at)


def _checked_id(given: str) -> str:
    text = _checked_text(given, "id")
    if "~" in text:
        msg = f"The id {given!r} contains '~', which is reserved for the ids of child instances."
        raise DataError(msg, path="$.id", reason="reserved_name")
    return text


def _checked_text(given: str, what: str) -> str:
    if not isinstance(given, str) or not given:
        msg = f"The {what} must be non-empty text, got {given!r}."
        raise DataError(msg, path=f"$.{what}")
    encode_typed(given, path=f"$.{what}")
    if len(given) > _MAX_ID * 5 or (what == "id" and len(given) > _MAX_ID):
        msg = f"The {what} is {len(given)} characters long; at most {_MAX_ID if what == 'id' else _MAX_ID * 5} are possible."
        raise DataError(msg, path=f"$.{what}", reason="too_large")
    return given


def _at_least_one(value: int, name: str) -> int:
    if not isinstance(value, int) or value < 1:
        msg = f"{name} must be a whole number of at least 1, got {value!r}."
        raise ConfigurationError(msg)
    return value


def _positive(value: DurationLike, name: str) -> timedelta:
    try:
        duration = to_timedelta(value)
    except (TypeError, ValueError) as error:
        msg = f"{name}: {error}"
        raise ConfigurationError(msg) from error
    if duration <= timedelta(0):
        msg = f"{name} must be above zero, got {value!r}."
        raise ConfigurationError(msg)
    return duration



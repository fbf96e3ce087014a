"""The life of a host: opening the store, the session, the sweep, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from wfe.host.bodies import BodySurroundings
from wfe.host.core import HostCore
from wfe.host.recall import Recall
from wfe.host.session import Renewal, Session, ThreadRenewal
from wfe.host.sweeper import Sweeper
from wfe.host.system import steady
from wfe.host.threads import ThreadPool
from wfe.model.errors import ConfigurationError, DefinitionError, ProviderUnavailable, ShuttingDown, WfeError
from wfe.model.repetition import Repetition
from wfe.ports.hints import Hint, HintKind
from wfe.ports.store import DefinitionRow

if TYPE_CHECKING:
    from wfe.host.events import Events
    from wfe.host.processes import Processes
    from wfe.host.registry import Registration, Registry
    from wfe.host.settings import Settings
    from wfe.model.definition import DefinitionKey
    from wfe.ports.clock import Clock, Entropy
    from wfe.ports.hints import Hints
    from wfe.ports.lease import Lease
    from wfe.ports.lifecycle import LifecyclePublisher
    from wfe.ports.store import Store

__all__ = ["Life"]

_log = logging.getLogger("wfe.host")
_log_lines = logging.getLogger("wfe.step")

_PORTION = 1000
_FORGET_EVERY = 60
_LONGEST_PAUSE = 60.0
"""Seconds between two rounds of housekeeping, however long sessions live."""


class Life:
    """Starts and stops what a host consists of."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        in_flight: int,
        hints: Hints,
        lease: Lease,
        lifecycle: LifecyclePublisher,
        registry: Registry,
        events: Events,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._settings = settings
        self._store = store
        self._in_flight = in_flight
        self._hints = hints
        self._lease = lease
        self._lifecycle = lifecycle
        self._registry = registry
        self._events = events
        self._clock = clock
        self._entropy = entropy
        self._core: HostCore | None = None
        self._session: Session | None = None
        self._sweeper: Sweeper | None = None
        self._threads: ThreadPool | None = None
        self._processes: Processes | None = None
        self._housekeeping: asyncio.Task[None] | None = None
        self._unsaved: list[Registration] = []
        self._saving = asyncio.Lock()
        self._refused: dict[DefinitionKey, str] = {}
        """Definitions that the store has refused, and why."""
        self._is_alone = True
        self._pid = os.getpid()
        self.renewal: Callable[[], Renewal] = ThreadRenewal
        """How sessions are renewed; a simulation, which has no threads, puts a task here."""
        self.log_sinks: list[Callable[[str, str, str, str], None]] = []

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._core is not None

    def core(self) -> HostCore:
        """Give the running parts.

        Raises:
            ShuttingDown: The host has not been started, or has been stopped.
            ConfigurationError: This is another process, or another event loop, than the one that started it.
        """
        if self._core is None:
            msg = (
                "The host is not running. Use it as `async with WorkflowHost(…) as host:`, or await host.start() first."
            )
            raise ShuttingDown(msg)
        if os.getpid() != self._pid:
            msg = "This host belongs to the process that made it; make a new one after a fork."
            raise ConfigurationError(msg)
        _check_loop(self._core)
        return self._core

    # Beginning

    async def start(self) -> None:
        """Open the store, check definitions, begin a session and the sweep."""
        if self._core is not None:
            return
        self._pid = os.getpid()
        await self._store.open()
        try:
            await self._begin()
        except BaseException:
            await self._abandon_start()
            raise

    async def _begin(self) -> None:
        core = self._make_core()
        core.draining = True  # until it has a session
        self._core = core
        self._unsaved = list(self._registry)
        self._saving = asyncio.Lock()
        await self.save_definitions()
        await self._begin_session(core)
        # Takes nothing; the reply tells the store's time, which this machine's clock may be far from.
        await core.taking.take(0)
        self._registry.forget_recalled()
        recall = Recall(self._store, self._registry)
        self._sweeper = Sweeper(core, recall, self._settings.sweep_interval.total_seconds())
        self._sweeper.start()
        self._housekeeping = core.loop.create_task(self._keep_house(core))
        self._events.open()

    def _make_core(self) -> HostCore:
        settings = self._settings
        self._threads = ThreadPool(settings.max_threads, "wfe-body")
        around = BodySurroundings(
            threads=self._threads,
            step_factory=settings.step_factory,
            log=self._body_log,
            process_pool=self._process_pool,
            cancel_grace=settings.cancel_grace.total_seconds(),
        )
        core = HostCore(
            store=self._store,
            hints=self._hints,
            registry=self._registry,
            clock=self._clock,
            entropy=self._entropy,
            limits=settings.limits,
            around=around,
            max_concurrency=settings.max_concurrency,
            max_active=settings.max_active,
            in_flight=self._in_flight,
            alone=lambda: self._is_alone,
        )
        core.on_commit.append(self._lifecycle.wake)
        return core

    async def _begin_session(self, core: HostCore) -> None:
        session = Session(
            self._lease,
            self._entropy.new_id(),
            ttl=self._settings.lease_ttl,
            clock=steady(self._clock),
            stall_limit=self._settings.loop_stall_limit.total_seconds(),
            lost=self._session_lost,
            renewal=self.renewal,
        )
        await session.begin(self._settings.name or f"pid {os.getpid()}")
        try:
            await self._hints.open(session.id, self._received)
            self._is_alone = len(await self._lease.alive()) <= 1
        except BaseException:
            # Or its thread would renew it for ever; also where the start was cancelled.
            await asyncio.shield(session.end())
            raise
        if session.is_over:
            await session.end()
            msg = "The session was over before the host could use it: the store answers too slowly. Try again."
            raise ProviderUnavailable(msg)
        # All at once: what is taken for a session while the host begins nothing would be held, and never begin.
        self._session = session
        core.session_id = session.id
        core.is_sure = session.is_sure
        core.draining = self._core is not core
        if not self._is_alone:
            # Others learn that they are not alone any more, and tell this host from now on.
            await self._hints.send(None, [Hint(HintKind.WORK, ())])

    async def _abandon_start(self) -> None:
        self._core = None
        if self._threads is not None:
            self._threads.close()
        if self._session is not None:
            await self._session.end()
            self._session = None
        await self._store.close()

    # Going on

    def _received(self, hint: Hint) -> None:
        self._is_alone = False
        if self._core is not None:
            self._core.incoming.hear(hint)
            if not hint.ids:
                self.look_around()

    def _session_lost(self, reason: str) -> None:
        """The lease is lost: stop every body, write nothing, and begin anew."""
        core = self._core
        if core is None or self._session is None or self._session.id != core.session_id:
            return
        _log.error("This host lost its session (%s): it stops its bodies and writes nothing of what they did", reason)
        core.draining = True
        core.session_id = ""  # replies still on their way are to one that is over
        core.drop_all()
        core.background(self._renew_session(core))

    async def _renew_session(self, core: HostCore) -> None:
        pause = 0.1
        old, trouble = self._session, Repetition()
        while self._core is core:
            try:
                await self._hints.close()
                await self._begin_session(core)
            except WfeError as error:
                if trouble.again():
                    _log.warning(
                        "A new session could not be begun, trying again (failure %d in a row): %s", trouble.count, error
                    )
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5)
            else:
                self.look_around()
                break
        if old is not None and old is not self._session:
            # What it held is free at once, and not when it would have expired.
            await old.end()

    async def _keep_house(self, core: HostCore) -> None:
        """Now and then: see whether other sessions live, and forget old events."""
        rounds, trouble = 0, Repetition()
        while True:
            await asyncio.sleep(max(1.0, min(self._settings.lease_ttl.total_seconds() / 3, _LONGEST_PAUSE)))
            try:
                self._is_alone = len(await self._lease.alive()) <= 1
                if rounds % _FORGET_EVERY == 0:
                    await self._forget_events(core)
                rounds += 1
                trouble.over()
            except WfeError as error:
                if trouble.again():
                    _log.warning(
                        "Housekeeping could not reach the store (failure %d in a row): %s", trouble.count, error
                    )

    async def _forget_events(self, core: HostCore) -> None:
        before = core.now() - self._settings.event_retention // timedelta(microseconds=1)
        dropped = _PORTION
        while dropped >= _PORTION:
            dropped = await core.store.drop_events(before, _PORTION)

    def look_around(self) -> None:
        """Sweep at once: something has changed that lets instances go on."""
        if self._sweeper is not None:
            self._sweeper.soon()

    # Definitions

    def registered(self, registration: Registration | None = None) -> None:
        """A definition (or a step type) was registered: record it, and let what waited for it go on."""
        if registration is not None:
            self._unsaved.append(registration)
        if self._core is not None:
            self._core.code_came()
            if self._unsaved:
                self._core.background(self._save_while_running())
        self.look_around()

    def deregistered(self) -> None:
        """A definition was taken away: what waits in memory must not go on with it."""
        if self._core is not None:
            self._core.residents.give_back_all()

    async def _save_while_running(self) -> None:
        try:
            await self.save_definitions()
        except DefinitionError as error:
            _log.error("%s", error)
        except ShuttingDown:
            return  # the next start records everything that is registered

    async def save_definitions(self) -> None:
        """Record what has been registered since the last time.

        Raises:
            DefinitionError: Unfinished instances in the store use another structure of the same id and version. Such
                a definition is no longer registered.
        """
        if not self._unsaved and not self._saving.locked():
            return
        async with self._saving:
            await self._save_unsaved()

    async def _save_unsaved(self) -> None:
        core = self.core()
        unsaved, self._unsaved = self._unsaved, []
        problems: list[str] = []
        while unsaved:
            registration = unsaved[0]
            definition = registration.definition
            try:
                in_use = await core.store.save_definition(
                    DefinitionRow(registration.key, definition.to_json(), definition.source)
                )
            except WfeError:
                self._unsaved[:0] = unsaved
                raise
            unsaved.pop(0)
            self._refused.pop(registration.key, None)
            if in_use is not None:
                self._registry.deregister(definition.id, definition.version)
                core.residents.give_back_all()
                problem = (
                    f"{definition.id!r} version {definition.version} has another structure than the one that "
                    f"unfinished instances in the store use ({in_use.hash[:8]}; this one is {definition.hash[:8]}). "
                    "Give the changed definition a new version."
                )
                self._refused[registration.key] = problem
                problems.append(problem)
        if problems:
            raise DefinitionError(problems)

    async def check(self, registration: Registration) -> None:
        """Make sure that a definition is recorded, before instances of it are started.

        Raises:
            DefinitionError: The store has refused it.
        """
        with contextlib.suppress(DefinitionError):  # perhaps of another one: whether it is this one is told below
            await self.save_definitions()
        problem = self._refused.get(registration.key)
        if problem is not None:
            raise DefinitionError(problem)

    # What bodies need

    def _process_pool(self) -> Processes:
        if self._processes is None:
            from wfe.host.processes import Processes

            self._processes = Processes(self._settings.max_processes)
        return self._processes

    def _body_log(self, workflow_id: str, step: str, stream: str, text: str) -> None:
        _log_lines.info("%s %s %s: %s", workflow_id, step, stream, text)
        for sink in self.log_sinks:
            try:
                sink(workflow_id, step, stream, text)
            except Exception:  # noqa: BLE001 - beside what the body does; it is logged
                _log.exception("A log listener failed on a line of %s step %s", workflow_id, step)

    # Ending

    async def stop(self, timeout: timedelta, *, force: bool) -> None:
        """Begin nothing more, let bodies end, write what they answered, give everything back."""
        core = self._core
        if core is None:
            return
        _check_loop(core)
        self._core = None
        core.draining = True
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        if self._sweeper is not None:
            await self._sweeper.stop()
        if not force:
            await _drain(core, timeout.total_seconds())
        core.alarms.stop()
        holds = core.holds()
        core.drop_all()
        core.waiters.close()
        await _end_tasks(core)
        try:
            if holds:
                await core.store.release(core.session_id, holds)
        except WfeError as error:
            _log.warning("Instances could not be given back (their lease expires by itself): %s", error)
        await self._close()

    async def _close(self) -> None:
        await self._events.close()
        await self._hints.close()
        if self._session is not None:
            await self._session.end()
            self._session = None
        if self._threads is not None:
            self._threads.close()
        if self._processes is not None:
            self._processes.close()
            self._processes = None
        await self._store.close()


def _check_loop(core: HostCore) -> None:
    """Refuse to work in another loop than the host's own, where nothing of it could be awaited."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if loop is not core.loop:
        msg = (
            "This host runs in another event loop than the one that calls it. Call it in the loop that started it, or "
            "from another thread by `asyncio.run_coroutine_threadsafe(host.run(…), loop).result()`. If host.sync "
            "started it, call `host.sync.run(…)`, in a thread without a loop."
        )
        raise ConfigurationError(msg)


async def _drain(core: HostCore, timeout: float) -> None:
    deadline = core.monotonic() + timeout
    while True:
        bodies = [run.task for runner in core.runners.values() for run in runner.bodies.values() if run.task]
        left = deadline - core.monotonic()
        if not bodies or left <= 0:
            break
        await asyncio.wait(bodies, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    for runner in core.runners.values():
        runner.end_in_good_order()
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(max(1.0, deadline - core.monotonic())):
            await core.settled()
    except TimeoutError:
        _log.warning("The store did not take the last transitions in time; what they did will be repeated")


async def _end_tasks(core: HostCore) -> None:
    tasks = [task for task in core.tasks if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=5)

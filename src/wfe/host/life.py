"""The life of a host: opening the store, the session, the sweep, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from wfe.host.bodies import BodySurroundings
from wfe.host.core import HostCore
from wfe.host.effort import Effort
from wfe.host.ending import Ending, Part
from wfe.host.housekeeping import Housekeeping
from wfe.host.membership import Membership
from wfe.host.recall import Recall
from wfe.host.session import Renewal, ThreadRenewal
from wfe.host.sweeper import Sweeper
from wfe.host.threads import ThreadPool
from wfe.model.errors import ConfigurationError, DefinitionError, ShuttingDown, WfeError
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
        self._beginning: Effort | None = None
        """The start that is under way."""
        self._ending: Ending | None = None
        """The stop that is under way, or was the last one."""
        self._membership: Membership | None = None
        self._sweeper: Sweeper | None = None
        self._threads: ThreadPool | None = None
        self._processes: Processes | None = None
        self._housekeeping: Housekeeping | None = None
        self._unsaved: list[Registration] = []
        self._saving = asyncio.Lock()
        self._refused: dict[DefinitionKey, str] = {}
        """Definitions that the store has refused, and why."""
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
        _check_loop(self._core.loop)
        return self._core

    # Beginning

    async def start(self) -> None:
        """Open the store, check definitions, begin a session and the sweep.

        Raises:
            ShuttingDown: Somebody has stopped the host while it started.
        """
        while (under_way := self._under_way()) is not None:
            _check_loop(under_way.loop)
            await under_way.over()
        if self._core is not None:
            return
        self._beginning = Effort()
        try:
            has_begun = await self._beginning.through(self._start())
        finally:
            self._beginning = None
        if not has_begun:
            msg = "The host was stopped while it started."
            raise ShuttingDown(msg)

    def _under_way(self) -> Effort | Ending | None:
        """Give the start or the stop that has begun and is not over."""
        if self._beginning is not None:
            return self._beginning
        return None if self._ending is None or self._ending.is_over else self._ending

    async def _start(self) -> None:
        self._pid = os.getpid()
        await self._store.open()
        core, membership = self._make_core()
        try:
            await self._begin(core, membership)
        except BaseException:
            await self._end(core, None).wait()
            raise

    async def _begin(self, core: HostCore, membership: Membership) -> None:
        core.draining = True  # until it has a session
        self._core = core
        self._unsaved = list(self._registry)
        self._saving = asyncio.Lock()
        await self.save_definitions()
        await membership.join()
        # Takes nothing; the reply tells the store's time, which this machine's clock may be far from.
        await core.taking.take(0)
        self._registry.forget_recalled()
        recall = Recall(self._store, self._registry)
        self._sweeper = Sweeper(core, recall, self._settings.sweep_interval.total_seconds())
        self._sweeper.start()
        self._housekeeping = Housekeeping(core, membership, self._settings)
        self._housekeeping.start()
        self._events.open()

    def _make_core(self) -> tuple[HostCore, Membership]:
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
            alone=lambda: membership.is_alone,
        )
        core.on_commit.append(self._lifecycle.wake)
        self._membership = membership = Membership(
            core, settings, self._lease, renewal=self.renewal, look_around=self.look_around
        )
        return core, membership

    # Going on

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
            self._core.residents.code_changed()
            self._core.code_came()
            if self._unsaved:
                self._core.background(self._save_while_running())
        self.look_around()

    def deregistered(self) -> None:
        """A definition was taken away: what waits in memory must not go on with it."""
        if self._core is not None:
            self._core.residents.code_changed()

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
                core.residents.code_changed()
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
        """Begin nothing more, let bodies end, write what they answered, give everything back.

        It is carried through also when the caller is cancelled meanwhile; bodies are not waited for any longer then.
        Whoever calls it while it is under way waits for the same end. A start that is under way is given up.
        """
        while self._beginning is not None:
            _check_loop(self._beginning.loop)
            self._beginning.give_up()
            await self._beginning.over()
        if self._core is not None:
            _check_loop(self._core.loop)
            self._end(self._core, None if force else timeout.total_seconds())
        if self._ending is None or self._ending.is_over:
            return
        _check_loop(self._ending.loop)
        if force:
            await self._ending.hasten()
        else:
            await self._ending.wait()

    def _end(self, core: HostCore, timeout: float | None) -> Ending:
        self._core = None
        core.draining = True
        if self._membership is not None:
            self._membership.leave()
        ending = Ending(
            core,
            timeout,
            first=list(self._parts_before_bodies()),
            last=[
                ("end subscriptions", lambda: self._events.close(ending.callers)),
                *self._parts_after_bodies(),
                ("close the store", self._store.close),
            ],
        )
        self._ending = ending
        ending.begin()
        return ending

    def _parts_before_bodies(self) -> Iterator[Part]:
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            yield "end the sweep", sweeper.stop
        housekeeping, self._housekeeping = self._housekeeping, None
        if housekeeping is not None:
            yield "end housekeeping", housekeeping.stop

    def _parts_after_bodies(self) -> Iterator[Part]:
        if self._membership is not None:
            yield "close the hints", self._membership.close_hints
            yield "end the sessions", self._membership.end_sessions
        if self._threads is not None:
            yield "let threads end", self._threads.close
        yield "end processes", self._end_processes

    def _end_processes(self) -> None:
        processes, self._processes = self._processes, None
        if processes is not None:
            processes.close()


def _check_loop(expected: asyncio.AbstractEventLoop) -> None:
    """Refuse to work in another loop than the host's own, where nothing of it could be awaited."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if loop is not expected:
        msg = (
            "This host runs in another event loop than the one that calls it. Call it in the loop that started it, or "
            "from another thread by `asyncio.run_coroutine_threadsafe(host.run(…), loop).result()`. If host.sync "
            "started it, call `host.sync.run(…)`, in a thread without a loop."
        )
        raise ConfigurationError(msg)

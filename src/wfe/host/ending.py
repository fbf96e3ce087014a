"""The end of a host: once begun it is carried through, whoever gives up waiting for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from wfe.host.effort import Effort
from wfe.model.errors import WfeError

if TYPE_CHECKING:
    from wfe.host.core import HostCore

__all__ = ["Ending", "Part", "all_of"]

_log = logging.getLogger("wfe.host")

_TASKS_MAY_TAKE = 5
"""Seconds that what runs beside the bodies has for its end."""

Part: TypeAlias = tuple[str, Callable[[], Awaitable[None] | None]]
"""Something to be done, and what to call it in the log."""


async def all_of(parts: Iterable[Part]) -> None:
    """Do every part in turn, also if an earlier one failed (that is logged) or was cancelled (that is passed on)."""
    cancelled: asyncio.CancelledError | None = None
    for name, part in parts:
        try:
            work = part()
            if work is not None:
                await work
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: BLE001 - what is left must be closed whatever this was
            _log.exception("A host that ends could not do this, and goes on: %s", name)
    if cancelled is not None:
        raise cancelled


class Ending:
    """Lets bodies end, gives everything back and closes the parts of a host; all who stop the host wait for the same.

    It is a task of its own. A cancellation of who waits for it hastens it, and passes on once it is over. A second one
    passes on at once. If the task itself is cancelled (by a loop that ends), what it waits for is cut short, and the
    rest is done.
    """

    def __init__(self, core: HostCore, timeout: float | None, *, first: Sequence[Part], last: Sequence[Part]) -> None:
        """Prepare the end of what begins nothing any more.

        Args:
            core: What ends.
            timeout: For so many seconds bodies are waited for. None: by force, they are cut off.
            first: Done before bodies are waited for.
            last: Done after everything was given back.
        """
        self.loop = core.loop
        self.callers: set[asyncio.Task[Any] | None] = set()
        """Tasks that wait for the end, so that it must not wait for them."""
        self._core = core
        self._timeout = timeout
        self._draining = Effort()
        self._holds: Sequence[tuple[str, int]] = ()
        self._parts: list[Part] = [
            *first,
            ("wait for bodies", self._wait_for_bodies),
            ("let go of instances", self._let_go),
            ("end what runs beside", self._end_tasks),
            ("give instances back", self._give_back),
            *last,
        ]
        self._over = asyncio.Event()

    def begin(self) -> None:
        """Begin it."""
        self.loop.create_task(self._go()).add_done_callback(self._ended)

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end."""
        return self._over.is_set()

    async def over(self) -> None:
        """Return when it is over."""
        await self._over.wait()

    async def hasten(self) -> None:
        """As `wait`, but bodies are not waited for any longer."""
        self._draining.give_up()
        await self.wait()

    async def wait(self) -> None:
        """Wait for the end; a cancellation does not leave it halfway."""
        caller = asyncio.current_task()
        self.callers.add(caller)
        try:
            await self._over.wait()
        except asyncio.CancelledError:
            self._draining.give_up()
            await self._over.wait()
            raise
        finally:
            self.callers.discard(caller)

    async def _go(self) -> None:
        try:
            await all_of(self._parts)
        finally:
            self._over.set()

    def _ended(self, _task: asyncio.Task[None]) -> None:
        """Begin anew if it has not begun: a task that is cancelled before its first step does nothing at all."""
        if not self.is_over:
            self.begin()

    async def _wait_for_bodies(self) -> None:
        if self._timeout is not None:
            await self._draining.through(_drain(self._core, self._timeout, self.callers))

    def _let_go(self) -> None:
        core = self._core
        core.alarms.stop()
        self._holds = core.holds()
        core.drop_all()
        core.waiters.close()

    async def _end_tasks(self) -> None:
        tasks = [task for task in self._core.tasks if task not in self.callers]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_TASKS_MAY_TAKE)

    async def _give_back(self) -> None:
        if not self._holds:
            return
        try:
            await self._core.store.release(self._core.session_id, self._holds)
        except WfeError as error:
            _log.warning("Instances could not be given back (their lease expires by itself): %s", error)


async def _drain(core: HostCore, timeout: float, callers: Collection[asyncio.Task[Any] | None]) -> None:
    """Wait for bodies, but for none that itself waits for the end, and for what they answered to be written."""
    deadline = core.monotonic() + timeout
    while True:
        running = [run.task for runner in core.runners.values() for run in runner.bodies.values() if run.task]
        bodies = [task for task in running if task not in callers]
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

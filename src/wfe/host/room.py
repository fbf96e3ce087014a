"""Room for bodies: how many run at once, on this host and of one type, and who waits for room."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any

from wfe.host.bodies import BodyRun, BodySurroundings
from wfe.model.message import Answered, Begun, BodyStopped, Failed

if TYPE_CHECKING:
    from wfe.engine.state import InstanceState
    from wfe.host.registry import Body
    from wfe.host.runner import Runner

__all__ = ["Room"]


class Room:
    """Runs bodies, as many as there is room for; the others wait in order."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        around: BodySurroundings,
        *,
        limit: int,
        tasks: dict[asyncio.Task[Any], None],
        draining: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._around = around
        self._limit = limit
        self._tasks = tasks
        self._draining = draining
        self.active = 0
        """How many places are taken."""
        self._queue: deque[tuple[Runner, int]] = deque()
        self._running_of: dict[str, int] = {}
        """Step type with a limit of its own → bodies of it that run."""
        self._waiting_of: dict[str, deque[tuple[Runner, int]]] = {}
        self._limits: dict[str, int] = {}
        """Step type for which somebody has waited → how many bodies of it may run."""

    def run(self, runner: Runner, numbers: Collection[int]) -> None:
        """Run the bodies of pointers, as far as there is room."""
        if self._draining():
            return
        for number in numbers:
            self._queue.append((runner, number))
            runner.awaited.add(number)
        self._fill()

    def clear(self) -> None:
        """Forget who waits."""
        self._queue.clear()
        self._waiting_of.clear()

    def _fill(self) -> None:
        queue = self._queue
        while queue and self.active < self._limit:
            runner, number = queue.popleft()
            if not runner.held or number not in runner.awaited or not runner.may_begin(number):
                self._admit_next()
                continue
            pointer = runner.state.pointers.get(number)
            registration = runner.registration
            if pointer is None or not pointer.runs_body or registration is None or self._draining():
                runner.awaited.discard(number)
                self._admit_next()
                continue
            body = registration.bodies[pointer.step]
            if body.concurrency is not None and not self._takes_place(body, runner, number):
                continue
            runner.awaited.discard(number)
            loops = _loops(runner.state, pointer.scope, pointer.index) if pointer.scope else ()
            run = BodyRun(self._around, registration, body, runner.state, pointer, loops)
            work = self._run_recorded if body.counts_crashes else self._run
            self._begin(runner, number, run, work(runner, number, run))

    def _admit_next(self) -> None:
        """One that was let in does not begin: the next in line gets the place of its type that it would have taken."""
        for key, limit in self._limits.items():
            if self._waiting_of.get(key) and self._running_of.get(key, 0) < limit:
                self._admit(key)

    def _takes_place(self, body: Body, runner: Runner, number: int) -> bool:
        """Count a body of a limited type; put it aside where its type has no room."""
        key, limit = body.concurrency_key, body.concurrency
        assert limit is not None
        if self._running_of.get(key, 0) >= limit:
            self._waiting_of.setdefault(key, deque()).append((runner, number))
            self._limits[key] = limit
            return False
        self._running_of[key] = self._running_of.get(key, 0) + 1
        return True

    def _begin(self, runner: Runner, number: int, run: BodyRun, work: Coroutine[Any, Any, None]) -> None:
        runner.bodies[number] = run
        self.active += 1
        # The watchdog names the task that holds up the loop.
        task = self._loop.create_task(work, name=f"{run.step} of instance {runner.id}")
        run.task = task
        if not task.done():  # a factory of eager tasks may have run it to its end
            self._tasks[task] = None

    async def _run(self, runner: Runner, number: int, run: BodyRun) -> None:
        try:
            message = await run.answer()
        finally:
            self._over(run)
            self._leave(run)
        runner.body_done(number, run, message)

    def _over(self, run: BodyRun) -> None:
        """Its task ends now. The task itself tells it: a callback would cost every body another turn of the loop."""
        if run.task is not None:
            self._tasks.pop(run.task, None)

    async def _run_recorded(self, runner: Runner, number: int, run: BodyRun) -> None:
        """Run a body that counts crashes: it has its place while its beginning is recorded."""
        message: Answered | Failed | Begun | None = None
        try:
            if runner.state.pointers[number].begun:
                message = await run.host_died()
            elif await runner.record_beginning(number):
                # Nothing begins in a host that ends, so this has not begun either.
                message = runner.not_begun(number) if self._draining() else await run.answer()
        finally:
            self._over(run)
            self._leave(run)
        runner.body_done(number, run, message)

    def _leave(self, run: BodyRun) -> None:
        """Free the place of a body, once."""
        if run.has_left:
            return
        run.has_left = True
        self.active -= 1
        key = run.limited_as
        if key:
            self._running_of[key] -= 1
            self._admit(key)
        if self._queue:
            self._fill()

    def _admit(self, key: str) -> None:
        """Let the next body of a limited type try for the free place, passing over those that nobody wants."""
        waiting = self._waiting_of.get(key)
        while waiting:
            runner, number = waiting.popleft()
            if runner.held and number in runner.awaited:
                self._queue.appendleft((runner, number))
                return

    def stop(self, runner: Runner, number: int, run: BodyRun) -> None:
        """Ask a body to stop; after the grace it is given up, and its place is free."""
        run.stop()
        if run.has_begun:
            self._loop.call_later(self._around.cancel_grace, self._give_up, runner, number, run)
        else:
            self._over(run)
            self._give_up(runner, number, run)

    def abandon(self, run: BodyRun) -> None:
        """Ask a body to stop whose end nobody waits for."""
        run.stop()
        if not run.has_begun:
            self._over(run)
            self._leave(run)

    def _give_up(self, runner: Runner, number: int, run: BodyRun) -> None:
        self._leave(run)
        if runner.bodies.get(number) is run:
            del runner.bodies[number]
            if runner.held:
                runner.deliver(BodyStopped(number))


def _loops(state: InstanceState, scope: int, index: int) -> tuple[tuple[bytes, int], ...]:
    """Give the loops around a pointer, nearest first: item and index."""
    found: list[tuple[bytes, int]] = []
    while scope:
        container = state.pointers[scope]
        if index >= 0:
            found.append((state.item(scope, index), index))
        scope, index = container.scope, container.index
    return tuple(found)

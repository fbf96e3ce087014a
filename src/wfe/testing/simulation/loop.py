"""An event loop without outside: virtual time, and several simulated processes whose interleaving a seed decides.

Each process has a first-in-first-out queue of callbacks, as each real process has a loop of its own: asyncio promises
that order within one loop, and code may rely on it. What is not promised is how the loops of several processes
interleave. So a turn picks one process that has something to do, with the seeded generator, and runs one iteration of
its loop: everything that was in its queue. Reordering within a process comes from latencies, as in life.

Which process a callback belongs to is carried by a context variable: what a process schedules, its tasks inherit.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, TypeVar, TypeVarTuple, Unpack

__all__ = ["PROCESS", "Process", "SimulatedLoop", "SimulationStuck", "is_of_the_dead", "last_words", "unheard"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

PROCESS: ContextVar[Process] = ContextVar("wfe.simulation.process")
"""The process that the present callback belongs to."""


class SimulationStuck(Exception):
    """Nothing is ready, and no timer will ever make it so; or the run has taken more turns than it may."""


class Process:
    """One simulated process: its callbacks run, wait (paused), or are gone with it (dead)."""

    __slots__ = ("_resumed", "_unheard", "burnt", "dead", "fuse", "name", "owner", "paused", "ready", "rounds", "tasks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        """All that were ever made. A dead process's tasks must not be collected while others run: that would run
        their `finally` blocks, which no killed process does."""
        self.paused = False
        self.dead = False
        self.owner: object = None
        """What the simulation keeps for this process."""
        self.rounds = 0
        """Iterations of its loop that have begun."""
        self._resumed = 0
        self._unheard: list[asyncio.Task[Any]] = []
        self.fuse = 0
        """After so many more callbacks `burnt` is called: between any two awaits. 0: never."""
        self.burnt: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        state = "dead" if self.dead else "paused" if self.paused else "running"
        return f"<{self.name} {state}>"

    def go_on(self) -> None:
        """Let it run on after a pause."""
        if self.paused:
            self.paused = False
            self._resumed = self.rounds + 1

    def was_just_paused(self, tasks: int) -> bool:
        """Tell whether what runs now was ready before a pause, as so many tasks each begun by the one before."""
        return self._resumed <= self.rounds < self._resumed + tasks

    def kill(self) -> None:
        """End it at once: nothing of it ever runs again."""
        if not self.dead:
            self._unheard = unheard(self.tasks, self.ready)
        self.dead = True
        self.ready.clear()

    def unheard(self) -> list[asyncio.Task[Any]]:
        """List the tasks whose error nobody has asked for, now or at its death: since then nobody can have."""
        return self._unheard if self.dead else unheard(self.tasks, self.ready)


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs the callbacks of all processes in virtual time, which jumps to the next timer when nothing is ready."""

    def __init__(self, random: Random, *, max_turns: int = 150_000) -> None:
        super().__init__()
        self._random = random
        self._now = 0.0
        self._turns = max_turns
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process]] = []
        self._timer_count = 0
        self._is_over = False
        self.problems: list[str] = []
        """What callbacks raised and nobody caught."""
        self.root = Process("world")
        self._processes: list[Process] = [self.root]
        self.set_exception_handler(self._note)

    def process(self, name: str) -> Process:
        """Make a process."""
        made = Process(name)
        self._processes.append(made)
        return made

    def spawn(self, process: Process, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run something in a process."""
        return self.create_task(work, context=self.context_of(process))

    @staticmethod
    def context_of(process: Process) -> Context:
        """Give a context whose callbacks belong to a process."""
        context = copy_context()
        context.run(PROCESS.set, process)
        return context

    def time(self) -> float:
        """Give virtual seconds since the loop was made."""
        return self._now

    # What asyncio asks of a loop

    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.Handle:
        if context is None:
            context = copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        process = context.get(PROCESS) or self.root
        if not (process.dead or self._is_over):
            process.ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if context is None:
            context = copy_context()
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        process = context.get(PROCESS) or self.root
        if not (process.dead or self._is_over):
            self._timer_count += 1
            heapq.heappush(self._timers, (when, self._timer_count, timer, process))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:  # noqa: ANN401 - as asyncio has it
        if self._is_over:
            coro.close()
            raise RuntimeError("the simulation is over")
        task = super().create_task(coro, **options)
        context = options.get("context")
        process = (context.get(PROCESS) if context is not None else PROCESS.get(None)) or self.root
        process.tasks.append(task)
        return task

    def run_in_executor(self, executor: object, func: object, *args: object) -> Any:  # noqa: ANN401 - refused
        raise RuntimeError(f"no threads in a simulation: {func!r}")

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody has to be woken."""

    def _process_events(self, event_list: object) -> None:
        """There are no events from outside."""

    # Turns

    def _run_once(self) -> None:
        able = [process for process in self._processes if process.ready and not process.paused]
        if not able:
            self._to_next_timer()
            return
        self._turns -= 1
        if self._turns < 0:
            raise SimulationStuck(f"the run has not ended after its turns are used up, at {self._now:.3f} s")
        chosen = able[0] if len(able) == 1 else able[int(self._random.random() * len(able))]
        ready = chosen.ready
        chosen.rounds += 1
        for _ in range(len(ready)):
            if not ready or chosen.paused:
                break  # it was killed, or made to stand still, by one of its own
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()  # noqa: SLF001 - this is the loop
                if chosen.fuse:
                    chosen.fuse -= 1
                    if not chosen.fuse:
                        chosen.burnt()

    def _to_next_timer(self) -> None:
        timers = self._timers
        while timers:
            when, _, timer, process = heapq.heappop(timers)
            if timer.cancelled() or process.dead:
                continue
            self._now = max(self._now, when)
            process.ready.append(timer)
            while timers and timers[0][0] <= when:
                _, _, timer, process = heapq.heappop(timers)
                if not (timer.cancelled() or process.dead):
                    process.ready.append(timer)
            return
        raise SimulationStuck("nothing is ready and no timer is set")

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.problems.append(f"{context.get('message')}: {type(error).__name__}: {error}")

    # The end

    def unheard(self) -> list[asyncio.Task[Any]]:
        """List the tasks of all processes whose error nobody has asked for."""
        return [task for process in self._processes for task in process.unheard()]

    def dispose(self) -> None:
        """Take all processes down. Nothing that they still wanted to do is done."""
        self._is_over = True
        for process in self._processes:
            process.kill()
        # What is closed may begin a task in its `finally`: it asks this loop, which refuses, and makes none of its own.
        asyncio._set_running_loop(self)  # noqa: SLF001 - for those who write loops
        try:
            self._close_tasks()
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001
        self._timers.clear()
        self.close()

    def _close_tasks(self) -> None:
        with warnings.catch_warnings():
            # What was killed between making a coroutine and awaiting it never awaits it.
            warnings.simplefilter("ignore", RuntimeWarning)
            for process in self._processes:
                for task in process.tasks:
                    if not task.done():
                        context = copy_context()
                        context.run(PROCESS.set, process)  # so that what it says is known for what it is
                        context.run(_close, task)
                process.tasks.clear()


def is_of_the_dead() -> bool:
    """Tell whether what runs now is what is left of a dead process: nobody would ever have heard it."""
    process = PROCESS.get(None)
    return process is not None and process.dead


def unheard(tasks: Iterable[asyncio.Task[Any]], ready: Iterable[asyncio.Handle]) -> list[asyncio.Task[Any]]:
    """List the tasks that have ended with an error which nobody has asked for.

    A task that is kept never says so by itself: it would when it is collected.

    Args:
        tasks: All that there were.
        ready: What its loop is about to run: who is told there of an end is about to ask.
    """
    silent = [task for task in tasks if task.done() and not task.cancelled() and _is_unasked(task)]
    if not silent:
        return []
    told = {id(each) for handle in ready for each in handle._args or ()}  # noqa: SLF001 - for those who write loops
    return [task for task in silent if id(task) not in told]


def _is_unasked(task: Any) -> bool:  # noqa: ANN401 - asyncio's own name for it is no public one
    return bool(task._log_traceback)  # noqa: SLF001


def last_words(task: asyncio.Task[Any]) -> str:
    """Say with what a task has ended that raised."""
    error, work = task.exception(), task.get_coro()
    return f"{getattr(work, '__qualname__', work)} has ended with {type(error).__name__}: {error}"


def _close(task: asyncio.Task[Any]) -> None:
    """Let go of a task that was killed, without a word about it."""
    killed: Any = task
    killed._log_destroy_pending = False  # noqa: SLF001 - asyncio's own name for it
    with contextlib.suppress(BaseException):
        killed.get_coro().close()

"""What lies between simulated hosts and the store: latency, errors, lost replies, requests that arrive late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any, TypeVar

from wfe.model.errors import ProviderUnavailable, WfeError
from wfe.testing.simulation.loop import PROCESS, Process, SimulatedLoop
from wfe.testing.simulation.trace import Trace

__all__ = ["CALM", "Fate", "HostGone", "Network", "Weather"]

_T = TypeVar("_T")


class HostGone(Exception):
    """The host that was asked is not there any more: what was asked of it may have happened or not."""


class Fate(Enum):
    """What becomes of one request."""

    DONE = "done"
    REFUSED = "refused"
    """It is not executed; the caller gets an error."""
    REPLY_LOST = "reply lost"
    """It is executed; the caller gets an error."""
    LATE = "late"
    """The caller gets an error; afterwards it is executed all the same."""


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How often something goes wrong, as probabilities per request; durations in seconds."""

    refused: float = 0.0
    reply_lost: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    """Requests that take up to `slowest`."""
    slowest: float = 2.0
    usual: float = 0.004
    """Requests take up to so long in each direction."""
    hint_lost: float = 0.0
    hint_doubled: float = 0.0
    hints_stay_lost: bool = False
    """Hints are lost as before when all other faults have ended: work must go on without them."""


CALM = Weather()


class Network:
    """Carries the requests of all processes to the one store, and its replies back."""

    def __init__(self, loop: SimulatedLoop, seed: str, weather: Weather, trace: Trace, seen: Counter[str]) -> None:
        self.loop = loop
        self.weather = weather
        self.cut: set[str] = set()
        """Names of processes whose requests and replies are all lost."""
        self.is_down = False
        """Whether the store is out of everybody's reach."""
        self.lying: set[str] = set()
        """Names of processes whose lease service says yes to every renewal, and renews nothing."""
        self.seen = seen
        self._seed = seed
        self._randoms: dict[str, Random] = {}
        """One for each process, so that what one does leaves the fate of the others as it is."""
        self._trace = trace
        self._store = loop.context_of(loop.process("store"))

    async def call(self, name: str, work: Callable[[], Coroutine[Any, Any, _T]], *, detail: str = "") -> _T:
        """Send a request and wait for its reply.

        Raises:
            ProviderUnavailable: As fate has it.
        """
        process = PROCESS.get()
        fate = self.fate(process)
        answer: Any = self.loop.create_future()
        random = self._random_of(process)
        arrives = self._latency(random)

        def refuse() -> None:
            if not answer.done():
                answer.set_exception(
                    ProviderUnavailable(f"The store did not answer to {name}, as planned ({fate.value}).")
                )

        def execute() -> None:
            if process.dead and random.random() < 0.5:
                self._trace.note(process.name, f"{name} went down with its host")
                return
            self._execute(process, name, work, fate, answer, refuse, detail)

        if fate in {Fate.REFUSED, Fate.LATE}:
            self.loop.call_later(arrives, refuse, context=self._store)
        if fate is Fate.REFUSED:
            self._trace.note(process.name, f"{name} {detail} {fate.value}")
        else:
            delay = arrives + (random.random() * 3.0 if fate is Fate.LATE else 0.0)
            self.loop.call_later(delay, execute, context=self._store)
        return await answer  # type: ignore[no-any-return]  # the work's own

    def _execute(  # noqa: PLR0917 - all that is known of one request
        self,
        process: Process,
        name: str,
        work: Callable[[], Coroutine[Any, Any, Any]],
        fate: Fate,
        answer: Any,  # noqa: ANN401 - a future of whatever the work gives
        refuse: Callable[[], None],
        detail: str,
    ) -> None:
        is_cut = self._is_cut(process)
        if is_cut:
            self._note_cut()
        lost = fate is not Fate.DONE or is_cut
        self._trace.note(process.name, f"{name} {detail} {fate.value if fate is not Fate.DONE else ''}")
        value: Any = None
        error: Exception | None = None
        try:
            value = run_now(work())
        except Exception as raised:  # noqa: BLE001 - handed to the caller
            error = raised
            if not isinstance(raised, WfeError | HostGone):  # a store raises none: it is a checker's
                self.loop.call_exception_handler({"message": f"{name} in the store", "exception": raised})

        def reply() -> None:
            if answer.done():
                return
            if lost:
                refuse()
            elif error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)

        self.loop.call_later(self._latency(self._random_of(process)), reply, context=self._store)

    def fate(self, process: Process) -> Fate:
        """Draw what becomes of a request."""
        if self._is_cut(process):
            chosen = Fate.REFUSED
            self._note_cut()
        else:
            weather = self.weather
            draw = self._random_of(process).random()
            chosen = Fate.DONE
            for fate, rate in (
                (Fate.REFUSED, weather.refused),
                (Fate.REPLY_LOST, weather.reply_lost),
                (Fate.LATE, weather.late),
            ):
                if draw < rate:
                    chosen = fate
                    break
                draw -= rate
        self.seen[f"request {chosen.value}"] += 1
        return chosen

    def _note_cut(self) -> None:
        self.seen["fault outage" if self.is_down else "fault cut"] += 1

    def _is_cut(self, process: Process) -> bool:
        return self.is_down or process.name in self.cut

    def post(self, process: Process, callback: Callable[[], object], what: str) -> None:
        """Carry a hint to a process, if fate wills; perhaps twice."""
        weather, random = self.weather, self._random_of(process)
        if self._is_cut(process) or random.random() < weather.hint_lost:
            self._trace.note(process.name, f"lost {what}")
            self.seen["hint lost"] += 1
            return
        context = self.loop.context_of(process)
        times = 2 if random.random() < weather.hint_doubled else 1
        self.seen["hint doubled" if times == 2 else "hint carried"] += 1
        for _ in range(times):
            self.loop.call_later(self._latency(random), callback, context=context)

    def _random_of(self, process: Process) -> Random:
        found = self._randoms.get(process.name)
        if found is None:
            found = self._randoms[process.name] = Random(f"{self._seed}:{process.name}")  # noqa: S311 - repeatable
        return found

    def _latency(self, random: Random) -> float:
        if self.weather.slow and random.random() < self.weather.slow:
            self.seen["request slow"] += 1
            return random.random() * self.weather.slowest
        return (0.1 + 0.9 * random.random()) * self.weather.usual


def run_now(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # the coroutine's own
    work.close()
    raise AssertionError("the inner store has waited for something")

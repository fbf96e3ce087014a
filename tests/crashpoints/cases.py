"""Runs scenarios, without faults and with one, and compares."""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tests.crashpoints.outcome import Outcome, differences, look
from tests.crashpoints.world import BODY_BEGUN, BODY_ENDED, World
from wfe.model.errors import WfeError
from wfe.testing.failpoints import Blow, Crashed, Failpoint, Gate, Mode, failpoints
from wfe.testing.simulation.loop import SimulationStuck, is_of_the_dead

if TYPE_CHECKING:
    from tests.crashpoints.places import Place
    from tests.crashpoints.scenario import Scenario

__all__ = ["BODIES", "Baseline", "Verdict", "baseline", "cases_of", "part_of", "strike"]

BODIES = (Failpoint(BODY_BEGUN, (Mode.CRASH_BEFORE,)), Failpoint(BODY_ENDED, (Mode.CRASH_BEFORE,)))
_CRASHES = {Mode.CRASH_BEFORE, Mode.CRASH_AFTER}
_Begun: TypeAlias = tuple[str, str, int, str]
"""A body: its step, its idempotency key, the attempt, and what tells the runs of one attempt apart."""
_LOG = logging.getLogger("wfe")


@dataclass(frozen=True)
class Baseline:
    """A run without faults."""

    outcome: Outcome
    passages: Counter[str]
    """How often each failpoint was reached."""
    begins: Counter[_Begun]


@dataclass(frozen=True)
class Verdict:
    """What one fault did. It counts only if it has struck."""

    blow: Blow
    has_struck: bool
    was_passed: bool
    """The run came by the failpoint so often that the fault was to strike."""
    problems: tuple[str, ...]
    repeats: int
    """Bodies that began again."""


def baseline(scenario: Scenario, make_place: Callable[[], Place]) -> Baseline:
    """Run a scenario without faults; what it leaves is what it says.

    Raises:
        AssertionError: It does not end as it says.
    """
    outcome, gate, problems, begins = _run(scenario, make_place, None)
    assert outcome is not None, f"{scenario.name}: {problems}"
    assert not problems, f"{scenario.name}: {problems}"
    assert outcome.statuses == dict(scenario.ends), f"{scenario.name} ended {outcome.statuses}: {outcome}"
    assert not outcome.problems, f"{scenario.name}: {outcome.problems}"
    return Baseline(outcome, gate.passages, begins)


def cases_of(passages: Counter[str], *, most: int = 1_000_000) -> list[Blow]:
    """List all faults of a scenario: each passage of each failpoint that it reaches, in every mode.

    Args:
        most: Take so many passages of one point at most.
    """
    return [
        Blow(point.name, passage, mode)
        for point in (*failpoints(), *BODIES)
        for passage in range(1, min(passages[point.name], most) + 1)
        for mode in point.modes
    ]


def part_of(blows: Iterable[Blow], part: int, parts: int) -> list[Blow]:
    """Choose one part of some faults: by each fault itself, as another process may have listed others beside it."""
    return [blow for blow in blows if zlib.crc32(str(blow).encode()) % parts == part]


def strike(
    scenario: Scenario, make_place: Callable[[], Place], blow: Blow, calm: Baseline, *, tries: int = 1
) -> Verdict:
    """Run a scenario with one fault, and compare.

    Args:
        tries: In real time it is chance whether a run comes by a failpoint so often; run it so many times at most,
            until the fault strikes.
    """
    for _ in range(tries - 1):
        verdict = _strike_once(scenario, make_place, blow, calm)
        if verdict.has_struck or verdict.problems:
            return verdict
    return _strike_once(scenario, make_place, blow, calm)


def _strike_once(scenario: Scenario, make_place: Callable[[], Place], blow: Blow, calm: Baseline) -> Verdict:
    outcome, gate, problems, begins = _run(scenario, make_place, blow)
    if outcome is None:
        assert problems, f"{scenario.name} with {blow} left nothing, and nobody says why"
    else:
        problems += differences(outcome, calm.outcome)
    allowed = 1 if blow.mode in _CRASHES and not scenario.counts_crashes else 0
    repeats = {each: count - max(1, calm.begins[each]) for each, count in begins.items()}
    problems += [f"{which} began {count} times more" for which, count in repeats.items() if count > allowed]
    was_passed = gate.passages[blow.point] >= blow.passage
    return Verdict(blow, gate.has_struck, was_passed, tuple(problems), sum(repeats.values()))


def _run(
    scenario: Scenario, make_place: Callable[[], Place], blow: Blow | None
) -> tuple[Outcome | None, Gate, list[str], Counter[_Begun]]:
    place = make_place()
    gate = Gate(blow, latency=place.latency, open_end=not place.is_virtual)
    world = World(place, scenario, gate)
    problems: list[str] = []
    outcome: list[Outcome] = []

    async def work() -> None:
        await world.run()
        outcome.append(await look(world))
        await world.admin.store.close()

    with _quiet(problems):
        try:
            place.run(work)
        except (SimulationStuck, TimeoutError) as error:
            problems.append(f"stuck: {type(error).__name__} {error}, bodies begun: {world.begun[-5:]}")
        except Exception as error:  # noqa: BLE001 - what a client was told that no fault explains
            problems.append(f"a client was told {error!r}")
        finally:
            problems += world.problems
            problems += [f"uncaught: {each}" for each in place.close()]
    begins = Counter((begin.step, begin.key, begin.attempt, begin.stage) for begin in world.begun)
    return (outcome[0] if outcome else None), gate, problems, begins


class _Listener(logging.Handler):
    """Hears what hosts log that no fault explains."""

    _BAD = ("could not go on", "committer failed", "sweep failed", "cannot be read", "unreadable", "corrupt")

    def __init__(self, problems: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, Crashed) or is_of_the_dead():
            return
        is_programs = error is not None and not isinstance(error, WfeError)
        if is_programs or any(words in text for words in self._BAD):
            self._problems.append(f"log: {text} ({error!r})")


@contextmanager
def _quiet(problems: list[str]) -> Iterator[None]:
    listener, level, propagates = _Listener(problems), _LOG.level, _LOG.propagate
    _LOG.addHandler(listener)
    _LOG.setLevel(logging.ERROR)
    _LOG.propagate = False
    try:
        yield
    finally:
        _LOG.removeHandler(listener)
        _LOG.setLevel(level)
        _LOG.propagate = propagates

"""What a runner meets in place of a host: it lets happen later what in a real host happens later."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from wfe.host.residents import kept
from wfe.host.runner import Runner
from wfe.model.document import Limits
from wfe.ports.store import Start, TransitionOutcome
from wfe.testing.search.world import Body, Host, World

if TYPE_CHECKING:
    from wfe.engine.state import InstanceState
    from wfe.engine.transition import Transition
    from wfe.host.core import HostCore
    from wfe.ports.store import Changes

__all__ = ["ASKER", "StandIn", "meeting", "set_body", "with_runner"]


class NoCode:
    """Answers no questions: the plans of the models have literals only."""

    def value(self, question: object) -> object:
        raise AssertionError(question)

    def child(self, request: object) -> Start:
        raise AssertionError(request)

    def check(self, fields: object, data: bytes) -> None:
        """Every field fits."""


ASKER = NoCode()


class StandIn:
    """What a runner meets in place of the core of a host, for one move."""

    draining = False
    limits = Limits()

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host
        self.bodies = self
        self.waiters = self
        self.entropy = self
        self.residents = self
        self.incoming = self
        self.leaving = self

    # Time and chance

    def now(self) -> int:
        return self._world.now

    def monotonic(self) -> float:
        return 0.0

    def random(self) -> float:
        return 0.0

    # What happens later

    def schedule(self, runner: Runner) -> None:
        """Whoever has messages may decide, at any time."""

    def read(self, instance_id: str) -> None:
        """Whoever has unknown rows may read them, at any time."""

    def wake_at(self, instance_id: str, wake: int) -> None:
        """Whoever is due may be told, at any time."""

    def went_on(self, runner: Runner) -> None:
        """Nothing was held against the instance."""

    def changed(self, runner: Runner) -> None:
        """Nobody waits for the instance."""

    # What waits and is kept

    def changes(self, transition: Transition, state: InstanceState) -> Changes:
        """Where waiting instances are kept, all are that may be."""
        if transition.waits and self._world.may("keep"):
            return kept(transition, self._world.now)
        return transition.changes

    def __contains__(self, runner: object) -> bool:
        return self._world.may("keep")

    def keep(self, runner: Runner) -> None:
        """Whoever waits may be given back, at any time."""

    def leave(self, runner: Runner) -> None:
        """It is seen by what is left to do."""

    # Giving back

    def give_back(self, runner: Runner) -> None:
        self._forget(runner)
        self._host.releases += ((runner.id, runner.fence),)

    def gave_back(self, runner: Runner, *, unread: bool, wake: int | None) -> None:
        self._forget(runner)

    def instance_ended(self, runner: Runner) -> None:
        self._forget(runner)

    def lost(self, runner: Runner, outcome: TransitionOutcome) -> None:
        self._forget(runner)
        if outcome is TransitionOutcome.STALE:
            self._host.releases += ((runner.id, runner.fence),)

    def _forget(self, runner: Runner) -> None:
        if self._host.runners.get(runner.id) is runner:
            del self._host.runners[runner.id]
            self._host.resting.pop(runner.id, None)
        runner.drop()

    # Bodies

    def run(self, runner: Runner, numbers: Collection[int]) -> None:
        """Bodies wait for room, which they get at any time; unless the session is over (the host can tell in time)."""
        if self._world.is_alive(self._host):
            runner.awaited.update(numbers)

    def abandon(self, run: object) -> None:
        """Nobody waits for the end of this body."""

    def stop(self, runner: Runner, number: int, run: object) -> None:
        body: Any = runner.bodies[number]
        set_body(runner, body._replace(is_told_to_stop=True))


def set_body(runner: Runner, body: Body) -> None:
    """Let a runner have a body of the search in place of a real one."""
    bodies = cast("dict[int, Body]", runner.bodies)
    bodies[body.pointer] = body


@contextmanager
def meeting(world: World, host: Host, runner: Runner) -> Generator[Runner]:
    """Let a runner meet its host, for one move: it keeps nothing of the world, which is copied."""
    runner.core = cast("HostCore", StandIn(world, host))
    try:
        yield runner
    finally:
        runner.core = cast("HostCore", None)


def with_runner(session: str, instance_id: str, act: Callable[[World, Host, Runner], None]) -> Callable[[World], None]:
    """Make a move of a host with one of its runners."""

    def make(world: World) -> None:
        host = world.host(session)
        with meeting(world, host, host.runners[instance_id]) as runner:
            act(world, host, runner)

    return make

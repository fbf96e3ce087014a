"""The joint of a host: runners, committer, timers and claims, and what flows between them.

hints, sweep, timers ──► claim ──► runner ──► committer ──► store
                                      ▲            │
                                    bodies ◄───────┘ (after the commit)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from wfe.engine.asking import ChildRequest
from wfe.engine.state import InstanceState
from wfe.host.alarms import Alarms
from wfe.host.asker import RunnerAsker
from wfe.host.committer import Committer
from wfe.host.incoming import Incoming
from wfe.host.leaving import Leaving
from wfe.host.parking import Parking, requests_among
from wfe.host.residents import Residents
from wfe.host.room import Room
from wfe.host.runner import Runner
from wfe.host.starting import make_child
from wfe.host.store_time import StoreTime
from wfe.host.strays import Strays
from wfe.host.taking import Taking
from wfe.host.transit import Transit
from wfe.host.trials import QUARANTINE_AFTER, Trials, pause_before
from wfe.host.troubles import Troubles
from wfe.host.views import corrupt_reason
from wfe.host.waiting import Waiters, ended_row
from wfe.model.document import fields_of
from wfe.model.errors import WfeError
from wfe.model.message import TimePassed
from wfe.model.repetition import Repetition
from wfe.model.status import WorkflowStatus
from wfe.ports.hints import Hint, HintKind
from wfe.ports.store import TransitionOutcome

if TYPE_CHECKING:
    from wfe.engine.transition import Transition
    from wfe.host.bodies import BodySurroundings
    from wfe.host.registry import Registration, Registry
    from wfe.model.document import Limits
    from wfe.model.moment import Moment
    from wfe.ports.clock import Clock, Entropy
    from wfe.ports.hints import Hints
    from wfe.ports.store import CommitReply, LoadedInstance, Start, Store

__all__ = ["HostCore"]

_log = logging.getLogger("wfe.host")

_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class HostCore:
    """What all parts of a running host share. Lives in one event loop."""

    def __init__(
        self,
        *,
        store: Store,
        hints: Hints,
        registry: Registry,
        clock: Clock,
        entropy: Entropy,
        limits: Limits,
        around: BodySurroundings,
        max_concurrency: int,
        max_active: int,
        in_flight: int,
        alone: Callable[[], bool],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = store
        self.hints = hints
        self.registry = registry
        self.clock = clock
        self.entropy = entropy
        self.limits = limits
        self.session_id = ""
        self.draining = False
        self.is_sure: Callable[[], bool] = lambda: True
        """Whether the session certainly lives; asked before each body. If not, it has just been given up."""
        self.storage_trouble = Repetition()
        self.monotonic = clock.monotonic
        self.waiters = Waiters(self.loop)
        self.committer = Committer(self, in_flight=in_flight)
        self.runners: dict[str, Runner] = {}
        self.parked = Parking(self)
        self.on_commit: list[Callable[[], None]] = []
        self.on_consumed = asyncio.Event()
        """Set after every commit, for those who wait for a request to be applied."""
        self.tasks: dict[asyncio.Task[Any], None] = {}
        """All that run, in the order in which they were begun; that is the order in which an end cancels them."""
        self.alone = alone
        """Whether no other session lives, as far as is known: then nobody needs hints."""
        self.time = StoreTime(clock)
        self.now = self.time.now
        self._ready: list[Runner] = []
        self._pump_scheduled = False
        self.bodies = Room(self.loop, around, limit=max_concurrency, tasks=self.tasks, draining=self._begins_nothing)
        self.alarms = Alarms(self.loop, self.now, self._due)
        self.strays = Strays(self)
        self.taking = Taking(self, max_active)
        self.trials = Trials(self)
        self.residents = Residents(self)
        self.transit = Transit()
        self.leaving = Leaving(self)
        self.incoming = Incoming(self)
        self.troubles = Troubles(self)

    def _begins_nothing(self) -> bool:
        return self.draining or not self.is_sure()

    # Deciding

    @property
    def room(self) -> int:
        """How many more instances this host may hold."""
        return self.taking.room

    def schedule(self, runner: Runner) -> None:
        """Let a runner decide soon, together with all others that are ready by then."""
        if not runner.scheduled and runner.held:
            runner.scheduled = True
            self._ready.append(runner)
            self.pump()

    def pump(self) -> None:
        """Let those who are ready decide, and write, in the next round of the loop."""
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self.loop.call_soon(self.pump_now)

    def pump_now(self) -> None:
        """Let all ready runners decide and hand the result to the committer."""
        self._pump_scheduled = False
        ready, self._ready = self._ready, []
        for runner in ready:
            runner.scheduled = False
            try:
                write = runner.decide()
            except Exception as error:  # noqa: BLE001 - one instance that cannot be decided must not stop the others
                self.troubles.broke(runner, error)
                continue
            if write is not None:
                self.committer.transition(runner, write)
        self.committer.flush()

    def code_came(self) -> None:
        """Something was registered: branches of held instances that waited for it go on. The sweep finds the others."""
        for runner in self.runners.values():
            if runner.state.pending:
                runner.deliver(TimePassed())

    def batch_committed(self, reply: CommitReply) -> None:
        """Pass on what a batch caused for others."""
        for loaded in reply.taken:
            self.activate(loaded)
        if reply.deliveries:
            self.incoming.deliver(reply.deliveries)
        if reply.children:
            self.taking.want(*reply.children)
        self.on_consumed.set()
        for told in self.on_commit:
            told()

    # Taking and giving back

    def activate(self, loaded: LoadedInstance) -> None:
        """Begin to run an instance that was taken."""
        if self.trials.is_out_of_turn(loaded):
            self.leaving.release_soon((loaded.id, loaded.fence))
            return
        old = self.runners.get(loaded.id)
        if old is not None:
            old.drop()
        try:
            self._activate(loaded)
        except Exception as error:  # noqa: BLE001 - whatever damaged rows make a decoder raise
            self.troubles.is_damaged(loaded.id, loaded.fence, corrupt_reason(error), error)

    def _activate(self, loaded: LoadedInstance) -> None:
        state = InstanceState.loaded(loaded)
        if state.head.status.is_terminal:  # it ended while a request for it was on its way
            self.leaving.release_soon((loaded.id, loaded.fence))
            return
        runner = self._hold(self.registry.to_run(loaded.definition), state, loaded.fence)
        inbox = list(loaded.inbox)
        if self.troubles.were_too_many(loaded.id):
            # It was parked: what is in the way may be in its inbox, and must not be before a request.
            inbox = requests_among(inbox) or inbox
        pause = pause_before(loaded.activations)
        damage = _damage(loaded)
        if damage and state.head.status is WorkflowStatus.RUNNABLE:
            runner.activate(inbox, quarantine=corrupt_reason(damage))
        elif loaded.activations > QUARANTINE_AFTER:
            count = loaded.activations - 1
            reason = f"quarantined: {count} activations ended without a commit (its host died each time)"
            runner.activate(inbox, quarantine=reason)
        elif pause:
            self.loop.call_later(pause, lambda: runner.activate(inbox) if runner.held else None)
        else:
            runner.activate(inbox)

    def _hold(self, registration: Registration | None, state: InstanceState, fence: int) -> Runner:
        asker: Any = _NO_CODE if registration is None else RunnerAsker(registration, state, self._make_child)
        runner = Runner(self, registration, state, fence, asker)
        self.runners[state.id] = runner
        return runner

    def started(self, registration: Registration, state: InstanceState, transition: Transition) -> None:
        """Run an instance that this host has just started and holds."""
        runner = self._hold(registration, state, 1)
        if state.pending:
            runner.deliver(TimePassed())
        self.bodies.run(runner, transition.run)
        if transition.waits:
            self.residents.keep(runner)
            self.waiters.changed(runner)
            return
        wake = runner.next_alarm()
        if wake is not None:
            self.wake_at(state.id, wake)

    def _make_child(self, parent: InstanceState, request: ChildRequest) -> Start:
        return make_child(self, parent, request)

    def gave_back(self, runner: Runner, *, unread: bool, wake: Moment | None) -> None:
        """An instance was released by its own transition."""
        self.forget(runner)
        if unread:
            self.taking.want(runner.id)
        elif wake is not None:
            self.wake_at(runner.id, wake)
        self.waiters.changed(runner)

    def instance_ended(self, runner: Runner) -> None:
        """An instance has reached its end."""
        self.forget(runner)
        self.waiters.ended(ended_row(runner.state))
        if not self.alone():
            self.background(self.hints.send(None, [Hint(HintKind.ENDED, (runner.id,))]))

    def lost(self, runner: Runner, outcome: TransitionOutcome) -> None:
        """An instance is not this host's any more, or its state here is old."""
        _log.warning("Stopped running instance %s: its transition was refused (%s)", runner.id, outcome.value)
        self.forget(runner)
        if outcome is TransitionOutcome.STALE:
            self.leaving.take_anew(runner.id, runner.fence)

    def forget(self, runner: Runner) -> None:
        """It is not held any more: its bodies are stopped, and it writes nothing."""
        if self.runners.get(runner.id) is runner:
            del self.runners[runner.id]
            self.taking.room_came()
            self.trials.passed(runner.id)
        self.residents.leave(runner)
        runner.drop()

    def went_on(self, runner: Runner) -> None:
        """An instance has committed: what was held against it before counts no more."""
        self.troubles.are_over(runner.id)
        self.trials.passed(runner.id)

    def holds(self) -> list[tuple[str, int]]:
        """Give id and fence of all that this host knows it holds."""
        return [(runner.id, runner.fence) for runner in self.runners.values()] + self.parked.holds()

    def drop_all(self) -> None:
        """Stop every body and write nothing more: the lease is lost, or the host is forced to stop."""
        for runner in list(self.runners.values()):
            self.forget(runner)
        self.parked.clear()
        self.bodies.clear()

    def storage_failed(self, error: Exception) -> None:
        """The store could not write; runners keep what they know and try again."""
        if self.storage_trouble.again():
            _log.warning("The store is not available (failure %d in a row): %s", self.storage_trouble.count, error)

    # Timers and background work

    def wake_at(self, instance_id: str, wake: Moment) -> None:
        """Look at an instance at a time, if that is soon; the sweep finds the others."""
        self.alarms.set(instance_id, wake, held=instance_id in self.runners)

    def _due(self, due: list[tuple[Moment, str]]) -> None:
        """The time of instances has come: tell those that are held, take the others together."""
        for wake, instance_id in due:
            runner = self.runners.get(instance_id)
            if runner is None:
                self.taking.want(instance_id, wake=wake)
            else:
                runner.noted_wake = 0
                runner.deliver(TimePassed())

    async def settled(self) -> None:
        """Return when nothing is left to decide or to write."""
        while self._ready or self._pump_scheduled or self.committer.is_busy:
            self.pump_now()
            await self.committer.drained()
            await asyncio.sleep(0)

    def background(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        """Run something beside. Its errors are logged: those of the store as a warning, others as a fault of wfe."""
        task = self.loop.create_task(work)
        self.tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        del self.tasks[task]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, WfeError):
            _log.warning("Background work failed: %s", error)
        elif error is not None:
            _log.error("Background work failed", exc_info=error)


def _damage(loaded: LoadedInstance) -> str:
    """Say what of an instance is no JSON, of the documents that are decoded only when they are needed."""
    try:
        fields_of(loaded.data)
        fields_of(loaded.values)
        for items in loaded.items:
            _list_decoder.decode(items.items)
    except msgspec.DecodeError as error:
        return str(error)
    return ""


class _NoCode:
    """The asker of an instance whose code is missing: only requests are applied to it, which ask nothing."""

    def value(self, question: object) -> object:
        raise AssertionError(question)

    def child(self, request: object) -> Start:
        raise AssertionError(request)

    def check(self, fields: object, data: bytes) -> None:
        raise AssertionError(fields, data)


_NO_CODE = _NoCode()

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
from wfe.host.parking import Parking, requests_among
from wfe.host.residents import Residents
from wfe.host.room import Room
from wfe.host.runner import Runner
from wfe.host.settings import may_be_an_id
from wfe.host.starting import make_child
from wfe.host.strays import Strays
from wfe.host.taking import Taking
from wfe.host.trials import QUARANTINE_AFTER, Trials, pause_before
from wfe.host.views import corrupt_reason
from wfe.host.waiting import Waiters, ended_row
from wfe.model.document import fields_of
from wfe.model.message import BodyStopped, Control, ControlVerb, TimePassed
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
        self._offset = clock.now() - self._ticks()
        self._knows_time = False
        self._last_commit = 0
        self._ready: list[Runner] = []
        self._pump_scheduled = False
        self.bodies = Room(self.loop, around, limit=max_concurrency, tasks=self.tasks, draining=self._begins_nothing)
        self.alarms = Alarms(self.loop, self.now, self._due)
        self._inbox_wanted: dict[str, None] = {}
        self._inbox_reading = False
        self._looking = False
        self.broken: dict[str, int] = {}
        self.strays = Strays(self)
        self.taking = Taking(self, max_active)
        self.trials = Trials(self)
        self.residents = Residents(self)
        self._leaving: set[str] = set()
        """Instances that are being given back."""
        self._called: set[str] = set()
        """Those of them for which something has come meanwhile."""

    def _begins_nothing(self) -> bool:
        return self.draining or not self.is_sure()

    # Time

    def now(self) -> Moment:
        """Give store time as this host knows it; never earlier than the last commit's."""
        return max(self._last_commit, self._ticks() + self._offset)

    def _ticks(self) -> int:
        """Give this machine's steady clock in microseconds: its wall clock may be set at any moment."""
        return int(self.monotonic() * 1_000_000)

    def saw_store_time(self, now: Moment, sent: float) -> None:
        """Learn the store's time from the reply to a request that was sent at `sent` (by the steady clock)."""
        # It was that time somewhere between sending and now. The highest guess that is surely not ahead is kept, until
        # a reply shows that it is: this machine's clock runs fast, or the store's was set.
        earliest, latest = now - self._ticks(), now - int(sent * 1_000_000)
        if not self._knows_time or not earliest <= self._offset <= latest:
            self._offset, self._knows_time = earliest, True
        self._last_commit = max(self._last_commit, now)

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
                self.broke(runner, error)
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
            self._pass_on(reply)
        if reply.children:
            self.taking.want(reply.children)
        self.on_consumed.set()
        for told in self.on_commit:
            told()

    def _pass_on(self, reply: CommitReply) -> None:
        foreign: dict[str, list[str]] = {}
        for delivery in reply.deliveries:
            runner = self.runners.get(delivery.instance_id)
            if runner is not None:
                if delivery.row.message is None:
                    runner.receive(delivery.row)
                else:
                    # Requests are read from the store: a row told of twice must not be applied twice.
                    self.read_inbox(delivery.instance_id)
            elif delivery.owner is None or delivery.owner == self.session_id:
                self._note_call(delivery.instance_id)
                if delivery.row.message is None:
                    self.taking.want([delivery.instance_id])
                else:
                    self.taking.want_for_request(delivery.instance_id)
            else:
                foreign.setdefault(delivery.owner, []).append(delivery.instance_id)
        for owner, ids in foreign.items():
            self.background(self.hints.send(owner, [Hint(HintKind.WORK, tuple(ids))]))

    def _note_call(self, instance_id: str) -> None:
        if instance_id in self._leaving:
            self._called.add(instance_id)

    # Taking and giving back

    def activate(self, loaded: LoadedInstance) -> None:
        """Begin to run an instance that was taken."""
        if self.trials.is_out_of_turn(loaded):
            self.background(self.release((loaded.id, loaded.fence)))
            return
        old = self.runners.get(loaded.id)
        if old is not None:
            old.drop()
        try:
            self._activate(loaded)
        except Exception as error:  # noqa: BLE001 - whatever damaged rows make a decoder raise
            self.broken[loaded.id] = max(self.broken.get(loaded.id, 0), QUARANTINE_AFTER) + 1
            self._park(loaded.id, loaded.fence, corrupt_reason(error), error)

    def _activate(self, loaded: LoadedInstance) -> None:
        state = InstanceState.loaded(loaded)
        if state.head.status.is_terminal:  # it ended while a request for it was on its way
            self.background(self.release((loaded.id, loaded.fence)))
            return
        runner = self._hold(self.registry.to_run(loaded.definition), state, loaded.fence)
        inbox = list(loaded.inbox)
        if self.broken.get(loaded.id, 0) >= QUARANTINE_AFTER:
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
            self.read_inbox(state.id)  # its event may have come before the answer to the start
            return
        wake = runner.next_alarm()
        if wake is not None:
            self.wake_at(state.id, wake)

    def _make_child(self, parent: InstanceState, request: ChildRequest) -> Start:
        return make_child(self, parent, request)

    def give_back(self, *runners: Runner) -> None:
        """Release instances unchanged."""
        for runner in runners:
            self._forget(runner)
            wake = runner.state.timers.earliest()
            if wake is not None:
                self.wake_at(runner.id, wake)
        if runners:
            self.background(self._give_back([(runner.id, runner.fence) for runner in runners]))

    async def _give_back(self, holds: list[tuple[str, int]]) -> None:
        """Release instances. What comes for one of them meanwhile finds it held, so it is taken afterwards."""
        ids = {instance_id for instance_id, _ in holds}
        self._leaving |= ids
        try:
            await self.release(*holds)
        finally:
            self._leaving -= ids
            called = sorted(ids & self._called)
            self._called -= ids
        if called:
            self.taking.want(called)

    def gave_back(self, runner: Runner, *, unread: bool, wake: Moment | None) -> None:
        """An instance was released by its own transition."""
        self._forget(runner)
        if unread:
            self.taking.want([runner.id])
        elif wake is not None:
            self.wake_at(runner.id, wake)
        self.waiters.changed(runner)

    def instance_ended(self, runner: Runner) -> None:
        """An instance has reached its end."""
        self._forget(runner)
        self.waiters.ended(ended_row(runner.state))
        if not self.alone():
            self.background(self.hints.send(None, [Hint(HintKind.ENDED, (runner.id,))]))

    def lost(self, runner: Runner, outcome: TransitionOutcome) -> None:
        """An instance is not this host's any more, or its state here is old."""
        _log.warning("Stopped running instance %s: its transition was refused (%s)", runner.id, outcome.value)
        fence = runner.fence
        self._forget(runner)
        if outcome is TransitionOutcome.STALE:
            self.background(self._take_again(runner.id, fence))

    async def _take_again(self, instance_id: str, fence: int) -> None:
        await self.release((instance_id, fence))
        self.taking.want([instance_id])

    async def release(self, *holds: tuple[str, int]) -> None:
        """Give instances back: ids, with the fences that they were taken with."""
        with self.strays.request():
            await self.store.release(self.session_id, holds)

    def _forget(self, runner: Runner) -> None:
        if self.runners.get(runner.id) is runner:
            del self.runners[runner.id]
            self.taking.room_came()
            self.trials.passed(runner.id)
        self.residents.leave(runner)
        runner.drop()

    def went_on(self, runner: Runner) -> None:
        """An instance has committed: what was held against it before counts no more."""
        self.broken.pop(runner.id, None)
        self.trials.passed(runner.id)

    def holds(self) -> list[tuple[str, int]]:
        """Give id and fence of all that this host knows it holds."""
        return [(runner.id, runner.fence) for runner in self.runners.values()] + self.parked.holds()

    def drop_all(self) -> None:
        """Stop every body and write nothing more: the lease is lost, or the host is forced to stop."""
        for runner in list(self.runners.values()):
            self._forget(runner)
        self.parked.clear()
        self.bodies.clear()

    # What goes wrong

    def broke(self, runner: Runner, error: Exception) -> None:
        """An instance could not be decided or written.

        If that is due to what a body answered, its step fails. Else try again a few times, then suspend it with the
        reason.
        """
        if runner.blame_answers(error):
            _log.warning("What a step of instance %s answered cannot be recorded: %s", runner.id, error)
            return
        count = self.broken.get(runner.id, 0) + 1
        self.broken[runner.id] = count
        _log.error("Instance %s could not go on (attempt %s): %s", runner.id, count, error, exc_info=error)
        if not runner.held:
            return
        reason = f"it could not go on: {error}"
        if count < QUARANTINE_AFTER:
            self.loop.call_later(min(2 ** (count - 1), 60), self.schedule, runner)
        elif runner.may_be_suspended and not runner.gives_up:
            runner.gives_up = True
            runner.put_back()
            runner.deliver(Control(ControlVerb.SUSPEND, f"quarantined: {reason}"))
            for number in sorted(runner.state.running.difference(runner.bodies, runner.awaited)):
                runner.deliver(BodyStopped(number))  # its answer is what could not be decided; resuming runs it again
        else:
            self._park(runner.id, runner.fence, reason, error)

    def _park(self, instance_id: str, fence: int, reason: str, error: Exception) -> None:
        """Keep an instance that cannot even be suspended, without running it, so that nobody tries for ever."""
        runner = self.runners.get(instance_id)
        if runner is not None:
            self._forget(runner)
        self.parked.park(instance_id, fence, reason, error)
        self.on_consumed.set()  # who waits for a request to be applied learns that it is not

    def stumbled(self, runner: Runner, error: Exception) -> None:
        """What follows a transition that is written could not be done: the instance is taken anew, a few times."""
        count = self.broken.get(runner.id, 0) + 1
        self.broken[runner.id] = count
        if count >= QUARANTINE_AFTER:
            self._park(runner.id, runner.fence, f"it could not go on: {error}", error)
            return
        _log.error("Instance %s is taken anew (attempt %s): %s", runner.id, count, error, exc_info=error)
        self._forget(runner)
        self.loop.call_later(
            min(2 ** (count - 1), 60), lambda: self.background(self._take_again(runner.id, runner.fence))
        )

    def storage_failed(self, error: Exception) -> None:
        """The store could not write; runners keep what they know and try again."""
        if self.storage_trouble.again():
            _log.warning("The store is not available (failure %d in a row): %s", self.storage_trouble.count, error)

    # Timers and reads

    def wake_at(self, instance_id: str, wake: Moment) -> None:
        """Look at an instance at a time, if that is soon; the sweep finds the others."""
        self.alarms.set(instance_id, wake, held=instance_id in self.runners)

    def _due(self, due: list[tuple[Moment, str]]) -> None:
        """The time of instances has come: tell those that are held, take the others together."""
        for wake, instance_id in due:
            runner = self.runners.get(instance_id)
            if runner is None:
                self.taking.want([instance_id], wake)
            else:
                runner.noted_wake = 0
                runner.deliver(TimePassed())

    def read_inbox(self, instance_id: str) -> None:
        """Read the inbox of a held instance, soon, together with those of others."""
        self._note_call(instance_id)
        self._inbox_wanted[instance_id] = None
        if not self._inbox_reading:
            self._inbox_reading = True
            self.background(self._read_inboxes())

    async def _read_inboxes(self) -> None:
        try:
            while self._inbox_wanted:
                asking = {each: self.runners[each] for each in self._inbox_wanted if each in self.runners}
                for each in self._inbox_wanted:
                    self._note_call(each)
                self._inbox_wanted.clear()
                if not asking:
                    return
                for row in await self.store.inbox(list(asking)):
                    runner = asking[row.instance_id]
                    # One that took the instance anew since may have been given rows that are consumed by now.
                    if runner is self.runners.get(row.instance_id):
                        runner.receive(row)
                for runner in asking.values():
                    self.schedule(runner)
        finally:
            self._inbox_reading = False

    async def settled(self) -> None:
        """Return when nothing is left to decide or to write."""
        while self._ready or self._pump_scheduled or self.committer.is_busy:
            self.pump_now()
            await self.committer.drained()
            await asyncio.sleep(0)

    def received_hint(self, hint: Hint) -> None:
        """Another host says that there is something to look at."""
        if hint.kind is HintKind.ENDED:
            if self.waiters.look(hint.ids) and not self._looking:
                self._looking = True
                self.background(self._look_for_ends())
            return
        for each in hint.ids or list(self.runners):
            if each in self.runners:
                self.read_inbox(each)
            elif each in self.parked:
                self.background(self.parked.look_for_request(each))
            elif may_be_an_id(each):  # the store would refuse the others, and all that is asked for together with them
                self.taking.want_as_told(each)

    async def _look_for_ends(self) -> None:
        """Read the ends that hints told of, for those who wait for them."""
        try:
            while ids := self.waiters.take_to_look():
                self.waiters.found(await self.store.ended(ids, until=self.waiters.untils()))
        finally:
            self._looking = False

    def background(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        """Run something beside; its errors are logged."""
        task = self.loop.create_task(work)
        self.tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        del self.tasks[task]
        if not task.cancelled() and task.exception() is not None:
            _log.warning("Background work failed: %s", task.exception())


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

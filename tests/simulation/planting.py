"""Faults planted into host, engine and store, one line each, that the simulation has to notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import msgspec

from wfe.engine import control, flow, passing, structures
from wfe.engine.state import InstanceState
from wfe.engine.timers import Timers
from wfe.host import core as core_module
from wfe.host.committer import Committer
from wfe.host.core import HostCore
from wfe.host.room import Room
from wfe.host.runner import Runner
from wfe.host.session import Session
from wfe.host.strays import Strays
from wfe.host.sweeper import Sweeper
from wfe.host.taking import Taking
from wfe.model.pointer import Pointer
from wfe.ports.store import ClaimReply, TransitionOutcome
from wfe.providers.memory import commit as commit_module
from wfe.providers.memory import store as store_module
from wfe.providers.memory.commit import Commit
from wfe.providers.memory.store import MemoryStore
from wfe.providers.memory.tables import Tables

__all__ = ["PLANTED", "planted"]

PLANTED: dict[str, Callable[[], Any]] = {}


def fault(plant: Callable[[], Any]) -> Callable[[], Any]:
    """Register a fault; the function gives the patch."""
    PLANTED[plant.__name__] = plant
    return plant


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Break it for a while."""
    with PLANTED[name]():
        yield


async def _nothing(*_: object, **__: object) -> None:
    return None


# Found by the simulation: each was in the host or the engine once


@fault
def strays_are_not_looked_for() -> Any:
    return patch.object(Strays, "look", _nothing)


@fault
def clock_of_the_machine_is_believed() -> Any:
    return patch.object(HostCore, "now", lambda self: self.clock.now())


@fault
def store_time_is_unknown_at_first() -> Any:
    take = Taking.take

    async def take_unless_nothing(self: Taking, limit: int, **named: Any) -> ClaimReply:
        return await take(self, limit, **named) if limit else ClaimReply(0)

    return patch.object(Taking, "take", take_unless_nothing)


@fault
def guess_of_store_time_is_never_lowered() -> Any:
    def saw(self: HostCore, now: int, sent: float) -> None:
        self._offset = max(self._offset, now - self._ticks())
        self._last_commit = max(self._last_commit, now)

    return patch.object(HostCore, "saw_store_time", saw)


@fault
def suspended_bodies_begin() -> Any:
    return patch.object(Runner, "_hold_back", lambda self, numbers: self.core.bodies.run(self, numbers))


@fault
def session_is_always_sure() -> Any:
    return patch.object(Session, "is_sure", lambda self: True)


@fault
def session_is_given_up_at_once() -> Any:
    def is_sure(self: Session) -> bool:
        silent = self._clock.monotonic() - self._renewed
        if silent < self._ttl * 0.9:
            return True
        self.is_over = True
        self._lost("at once")
        return False

    return patch.object(Session, "is_sure", is_sure)


@fault
def session_given_up_is_renewed() -> Any:
    def is_sure(self: Session) -> bool:
        if self._clock.monotonic() - self._renewed < self._ttl * 0.9:
            return True
        self._loop.call_soon(self._lost, "silently")
        return False

    return patch.object(Session, "is_sure", is_sure)


@fault
def ended_instance_is_run() -> Any:
    activate = HostCore._activate

    def activate_all(self: HostCore, loaded: Any) -> None:
        with patch.object(core_module.WorkflowStatus, "is_terminal", property(lambda _: False)):  # type: ignore[attr-defined]  # patched where it is used
            activate(self, loaded)

    return patch.object(HostCore, "_activate", activate_all)


@fault
def resuming_looks_at_the_time_first() -> Any:
    resume = control._resume

    def resume_then_time(draft: Any) -> None:
        was = draft.status
        resume(draft)
        if draft.status is not was:
            passing.time_passed(draft)

    return patch.object(control, "_resume", resume_then_time)


@fault
def cancel_waits_for_what_has_not_begun() -> Any:
    def has_begun(draft: Any, pointer: Pointer) -> bool:
        return draft.definition is not None and pointer.id in draft.state.running

    return patch.object(control, "_has_begun", has_begun)


@fault
def instance_without_code_is_kept() -> Any:
    give_back = HostCore.give_back

    def give_back_with_code(self: HostCore, runner: Runner) -> None:
        if runner.registration is not None or self.draining:
            give_back(self, runner)

    return patch.object(HostCore, "give_back", give_back_with_code)


@fault
def lost_runners_still_write() -> Any:
    batch = Committer._batch
    take = Committer._take

    def taken(self: Committer) -> Any:
        load = take(self)
        load.everything = list(load.transitions)  # type: ignore[attr-defined]  # patched where it is used
        return load

    def batch_of_everything(self: Committer, load: Any) -> Any:
        load.transitions = getattr(load, "everything", load.transitions)
        return batch(self, load)

    return _both(
        patch.object(Committer, "_take", taken),
        patch.object(Committer, "_batch", batch_of_everything),
        patch("wfe.host.committer._Load", type("Loose", (Committer._take.__globals__["_Load"],), {})),
    )


@contextmanager
def _both(*patches: Any) -> Iterator[None]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        for each in patches:
            stack.enter_context(each)
        yield


# The store


@fault
def guard_ignores_fences() -> Any:
    def guard(self: Commit, write: Any) -> TransitionOutcome:
        instance = self._tables.instances.get(write.instance_id)
        if instance is None:
            return TransitionOutcome.FENCED
        return TransitionOutcome.ACCEPTED if instance.revision == write.revision else TransitionOutcome.STALE

    return patch.object(Commit, "guard", guard)


@fault
def guard_ignores_revisions() -> Any:
    def guard(self: Commit, write: Any) -> TransitionOutcome:
        instance = self._tables.instances.get(write.instance_id)
        held = instance is not None and instance.fence == write.fence
        return TransitionOutcome.ACCEPTED if held else TransitionOutcome.FENCED

    return patch.object(Commit, "guard", guard)


@fault
def guard_ignores_waits() -> Any:
    return patch.object(Commit, "required_waits_stand", lambda *_: True)


@fault
def fence_stays() -> Any:
    take = store_module.take  # type: ignore[attr-defined]  # patched where it is used

    def take_again(instance: Any, session: str) -> Any:
        instance.fence -= 1 if instance.fence else 0
        return take(instance, session)

    return _both(patch.object(store_module, "take", take_again), patch.object(commit_module, "take", take_again))


@fault
def stored_events_do_not_match() -> Any:
    return patch.object(Commit, "stored_match", lambda *_: None)


@fault
def published_events_do_not_match() -> Any:
    return patch.object(Commit, "deliver", lambda *_: None)


@fault
def subscription_outlives_its_match() -> Any:
    publish = Commit.announce

    def announce(self: Commit, event: Any) -> int:
        with patch.object(Commit, "remove", lambda *_: None):
            return publish(self, event)

    return patch.object(Commit, "announce", announce)


@fault
def positions_are_forgotten() -> Any:
    write = Commit.write_waits

    def write_waits(self: Commit, instance: Any, changes: Any) -> None:
        write(self, instance, msgspec.structs.replace(changes, positions=()))

    return patch.object(Commit, "write_waits", write_waits)


@fault
def messages_are_not_consumed() -> Any:
    write = Commit.write_rows

    def write_rows(self: Commit, instance: Any, changes: Any) -> None:
        write(self, instance, msgspec.structs.replace(changes, consumed=()))

    return patch.object(Commit, "write_rows", write_rows)


@fault
def children_do_not_report() -> Any:
    reach = Commit.reach_others

    def reach_others(self: Commit, instance_id: str, changes: Any) -> None:
        reach(self, instance_id, msgspec.structs.replace(changes, messages=()))

    return patch.object(Commit, "reach_others", reach_others)


@fault
def sessions_never_expire() -> Any:
    return patch.object(Tables, "is_alive", lambda self, session: session in self.sessions)


@fault
def future_events_stay_there() -> Any:
    return patch.object(Commit, "promote", lambda *_: None)


@fault
def errors_overwrite_data() -> Any:
    write = Commit.write_rows

    def write_rows(self: Commit, instance: Any, changes: Any) -> None:
        write(self, instance, changes)
        if changes.errors:
            instance.data = b"{}"

    return patch.object(Commit, "write_rows", write_rows)


@fault
def acknowledged_start_is_dropped() -> Any:
    commit = MemoryStore.commit

    async def commit_some(self: MemoryStore, batch: Any) -> Any:
        reply = await commit(self, batch)
        for start in batch.starts[1:]:
            self._tables.live.pop(start.id, None)
            self._tables.instances.pop(start.id, None)
        return reply

    return patch.object(MemoryStore, "commit", commit_some)


# The engine


@fault
def join_counts_twice() -> Any:
    join = flow.join

    def join_twice(draft: Any, scope: int, slot: int) -> None:
        container = draft.find(scope) if scope else None
        if container is not None and container.open > 2:
            draft.put(msgspec.structs.replace(container, open=container.open - 1))
        join(draft, scope, slot)

    return patch.object(flow, "join", join_twice)


@fault
def loop_leaves_out_its_last_item() -> Any:
    spread = structures.spread

    def spread_less(draft: Any, step: Any, pointer: Any, items: list[bytes]) -> None:
        spread(draft, step, pointer, items[:-1] if len(items) > 3 else items)

    return patch.object(structures, "spread", spread_less)


@fault
def timers_ring_early() -> Any:
    now = HostCore.now
    return patch.object(HostCore, "now", lambda self: now(self) + 1_000_000)


@fault
def pauses_begin_again_when_taken() -> Any:
    loaded = InstanceState.loaded

    def loaded_later(row: Any) -> InstanceState:
        state = loaded(row)
        for number, pointer in list(state.pointers.items()):
            if pointer.wake:
                state.pointers[number] = msgspec.structs.replace(pointer, wake=pointer.wake + 1_000_000)
        state.timers = Timers(state.pointers)
        return state

    return patch.object(InstanceState, "loaded", staticmethod(loaded_later))


@fault
def failures_are_not_counted() -> Any:
    retrying = Pointer.retrying

    def retrying_uncounted(self: Pointer, error: Any, until: int) -> Pointer:
        return msgspec.structs.replace(retrying(self, error, until), failures=self.failures)

    return patch.object(Pointer, "retrying", retrying_uncounted)


@fault
def suspension_is_forgotten() -> Any:
    return patch.object(control, "_suspend", lambda draft, reason: None)


@fault
def cancelled_waits_stay() -> Any:
    cancel = control._cancel

    def cancel_but_wait(draft: Any, reason: str) -> None:
        cancel(draft, reason)
        draft.unsubscribe.clear()

    return patch.object(control, "_cancel", cancel_but_wait)


# The host


@fault
def sweep_takes_nothing() -> Any:
    async def claim(self: Taking, limit: int, *, ids: Any = None) -> ClaimReply:
        return await self.take(0)

    return patch.object(Taking, "claim", claim)


@fault
def refused_transition_is_forgotten() -> Any:
    def send_again(self: Committer, transitions: Any) -> None:
        for runner, _ in transitions:
            runner.committing, runner.transition, runner.inflight = False, None, ([], [])

    return patch.object(Committer, "_send_again", send_again)


@fault
def answers_count_before_they_are_written() -> Any:
    decide = Runner.decide

    def decide_and_apply(self: Runner) -> Any:
        write = decide(self)
        if write is not None and self.transition is not None:
            self.core.bodies.run(self, [])
            self.state.data = self.transition.data
        return write

    return patch.object(Runner, "decide", decide_and_apply)


@fault
def ready_bodies_begin_twice() -> Any:
    run = Room.run

    def run_twice(self: Room, runner: Runner, numbers: Any) -> None:
        run(self, runner, numbers)
        run(self, runner, numbers)

    return patch.object(Room, "run", run_twice)


@fault
def stale_holder_goes_on() -> Any:
    return patch.object(HostCore, "lost", lambda self, runner, outcome: None)


@fault
def waiters_are_not_told() -> Any:
    return patch.object(Sweeper, "_tell_waiters", _nothing)

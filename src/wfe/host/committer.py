"""Group commit: everything that is ready becomes one batch; while it is written, the next one gathers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from wfe.model.errors import ConfigurationError, ProviderUnavailable, WfeError
from wfe.ports import gaps
from wfe.ports.gaps import Gap
from wfe.ports.store import (
    Batch,
    CommitReply,
    InboxInsert,
    Publication,
    Publish,
    Start,
    StartOutcome,
    TransitionWrite,
)

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.host.runner import Runner
    from wfe.host.transit import Want

__all__ = ["Committer", "PendingStart"]

_log = logging.getLogger("wfe.host")
_T = TypeVar("_T")

_MAX_BATCH = 2_000
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_KINDS = ("transitions", "starts", "publishes", "inbox")
"""What of a load can be written part by part."""


class PendingStart:
    """A start on its way. `accepted` runs when it was created, before the caller learns of it.

    If the instance is to be held, it has a place until what became of it is known.
    """

    __slots__ = ("_core", "_is_to_be_held", "accepted", "future", "start")

    def __init__(
        self,
        core: HostCore,
        start: Start,
        future: asyncio.Future[StartOutcome],
        accepted: Callable[[CommitReply], None] | None,
    ) -> None:
        self._core = core
        self._is_to_be_held = start.changes.hold
        if self._is_to_be_held:
            core.taking.keep(1)
            core.transit.begin((start.id,))
        self.start = start
        self.future = future
        self.accepted = accepted

    def settled(self, outcome: StartOutcome, reply: CommitReply) -> None:
        """The store has answered."""
        calls = self._arrive()
        if outcome is StartOutcome.CREATED and self.accepted is not None:
            try:
                self.accepted(reply)
            except Exception:  # noqa: BLE001 - it was accepted, whatever this host makes of it: the sweep goes on with it
                _log.exception("Instance %s was started, but could not be taken over", self.start.id)
        self._see_to(calls)
        _answer(self.future, outcome)

    def refused(self, error: Exception) -> None:
        """It was not written."""
        self._see_to(self._arrive())  # of an instance that had this id before: nothing was started
        _refuse(self.future, error)

    def _see_to(self, calls: list[tuple[str, Want]]) -> None:
        for instance_id, want in calls:
            self._core.incoming.came(instance_id, want)

    def _arrive(self) -> list[tuple[str, Want]]:
        if not self._is_to_be_held:
            return []
        self._core.taking.let_go(1)
        return self._core.transit.end((self.start.id,))


class _Load:
    """What one batch carries, and who waits for it."""

    __slots__ = ("inbox", "promote", "publishes", "starts", "transitions")

    def __init__(self) -> None:
        self.transitions: list[tuple[Runner, TransitionWrite]] = []
        self.starts: list[PendingStart] = []
        self.publishes: list[tuple[Publish, asyncio.Future[Publication]]] = []
        self.inbox: list[tuple[InboxInsert, asyncio.Future[bool]]] = []
        self.promote = 0

    def __bool__(self) -> bool:
        return bool(self.transitions or self.starts or self.publishes or self.inbox or self.promote)

    def size(self) -> int:
        return len(self.transitions) + len(self.starts) + len(self.publishes) + len(self.inbox)


class Committer:
    """Writes batches, one after the other (or a few at a time, where the store gains from it)."""

    def __init__(self, core: HostCore, *, in_flight: int) -> None:
        self._core = core
        self._in_flight = in_flight
        self._load = _Load()
        self._writing: set[asyncio.Task[None]] = set()
        self._pause = 0.0
        self.batches = 0
        """How many batches were written; for tests and benchmarks."""

    def transition(self, runner: Runner, write: TransitionWrite) -> None:
        """Add a transition; the runner is told what became of it."""
        self._load.transitions.append((runner, write))

    def start(self, pending: PendingStart) -> None:
        """Add a start."""
        self._load.starts.append(pending)

    def publish(self, publish: Publish) -> asyncio.Future[Publication]:
        """Add an event."""
        future: asyncio.Future[Publication] = self._core.loop.create_future()
        self._load.publishes.append((publish, future))
        return future

    def inbox(self, insert: InboxInsert) -> asyncio.Future[bool]:
        """Add a control request; the answer says whether the instance is there and has not ended."""
        future: asyncio.Future[bool] = self._core.loop.create_future()
        self._load.inbox.append((insert, future))
        return future

    def promote(self, count: int) -> None:
        """Publish future events that are due."""
        self._load.promote = max(self._load.promote, count)

    def flush(self) -> None:
        """Write what is ready, if a batch may begin now."""
        while self._load and len(self._writing) < self._in_flight:
            load = self._take()
            task = self._core.loop.create_task(self._write(load))
            self._writing.add(task)
            task.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("The committer failed", exc_info=task.exception())
        if self._load:
            # After the runners just told have added theirs.
            self._core.loop.call_soon(self._core.pump_now)

    def _take(self) -> _Load:
        load, self._load = self._load, _Load()
        if load.size() > _MAX_BATCH:
            rest = self._load
            for name in _KINDS:
                items = getattr(load, name)
                getattr(rest, name).extend(items[_MAX_BATCH:])
                del items[_MAX_BATCH:]
        return load

    @property
    def is_busy(self) -> bool:
        """Whether something is waiting or being written."""
        return bool(self._load) or bool(self._writing)

    async def drained(self) -> None:
        """Return when nothing is waiting or being written."""
        while self._load or self._writing:
            self.flush()
            if self._writing:
                await asyncio.wait(self._writing)
            await asyncio.sleep(0)

    async def _write(self, load: _Load) -> None:
        try:
            reply = await self._commit(load)
        except (ProviderUnavailable, ConfigurationError) as error:
            # A refusal (a right that was taken away, a password that was changed) is as little the fault of a part.
            if await self._is_too_much(error):
                await self._divide(load, error)
            else:
                await self._unavailable(load, error)
        except Exception as error:  # noqa: BLE001 - ours, or one that a provider let out: find whose fault it is
            await self._divide(load, error)
        else:
            task = asyncio.current_task()
            assert task is not None
            self._writing.discard(task)
            self._tell(load, reply)
            self._core.pump_now()  # what those told decide is written at once, not in a later turn of the loop

    async def _divide(self, load: _Load, error: Exception) -> None:
        if load.size() + bool(load.promote) <= 1:
            self._culprit(load, error)
        else:
            await self._one_by_one(load, error)

    async def _is_too_much(self, error: WfeError) -> bool:
        """Whether a batch took longer than the store works on one, while the store does write others.

        Then it is the batch that is in the way, and would be for ever. If nothing can be written, it is an outage.
        """
        if not isinstance(error, ProviderUnavailable) or not error.took_too_long:
            return False
        try:
            await self._commit(_Load())
        except Exception:  # noqa: BLE001 - whatever a provider lets out: it does not write others either
            return False
        return True

    async def _commit(self, load: _Load) -> CommitReply:
        """Write a batch. Raises what the store does."""
        core = self._core
        # What was decided before the session was lost, or the host was forced to stop, is not written any more.
        load.transitions = [pair for pair in load.transitions if pair[0].held]
        batch, sent = self._batch(load), core.monotonic()
        if gaps.reached is not None:
            gaps.reached(Gap.BATCH_TAKEN)
        with core.strays.request(), core.taking.kept(batch.room):
            reply = await core.store.commit(batch)
        if gaps.reached is not None:
            gaps.reached(Gap.BATCH_ANSWERED)
        if self._pause:
            self._pause = 0.0
            core.storage_trouble.over()
        self.batches += 1
        core.time.saw(reply.now, sent)
        if batch.session != core.session_id:
            reply = _of_lost_session(load, reply, core)
        return reply

    def _batch(self, load: _Load) -> Batch:
        core = self._core
        reaches = bool(load.publishes or load.inbox or load.promote) or any(
            write.changes.messages or write.changes.cancel_children or write.changes.subscribe
            for _, write in load.transitions
        )
        return Batch(
            id=core.entropy.new_id(),
            session=core.session_id,
            transitions=[write for _, write in load.transitions],
            starts=[pending.start for pending in load.starts],
            publishes=[publish for publish, _ in load.publishes],
            inbox=[insert for insert, _ in load.inbox],
            promote=load.promote,
            room=min(core.room, _MAX_BATCH) if reaches else 0,
            runnable=core.registry.runnable if reaches else (),
        )

    def _tell(self, load: _Load, reply: CommitReply) -> None:
        core = self._core
        unread = reply.unread
        for (runner, _), outcome in zip(load.transitions, reply.transitions, strict=True):
            try:
                runner.committed(outcome, unread=runner.id in unread if unread else False)
            except Exception as error:  # noqa: BLE001 - the others of the batch must learn of their fate all the same
                core.troubles.stumbled(runner, error)
        for pending, started in zip(load.starts, reply.starts, strict=True):
            pending.settled(started, reply)
        for (_, told), publication in zip(load.publishes, reply.publishes, strict=True):
            _answer(told, publication)
        for (_, asked), inserted in zip(load.inbox, reply.inbox, strict=True):
            _answer(asked, inserted)
        if gaps.reached is not None:
            gaps.reached(Gap.BATCH_TOLD)
        core.batch_committed(reply)

    async def _unavailable(self, load: _Load, error: WfeError) -> None:
        """The backend is away, or refuses this host. Callers are told; transitions wait: what they say has happened.

        Whether they were written is not known. So they are sent again as they are, and not decided anew: then a refusal
        as stale can only mean that they were (see `Runner.committed`).
        """
        for pending in load.starts:
            pending.refused(error)
        for _, future in load.publishes:
            _refuse(future, error)
        for _, answer in load.inbox:
            _refuse(answer, error)
        self._pause = min(max(_FIRST_PAUSE, self._pause * 2), _LONGEST_PAUSE)
        self._core.storage_failed(error)
        await asyncio.sleep(self._pause)
        self._send_again(load.transitions)

    def _send_again(self, transitions: list[tuple[Runner, TransitionWrite]]) -> None:
        for runner, write in transitions:
            runner.is_in_doubt = True
            self._load.transitions.append((runner, write))

    async def _one_by_one(self, load: _Load, error: Exception) -> None:
        """Something in the batch cannot be written: write each part alone, so that only the culprit suffers."""
        _log.warning("A batch was refused as a whole (%s); writing its parts one by one", error)
        parts = _parts(load)
        for number, part in enumerate(parts):
            try:
                reply = await self._commit(part)
            except (ProviderUnavailable, ConfigurationError) as away:
                if await self._is_too_much(away):
                    self._culprit(part, away)
                    continue
                # It is away for the rest as well: one pause for all of them.
                await self._unavailable(_joined(parts[number:]), away)
                return
            except Exception as fault:  # noqa: BLE001 - as in `_write`
                self._culprit(part, fault)
            else:
                self._tell(part, reply)

    def _culprit(self, load: _Load, error: Exception) -> None:
        if load.promote:
            _log.error("Future events that are due could not be published: %s", error, exc_info=error)
        for runner, _ in load.transitions:
            runner.decide_again()
            self._core.troubles.broke(runner, error)
        for pending in load.starts:
            pending.refused(error)
        for _, future in load.publishes:
            _refuse(future, error)
        for _, answer in load.inbox:
            _refuse(answer, error)


def _of_lost_session(load: _Load, reply: CommitReply, core: HostCore) -> CommitReply:
    """The session was lost while it wrote: what the reply gives to it is not this host's to run."""
    for pending in load.starts:
        pending.accepted = None
    core.taking.want(*(pending.start.id for pending in load.starts), *(taken.id for taken in reply.taken))
    return msgspec.structs.replace(reply, taken=())


def _parts(load: _Load) -> list[_Load]:
    parts: list[_Load] = []
    for name in _KINDS:
        for item in getattr(load, name):
            part = _Load()
            getattr(part, name).append(item)
            parts.append(part)
    return parts


def _joined(parts: list[_Load]) -> _Load:
    whole = _Load()
    for part in parts:
        for name in _KINDS:
            getattr(whole, name).extend(getattr(part, name))
    return whole


def _answer(future: asyncio.Future[_T], value: _T) -> None:
    if not future.done():
        future.set_result(value)


def _refuse(future: asyncio.Future[_T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

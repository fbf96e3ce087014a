"""One held instance: its state in memory, its mailbox, its running bodies.

    messages ──► mailbox ──► decide ──► committer ──► committed ──► bodies ──► messages …

Between two commits everything that arrives gathers in the mailbox, so that answers which are ready together become one
transition. A runner never has two transitions under way.
"""

from __future__ import annotations

import logging
from heapq import nlargest
from typing import TYPE_CHECKING

from wfe.engine.advance import advance
from wfe.engine.inbox import unpack
from wfe.host.errors_of import record_of
from wfe.model.errors import DataError
from wfe.model.message import Answered, Begun, BodyStopped, Control, ControlVerb, Failed, Message, Started, TimePassed
from wfe.model.status import LifecycleKind, WorkflowStatus
from wfe.ports.store import InboxRow, TransitionOutcome, TransitionWrite

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Sequence

    from wfe.engine.asking import Asker
    from wfe.engine.state import InstanceState
    from wfe.engine.transition import Transition
    from wfe.host.bodies import BodyRun
    from wfe.host.core import HostCore
    from wfe.host.registry import Registration
    from wfe.model.instance import Heartbeat
    from wfe.model.moment import Moment

__all__ = ["Runner"]

_log = logging.getLogger("wfe.host")

_NOTHING: tuple[Sequence[Message], Sequence[int]] = ((), ())
_ROWS_KNOWN = 10_000
"""So many inbox rows are remembered at most; the latest ones are those that may be told of again."""


class Runner:
    """Holds one instance for this host."""

    __slots__ = (
        "asker", "awaited", "beginning", "bodies", "committing", "core", "fence", "gives_up", "held", "id", "inflight",
        "is_in_doubt", "known_rows", "mailbox", "must_write", "noted_wake",
        "registration", "rows", "scheduled", "since", "state", "transition",
    )  # fmt: skip

    def __init__(
        self, core: HostCore, registration: Registration | None, state: InstanceState, fence: int, asker: Asker
    ) -> None:
        self.core = core
        self.registration = registration
        self.state = state
        self.fence = fence
        self.asker = asker
        self.id = state.id
        self.held = True
        self.committing = False
        self.scheduled = False
        self.mailbox: list[Message] = []
        self.rows: list[int] = []
        """Inbox rows whose messages are in the mailbox."""
        self.inflight = _NOTHING
        """What the transition under way was decided on, to decide again if it is refused."""
        self.is_in_doubt = False
        """Whether the transition under way was sent before, and the reply was lost."""
        self.gives_up = False
        """Whether it is to be suspended because it could not go on."""
        self.known_rows: set[int] = set()
        """Inbox rows seen here: a row may be told of twice, also by a read that began before it was consumed."""
        self.must_write = False
        """Whether the next transition is written even if it changes nothing."""
        self.transition: Transition | None = None
        self.bodies: dict[int, BodyRun] = {}
        self.noted_wake = 0
        """The wake time that the host's heap has for this instance."""
        self.awaited: set[int] = set()
        """Pointers whose bodies wait for room on this host."""
        self.beginning: dict[int, asyncio.Future[bool]] = {}
        """Pointers whose bodies begin once that is recorded."""
        self.since = core.monotonic()
        """When this activation began, or last committed."""

    def activate(self, inbox: list[InboxRow], *, quarantine: str = "") -> None:
        """Begin: what was running runs again, what has come is read, what is due happens.

        With `quarantine`, the instance is suspended for that reason before anything of it can run.
        """
        state = self.state
        if quarantine:
            self.mailbox.append(Control(ControlVerb.SUSPEND, quarantine))
        may_run = not quarantine and state.head.status is not WorkflowStatus.SUSPENDED
        idle = self._idle()
        if not may_run:
            # Their host died: they run again once the instance is resumed, not because a message was read.
            self.mailbox.extend(BodyStopped(number, host_died=True) for number in idle)
        for row in inbox:
            self.receive(row)
        if state.head.next_pointer == 1 and self.registration is not None:
            self.deliver(Started())
        if state.head.stopping is not None:
            for number in idle:
                self.deliver(BodyStopped(number))
        elif self.registration is not None:
            if may_run:
                state.begin_again(idle, self.core.now())
                self.core.bodies.run(self, idle)
            self.deliver(TimePassed())
        elif not self.mailbox and not self.rows:
            self.core.leaving.give_back(self)  # without its code, and without a request to apply
            return
        self.core.schedule(self)

    def _idle(self) -> list[int]:
        """List the pointers whose bodies are to run and do not.

        A message that came in the pause before this may have set some going, and those may have ended already.
        """
        ended = {
            message.pointer
            for message in (*self.mailbox, *self.inflight[0])
            if isinstance(message, Answered | Failed | BodyStopped)
        }
        return sorted(self.state.running.difference(self.bodies, self.awaited, ended))

    def receive(self, row: InboxRow) -> None:
        """Take an inbox row, unless it is known."""
        if row.id in self.known_rows:
            return
        self.known_rows.add(row.id)
        self.rows.append(row.id)
        try:
            self.mailbox.append(unpack(row))
        except Exception as error:  # noqa: BLE001 - a corrupt row may make the decoder raise anything
            # Consumed, or it would be in the way for ever; but what it said may be what the instance waits for.
            reason = f"inbox_corrupt: message {row.id} of its inbox could not be read and was dropped: {error}"
            _log.error("Instance %s is suspended: %s", self.id, reason)
            self.mailbox.append(Control(ControlVerb.SUSPEND, reason))
        self.core.schedule(self)

    def deliver(self, message: Message) -> None:
        """Take a message."""
        self.mailbox.append(message)
        self.core.schedule(self)

    def prove_harmless(self) -> None:
        """Commit, although nothing has changed, so that this activation counts as good."""
        self.since = self.core.monotonic()
        self.must_write = True
        self.deliver(TimePassed())

    def record_beginning(self, number: int) -> asyncio.Future[bool]:
        """Have it recorded that a body begins. The answer says whether it may."""
        future = self.beginning[number] = self.core.loop.create_future()
        self.deliver(Begun(number, self.state.pointers[number].attempt))
        return future

    def not_begun(self, number: int) -> Begun:
        """Take back the record of a beginning."""
        return Begun(number, self.state.pointers[number].attempt, counts=False)

    def end_in_good_order(self) -> None:
        """This host ends by itself: that it cuts bodies off counts for none of them."""
        for number in self.bodies:
            pointer = self.state.pointers.get(number)
            if pointer is not None and pointer.begun:
                self.deliver(self.not_begun(number))

    def body_done(self, number: int, run: BodyRun, message: Answered | Failed | Begun | None) -> None:
        """A body has ended."""
        if self.bodies.get(number) is run:
            del self.bodies[number]
        if self.held:
            self.deliver(BodyStopped(number) if message is None else message)

    def heartbeats(self) -> dict[int, Heartbeat]:
        """Give the last heartbeat of each body that runs, by pointer."""
        return {number: run.heartbeat for number, run in self.bodies.items() if run.heartbeat is not None}

    def decide(self) -> TransitionWrite | None:
        """Decide on what is in the mailbox. None: there is nothing to write."""
        if self.committing or not self.held or not (self.mailbox or self.rows):
            return None
        messages, self.mailbox = self.mailbox, []
        rows: Sequence[int] = ()
        if self.rows:
            rows, self.rows = self.rows, []
        if len(messages) > 1 and any(type(message) is TimePassed for message in messages):
            # What has happened comes before what time brings: see `advance`.
            messages.sort(key=lambda message: type(message) is TimePassed)
        core = self.core
        try:
            transition = self._advance(messages, rows)
        except Exception:
            # What was not decided is still to be decided: an answer that is lost here would never come again.
            self.mailbox[:0], self.rows[:0] = messages, rows
            raise
        if self._is_empty(transition, rows) and not self.must_write:
            if not transition.changes.hold and not self.bodies and not self.awaited and self not in core.residents:
                core.leaving.give_back(self)
            return None
        self.committing, self.must_write = True, False
        self.inflight = (messages, rows)
        self.transition = transition
        if self.registration is not None:
            transition.changes = core.residents.changes(transition, self.state)
        return TransitionWrite(
            instance_id=self.id, revision=self.state.revision, fence=self.fence, changes=transition.changes
        )

    def _advance(self, messages: list[Message], rows: Sequence[int]) -> Transition:
        core = self.core
        return advance(
            None if self.registration is None else self.registration.definition,
            self.state,
            messages,
            now=core.now(),
            asker=self.asker,
            consumed=rows,
            random=core.entropy.random,
            limits=core.limits,
        )

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it runs, is written or waits to be decided."""
        return not (self.committing or self.mailbox or self.rows or self.bodies or self.awaited)

    @property
    def may_be_suspended(self) -> bool:
        """Whether suspending the instance changes anything."""
        head = self.state.head
        return head.status is WorkflowStatus.RUNNABLE and head.stopping is None

    def put_back(self) -> None:
        """Leave undone what could not be decided. What came through the inbox stays there, to be read anew."""
        self.mailbox.clear()
        self.known_rows.difference_update(self.rows)
        self.rows.clear()

    def blame_answers(self, error: Exception) -> bool:
        """Turn an answer that cannot be decided, or whose values the store refuses, into a failure of its step.

        False: it is not an answer that is in the way.
        """
        answers = [message for message in self.mailbox if type(message) is Answered]
        culprits = {id(answer) for answer in answers if not self._can_decide(answer)}
        if not culprits and isinstance(error, DataError) and len(answers) == len(self.mailbox) == 1:
            culprits = {id(answers[0])}
        if not culprits or not self.held:
            return False
        record = record_of(error, prefix="What the body answered cannot be recorded: ")
        self.mailbox = [
            Failed(message.pointer, message.attempt, record, retryable=False)
            if type(message) is Answered and id(message) in culprits
            else message
            for message in self.mailbox
        ]
        self.core.schedule(self)
        return True

    def _can_decide(self, answer: Answered) -> bool:
        try:
            self._advance([answer], [])
        except Exception:  # noqa: BLE001 - whatever it is, it is why
            return False
        return True

    def _is_empty(self, transition: Transition, rows: Sequence[int]) -> bool:
        return not (
            rows
            or transition.notes
            or transition.changed
            or transition.gone
            or transition.head != self.state.head
            or transition.changes.subscribe
        )

    def committed(self, outcome: TransitionOutcome, *, unread: bool) -> None:
        """Learn what became of the transition under way."""
        self.committing = False
        transition, self.transition = self.transition, None
        messages, rows = self.inflight
        self.inflight = _NOTHING
        was_in_doubt, self.is_in_doubt = self.is_in_doubt, False
        if was_in_doubt and outcome is TransitionOutcome.STALE:
            # The fence holds, so nobody else has written: it was this very transition. What its reply would have told
            # is read.
            outcome, unread = TransitionOutcome.ACCEPTED, True
        if not self.held or transition is None:
            if outcome is not TransitionOutcome.ACCEPTED:
                _log.warning("Dropped a late transition of instance %s: it was refused (%s)", self.id, outcome.value)
            return
        if outcome is TransitionOutcome.ACCEPTED:
            self._accepted(transition, messages, unread=unread)
        elif outcome is TransitionOutcome.WAIT_GONE:
            self._put_back(messages, rows)
            self.core.incoming.read(self.id)
        else:
            self.core.lost(self, outcome)

    def decide_again(self) -> None:
        """The transition under way was not written: put its messages back."""
        self.committing = self.is_in_doubt = False
        self.transition = None
        messages, rows = self.inflight
        self.inflight = _NOTHING
        self._put_back(messages, rows)

    def _put_back(self, messages: Sequence[Message], rows: Sequence[int]) -> None:
        self.mailbox[:0] = messages
        self.rows[:0] = rows
        if self.awaited:
            self.core.bodies.run(self, sorted(self.awaited))  # those that were passed over meanwhile

    def _accepted(self, transition: Transition, messages: Sequence[Message], *, unread: bool) -> None:
        self.state.apply(transition)
        for note in transition.notes:
            if note.kind is LifecycleKind.DATA_OVERWRITTEN:
                _log.warning("Instance %s: %s", self.id, note.detail)
        if self.beginning:
            self._let_begin({message.pointer for message in messages if type(message) is Begun})
        core = self.core
        self.since = core.monotonic()
        core.went_on(self)
        core.residents.leave(self)
        if len(self.known_rows) > _ROWS_KNOWN:
            self.known_rows = {*self.rows, *nlargest(_ROWS_KNOWN // 10, self.known_rows)}
        if transition.stop:
            self._stop(transition.stop)
        if transition.changes.ended:
            core.instance_ended(self)
        elif not transition.changes.hold:
            core.gave_back(self, unread=unread, wake=transition.changes.wake_at)
        else:
            if transition.head.status is WorkflowStatus.SUSPENDED:
                self._hold_back(transition.run)
            elif transition.run:
                core.bodies.run(self, transition.run)
            self._go_on(transition, unread=unread)

    def _let_begin(self, asked: Collection[int]) -> None:
        """Tell bodies whose beginning is recorded to begin, and others that they shall not.

        Those that have `asked` in vain, because of a suspension that is over by now, ask again.
        """
        head = self.state.head
        halted = head.status is not WorkflowStatus.RUNNABLE or head.stopping is not None
        for number, future in list(self.beginning.items()):
            pointer = self.state.pointers.get(number)
            is_over = halted or pointer is None or not pointer.runs_body
            if is_over or (pointer is not None and pointer.begun):
                del self.beginning[number]
                if not future.done():
                    future.set_result(not is_over)
            elif number in asked and pointer is not None:
                self.deliver(Begun(number, pointer.attempt))

    def _go_on(self, transition: Transition, *, unread: bool) -> None:
        """The instance is still held: see what else there is to do for it."""
        core = self.core
        if transition.head.status is not WorkflowStatus.RUNNABLE:
            core.waiters.changed(self)
        if transition.again:
            self.mailbox.append(TimePassed())
        if unread:
            core.incoming.read(self.id)
        wake = None if transition.waits else self.next_alarm()
        if wake is not None and wake != self.noted_wake:
            self.noted_wake = wake
            core.wake_at(self.id, wake)
        if self.mailbox or self.rows:
            core.schedule(self)
        elif core.draining and not self.bodies:
            core.leaving.give_back(self)
            return
        if transition.waits:
            core.residents.keep(self)
            core.waiters.changed(self)

    def _hold_back(self, numbers: Sequence[int]) -> None:
        """The instance is suspended: bodies that are ready, but have not begun, do not begin."""
        waiting = self.awaited.union(numbers)
        self.awaited.clear()
        for number in sorted(waiting):
            self.deliver(BodyStopped(number))

    def may_begin(self, number: int) -> bool:
        """Tell whether a body that waits for room may begin now.

        Not if a transition under way speaks against it: it may be committed already, and others may know.
        """
        transition = self.transition
        if transition is None:
            return True
        head = transition.head
        return head.status is WorkflowStatus.RUNNABLE and head.stopping is None and number not in transition.stop

    def next_alarm(self) -> Moment | None:
        """When time will bring something for the held instance: a timer, or the end of its workflow timeout."""
        wake = self.state.timers.earliest()
        deadline = self.state.deadline
        if deadline and self.registration is not None and (wake is None or deadline < wake):
            return deadline
        return wake

    def _stop(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            run = self.bodies.get(number)
            if run is not None:
                self.core.bodies.stop(self, number, run)
            else:
                # Ready, but not begun here (no room yet, or the host is draining).
                self.awaited.discard(number)
                self.deliver(BodyStopped(number))

    def drop(self) -> None:
        """Stop everything and write nothing more: the instance is another's, or this host ends."""
        self.held = False
        self.mailbox.clear()
        self.rows.clear()
        for run in list(self.bodies.values()):
            self.core.bodies.abandon(run)
        self.awaited.clear()

"""The world of a search: the tables of the memory provider, and the hosts with what they know and have under way."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from wfe.engine.state import decode_pointers
from wfe.host.registry import Registration
from wfe.host.runner import Runner
from wfe.model.definition import StepKind
from wfe.model.moment import Moment
from wfe.model.pointer import Pointer
from wfe.model.status import PointerStatus, WorkflowStatus
from wfe.ports.store import Batch, CommitReply, InboxRow
from wfe.providers.memory.lease import MemoryLease
from wfe.providers.memory.store import MemoryStore
from wfe.providers.memory.tables import Instance, Tables
from wfe.testing.search.copying import copy_runner, copy_tables
from wfe.testing.search.keys import key_of
from wfe.testing.search.ledger import Account
from wfe.testing.search.rules import state_problems

__all__ = ["SECOND", "Body", "Host", "Sent", "StandingClock", "World", "now_of"]

SECOND = 1_000_000
_BEGINNING = 1_767_225_600 * SECOND
_TTL = timedelta(seconds=15)

T = TypeVar("T")


def now_of(work: Coroutine[Any, Any, T]) -> T:
    """Give what a coroutine gives that never waits, as those of the memory provider."""
    try:
        work.send(None)
    except StopIteration as ended:
        value: T = ended.value
        return value
    work.close()
    msg = f"{work!r} waits"
    raise AssertionError(msg)


class StandingClock(NamedTuple):
    """Time that stands still; later times are other clocks. Sessions live until they are ended, see `World.expire`."""

    moment: Moment = _BEGINNING

    def now(self) -> Moment:
        return self.moment

    def monotonic(self) -> float:
        return 0.0


class Body(NamedTuple):
    """A body that runs."""

    pointer: int
    attempt: int
    base: int
    """Revision of the state that it was given."""
    is_told_to_stop: bool = False

    def stop(self) -> None:
        """Its runner is dropped, and so is what it answers."""


class Sent(NamedTuple):
    """A transition under way."""

    batch: Batch
    reply: CommitReply | None = None
    """What the store has answered; the host does not know it yet."""


@dataclass(slots=True, eq=False)
class Host:
    """One start of one host."""

    session: str
    is_up: bool = True
    """Whether its process lives."""
    runners: dict[str, Runner] = field(default_factory=dict[str, Runner])
    sent: dict[str, Sent] = field(default_factory=dict[str, Sent])
    """By instance."""
    releases: tuple[tuple[str, int], ...] = ()
    """What it is about to give back."""
    resting: dict[str, tuple[InboxRow, ...]] = field(default_factory=dict[str, tuple[InboxRow, ...]])
    """Instances that it has taken and does not run yet, since their last activations came to nothing; their inbox."""
    taken_unknown: bool = False
    """Whether a reply was lost that may have given it an instance."""

    def copy(self) -> Host:
        """Copy it with its runners."""
        runners = {number: copy_runner(each) for number, each in self.runners.items()}
        return Host(
            self.session, self.is_up, runners, dict(self.sent), self.releases, dict(self.resting), self.taken_unknown
        )


class World:
    """Everything there is. Moves change it; the search copies it before each."""

    __slots__ = ("accounts", "adrift", "broken", "budget", "hosts", "made", "registration", "store", "tables")

    def __init__(self, registration: Registration, *, hosts: int, budget: dict[str, int]) -> None:
        self.registration = registration
        """The one definition of this world."""
        self.tables: Tables = Tables(StandingClock())
        self.store = MemoryStore(self.tables)
        self.hosts: list[Host] = []
        self.budget: dict[str, int] = budget
        """How often each kind of request and fault may still happen."""
        self.adrift: tuple[Batch, ...] = ()
        """Requests of which nobody awaits the answer: they may still reach the store."""
        self.accounts: dict[str, Account] = {}
        """What the rules remember of each instance."""
        self.made = 0
        """Counts sessions and batches: names only, so that it is no part of the key."""
        self.broken: list[str] = []
        for _ in range(hosts):
            self.new_host()

    def copy(self) -> World:
        """Copy it."""
        new = object.__new__(World)
        new.registration = self.registration
        new.tables = copy_tables(self.tables)
        new.store = MemoryStore(new.tables)
        new.hosts = [host.copy() for host in self.hosts]
        new.budget = self.budget.copy()
        new.adrift = self.adrift
        new.accounts = self.accounts.copy()
        new.made = self.made
        new.broken = []
        return new

    # What is there

    @property
    def now(self) -> Moment:
        """Store time."""
        return self.tables.clock.now()

    def host(self, session: str) -> Host:
        """Give the host of a session."""
        return next(host for host in self.hosts if host.session == session)

    def is_alive(self, host: Host) -> bool:
        """Tell whether a host's session lives."""
        return self.tables.is_alive(host.session)

    def breaks(self, rule: str, text: str) -> None:
        """Note a broken rule."""
        self.broken.append(f"{rule}: {text}")

    def may(self, what: str) -> bool:
        """Tell whether something may still happen."""
        return self.budget.get(what, 0) > 0

    def spend(self, what: str) -> None:
        """It happens now."""
        self.budget[what] -= 1

    # What changes

    def writes(self, step: str) -> bool:
        """Tell whether the answer of a step sets a field of the data."""
        return self.registration.definition.places[step].step.kind is StepKind.BODY

    def new_name(self, prefix: str) -> str:
        """Make a name that nothing else has."""
        self.made += 1
        return f"{prefix}{self.made}"

    def new_host(self) -> None:
        """A host starts."""
        host = Host(self.new_name("host"))
        now_of(MemoryLease(self.tables).begin(host.session, name="host", ttl=_TTL))
        self.hosts.append(host)

    def expire(self, session: str) -> None:
        """A session has not been renewed for its time to live."""
        self.tables.sessions[session].expires = 0.0

    def pass_time(self, until: Moment) -> None:
        """It is later now."""
        self.tables.clock = StandingClock(until)

    # For the search

    def problems(self) -> Sequence[str]:
        """Say which rules this state breaks."""
        return state_problems(self)

    def is_end(self) -> bool:
        """Tell whether every instance has ended, or waits for what only a caller can do, and nobody holds it."""
        if self.tables.future:
            return False
        return all(_rests(each) and self.tables.holder(each) is None for each in self.tables.instances.values()) and (
            not any(host.runners or host.sent or host.releases for host in self.hosts if host.is_up)
        )

    def key(self) -> bytes:
        """Give what tells this state from others."""
        return key_of(self)


def _rests(instance: Instance) -> bool:
    """Whether nothing is left to do for it unless somebody asks for something, or publishes an event."""
    if instance.has_ended:
        return True
    if instance.inbox:
        return False
    if instance.status == WorkflowStatus.SUSPENDED:
        return True
    pointers = decode_pointers(instance.packed_pointers()).values()
    return instance.wake_at is None and bool(pointers) and all(_only_waits(pointer) for pointer in pointers)


def _only_waits(pointer: Pointer) -> bool:
    if pointer.status is PointerStatus.WAITING_FOR_EVENT:
        return not pointer.wake
    return pointer.open > 0 or pointer.status is PointerStatus.FAILED

"""Rules of who may take what from whom: what hints tell, what draining hosts hold, what dead hosts leave behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wfe.host.trials import SUSPECT_FROM
from wfe.providers.memory.tables import Instance, Tables
from wfe.testing.simulation.machines import SWEEP_INTERVAL

if TYPE_CHECKING:
    from wfe.testing.simulation.machines import Life

__all__ = ["Ownership"]

_SWEPT_WITHIN = 1.25 * SWEEP_INTERVAL + 0.25
"""Virtual seconds between two sweeps of a host at most, with what their requests take in calm weather."""
_LOOKED_EVERY = 1.0
"""Virtual seconds between two looks at orphans: room may have come only shortly before one."""
_ON_ITS_WAY = 5.0
"""Virtual seconds for which requests may still be on their way when the weather has become calm."""


@dataclass
class _Orphan:
    """An instance whose host died."""

    fence: int
    ttl: float
    waits_since: float


@dataclass(frozen=True)
class _Named:
    """An instance that a host asks for by its id, as it was before."""

    is_due: bool
    owner: str | None


class Ownership:
    """Sees every taking, and remembers whom hosts that are ending held."""

    def __init__(
        self, tables: Tables, broken: Callable[[str, str], None], clock: Callable[[], float], seen: Counter[str]
    ) -> None:
        """Begin to watch.

        Args:
            broken: Takes the name of a rule and what broke it.
            clock: Gives virtual time.
            seen: Counts what has happened.
        """
        self._tables = tables
        self._broken = broken
        self._clock = clock
        self._seen = seen
        self._draining: dict[str, tuple[Life, float]] = {}
        """Sessions of hosts that are stopping, and since when."""
        self._named: dict[str, _Named] = {}
        self._held: dict[str, str] = {}
        """Instances of hosts that are stopping, and their sessions."""
        self._orphans: dict[str, _Orphan] = {}

    # Takings

    def before_taking(self, ids: Sequence[str] | None = None) -> None:
        """Remember who holds what, before a request is executed that may take instances; of these ids, if any."""
        tables, now = self._tables, self._tables.now()
        self._held = {
            each.id: each.owner
            for each in tables.live.values()
            if each.owner is not None and each.owner in self._draining
        }
        self._named = {}
        for each in ids or ():
            if not _is_storable(each):
                self._broken("Q3", f"a host asks for {each!r}, which is no id")
            instance = tables.live.get(each)
            if instance is None:
                self._seen["asked for nothing"] += 1
            else:
                self._named[each] = _Named(instance.is_due(now), tables.holder(instance))

    def after_taking(self, taker: str, ids: Iterable[str], *, even_idle: bool = True) -> None:
        """Check what a session has taken by the request; it asked `even_idle` for those that are not due."""
        for each in ids:
            named = self._named.get(each)
            if named is not None and not even_idle and (named.owner is not None or not named.is_due):
                self._broken("Q3", f"{each} was taken because it was asked for: held by {named.owner}, not due")
            session = self._held.get(each)
            if session is not None and session != taker:
                life, since = self._draining[session]
                if life.is_undisturbed:
                    self._broken(
                        "L6", f"{each} was taken from {life.name}, which has been stopping for {self._ago(since)}"
                    )

    def _ago(self, since: float) -> str:
        return f"{self._clock() - since:.1f} s"

    # Hosts that stop

    def stops(self, life: Life) -> None:
        """A host begins to drain."""
        self._draining[life.session] = life, self._clock()

    def requested(self, session: str) -> None:
        """The store executes a write of a session: one that drains lives until its host has ended it."""
        if session not in self._draining:
            return
        life, since = self._draining[session]
        if not life.is_undisturbed:
            return
        self._seen["drained for longer than its lease"] += self._clock() - since > life.settings.lease_ttl
        if not self._tables.is_alive(session):
            self._broken("L6", f"the session of {life.name} is over, {self._ago(since)} after it began to stop")

    def session_ends(self, session: str) -> None:
        """A host ends its session: what it held is anybody's."""
        self._draining.pop(session, None)

    # Hosts that die

    def died(self, life: Life) -> None:
        """A host is gone, and has given nothing back."""
        self._draining.pop(life.session, None)
        for instance in self._tables.live.values():
            if instance.owner == life.session:
                self._orphans[instance.id] = _Orphan(instance.fence, life.settings.lease_ttl, self._clock())

    def look(self, *, has_room: bool) -> None:
        """Check those whose hosts died, at rest: some host goes on with each within TTL and sweep interval.

        Args:
            has_room: Whether a host could take more.
        """
        now = self._clock()
        for instance_id, orphan in [*self._orphans.items()]:
            instance = self._tables.live.get(instance_id)
            if instance is None or instance.fence != orphan.fence:
                del self._orphans[instance_id]
                self._seen["taken over from the dead"] += 1
            elif not has_room or not self._is_anybodys(instance):
                orphan.waits_since = now
            elif now - orphan.waits_since > orphan.ttl + _SWEPT_WITHIN + _LOOKED_EVERY:
                self._broken(
                    "L7", f"the host of {instance_id} died, and nobody has taken it for {self._ago(orphan.waits_since)}"
                )

    def _is_anybodys(self, instance: Instance) -> bool:
        """Whether any host with room takes it at once: suspects are tried one group after the other."""
        return instance.is_due(self._tables.now()) and instance.activations < SUSPECT_FROM

    def rest_begins(self) -> None:
        """All faults are over: what nobody could take until now is waited for from now on."""
        for orphan in self._orphans.values():
            orphan.waits_since = max(orphan.waits_since, self._clock() - orphan.ttl + _ON_ITS_WAY)


def _is_storable(text: str) -> bool:
    """Whether any store could have an instance of this id."""
    return text.isascii() and "\0" not in text and bool(text)

"""The list of failpoints. It is read off the port protocols and the list of gaps, so that none can be forgotten."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from wfe.ports.gaps import Gap
from wfe.ports.hints import Hints
from wfe.ports.lease import Lease, Renewer
from wfe.ports.lifecycle import LifecyclePublisher
from wfe.ports.store import Store

__all__ = ["NEXT_EVENT", "PORTS", "Failpoint", "Mode", "failpoints", "methods_of"]


class Mode(StrEnum):
    """What happens at a failpoint."""

    CRASH_BEFORE = "crash before"
    """The process dies, and the call does not happen. For a gap: it dies there."""
    CRASH_AFTER = "crash after"
    """The call happens, and the process dies without being told."""
    REFUSED = "refused"
    """The call does not happen, and raises. For a gap: what goes on there fails. For a hint: it is lost."""
    REPLY_LOST = "reply lost"
    """The call happens, and raises all the same."""


@dataclass(frozen=True)
class Failpoint:
    """One place, and what can happen there."""

    name: str
    modes: tuple[Mode, ...]


PORTS: Mapping[str, type] = {
    "store": Store,
    "lease": Lease,
    "renewer": Renewer,
    "hints": Hints,
    "lifecycle": LifecyclePublisher,
}
"""The ports of a provider, and what they hand out."""

NEXT_EVENT = "lifecycle.next"
"""Each announcement that a subscription gives."""

_CRASHES = (Mode.CRASH_BEFORE, Mode.CRASH_AFTER)
_NEVER_RAISE = frozenset({"store.close", "lease.renewer", "renewer.close", "hints.close", "lifecycle.wake"})
"""Calls that raise nothing, by their contracts or because nothing is asked of the backend."""
_GAPS_THAT_FAIL = frozenset(
    {Gap.SQLITE_BEGUN, Gap.SQLITE_WRITTEN, Gap.SQLITE_COMMITTED, Gap.POSTGRES_SENDING, Gap.POSTGRES_ANSWERED}
)
"""Gaps at which a backend is asked for something, so that it may refuse or be cut off."""


def failpoints() -> tuple[Failpoint, ...]:
    """List all failpoints: each method of each port, what its subscriptions give, and each gap."""
    calls = [Failpoint(name, _modes_of(name)) for name in _calls()]
    gaps = [Failpoint(gap, _modes_of_gap(gap)) for gap in Gap]
    return (*calls, Failpoint(NEXT_EVENT, _CRASHES), *gaps)


def methods_of(port: type) -> Iterator[str]:
    """Name the methods of a port."""
    for name, value in vars(port).items():
        if inspect.isfunction(value) and not name.startswith("_"):
            yield name


def _calls() -> Iterator[str]:
    for prefix, port in PORTS.items():
        yield from (f"{prefix}.{method}" for method in methods_of(port))


def _modes_of(name: str) -> tuple[Mode, ...]:
    if name in _NEVER_RAISE:
        return _CRASHES
    if name == "hints.send":
        return (*_CRASHES, Mode.REFUSED)
    return (*_CRASHES, Mode.REFUSED, Mode.REPLY_LOST)


def _modes_of_gap(gap: Gap) -> tuple[Mode, ...]:
    return (Mode.CRASH_BEFORE, Mode.REFUSED) if gap in _GAPS_THAT_FAIL else (Mode.CRASH_BEFORE,)

"""The inspection port: everything that a store keeps, shown row by row, so that rules can be checked.

A store that offers it hands what it keeps to an inspector, instance by instance. Nothing is written, no lock is taken
that a writer would wait for, and memory does not grow with the number of instances or events. The rules themselves are
the inspector's (`wfe.host.fsck`); a store adds what only it can know: rows that belong to nothing, and its indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec

from wfe.model.definition import DefinitionKey
from wfe.model.errors import ConfigurationError
from wfe.model.moment import Moment
from wfe.ports.store import DefinitionRow, ErrorRow, InboxRow, ItemsRow, LogRow, ParentLink, PointerRow

__all__ = [
    "Damage",
    "InspectableStore",
    "Inspector",
    "OverlookedEvent",
    "StoredEvent",
    "StoredInstance",
    "not_inspectable",
]


class OverlookedEvent(NamedTuple):
    """A wait, and a stored event that it matches: it should have had it."""

    pointer: int
    wait: int
    sequence: int


class StoredInstance(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One instance with all rows that hang on it, but for its log and errors: one state of the store."""

    id: str
    definition: DefinitionKey
    plan: str | None
    """The recorded plan of exactly this definition; None: it is not recorded."""
    status: str
    run: int
    revision: int
    fence: int
    owner: str | None
    wake_at: Moment | None
    created_at: Moment
    ended_at: Moment | None
    activations: int
    digest: bytes
    head: bytes
    data: bytes | None
    """None: its row is missing."""
    values: bytes | None
    parent: ParentLink | None = None
    parent_has_ended: bool = False
    """The parent exists and has ended. False: it lives, or was purged."""
    pointers: Sequence[PointerRow] = ()
    items: Sequence[ItemsRow] = ()
    inbox: Sequence[InboxRow] = ()
    waits: Sequence[tuple[int, int]] = ()
    """Pointer and wait of each subscription."""
    overlooked: Sequence[OverlookedEvent] = ()
    live_children: Sequence[str] = ()
    """Ids of the instances started for it that have not ended."""


class StoredEvent(NamedTuple):
    """What an event, published or still to be, carries."""

    what: str
    """Which event it is, in words."""
    payload: bytes
    see: str
    """How to see it: a statement for the database, or another hint."""


class Damage(NamedTuple):
    """Something wrong that the store itself sees."""

    rule: str
    """Name of the broken rule, see `wfe.host.fsck.RULES`."""
    what: str
    """One sentence."""
    see: str
    """How to see it: a statement for the database, or another hint."""
    instance_id: str = ""


class Inspector(Protocol):
    """Is shown a store. Calls come one after another, possibly from another thread than the one that asked."""

    def instance(self, stored: StoredInstance) -> None:
        """Look at the next instance. Its errors and log follow, then `finished`.

        An instance that is shown again (after a lost connection) begins anew.
        """
        ...

    def errors(self, rows: Sequence[ErrorRow]) -> None:
        """Look at further errors of the instance, in the order of their numbers."""
        ...

    def log(self, rows: Sequence[LogRow]) -> None:
        """Look at further log rows of the instance, in commit order."""
        ...

    def finished(self) -> None:
        """The instance has been shown whole."""
        ...

    def events(self, rows: Sequence[StoredEvent]) -> None:
        """Look at further events."""
        ...

    def definitions(self, rows: Sequence[DefinitionRow]) -> None:
        """Look at further recorded definitions. Their instances have been shown."""
        ...

    def damage(self, found: Damage) -> None:
        """Take note of what the store sees."""
        ...


@runtime_checkable
class InspectableStore(Protocol):
    """A store that can be checked."""

    async def inspect(self, inspector: Inspector) -> None:
        """Show everything that is kept, while hosts may be writing. The store need not be open for this.

        All rows of an instance are of one moment (one read transaction for a few instances at a time).

        Raises:
            ConfigurationError: There is no store.
            ProviderUnavailable: The backend did not answer; not everything was shown.
        """
        ...


def not_inspectable(store: object) -> ConfigurationError:
    """Give the error for a store that cannot be checked."""
    return ConfigurationError(
        f"A {type(store).__qualname__} cannot be checked: it has no `inspect` (see wfe.ports.inspection)."
    )

"""What the rules remember of an instance: the part of its history that its present state does not show."""

from __future__ import annotations

import msgspec

__all__ = ["Account"]


class Account(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The history of one instance."""

    taker: str = ""
    """Session that took it last."""
    fence: int = 0
    """The highest fence that was given out."""
    revision: int = 0
    sequence: int = 0
    """Number of its last announcement."""
    results: frozenset[tuple[int, str]] = frozenset()
    """Pointers whose end was announced, and how."""
    written: frozenset[str] = frozenset()
    """Data fields that recorded answers of bodies set."""
    outcomes: frozenset[tuple[int, int, str]] = frozenset()
    """Waits that are over: pointer, wait, and whether by `event` or by `time`."""
    pauses: frozenset[tuple[int, int]] = frozenset()
    """Pauses that are over: pointer, and its failures before."""
    delivered: frozenset[tuple[int, int, int]] = frozenset()
    """Events that reached it: pointer, wait, sequence number."""
    consumed: frozenset[int] = frozenset()
    """Inbox rows that its transitions applied."""
    branches: frozenset[tuple[int, int, str]] = frozenset()
    """Branches of loops that began: container, index, step."""
    joined: frozenset[str] = frozenset()
    """Steps at the top that were reached."""
    position: int = 0
    """Sequence number of the latest event that it has used."""
    ends: int = 0
    """How often its end was announced."""

    def history(self) -> tuple[object, ...]:
        """Give what is left of it when hosts, fences and revisions are told apart by nothing but their order."""
        return (
            self.results,
            self.written,
            self.outcomes,
            self.pauses,
            self.delivered,
            self.consumed,
            self.branches,
            self.joined,
            self.position,
            self.ends,
        )

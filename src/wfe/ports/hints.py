"""The queue port: wake-up hints between hosts. Hints may be lost, doubled or late; losing all of them loses no work."""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Protocol

import msgspec

__all__ = ["Hint", "HintKind", "Hints"]


class HintKind(StrEnum):
    """What a hint is about."""

    WORK = "work"
    """These instances have new inbox rows or are due: their holder looks, or somebody takes them."""
    ENDED = "ended"
    """These instances have ended: waiters look."""


class Hint(msgspec.Struct, frozen=True, array_like=True):
    """One hint. An undecodable one is dropped by the provider."""

    kind: HintKind
    ids: tuple[str, ...]


class Hints(Protocol):
    """Carries hints between the sessions on one store."""

    async def open(self, session: str, receive: Callable[[Hint], None]) -> None:
        """Begin to receive: hints sent to this session and those sent to all, except its own.

        `receive` is called in the loop that opened it. After a lost connection was mended, it gets `Hint(WORK, ())`:
        look at everything.
        """
        ...

    async def send(self, session: str | None, hints: Collection[Hint]) -> None:
        """Send hints to one session, or (None) to all others.

        Never raises for an unreachable backend: hints may be lost.
        """
        ...

    async def close(self) -> None:
        """Stop receiving. Closing twice is harmless."""
        ...

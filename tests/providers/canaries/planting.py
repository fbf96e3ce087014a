"""How a broken promise is planted in the memory provider."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator

    from wfe.providers.memory.tables import Tables

__all__ = ["CANARIES", "Canary", "breaks", "locked"]


@dataclass(frozen=True)
class Canary:
    """One broken promise."""

    name: str
    test: str
    place: object
    attribute: str
    broken: Callable[..., Any]
    """Takes the place of the attribute; its first argument is what was there."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        original = getattr(self.place, self.attribute)

        def instead(*args: Any, **options: Any) -> Any:
            return self.broken(original, *args, **options)

        with patch.object(self.place, self.attribute, instead):
            yield


CANARIES: list[Canary] = []


def breaks(place: object, attribute: str, *tests: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function take the place of an attribute; each of the tests must notice it."""

    def note(broken: Callable[..., Any]) -> Callable[..., Any]:
        CANARIES.extend(Canary(broken.__name__, test, place, attribute, broken) for test in tests)
        return broken

    return note


@asynccontextmanager
async def locked(tables: Tables, keys: Iterable[Hashable]) -> AsyncIterator[None]:
    """Lock one key after the other, in the order given, while others do: the way to a deadlock."""
    locks: dict[Hashable, asyncio.Lock] = vars(tables).setdefault("locks", {})
    async with AsyncExitStack() as held:
        for key in keys:
            await held.enter_async_context(locks.setdefault(key, asyncio.Lock()))
            await asyncio.sleep(0)
        yield

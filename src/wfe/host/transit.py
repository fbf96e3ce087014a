"""Instances on their way to this host or from it, and what comes for them meanwhile.

While a start is being written, or an instance given back, the store may say already that this host holds it, or say so
still, and nothing of it runs here. What comes for it then can neither be received nor taken: it is noted, and seen to
as soon as the store has answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

__all__ = ["Transit", "Want"]

Want: TypeAlias = Callable[[str], None]
"""Takes an instance, by its id, in the manner that fits what has come for it."""


class Transit:
    """Knows who is on the way."""

    def __init__(self) -> None:
        self._under_way: dict[str, int] = {}
        """Instance → how many requests to the store move it."""
        self._calls: dict[str, list[Want]] = {}

    def begin(self, ids: Iterable[str]) -> None:
        """Requests that move these instances are sent; each ends by `end`."""
        for each in ids:
            self._under_way[each] = self._under_way.get(each, 0) + 1

    def end(self, ids: Iterable[str]) -> list[tuple[str, Want]]:
        """They are answered. Gives what has come meanwhile for those that nothing else moves."""
        calls: list[tuple[str, Want]] = []
        for each in ids:
            left = self._under_way[each] - 1
            if left:
                self._under_way[each] = left
                continue
            del self._under_way[each]
            if each in self._calls:
                calls += [(each, want) for want in self._calls.pop(each)]
        return calls

    def note(self, instance_id: str, want: Want) -> bool:
        """Something has come for an instance. False: it is not on the way."""
        if instance_id not in self._under_way:
            return False
        wants = self._calls.setdefault(instance_id, [])
        if want not in wants:
            wants.append(want)
        return True

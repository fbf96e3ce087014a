"""Wake times of one instance's pointers, earliest first."""

from __future__ import annotations

import heapq
from collections.abc import Container, Mapping
from datetime import UTC, datetime

from wfe.model.moment import Moment, from_datetime
from wfe.model.pointer import Pointer

__all__ = ["Timers", "wake_time"]

_LATEST = from_datetime(datetime.max.replace(tzinfo=UTC))
_SPARE = 64


def wake_time(moment: Moment) -> Moment:
    """Give a time as a pointer keeps it: never 0, which says "not by time", nor after the last year there is."""
    return min(max(moment, 1), _LATEST)


class Timers:
    """A heap with lazy deletion: an entry counts only while its pointer still has that wake time.

    Looking never changes what later looks find, so a decision that reads timers stays a pure function.
    """

    __slots__ = ("_heap", "_pointers")

    def __init__(self, pointers: Mapping[int, Pointer]) -> None:
        self._pointers = pointers
        self._heap = [(pointer.wake, pointer.id) for pointer in pointers.values() if pointer.wake]
        heapq.heapify(self._heap)

    def add(self, pointer: Pointer) -> None:
        """Note the wake time of a pointer that has just changed."""
        heapq.heappush(self._heap, (pointer.wake, pointer.id))
        if len(self._heap) > 2 * len(self._pointers) + _SPARE:
            # Entries of waits that ended early lie below until their time comes; a long loop would pile them up.
            self._heap = sorted({entry for entry in self._heap if self._is_current(entry)})

    def due(self, now: Moment) -> list[int]:
        """List the pointers whose time has come, in due order."""
        found: list[tuple[Moment, int]] = []
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            if self._is_current(entry) and (not found or found[-1] != entry):
                found.append(entry)
        for entry in found:
            heapq.heappush(self._heap, entry)
        return [pointer for _, pointer in found]

    def earliest(self, leaving_out: Container[int] = ()) -> Moment | None:
        """Give the earliest wake time among pointers that are not left out."""
        aside: list[tuple[Moment, int]] = []
        answer = None
        while self._heap:
            entry = self._heap[0]
            if not self._is_current(entry):
                heapq.heappop(self._heap)
                continue
            if entry[1] not in leaving_out:
                answer = entry[0]
                break
            aside.append(heapq.heappop(self._heap))
        for entry in aside:
            heapq.heappush(self._heap, entry)
        return answer

    def _is_current(self, entry: tuple[Moment, int]) -> bool:
        pointer = self._pointers.get(entry[1])
        return pointer is not None and pointer.wake == entry[0]

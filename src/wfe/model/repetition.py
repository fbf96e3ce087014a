"""Trouble that repeats, told without flooding the log."""

from __future__ import annotations

__all__ = ["Repetition"]


class Repetition:
    """Counts how often the same trouble came in a row. Of these the 1st, 2nd, 4th, 8th … are worth a line."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0
        """How often it came since it was over."""

    def again(self) -> bool:
        """It came once more. True: tell it."""
        self.count += 1
        return self.count & (self.count - 1) == 0

    def over(self) -> int:
        """It is over; gives how often it came."""
        count, self.count = self.count, 0
        return count

"""What happened in a run, in order; two runs of one seed have equal traces."""

from __future__ import annotations

import asyncio
import hashlib

__all__ = ["Trace"]


class Trace:
    """Lines with their virtual times."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.lines: list[tuple[float, str, str]] = []

    def note(self, who: str, what: str) -> None:
        """Add a line."""
        self.lines.append((self._loop.time(), who, what))

    def digest(self) -> str:
        """Give a fingerprint of the whole trace."""
        found = hashlib.sha256()
        for when, who, what in self.lines:
            found.update(f"{when!r} {who} {what}\n".encode(errors="backslashreplace"))
        return found.hexdigest()

    def last(self, count: int, about: str = "") -> list[str]:
        """Give the last lines, all or those that name something."""
        chosen = [line for line in self.lines if about in line[2]][-count:]
        return [f"{when:10.4f}  {who:<10} {_printable(what)}" for when, who, what in chosen]


def _printable(text: str) -> str:
    """Forged ids may be what no terminal takes."""
    return text.encode(errors="backslashreplace").decode()

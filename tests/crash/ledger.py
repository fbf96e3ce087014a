"""An append-only file in which bodies and clients note what they did, and that outlives every process that writes it.

Each entry is one line, written by one `write` to a file opened for appending: lines of several processes never mix, and
what was written before a SIGKILL is there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wfe import StepExecutionContext

__all__ = ["Entry", "Ledger", "read_ledger"]


@dataclass(frozen=True)
class Entry:
    """One line."""

    what: str
    """`begin` and `end` of a body; `start`, `publish`, `control` and `result`: an answer that a client was given."""
    life: str
    """The process that wrote it."""
    instance: str
    pointer: str = ""
    step: str = ""
    attempt: int = 0
    key: str = ""
    detail: Any = None
    at: float = 0.0
    """Monotonic time of this machine, in seconds; the same clock in all its processes."""


class Ledger:
    """The writing end."""

    def __init__(self, path: Path, life: str) -> None:
        self.life = life
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)

    def write(
        self,
        what: str,
        instance: str,
        *,
        pointer: str = "",
        step: str = "",
        attempt: int = 0,
        key: str = "",
        detail: object = None,
    ) -> None:
        """Add a line."""
        line = json.dumps([what, self.life, instance, pointer, step, attempt, key, detail, time.monotonic()])
        os.write(self._file, line.encode() + b"\n")

    @contextmanager
    def body(self, context: StepExecutionContext[Any]) -> Iterator[None]:
        """Note the begin of a body, and its end unless it raises or is cancelled."""
        self._note("begin", context)
        yield
        self._note("end", context)

    def _note(self, what: str, context: StepExecutionContext[Any]) -> None:
        self.write(
            what,
            context.workflow.id,
            pointer=context.pointer_id,
            step=context.step.id,
            attempt=context.attempt,
            key=context.idempotency_key,
        )


def read_ledger(path: Path) -> list[Entry]:
    """Read all lines in the order in which they were written."""
    if not path.exists():
        return []
    return [Entry(*json.loads(line)) for line in path.read_text().splitlines()]

"""A program that fills what its database lies on, under a working host, and frees it again; at several levels.

Run as `python -m tests.crash.filling_disk MANNER FOLDER KIB…`: MANNER is `mount` (FOLDER becomes a file system of
4 MiB, which needs the right to mount) or `limit` (no file of this process may grow beyond 4 MiB, whoever it runs as).
KIB are the levels: how much may still be written once the host has begun. Prints what happened at each as a list in
JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from wfe import ProviderUnavailable, StepExecutionContext, WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.testing import fsck

__all__: list[str] = []

_SIZE = 4 << 20
_PIECE = "x" * 30_000
_OUTAGE_SECONDS = 30
_STEPS = 3


def main() -> None:
    """Go through all levels, and tell."""
    manner, folder, *levels = sys.argv[1:]
    bound = _Mount(Path(folder)) if manner == "mount" else _Limit(Path(folder))
    told = [asyncio.run(_live_through(bound, int(level) << 10)) for level in levels]
    sys.stdout.write(json.dumps(told))


class _Mount:
    """A small file system, and a file that takes its room."""

    def __init__(self, folder: Path) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "none", str(folder)], check=True)
        self.folder = folder
        self._filler = folder / "filler"

    def tighten(self, room: int) -> None:
        """Leave so many bytes."""
        free = os.statvfs(self.folder)
        self._filler.write_bytes(b"f" * max(0, free.f_bavail * free.f_frsize - room))

    def loosen(self) -> None:
        """Give all of it back."""
        self._filler.unlink()


class _Limit:
    """A limit on the size of files, which the kernel holds this process to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._set(_SIZE)

    def tighten(self, room: int) -> None:
        """Leave so many bytes to the largest file."""
        self._set(max(path.stat().st_size for path in self.folder.iterdir()) + room)

    def loosen(self) -> None:
        """Let files grow again."""
        self._set(resource.RLIM_INFINITY)

    @staticmethod
    def _set(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


async def _live_through(bound: _Mount | _Limit, room: int) -> dict[str, Any]:
    gate, begun = asyncio.Event(), Counter[str]()

    async def body(context: StepExecutionContext[dict[str, Any]]) -> None:
        begun[context.idempotency_key] += 1
        await gate.wait()
        context.data["count"] = context.data.get("count", 0) + 1

    definition = WorkflowBuilder().start_with(body).then(body).then(body).build("chain")
    warnings = _Warnings()
    logging.getLogger("wfe").addHandler(warnings)
    path = bound.folder / "wfe.db"
    async with WorkflowHost(f"sqlite:///{path}", sweep_interval=0.1, lease_ttl=60) as host:
        host.register(definition)
        acknowledged = [await host.start_workflow(definition, {"n": -1}, id="first")]
        bound.tighten(room)
        acknowledged += await _start_until_refused(host)
        gate.set()  # bodies end while nothing can be written
        await _until(lambda: any("not available" in text for text in warnings.texts))
        readable = [(await host.get_workflow(each)).status for each in acknowledged]
        bound.loosen()
        ends = [await host.wait(each, timeout=_OUTAGE_SECONDS) for each in acknowledged]
        after = await host.run(definition, {"n": -2}, timeout=_OUTAGE_SECONDS)
    told = {
        "acknowledged": len(acknowledged),
        "readable": len(readable),
        "complete": sum(end.status is WorkflowStatus.COMPLETE and end.data["count"] == _STEPS for end in ends),
        "begun twice": sum(count > 1 for count in begun.values()),
        "after": after.status,
        "integrity": _ask(path, "PRAGMA integrity_check"),
        "fsck": [str(finding) for finding in await fsck(f"sqlite:///{path}")],
        "rows": _ask(path, "SELECT count(*) FROM instance"),
        "errors": [text for text in warnings.texts if "Background" in text or "session" in text],
    }
    logging.getLogger("wfe").removeHandler(warnings)
    for left in bound.folder.glob("wfe.db*"):
        left.unlink()
    return told


async def _start_until_refused(host: WorkflowHost) -> list[str]:
    started: list[str] = []
    for number in range(1000):
        try:
            started.append(await host.start_workflow("chain", {"n": number, "piece": _PIECE}, id=f"i{number}"))
        except ProviderUnavailable:
            return started
    msg = "there was always room"
    raise AssertionError(msg)


async def _until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(_OUTAGE_SECONDS):
        while not so():  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.01)


def _ask(path: Path, question: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:  # or the file would take room after it was removed
        return connection.execute(question).fetchone()[0]


if __name__ == "__main__":
    main()

"""A program to be run where it may mount a file system of its own: a host whose disk gets full, and empty again.

Prints one JSON object that says what happened. Needs `unshare --mount` and a folder to mount on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from wfe import ProviderUnavailable, StepExecutionContext, WorkflowBuilder, WorkflowHost, WorkflowStatus
from wfe.testing import fsck

__all__: list[str] = []

_DISK_KIB = 2048
_PIECE = "x" * 20_000
_OUTAGE_SECONDS = 15


def main() -> None:
    """Mount a small disk, fill it under a working host, free it again, and tell."""
    folder = Path(sys.argv[1])
    options = f"size={_DISK_KIB}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)
    sys.stdout.write(json.dumps(asyncio.run(_live_through(folder))))


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


async def _live_through(folder: Path) -> dict[str, Any]:
    gate = asyncio.Event()

    async def body(context: StepExecutionContext[dict[str, Any]]) -> None:
        await gate.wait()
        context.data["count"] = context.data.get("count", 0) + 1

    definition = WorkflowBuilder().start_with(body).then(body).then(body).build("chain")
    warnings = _Warnings()
    logging.getLogger("wfe").addHandler(warnings)
    path = folder / "wfe.db"
    async with WorkflowHost(f"sqlite:///{path}", sweep_interval=0.1) as host:
        host.register(definition)
        acknowledged = [await host.start_workflow(definition, {"n": -1})]
        _fill(folder / "filler")
        acknowledged += await _start_until_refused(host)
        refusal = await _refusal(host)
        # The bodies of what was acknowledged end while nothing can be written.
        gate.set()
        async with asyncio.timeout(_OUTAGE_SECONDS):
            while not any("not available" in text for text in warnings.texts):  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.01)
        readable = [(await host.get_workflow(each)).status for each in acknowledged]
        (folder / "filler").unlink()
        ends = [await host.wait(each, timeout=_OUTAGE_SECONDS) for each in acknowledged]
        after = await host.run(definition, {"n": -2}, timeout=_OUTAGE_SECONDS)
    return {
        "acknowledged": len(acknowledged),
        "refusal": refusal,
        "readable": len(readable),
        "complete": sum(end.status is WorkflowStatus.COMPLETE and end.data["count"] == 3 for end in ends),
        "after": after.status,
        "integrity": _integrity(path),
        "findings": [str(finding) for finding in await fsck(f"sqlite:///{path}")],
        "rows": _rows(path),
        "errors": [text for text in warnings.texts if "Background" in text or "session" in text],
    }


def _fill(filler: Path) -> None:
    """Take all of the disk but a little."""
    room = os.statvfs(filler.parent)
    size = room.f_bavail * room.f_frsize - 200_000
    filler.write_bytes(b"f" * size)


async def _start_until_refused(host: WorkflowHost) -> list[str]:
    started: list[str] = []
    for number in range(1000):
        try:
            started.append(await host.start_workflow("chain", {"n": number, "piece": _PIECE}, id=f"i{number}"))
        except ProviderUnavailable:
            return started
    msg = "the disk never got full"
    raise AssertionError(msg)


async def _refusal(host: WorkflowHost) -> str:
    try:
        await host.start_workflow("chain", {"n": 0, "piece": _PIECE}, id="refused")
    except ProviderUnavailable as error:
        return str(error)
    return ""


def _integrity(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def _rows(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute("SELECT count(*) FROM instance").fetchone()[0])


if __name__ == "__main__":
    main()

"""A second process for tests of the SQLite provider: does one thing with a database, and prints what was acknowledged.

python -m tests.providers.sqlite_child VERB FILE [ARGUMENT]
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from wfe.model.errors import ProviderUnavailable
from wfe.ports.hints import Hint, HintKind
from wfe.ports.store import Batch, Start
from wfe.providers.sqlite import SQLiteProvider
from wfe.testing.conformance.values import DEFINITION, changes

HOUR = timedelta(hours=1)


def say(*words: object) -> None:
    sys.stdout.write(f"{' '.join(map(str, words))}\n")
    sys.stdout.flush()


def batch(session: str, *ids: str, **fields: object) -> Batch:
    """Make a batch that starts instances held by its session and due; `fields` are those of their changes."""
    first = changes(**({"wake_at": 0} | fields))
    starts = [Start(id=one, definition=DEFINITION, digest=b"d", changes=first) for one in ids]
    return Batch(id=uuid4().hex, session=session, starts=starts)


async def write_for_ever(provider: SQLiteProvider) -> None:
    """Start instances, three a commit, until killed."""
    while True:
        ids = [uuid4().hex for _ in range(3)]
        await provider.store.commit(batch("child", *ids))
        say(*ids)


async def write_some(provider: SQLiteProvider, count: int) -> None:
    """Start so many instances, one a commit."""
    for _ in range(count):
        one = uuid4().hex
        await provider.store.commit(batch("child", one))
        say(one)


async def hold(provider: SQLiteProvider, *, fork: bool) -> None:
    """Begin a session, hold an instance, and wait to be killed; with `fork`, a child that goes on living does too."""
    await provider.lease.begin("child", name="child", ttl=HOUR)
    await provider.store.commit(batch("child", "held"))
    if fork and os.fork():
        await asyncio.sleep(60)
    say("holding", os.getpid())
    signal.pause()


async def listen(provider: SQLiteProvider) -> None:
    """Begin a session and to receive hints, and wait to be killed."""
    await provider.lease.begin("child", name="child", ttl=HOUR)
    await provider.hints.open("child", lambda _: None)
    say("listening")
    signal.pause()


async def hint(provider: SQLiteProvider) -> None:
    """Send a hint to everybody."""
    await provider.hints.open("child", lambda _: None)
    await provider.hints.send(None, [Hint(HintKind.WORK, ("order-1",))])
    await provider.hints.close()


async def fill(provider: SQLiteProvider, folder: Path) -> None:
    """Fill the disk with starts until it is full; free some space; go on; tell what was acknowledged."""
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(400_000))
    acknowledged: list[str] = []
    while True:
        one = uuid4().hex
        try:
            await provider.store.commit(batch("child", one, data=bytes(20_000)))
        except ProviderUnavailable as full:
            say("full", full)
            break
        acknowledged.append(one)
    ballast.unlink()
    deadline = time.monotonic() + 20
    while True:
        try:
            await provider.store.commit(batch("child", "afterwards"))
            break
        except ProviderUnavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
    known = await provider.store.known([*acknowledged, "afterwards"])
    check = await provider.store.write(lambda connection: connection.execute("PRAGMA integrity_check").fetchone()[0])
    say("acknowledged", len(acknowledged), "missing", len(acknowledged) + 1 - len(known), "integrity", check)


async def main(verb: str, path: str, argument: str = "") -> None:
    if verb == "fill":
        _refuse_large_disk(Path(path).parent)
    provider = SQLiteProvider(path)
    await provider.store.open()
    match verb:
        case "write_for_ever":
            await write_for_ever(provider)
        case "write_some":
            await write_some(provider, int(argument))
        case "hold":
            await hold(provider, fork=argument == "fork")
        case "listen":
            await listen(provider)
        case "hint":
            await hint(provider)
        case "fill":
            await fill(provider, Path(path).parent)
        case _:
            raise SystemExit(f"unknown verb {verb!r}")
    await provider.store.close()


def _refuse_large_disk(folder: Path) -> None:
    disk = os.statvfs(folder)
    if disk.f_blocks * disk.f_frsize > 64 * 1024 * 1024:
        raise OSError(errno.EPERM, "this would fill a disk that is not the test's own")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

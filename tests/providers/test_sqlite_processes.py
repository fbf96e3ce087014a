"""Several processes on one SQLite file, and the death of one."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.providers.sqlite_child import HOUR, batch
from wfe.ports.hints import Hint, HintKind
from wfe.providers.sqlite import SQLiteProvider
from wfe.testing.conformance.values import DEFINITION, announcements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[SQLiteProvider]:
    provider = SQLiteProvider(tmp_path / "wfe.db")
    await provider.store.open()
    yield provider
    await provider.hints.close()
    await provider.store.close()


def started(verb: str, folder: Path, argument: str = "") -> subprocess.Popen[str]:
    """Start another process on the database of a folder."""
    command = [sys.executable, "-m", "tests.providers.sqlite_child", verb, str(folder / "wfe.db"), argument]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def line_of(child: subprocess.Popen[str]) -> list[str]:
    assert child.stdout is not None
    return child.stdout.readline().split()


def killed(child: subprocess.Popen[str]) -> list[str]:
    """Kill a process; give the whole words that it had still said."""
    child.kill()
    rest, _ = child.communicate()
    return [word for line in rest.splitlines(keepends=True) if line.endswith("\n") for word in line.split()]


async def test_kill_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Whatever was acknowledged before a SIGKILL is there afterwards, and the file is sound."""
    acknowledged: list[str] = []
    chance = random.Random(7)
    for _ in range(4):
        child = started("write_for_ever", tmp_path)
        for _ in range(chance.randrange(3, 60)):
            acknowledged += line_of(child)
        acknowledged += killed(child)

    provider = SQLiteProvider(tmp_path / "wfe.db")
    await provider.store.open()
    known = await provider.store.known(acknowledged)
    await provider.store.close()

    assert len(acknowledged) > 30
    assert set(known) == set(acknowledged)
    with sqlite3.connect(tmp_path / "wfe.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_session_of_killed_process_is_over_at_once(provider: SQLiteProvider, tmp_path: Path) -> None:
    """What a killed process held is taken by the next claim, long before its session's hour is over."""
    await provider.lease.begin("host", name="host", ttl=HOUR)
    child = started("hold", tmp_path)
    assert line_of(child)[0] == "holding"
    before = await provider.store.claim("host", [DEFINITION], 10)
    alive = await provider.lease.alive()

    killed(child)

    (taken,) = (await provider.store.claim("host", [DEFINITION], 10)).instances
    assert before.instances == []
    assert sorted(alive) == ["child", "host"]
    assert (taken.id, taken.fence) == ("held", 2)
    assert list(await provider.lease.alive()) == ["host"]
    assert not (tmp_path / "wfe.db-host-child").exists()


async def test_forked_child_does_not_keep_session_alive(provider: SQLiteProvider, tmp_path: Path) -> None:
    """A child that a host forked does not keep the host's session alive when the host dies."""
    child = started("hold", tmp_path, "fork")
    _, grandchild = line_of(child)
    child.send_signal(signal.SIGKILL)
    child.wait()

    alive = await provider.lease.alive()

    os.kill(int(grandchild), signal.SIGKILL)
    child.communicate()
    assert list(alive) == []


async def test_processes_write_at_once(tmp_path: Path) -> None:
    """Processes that make the file and write it at the same time all succeed, and no row is lost or doubled."""
    children = [started("write_some", tmp_path, "40") for _ in range(3)]

    written = [word for child in children for word in child.communicate(timeout=60)[0].split()]

    provider = SQLiteProvider(tmp_path / "wfe.db")
    await provider.store.open()
    page = await provider.store.log_after(None, 1000)
    await provider.store.close()
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(written) == 120
    assert sorted(row.instance_id for row in page.rows) == sorted(written)


async def test_hint_of_another_process(provider: SQLiteProvider, tmp_path: Path) -> None:
    """A hint to all reaches the other processes on the file."""
    received: asyncio.Queue[Hint] = asyncio.Queue()
    await provider.hints.open("host", received.put_nowait)

    child = started("hint", tmp_path)
    async with asyncio.timeout(30):
        hint = await received.get()

    child.communicate()
    assert hint == Hint(HintKind.WORK, ("order-1",))


async def test_what_is_no_hint_is_dropped(provider: SQLiteProvider) -> None:
    """Whatever reaches the socket of a host: what cannot be read is dropped, and the next hint arrives."""
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    received: asyncio.Queue[Hint] = asyncio.Queue()
    await provider.hints.open("host", received.put_nowait)
    good = Hint(HintKind.WORK, ("order-1",))
    pack = msgspec.msgpack.encode
    text = pack([Hint(HintKind.WORK, ("\xe9",))])
    garbage = [
        b"",
        b"\xc1",
        b"{}",
        pack([good])[:-1],
        text.replace("\xe9".encode(), b"\xff\xfe"),
        pack(good),
        pack([["rest", ["order-1"]]]),
        pack([["work", [7]]]),
        os.urandom(500),
    ]

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as forger:
        for datagram in (*garbage, pack([good])):
            forger.sendto(datagram, str(provider.hints._path))
    async with asyncio.timeout(10):
        hint = await received.get()

    assert hint == good
    assert received.empty()
    assert problems == []


async def test_hints_with_long_path(tmp_path: Path) -> None:
    """A path that is too long for a socket's address still lets hints through."""
    folder = tmp_path / ("long-" * 30)
    folder.mkdir()
    one, two = SQLiteProvider(folder / "wfe.db"), SQLiteProvider(folder / "wfe.db")
    received: asyncio.Queue[Hint] = asyncio.Queue()
    await one.hints.open("one", received.put_nowait)
    await two.hints.open("two", received.put_nowait)

    await two.hints.send("one", [Hint(HintKind.ENDED, ("order-1",))])
    async with asyncio.timeout(10):
        hint = await received.get()

    await one.hints.close()
    await two.hints.close()
    assert hint == Hint(HintKind.ENDED, ("order-1",))
    assert list(folder.iterdir()) == []


async def test_socket_of_dead_session_is_removed(provider: SQLiteProvider, tmp_path: Path) -> None:
    """A socket that a dead process left behind is removed by the next hint to all."""
    await provider.hints.open("host", lambda _: None)
    dead = SQLiteProvider(tmp_path / "wfe.db")
    await dead.hints.open("dead", lambda _: None)
    stale, bound = dead.hints._path, dead.hints._socket
    assert stale is not None
    assert bound is not None
    asyncio.get_running_loop().remove_reader(bound)
    bound.close()
    os.utime(stale, (0, 0))  # young ones stay, as they may be coming to life

    await provider.hints.send(None, [Hint(HintKind.WORK, ())])

    assert not stale.exists()


async def test_next_host_tidies_up_after_a_killed_one(provider: SQLiteProvider, tmp_path: Path) -> None:
    """What a killed process has left beside the file (socket, lock, unfinished file) goes when the next host begins."""
    child = started("listen", tmp_path)
    line_of(child)
    killed(child)
    assert provider.hints._stem is not None
    left = [tmp_path / "wfe.db-host-child", tmp_path / "wfe.db-new-draft", Path(f"{provider.hints._stem}child")]
    left[1].touch()
    for path in left:
        os.utime(path, (0, 0))

    await provider.lease.begin("host", name="host", ttl=HOUR)
    await provider.store.claim("host", [DEFINITION], 10)
    await provider.hints.open("host", lambda _: None)

    assert [path.name for path in left if path.exists()] == []
    await provider.lease.end("host")


async def test_announcements_of_another_process(provider: SQLiteProvider, tmp_path: Path) -> None:
    """A subscriber learns of what other processes commit, without a hint."""
    events = provider.lifecycle.subscribe(since=await provider.lifecycle.position())
    first = asyncio.ensure_future(anext(events))
    other = SQLiteProvider(tmp_path / "wfe.db")
    await other.store.open()

    await other.store.commit(batch("other", "order-1", **announcements(1)))
    async with asyncio.timeout(20):
        _, event = await first

    await other.store.close()
    await events.aclose()  # type: ignore[attr-defined]
    assert event.workflow_id == "order-1"

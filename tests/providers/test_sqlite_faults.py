"""What the SQLite provider does when the disk, the file or the process is not as it should be."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import pytest

from tests.providers.sqlite_child import HOUR, batch
from wfe.model.errors import ConfigurationError, DataError, ProviderUnavailable
from wfe.ports.store import StartOutcome
from wfe.providers.sqlite import SQLiteProvider
from wfe.providers.sqlite import claim as claim_module
from wfe.providers.sqlite import commit as commit_module
from wfe.providers.sqlite import connection as connection_module
from wfe.providers.sqlite.faults import CommitUnknown
from wfe.testing.conformance.values import DEFINITION, announcements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path
    from types import ModuleType

    from wfe.ports.store import LogRow
    from wfe.providers.sqlite.place import Place


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[SQLiteProvider]:
    provider = SQLiteProvider(tmp_path / "wfe.db")
    await provider.store.open()
    await provider.lease.begin("host", name="host", ttl=HOUR)
    yield provider
    await provider.store.close()


def io_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    return error


@contextmanager
def failing_commit(module: ModuleType, end: Callable[[sqlite3.Connection], object]) -> Iterator[None]:
    """Let the next COMMIT of a module end in this way, and then fail."""
    real = module.commit

    def once(connection: sqlite3.Connection, place: Place) -> None:
        vars(module)["commit"] = real
        end(connection)
        raise CommitUnknown("planted") from io_error()

    vars(module)["commit"] = once
    try:
        yield
    finally:
        vars(module)["commit"] = real


@pytest.mark.parametrize(("durability", "level"), [("power", 2), ("process", 1)])
async def test_durability(tmp_path: Path, durability: Literal["power", "process"], level: int) -> None:
    """Each commit waits for the disk with `power`, also after a claim, which does not; none does with `process`."""
    provider = SQLiteProvider(tmp_path / "wfe.db", durability=durability)
    await provider.store.open()
    await provider.store.claim("host", [DEFINITION], 1)

    found = await provider.store.write(lambda connection: connection.execute("PRAGMA synchronous").fetchone())

    await provider.store.close()
    assert found == (level,)


async def test_commit_that_failed_but_happened(provider: SQLiteProvider) -> None:
    """A COMMIT that reports an error although the disk has it is found out, and the reply is that of a success."""
    with failing_commit(commit_module, lambda connection: connection.execute("COMMIT")):
        reply = await provider.store.commit(batch("host", "order-1"))

    assert reply.starts == [StartOutcome.CREATED]
    assert list(await provider.store.known(["order-1"])) == ["order-1"]


async def test_commit_that_failed_and_did_not_happen(provider: SQLiteProvider) -> None:
    """A COMMIT that failed for good says that nothing was written; the same batch can be committed again."""
    again = batch("host", "order-1")

    with (
        failing_commit(commit_module, lambda connection: connection.execute("ROLLBACK")),
        pytest.raises(ProviderUnavailable, match="Nothing of the batch was written") as caught,
    ):
        await provider.store.commit(again)

    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert (await provider.store.commit(again)).starts == [StartOutcome.CREATED]


async def test_claim_that_failed_but_happened(provider: SQLiteProvider) -> None:
    """Instances that were taken without anybody hearing of it are given back, and taken by the next claim."""
    store = provider.store
    held = await store.commit(batch("host", "order-1"))
    assert held.starts == [StartOutcome.CREATED]
    await store.release("host", [("order-1", 1)])

    with (
        failing_commit(claim_module, lambda connection: connection.execute("COMMIT")),
        pytest.raises(ProviderUnavailable),
    ):
        await store.claim("host", [DEFINITION], 10)

    (taken,) = (await store.claim("host", [DEFINITION], 10)).instances
    assert (taken.id, taken.fence, taken.activations) == ("order-1", 3, 1)


async def test_broken_connection_is_replaced(provider: SQLiteProvider) -> None:
    """After an error of the disk, the next job has a new connection."""
    connections: list[sqlite3.Connection] = []

    def fail(connection: sqlite3.Connection) -> None:
        connections.append(connection)
        raise io_error()

    with pytest.raises(ProviderUnavailable, match=r"wfe\.db could not be used: disk I/O error; the disk answered"):
        await provider.store.write(fail)
    await provider.store.write(connections.append)

    assert connections[0] is not connections[1]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connections[0].execute("SELECT 1")


async def test_pauses_between_tries_grow(provider: SQLiteProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the file cannot be opened, jobs are refused at once instead of trying each time."""
    tries: list[Place] = []

    def refuse(place: Place, *_: object, **__: object) -> sqlite3.Connection:
        tries.append(place)
        raise io_error()

    monkeypatch.setattr("wfe.providers.sqlite.store.connect", refuse)

    def fail(_: sqlite3.Connection) -> None:
        raise io_error()

    for _ in range(50):
        with pytest.raises(ProviderUnavailable):
            await provider.store.write(fail)

    assert 1 <= len(tries) < 10


async def test_full_database(provider: SQLiteProvider) -> None:
    """A full disk refuses the batch with what to do, keeps what was acknowledged, and goes on when there is space."""
    await provider.store.commit(batch("host", "order-1"))
    pages = await provider.store.write(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await provider.store.write(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())

    with pytest.raises(ProviderUnavailable, match="the disk is full; free some space"):
        await provider.store.commit(batch("host", "order-2", data=bytes(100_000)))
    refused = await provider.store.known(["order-1", "order-2"])
    await provider.store.write(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchone())
    await provider.store.commit(batch("host", "order-2", data=bytes(100_000)))

    assert list(refused) == ["order-1"]
    assert sorted(await provider.store.known(["order-1", "order-2"])) == ["order-1", "order-2"]


UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")
"""Mounts that this process alone sees; no need to be root where the system allows it."""


def test_full_disk(tmp_path: Path) -> None:
    """On a disk of two megabytes nothing acknowledged is lost, and work goes on by itself when there is space again."""
    mount = f"mount -t tmpfs -o size=2m tmpfs {tmp_path}"
    if subprocess.run([*UNSHARE, "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: it needs root, or user namespaces with the right to mount")
    fill = f"{sys.executable} -m tests.providers.sqlite_child fill {tmp_path}/wfe.db"

    child = subprocess.run(
        [*UNSHARE, "sh", "-c", f"{mount} && {fill}"], capture_output=True, text=True, check=True, timeout=60
    )

    full, result = child.stdout.splitlines()
    assert full.startswith("full The SQLite file")
    words = result.split()
    assert int(words[1]) > 10
    assert words[2:] == ["missing", "0", "integrity", "ok"]


def test_read_only_file(tmp_path: Path) -> None:
    """A file that cannot be written is refused when the store is opened, and the message says what to do."""
    path = tmp_path / "wfe.db"
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path}"
    if subprocess.run([*UNSHARE, "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("a folder cannot be mounted read-only here: it needs root, or user namespaces with that right")
    write = f"{sys.executable} -m tests.providers.sqlite_child write_some {path} 1"
    subprocess.run(["sh", "-c", write], check=True, capture_output=True, timeout=60)

    child = subprocess.run(
        [*UNSHARE, "sh", "-c", f"{mount} && {write}"], capture_output=True, text=True, check=False, timeout=60
    )

    last = child.stderr.splitlines()[-1]
    assert last.startswith("wfe.model.errors.ConfigurationError")
    assert "is not a file that this user may read and write. Give this user the right" in last


async def test_file_that_becomes_read_only(provider: SQLiteProvider) -> None:
    """A file that can no longer be written refuses batches with what to do; reads go on."""
    await provider.store.commit(batch("host", "order-1"))
    await provider.store.write(lambda connection: connection.execute("PRAGMA query_only = ON").fetchone())

    with pytest.raises(ProviderUnavailable, match="it is read-only; give this user the right"):
        await provider.store.commit(batch("host", "order-2"))

    assert list(await provider.store.known(["order-1", "order-2"])) == ["order-1"]


async def test_locked_file(provider: SQLiteProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that another process keeps for too long is told, and the batch can be committed later."""
    monkeypatch.setattr(connection_module, "BUSY_LIMIT_SECONDS", 0.1)
    monkeypatch.setattr("wfe.providers.sqlite.worker.BUSY_LIMIT_SECONDS", 0.1)
    other = sqlite3.connect(tmp_path / "wfe.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(ProviderUnavailable, match="another process has held its write lock"):
        await provider.store.commit(batch("host", "order-1"))
    other.execute("ROLLBACK")
    other.close()

    assert (await provider.store.commit(batch("host", "order-1"))).starts == [StartOutcome.CREATED]


async def test_corrupt_file(tmp_path: Path) -> None:
    """A damaged file is refused with what to do."""
    provider = SQLiteProvider(tmp_path / "wfe.db")
    await provider.store.open()
    await provider.store.commit(batch("host", *(f"order-{i}" for i in range(200))))
    await provider.store.close()
    path = tmp_path / "wfe.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises((ConfigurationError, ProviderUnavailable), match="it is damaged; stop all its users"):
        await opened_and_read(provider)
    await provider.store.close()


async def opened_and_read(provider: SQLiteProvider) -> None:
    await provider.store.open()
    await provider.store.get("order-1")


async def test_value_that_cannot_be_stored(provider: SQLiteProvider) -> None:
    """A number beyond 64 bits is an error of the value, not of the store, and nothing is written."""
    impossible = batch("host", "order-1", wake_at=2**70)

    with pytest.raises(DataError, match="cannot be stored"):
        await provider.store.commit(impossible)

    assert list(await provider.store.known(["order-1"])) == []


async def test_closed_store(provider: SQLiteProvider) -> None:
    """A store that is not open says so."""
    await provider.store.close()

    with pytest.raises(ProviderUnavailable, match="is not open"):
        await provider.store.known(["order-1"])


async def test_closing_finishes_what_was_asked(provider: SQLiteProvider) -> None:
    """What was asked before closing is done."""
    commits = [asyncio.ensure_future(provider.store.commit(batch("host", f"order-{i}"))) for i in range(20)]
    await asyncio.sleep(0)

    await provider.store.close()

    replies = await asyncio.gather(*commits)
    assert all(reply.starts == [StartOutcome.CREATED] for reply in replies)


def test_use_after_fork_is_refused(tmp_path: Path) -> None:
    """A child process must not use its parent's store; the parent goes on with it unharmed."""
    provider = SQLiteProvider(tmp_path / "wfe.db")
    with asyncio.Runner() as runner:
        runner.run(provider.store.open())
        child = forked(lambda: provider.store.known(["order-1"]).send(None))

        _, status = os.waitpid(child, 0)

        reply = runner.run(provider.store.commit(batch("host", "order-1")))
        runner.run(provider.store.close())
    assert os.waitstatus_to_exitcode(status) == 0
    assert reply.starts == [StartOutcome.CREATED]


def forked(use: Callable[[], object]) -> int:
    """Start a child that ends with 0 if the use is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    try:
        use()
    except ConfigurationError:
        os._exit(0)
    finally:
        os._exit(1)


async def test_subscriber_waits_for_the_file(provider: SQLiteProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows announcements is not sent away while the file cannot be read, and misses nothing."""
    news = provider.lifecycle.subscribe(since="start")
    read = provider.store.numbered_log
    refusals = [ProviderUnavailable("planted"), ProviderUnavailable("planted")]

    async def refuse_at_first(after: int, limit: int, instance_id: str | None) -> Sequence[tuple[int, LogRow]]:
        if refusals:
            raise refusals.pop()
        return await read(after, limit, instance_id)

    monkeypatch.setattr(provider.store, "numbered_log", refuse_at_first)
    await provider.store.commit(batch("host", "told", **announcements(1)))

    async with asyncio.timeout(10):
        _, event = await anext(news)

    assert (event.workflow_id, event.sequence, refusals) == ("told", 1, [])


async def test_subscriber_learns_that_the_store_was_closed(tmp_path: Path) -> None:
    """A closed store is not waited for."""
    provider = SQLiteProvider(tmp_path / "wfe.db")
    await provider.store.open()
    news = provider.lifecycle.subscribe(since="start")
    await provider.store.close()

    async with asyncio.timeout(10):
        with pytest.raises(ProviderUnavailable, match="not open"):
            await anext(news)

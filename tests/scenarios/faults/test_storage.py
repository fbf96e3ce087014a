"""A database file that is full or cannot be written: what was acknowledged stays, and hosts go on when they can."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.faults.conftest import StartHost
from tests.soundness import check, left_behind
from wfe import (
    ConfigurationError,
    ProviderUnavailable,
    StepExecutionContext,
    WfeError,
    WorkflowBuilder,
    WorkflowHost,
    WorkflowStatus,
)
from wfe.providers.sqlite import connection as sqlite_connection
from wfe.providers.sqlite import store as sqlite_store
from wfe.providers.sqlite.store import SQLiteStore

Context = StepExecutionContext[dict[str, Any]]

_ROOT = Path(__file__).parents[3]
_NOBODY = 65534


async def _count(context: Context) -> None:
    context.data["count"] = context.data.get("count", 0) + 1


_CHAIN = WorkflowBuilder().start_with(_count).then(_count).then(_count).build("chain")


def test_disk_full(tmp_path: Path) -> None:
    """When the disk is full, starts are refused with ProviderUnavailable, which says so, and reads go on.

    Running instances keep what their bodies answered; once there is space they end by themselves. Nothing acknowledged
    is lost.
    """
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: it needs user namespaces with the right to mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    program = [sys.executable, "-m", "tests.scenarios.faults.small_disk", str(folder)]

    done = subprocess.run([*unshare, *program], cwd=_ROOT, capture_output=True, text=True, timeout=90, check=False)

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["acknowledged"] > 1, told
    assert told["readable"] == told["complete"] == told["acknowledged"], told
    assert "full" in told["refusal"], told
    assert told["rows"] == told["acknowledged"] + 1, told  # and the one started afterwards
    assert (told["after"], told["integrity"], told["errors"]) == ("complete", "ok", []), told
    assert told["findings"] == [], told


async def test_file_full(start_host: StartHost) -> None:
    """The same for a file that may not grow: the refused start is not there, and everything ends once it may."""
    host = await start_host(_CHAIN)
    first = await host.start_workflow("chain")
    await host.wait(first, timeout=5)
    await _on_writer(host, "PRAGMA max_page_count = 1")  # SQLite takes the present size instead

    with pytest.raises(ProviderUnavailable, match="full"):
        await host.start_workflow("chain", {"piece": "x" * 3_000_000}, id="refused")
    assert (await host.get_workflow(first)).status is WorkflowStatus.COMPLETE
    await _on_writer(host, "PRAGMA max_page_count = 1073741823")

    result = await host.wait(await host.start_workflow("chain", {}, id="refused"), timeout=10)
    assert result.data == {"count": 3}


async def _on_writer(host: WorkflowHost, statement: str) -> None:
    """Change the connection that writes; only it knows its limits."""
    store = host._life.core().store
    assert isinstance(store, SQLiteStore)
    await store.write(lambda connection: connection.execute(statement).fetchall())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody who may not write")
async def test_read_only_file_at_start() -> None:
    """A file that this user may not write is refused at start, with a message that says what to do; it is unchanged."""
    with tempfile.TemporaryDirectory() as folder:  # a folder of pytest's is closed to other users
        database = Path(folder) / "wfe.db"
        async with WorkflowHost(f"sqlite:///{database}") as host:
            await host.run(_CHAIN, timeout=5)
        before = _read(database)
        _show_to_all(database)

        with _as_nobody(), pytest.raises(ConfigurationError, match="right to"):
            await WorkflowHost(f"sqlite:///{database}").start()

        assert _read(database) == before
        stores = left_behind(Path(folder))
        assert len(stores) == 1
        await asyncio.to_thread(check, stores)


@contextmanager
def _as_nobody() -> Iterator[None]:
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _show_to_all(database: Path) -> None:
    """Let everybody read a file and its folder, and only root write them."""
    database.chmod(0o444)
    database.parent.chmod(0o755)


async def test_file_that_becomes_read_only(start_host: StartHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a file cannot be written, starts are refused, reads go on, and running instances wait.

    They end by themselves when it can be written again.
    """
    gate = asyncio.Event()

    async def body(context: Context) -> None:
        await gate.wait()
        await _count(context)

    definition = WorkflowBuilder().start_with(body).then(_count).build("gated")
    host = await start_host(definition)
    running = await host.start_workflow("gated")

    def connect_read_only(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = sqlite_connection.connect(*arguments, **options)
        connection.execute("PRAGMA query_only = ON")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_store, "connect", connect_read_only)
        patch.setattr(sqlite_store, "migrate", lambda *_: None)
        await _on_writer(host, "PRAGMA query_only = ON")
        with pytest.raises(ProviderUnavailable, match="read-only"):
            await host.start_workflow("gated", id="refused")
        gate.set()
        assert (await host.get_workflow(running)).status is WorkflowStatus.RUNNABLE

    result = await host.wait(running, timeout=20)

    assert result.data == {"count": 2}
    assert len(await host.list_workflows()) == 1


@pytest.mark.unsound(reason="the file is no store, and stays as it is")
async def test_file_that_is_no_database(database: Path) -> None:
    """A file of another kind is refused at start and left as it is."""
    _write(database, b"no database at all" * 1000)

    with pytest.raises(ConfigurationError, match="not a SQLite database"):
        await WorkflowHost(f"sqlite:///{database}").start()

    assert _read(database) == b"no database at all" * 1000


async def test_start_that_fails_can_be_repeated(database: Path) -> None:
    """A host whose start failed can be started again once the cause is gone."""
    _write(database, b"no database at all" * 1000)
    host = WorkflowHost(f"sqlite:///{database}")
    with pytest.raises(WfeError):
        await host.start()
    os.unlink(database)  # noqa: PTH108 - as short as it can be said in a coroutine

    async with host:
        result = await host.run(_CHAIN, timeout=5)

    assert result.data == {"count": 3}

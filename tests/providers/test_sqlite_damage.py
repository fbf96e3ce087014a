"""A SQLite file is checked after somebody who used it has not ended in good order, and refused when it is damaged."""

from __future__ import annotations

import asyncio
import logging
import random
import subprocess
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.providers.sqlite_child import HOUR, batch
from wfe.model.errors import ConfigurationError, ProviderUnavailable
from wfe.providers.sqlite import SQLiteProvider, soundness
from wfe.providers.sqlite.soundness import SoundnessCheck

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_PAGE = 4096


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[SQLiteProvider]:
    """A provider that is not open yet; it is closed in the end."""
    provider = SQLiteProvider(tmp_path / "wfe.db")
    yield provider
    await provider.store.close()


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """A file with some rows, whose users have ended in good order."""
    path = tmp_path / "wfe.db"
    provider = SQLiteProvider(path)
    await provider.store.open()
    await provider.store.commit(batch("gone", *(f"i{number}" for number in range(200)), data=bytes(3_000)))
    await provider.store.close()
    return path


def leave_uncleanly(path: Path) -> None:
    """Have another process begin a session on the file, and kill it."""
    command = [sys.executable, "-m", "tests.providers.sqlite_child", "listen", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "listening\n"
        child.kill()


async def damage(path: Path) -> None:
    """Overwrite pages in the middle of the file, as a disk that lies might have left them after a power loss."""
    settled = SQLiteProvider(path)  # the last to close moves the write-ahead log into the file
    await settled.store.open()
    await settled.store.close()
    _overwrite(path)


def _overwrite(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for page in range(20, len(content) // _PAGE - 1, 7):
        content[page * _PAGE : (page + 1) * _PAGE] = random.Random(page).randbytes(_PAGE)
    path.write_bytes(content)


async def test_damaged_file_is_refused(file: Path, provider: SQLiteProvider) -> None:
    """After an unclean end the next host finds the damage at its start, and says what is wrong and what to do."""
    leave_uncleanly(file)
    await damage(file)
    await provider.store.open()

    with pytest.raises(ConfigurationError, match=r"is damaged \(.*restore a backup"):
        await provider.lease.begin("host", name="host", ttl=HOUR)


async def test_sound_file_is_used(file: Path, provider: SQLiteProvider, caplog: pytest.LogCaptureFixture) -> None:
    """After an unclean end that has damaged nothing the next host begins, and the log says that the file is sound."""
    caplog.set_level(logging.INFO, "wfe.providers.sqlite")
    leave_uncleanly(file)
    await provider.store.open()

    await provider.lease.begin("host", name="host", ttl=HOUR)

    await provider.lease.end("host")
    assert "is sound" in caplog.text


async def test_good_end_costs_nothing(file: Path, provider: SQLiteProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a good end, or while others work on the file, nothing is checked."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("the file is checked")

    monkeypatch.setattr(SoundnessCheck, "__init__", refuse)
    other = SQLiteProvider(file)
    await other.store.open()
    await other.lease.begin("other", name="other", ttl=HOUR)
    await provider.store.open()

    await provider.lease.begin("host", name="host", ttl=HOUR)

    await provider.lease.end("host")
    await other.lease.end("other")
    await other.store.close()


async def test_large_file_is_checked_beside_the_work(
    file: Path, provider: SQLiteProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start does not wait for a long check; when it finds damage, the store takes no further call and says why."""
    monkeypatch.setattr(soundness, "_AT_START", timedelta(0))
    problems, found = SoundnessCheck._problems, asyncio.Event()
    loop, let_go = asyncio.get_running_loop(), threading.Event()

    def slow(self: SoundnessCheck) -> list[str]:
        let_go.wait()
        return problems(self)

    monkeypatch.setattr(SoundnessCheck, "_problems", slow)
    leave_uncleanly(file)
    await damage(file)
    await provider.store.open()
    refuse = provider.store._refuse

    def note(why: str) -> None:
        refuse(why)
        loop.call_soon_threadsafe(found.set)

    monkeypatch.setattr(provider.store, "_refuse", note)
    await provider.lease.begin("host", name="host", ttl=HOUR)
    let_go.set()
    await asyncio.wait_for(found.wait(), 20)

    with pytest.raises(ProviderUnavailable, match="is damaged"):
        await provider.store.known(["i1"])
    with pytest.raises(ProviderUnavailable, match="is damaged"):
        await provider.store.commit(batch("host", "new"))
    with pytest.raises(ProviderUnavailable, match="is damaged"):
        await provider.lease.end("host")


async def test_closing_ends_the_check(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is closed does not wait for the end of the check."""
    monkeypatch.setattr(soundness, "_AT_START", timedelta(0))
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    leave_uncleanly(file)
    provider = SQLiteProvider(file)
    await provider.store.open()
    monkeypatch.setattr(soundness, "_CHECK", endless)

    await provider.lease.begin("host", name="host", ttl=HOUR)
    await provider.lease.end("host")
    await asyncio.wait_for(provider.store.close(), 20)


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        pytest.param(b"CREATE TABLE document", b"\xffREATE TABLE document", id="no statement"),
        pytest.param(
            b"inbox_requestinbox\x1aCREATE", b"inbox_reque\xfftinbox\x1aCREATX", id="what it says is no UTF-8"
        ),
        pytest.param(b"blocked_reason TEXT", b"blocked_reasan TEXT", id="another column"),
    ],
)
async def test_damaged_schema_is_called_damage(
    file: Path, provider: SQLiteProvider, text: bytes, instead: bytes
) -> None:
    """Whatever a damaged page of the schema makes SQLite say: ours says that the file is damaged and what to do."""
    _replace(file, text, instead)

    with pytest.raises((ConfigurationError, ProviderUnavailable), match="restore a backup"):
        await _use(provider)


def _replace(file: Path, text: bytes, instead: bytes) -> None:
    content = file.read_bytes()
    assert text in content
    file.write_bytes(content.replace(text, instead))


async def _use(provider: SQLiteProvider) -> None:
    await provider.store.open()
    await provider.store.get("i1")
    await provider.store.pending_control(["r"])

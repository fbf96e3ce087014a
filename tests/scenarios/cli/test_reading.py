"""Commands that look at a store, and the check of it, make and change nothing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.scenarios.cli.command import RunningCommand, wfe
from tests.servers.databases import execute_sql
from wfe import MemoryProvider, PostgresProvider, SQLiteProvider, WorkflowHost
from wfe.model.errors import ConfigurationError, ProviderUnavailable
from wfe.testing import FaultyStore, fsck

LOOKING = (("list",), ("get", "done"), ("history", "done"), ("doctor",), ("doctor", "--check"))
ASKING = (("resume", "done"), ("cancel", "done"), ("publish", "news", "k"), ("run", "--resume", "done"))
DB = ("--db", "sqlite:///s.db")


@pytest.fixture
def done(folder: Path) -> Path:
    """The folder, with the store `s.db` of a run that is complete."""
    (folder / "go").touch()
    assert wfe(folder, "run", "long.yaml", "--name", "done", *DB).returncode == 0
    return folder


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Give every file with its content and the time of its last change."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_looking_changes_no_file(done: Path, command: tuple[str, ...]) -> None:
    """Neither the store nor what lies beside it: nothing is made, and nothing is left."""
    before = files(done)

    told = wfe(done, *command, *DB)

    assert told.returncode == 0, told.stderr
    assert files(done) == before


@pytest.mark.parametrize("command", [*LOOKING, *ASKING], ids=" ".join)
def test_an_empty_file_is_no_store(folder: Path, command: tuple[str, ...]) -> None:
    """Exit code 2 and one sentence; the file stays empty."""
    (folder / "s.db").touch()

    told = wfe(folder, *command, *DB)

    assert (told.returncode, told.stdout) == (2, "")
    assert "There is no wfe store at" in told.stderr
    assert (folder / "s.db").read_bytes() == b""


@pytest.mark.parametrize("command", [*LOOKING, *ASKING], ids=" ".join)
def test_a_missing_file_is_not_made(folder: Path, command: tuple[str, ...]) -> None:
    """Exit code 2 and one sentence; the folder is as it was."""
    before = files(folder)

    told = wfe(folder, *command, *DB)

    assert told.returncode == 2
    assert "There is no wfe store at" in told.stderr
    assert files(folder) == before


def test_the_journal_of_a_file_is_left_as_it_is(done: Path) -> None:
    """A file that somebody has put into another mode of writing can be read, and keeps that mode."""
    with closing(sqlite3.connect(done / "s.db")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    before = files(done)

    told = wfe(done, "doctor", "--check", *DB)

    assert (told.returncode, told.stdout) == (0, "Looked at 1 instance: all is well\n")
    assert files(done) == before


def test_what_a_crash_has_left_stays_for_the_next_host(folder: Path, begin: Callable[..., RunningCommand]) -> None:
    """The write-ahead log of a killed process is read, not moved; what the dead one held shows as run by nobody."""
    command = begin("run", "long.yaml", "--name", "left", *DB)
    command.read_until("here I stay")
    command.kill()
    log = (folder / "s.db-wal").read_bytes()

    told = wfe(folder, "doctor", *DB)

    assert "due, and run by nobody: " in told.stdout
    assert (folder / "s.db-wal").read_bytes() == log != b""


@pytest.fixture
def read_only(done: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store, for a user who may write neither the file nor its folder (the tests may run as one who may all)."""
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, rights: not rights & os.W_OK and may(path, rights))
    return done / "s.db"


async def test_a_file_that_may_not_be_written_is_checked(read_only: Path) -> None:
    """A backup on a read-only disk, for instance: no file beside it is made."""
    before = files(read_only.parent)

    found = await fsck(f"sqlite:///{read_only}")

    assert found == []
    assert files(read_only.parent) == before


async def test_what_is_written_while_it_is_read_does_not_count(read_only: Path) -> None:
    """Without the right to share the file's locks, a change under the reader is noticed and told, not mixed in."""
    provider = SQLiteProvider(read_only, mode="read")
    await provider.store.open()
    try:
        os.utime(read_only, ns=(0, 0))

        with pytest.raises(ProviderUnavailable, match="was written while it was read"):
            await provider.store.get("done")
    finally:
        await provider.store.close()


async def test_a_store_for_reading_refuses_a_host(done: Path) -> None:
    """Nothing is begun in it, and the message names the mode."""
    before = files(done)

    with pytest.raises(ConfigurationError, match='mode="read"'):
        async with WorkflowHost(SQLiteProvider(done / "s.db", mode="read")):
            pass

    assert files(done) == before


async def test_fsck_makes_no_store(tmp_path: Path) -> None:
    """A URL with a slip of the pen gives an error, and neither a file nor an empty list."""
    before = files(tmp_path)

    with pytest.raises(ConfigurationError, match="There is no wfe store at"):
        await fsck(f"sqlite:///{tmp_path / 'typo.db'}")

    assert files(tmp_path) == before


async def test_fsck_reads_a_store_that_is_not_open(done: Path) -> None:
    """A provider that no host has begun yet, and a store that plays tricks, are checked as they are."""
    before = files(done)
    provider = SQLiteProvider(done / "s.db")

    assert await fsck(provider) == await fsck(FaultyStore(provider.store)) == []
    assert await fsck(FaultyStore(MemoryProvider().store)) == []
    assert files(done) == before


@pytest.fixture
def postgres_store(folder: Path, postgres_url: str) -> str:
    """The URL of a store with a run that is complete."""
    (folder / "go").touch()
    assert wfe(folder, "run", "long.yaml", "--name", "done", "--db", postgres_url).returncode == 0
    return postgres_url


@pytest.mark.parametrize("command", [("doctor", "--check"), ("list",), ("cancel", "done")], ids=" ".join)
def test_a_missing_schema_is_not_made(folder: Path, postgres_url: str, command: tuple[str, ...]) -> None:
    """A slip of the pen in `schema=` is told with exit code 2, and leaves nothing in the database."""
    told = wfe(folder, *command, "--db", f"{postgres_url}?schema=other")

    assert told.returncode == 2
    assert "There is no wfe store at" in told.stderr
    execute_sql(postgres_url, "CREATE SCHEMA other")  # fails where it is there


def test_a_role_that_may_only_read_can_look(folder: Path, postgres_store: str) -> None:
    """The doctor and the lists need no right to write, nor to make anything."""
    name = "wfe_reader_" + postgres_store.rpartition("_")[2]
    execute_sql(
        postgres_store,
        f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA wfe TO {name}; "
        f"GRANT SELECT ON ALL TABLES IN SCHEMA wfe TO {name}; GRANT SELECT ON ALL SEQUENCES IN SCHEMA wfe TO {name}",
    )
    before, _, host = postgres_store.partition("@")
    url = f"{before.partition('://')[0]}://{name}@{host}"
    try:
        told = [wfe(folder, *command, "--db", url) for command in LOOKING]
    finally:
        execute_sql(postgres_store, f"DROP OWNED BY {name}; DROP ROLE {name}")

    assert [each.returncode for each in told] == [0] * len(LOOKING), "".join(each.stderr for each in told)


async def test_a_postgres_store_for_reading_refuses_a_host(postgres_store: str) -> None:
    """The server refuses to write, which is told at once with the mode, and not taken for a standby."""
    with pytest.raises(ConfigurationError, match='mode="read"'):
        async with WorkflowHost(PostgresProvider(postgres_store, mode="read")):
            pass


@pytest.mark.unsound(reason="its schema says that it is an older one")
def test_an_older_schema_is_left_to_a_host(folder: Path, postgres_store: str) -> None:
    """Looking does not bring a store up to date, and says what does; asking something of a run does it."""
    execute_sql(postgres_store, "DELETE FROM wfe.migration WHERE number = (SELECT max(number) FROM wfe.migration)")

    told = wfe(folder, "doctor", "--db", postgres_store)

    assert told.returncode == 2
    assert "Begin a host on it once" in told.stderr

"""The exit codes, case by case: 1 is a verdict, 2 is for who asked, 3 for a store that is away, 4 for the command."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.scenarios.cli.command import WFE, environment, wfe
from tests.servers.databases import execute_sql

pytestmark = pytest.mark.unsound(reason="stores that a command has to refuse")
LOOKING = (("list",), ("doctor",), ("doctor", "--check"))
PATIENCE = 60.0


@pytest.fixture
def done(folder: Path) -> Path:
    """The folder, with a store of a run that is complete."""
    (folder / "go").touch()
    assert wfe(folder, "run", "long.yaml", "--name", "done").returncode == 0
    return folder


def change(folder: Path, statement: str) -> None:
    """Do something to the store that wfe does not do."""
    with closing(sqlite3.connect(folder / ".wfe" / "wfe.db")) as connection, connection:
        connection.execute(statement)


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Give a line to a shell that tells of a failure anywhere in a pipe; `wfe` is the command."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("wfe ", f"{shlex.quote(WFE)} ")],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql://h:abc/x", "'abc' in 'postgresql://h:abc/x' is no port"),
        ("postgresql://h:99999/x", "'99999' in"),
        ("postgresql://me:se/cr@h:5432/x", "What stands behind the host in the PostgreSQL URL is no port"),
        ("postgresql://test@[bad/x", "The PostgreSQL URL cannot be read: Invalid IPv6 URL"),
        ("sqlite:///wfe.db?x=1", "A SQLite URL has no options"),
        ("sqlite:///.", "is a folder, where a SQLite file has to be"),
        ("sqlite:////dev/null", "no file that can keep anything"),
        ("sqlite:///" + "x" * 300, "cannot be reached: File name too long"),
        ("sqlite:///long.yaml", "not a database"),
        ("nothing", "No provider serves"),
    ],
)
def test_an_impossible_place_is_2(folder: Path, url: str, sentence: str) -> None:
    """One sentence says what is wrong with it; there is no traceback, and no piece of a password."""
    told = wfe(folder, "doctor", "--db", url)

    assert (told.returncode, told.stdout) == (2, "")
    assert sentence in told.stderr
    assert len(told.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
@pytest.mark.parametrize("version", [0, -1, 99])
def test_a_schema_that_cannot_be_is_2(done: Path, command: tuple[str, ...], version: int) -> None:
    """A number that another program has put there is told, and no report is asked for."""
    change(done, f"PRAGMA user_version = {version}")

    told = wfe(done, *command)

    assert (told.returncode, told.stdout) == (2, "")
    assert f"schema {'is ' if version < 1 else ''}{version}" in told.stderr
    assert "report" not in told.stderr


def test_a_table_that_is_missing_is_2(done: Path) -> None:
    """Whoever has dropped it is to be found elsewhere; on every store."""
    change(done, "DROP TABLE pointer")

    told = wfe(done, "get", "done")

    assert (told.returncode, told.stdout) == (2, "")
    assert "no such table: pointer" in told.stderr
    assert "report" not in told.stderr


def test_what_a_server_refuses_is_2(folder: Path, postgres_url: str) -> None:
    """An option that nobody knows, a database that is not there, a table that is missing."""
    assert wfe(folder, "run", "long.yaml", "--name", "here", "--timeout", "1ms", "--db", postgres_url).returncode == 3
    execute_sql(postgres_url, "DROP TABLE wfe.pointer")

    told = [
        wfe(folder, "list", "--db", f"{postgres_url}?nonsense=1"),
        wfe(folder, "list", "--db", f"{postgres_url}-not"),
        wfe(folder, "get", "here", "--db", postgres_url),
    ]

    assert [(each.returncode, each.stdout) for each in told] == [(2, "")] * 3
    assert all("Check the URL" in each.stderr for each in told)


def test_a_server_that_is_away_is_3(folder: Path) -> None:
    """Who looks is told that it does not answer, long before a host would give up."""
    told = wfe(folder, "doctor", "--db", "postgresql://127.0.0.1:1/x")

    assert told.returncode == 3
    assert "did not open the store within 5 s" in told.stderr


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_output_that_cannot_be_written_is_4(done: Path, command: tuple[str, ...]) -> None:
    """A full disk is told in one line, and is no finding."""
    told = shell(done, f"wfe {' '.join(command)} > /dev/full")

    assert (told.returncode, told.stderr) == (4, "The output cannot be written: No space left on device\n")


def test_a_reader_that_has_gone_changes_no_verdict(done: Path) -> None:
    """A sound store is sound, whoever reads it; a damaged one is not."""
    sound = shell(done, "wfe doctor --check | true")
    change(done, "UPDATE instance SET wake_at = 5")
    damaged = shell(done, "wfe doctor --check | true")

    assert (sound.returncode, sound.stderr) == (0, "")
    assert (damaged.returncode, damaged.stderr) == (1, "")


def test_a_run_whose_output_cannot_be_written_says_how_to_resume(folder: Path) -> None:
    """It is interrupted, as by Ctrl-C, and standard error has the reason and the command."""
    told = shell(folder, "wfe run long.yaml --name brave > /dev/full")

    assert told.returncode == 130
    assert told.stderr.startswith("The output cannot be written: No space left on device.\n")
    assert told.stderr.endswith("Resume it with: wfe run --resume brave\n")


def test_a_fault_in_wfe_is_4(done: Path) -> None:
    """What nobody has foreseen shows where it happened, and is not taken for a finding."""
    (done / "sitecustomize.py").write_text(
        "import wfe.cli.doctor\ndef broken(*_, **__): raise LookupError('planted')\nwfe.cli.doctor.check = broken\n",
        encoding="utf-8",
    )
    path = os.pathsep.join([str(done), *filter(None, [os.environ.get("PYTHONPATH")])])

    told = wfe(done, "doctor", "--check", env={"PYTHONPATH": path})

    assert told.returncode == 4
    assert "LookupError: planted" in told.stderr
    assert told.stderr.endswith("This is a fault in wfe; please report it with the lines above.\n")


def test_the_hint_of_the_doctor_names_the_store(done: Path) -> None:
    """Copied, it checks the store that was looked at, and not another one."""
    (done / ".wfe" / "wfe.db").rename(done / "my store.db")

    told = wfe(done, "doctor", "--db", "sqlite:///my store.db")

    hint = told.stdout.splitlines()[-1].partition("with: ")[2]
    assert hint == "wfe doctor --check --db 'sqlite:///my store.db'"
    assert shell(done, hint).stdout == "Looked at 1 instance: all is well\n"


def test_an_id_with_a_line_break_stays_in_its_line(done: Path) -> None:
    """In tables, in what the doctor says, and in the statement that shows a finding."""
    change(done, "UPDATE instance SET id = 'a' || char(10) || 'b_c', name = NULL, wake_at = 5")

    listed = wfe(done, "list").stdout.splitlines()
    checked = wfe(done, "doctor", "--check").stdout.splitlines()

    assert listed[1].startswith("a\\nb_c  long v1")
    see = next(line for line in checked if line.startswith("    see: ")).removeprefix("    see: ")
    assert see.endswith(r"WHERE id LIKE 'a_b!_c' ESCAPE '!'")
    with closing(sqlite3.connect(done / ".wfe" / "wfe.db")) as connection:
        assert len(connection.execute(see).fetchall()) == 1

"""`wfe doctor` looks after a store."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.scenarios.cli.command import RunningCommand, wfe


@pytest.fixture
def done(folder: Path) -> Path:
    """The folder, with a run that is complete."""
    (folder / "go").touch()
    assert wfe(folder, "run", "long.yaml", "--name", "done").returncode == 0
    return folder


def test_a_sound_store_is_well(done: Path) -> None:
    """Exit code 0, and how many instances were looked at; as JSON nothing at all."""
    table = wfe(done, "doctor", "--check")
    objects = wfe(done, "doctor", "--check", "--output", "json")

    assert (table.returncode, table.stdout) == (0, "Looked at 1 instance: all is well\n")
    assert (objects.returncode, objects.stdout) == (0, "")


@pytest.mark.unsound(reason="the damage that is to be found")
def test_damage_is_told_with_its_rule_and_how_to_see_it(done: Path) -> None:
    """Exit code 1; each finding has its rule, its instance, one sentence and a statement that shows it."""
    with closing(sqlite3.connect(done / ".wfe" / "wfe.db")) as connection, connection:
        connection.execute("UPDATE instance SET wake_at = 5")

    table = wfe(done, "doctor", "--check")
    objects = wfe(done, "doctor", "--check", "--output", "json")

    (found,) = [json.loads(line) for line in objects.stdout.splitlines()]
    assert (table.returncode, objects.returncode) == (1, 1)
    assert found["rule"] == "T7"
    assert f"T7 instance '{found['instance']}': it has ended, and would wake up at 5" in table.stdout
    assert found["see"] == f"SELECT * FROM instance WHERE id = '{found['instance']}'"
    assert f"    see: {found['see']}" in table.stdout
    assert table.stdout.endswith("Looked at 1 instance: 1 finding\n")


def test_a_store_at_work_is_checked(folder: Path, begin: Callable[..., RunningCommand]) -> None:
    """While a run is going on, and after it was killed, the check finds nothing and disturbs nothing."""
    command = begin("run", "long.yaml", "--name", "working")
    command.read_until("here I stay")
    working = wfe(folder, "doctor", "--check")
    alive = json.loads(wfe(folder, "doctor", "--output", "json").stdout)

    command.send(signal.SIGKILL)
    command.end()

    after = wfe(folder, "doctor", "--check")
    assert (working.returncode, after.returncode) == (0, 0), working.stdout + after.stdout
    assert (alive["hosts"], alive["unclaimed"]) == (1, [])


def test_without_check_it_tells_who_lives_and_what_nobody_runs(
    folder: Path, begin: Callable[..., RunningCommand]
) -> None:
    """What is due and taken by no host is listed."""
    command = begin("run", "long.yaml", "--name", "left")
    command.read_until("here I stay")
    command.send(signal.SIGKILL)
    command.end()

    told = wfe(folder, "doctor")

    assert told.returncode == 0
    assert "0 hosts alive" in told.stdout
    assert "due, and run by nobody: " in told.stdout


def test_a_store_that_is_not_there_is_not_made(folder: Path) -> None:
    """Exit code 2, and the folder is as it was."""
    told = wfe(folder, "doctor", "--check")

    assert told.returncode == 2
    assert not (folder / ".wfe").exists()

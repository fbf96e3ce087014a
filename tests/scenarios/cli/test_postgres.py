"""`wfe run` with its store in PostgreSQL."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scenarios.cli.command import RunningCommand, wfe


def test_an_interrupted_run_is_resumed_from_postgres(
    folder: Path, begin: Callable[..., RunningCommand], postgres_url: str
) -> None:
    """Saved by Ctrl-C and resumed without its file, as on SQLite; the command to resume names the store."""
    command = begin("run", "long.yaml", "--name", "brave", "--db", postgres_url)
    command.read_until("here I stay")
    command.read_until("quick: done")

    command.send(signal.SIGINT)
    code = command.end()
    (folder / "go").touch()
    resumed = wfe(folder, "run", "--resume", "brave", "--db", postgres_url)

    assert code == 130, command.output
    assert f"wfe run --resume brave --db {postgres_url}" in command.output
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    lines = (folder / "ledger").read_text(encoding="utf-8").splitlines()
    assert sorted(lines) == ["a first", "a last", "a quick", "a slow", "a slow"]


@pytest.mark.slow
def test_a_killed_run_is_taken_over_when_its_lease_ends(
    folder: Path, begin: Callable[..., RunningCommand], postgres_url: str
) -> None:
    """After kill -9 the server still counts the old process as alive for a while; resuming says so, and waits."""
    command = begin("run", "long.yaml", "--name", "killed", "--db", postgres_url)
    command.read_until("here I stay")
    command.read_until("quick: done")

    command.send(signal.SIGKILL)
    command.end()
    (folder / "go").touch()
    resumed = wfe(folder, "run", "--resume", "killed", "--db", postgres_url)

    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "is run by another process; if that ends, it goes on here" in resumed.stdout
    assert (folder / "ledger").read_text(encoding="utf-8").splitlines().count("a slow") == 2

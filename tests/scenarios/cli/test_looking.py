"""Commands that look at runs, or ask something of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scenarios.cli.command import RunningCommand, wfe


@pytest.fixture
def done(folder: Path) -> Path:
    """The folder, with a run named `done` that is complete."""
    (folder / "go").touch()
    assert wfe(folder, "run", "long.yaml", "--name", "done").returncode == 0
    return folder


def test_runs_are_listed_newest_first(done: Path) -> None:
    """Name, workflow, status and times, one line per run; filters leave out others; JSON has one object per line."""
    wfe(done, "run", "long.yaml", "--name", "newer")

    table = wfe(done, "list").stdout.splitlines()
    filtered = wfe(done, "list", "--status", "failed").stdout.splitlines()
    objects = [json.loads(line) for line in wfe(done, "list", "--output", "json").stdout.splitlines()]

    assert table[0].split() == ["NAME", "WORKFLOW", "STATUS", "STARTED", "TOOK"]
    assert [line.split()[:4] for line in table[1:]] == [
        ["newer", "long", "v1", "complete"],
        ["done", "long", "v1", "complete"],
    ]
    assert len(filtered) == 1
    assert [each["name"] for each in objects] == ["newer", "done"]


def test_one_run_is_shown_with_its_data(done: Path) -> None:
    """By name or by id, for people and for programs."""
    by_name = wfe(done, "get", "done", "--output", "json")
    found = json.loads(by_name.stdout)

    by_id = wfe(done, "get", found["id"])

    assert found["data"] == {"who": "a"}
    assert "status:    complete" in by_id.stdout
    assert found["reference"].startswith("long.yaml@")


def test_the_history_has_every_event(done: Path) -> None:
    """All that happened, in order; as JSON with sequence numbers without a gap."""
    table = wfe(done, "history", "done").stdout
    events = [json.loads(line) for line in wfe(done, "history", "done", "--output", "json").stdout.splitlines()]

    assert "workflow completed" in table.splitlines()[-1]
    assert [each["sequence"] for each in events] == list(range(1, len(events) + 1))
    assert {each["step"] for each in events if each["kind"] == "step succeeded"} == {
        "first",
        "quick",
        "slow",
        "both",
        "last",
    }


@pytest.mark.parametrize("command", [["get"], ["history"], ["cancel"], ["run", "--resume"]])
def test_an_unknown_run_is_named(done: Path, command: list[str]) -> None:
    """Exit code 2 and the name that was not found."""
    result = wfe(done, *command, "nobody")

    assert result.returncode == 2
    assert "There is no run 'nobody' in sqlite:///.wfe/wfe.db; wfe list shows" in result.stderr


def test_a_saved_run_can_be_ended_without_running_it(folder: Path, begin: Callable[..., RunningCommand]) -> None:
    """Cancelling an interrupted run needs neither its file nor its steps; after that its version is free to change."""
    command = begin("run", "long.yaml", "--name", "saved")
    command.read_until("here I stay")
    command.send(signal.SIGINT)
    command.end()

    cancelled = wfe(folder, "cancel", "saved", "--reason", "not needed")
    (folder / "go").touch()
    text = (folder / "long.yaml").read_text(encoding="utf-8")
    (folder / "long.yaml").write_text(text.replace("name: quick", "name: quicker"), encoding="utf-8")
    changed = wfe(folder, "run", "long.yaml")

    assert cancelled.stdout == "saved is cancelled\n"
    assert changed.returncode == 0, changed.stderr


def test_a_running_run_is_cancelled_from_elsewhere(folder: Path, begin: Callable[..., RunningCommand]) -> None:
    """The process that runs it ends its steps and itself, with exit code 1."""
    command = begin("run", "long.yaml", "--name", "busy")
    command.read_until("here I stay")

    cancelled = wfe(folder, "cancel", "busy")
    code = command.end()

    assert cancelled.stdout == "busy is cancelled\n"
    assert code == 1
    assert command.lines[-1].startswith("Cancelled in ")


def test_a_suspended_run_is_resumed(folder: Path, begin: Callable[..., RunningCommand]) -> None:
    """`wfe suspend` lets what runs finish and ends the process with exit code 3; `wfe run --resume` goes on."""
    command = begin("run", "long.yaml", "--name", "held")
    command.read_until("here I stay")
    command.send(signal.SIGINT)
    command.end()

    suspended = wfe(folder, "suspend", "held")
    (folder / "go").touch()
    resumed = wfe(folder, "run", "--resume", "held")

    assert suspended.stdout == "held is suspended\n"
    assert resumed.returncode == 0, resumed.stdout


def test_an_event_is_published(done: Path) -> None:
    """Its id is shown, for programs to keep."""
    result = wfe(done, "publish", "paid", "order-1", '{"amount": 3}')

    assert result.returncode == 0
    assert len(result.stdout.strip()) == 32

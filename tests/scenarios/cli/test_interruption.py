"""Runs that are cut off: by Ctrl-C, by other signals, by kill -9, by their time."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scenarios.cli.command import RunningCommand, ended, wfe

Begin = Callable[..., RunningCommand]


def ledger(folder: Path) -> list[str]:
    return (folder / "ledger").read_text(encoding="utf-8").splitlines()


def begun(begin: Begin, *options: str) -> RunningCommand:
    """Run the long pipeline until only its slow step has not ended."""
    command = begin("run", "long.yaml", *options)
    command.read_until("here I stay")
    command.read_until("quick: done")
    return command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_saved_and_resumed(folder: Path, begin: Begin, number: signal.Signals) -> None:
    """Exit code 130, a message that says how to resume, no process of a step left; what had ended is not run again."""
    command = begun(begin, "--name", "brave")

    command.send(number)
    code = command.end()

    assert code == 130, command.output
    assert "Resume it with: wfe run --resume brave\n" in command.output
    assert ended(folder / "a.pid", within=0)
    assert ended(folder / "a.left", within=0)

    (folder / "go").touch()
    resumed = wfe(folder, "run", "--resume", "brave")

    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "slow: runs again, because it was interrupted" in resumed.stdout
    assert sorted(ledger(folder)) == ["a first", "a last", "a quick", "a slow", "a slow"]


def test_a_killed_run_is_resumed(folder: Path, begin: Begin) -> None:
    """After kill -9 nothing of the step is left running; resuming repeats the step that was cut off, and no other."""
    command = begun(begin, "--name", "killed")

    command.send(signal.SIGKILL)
    code = command.end()
    is_gone = ended(folder / "a.pid", within=10) and ended(folder / "a.left", within=10)
    (folder / "go").touch()
    (folder / "long.yaml").unlink()
    resumed = wfe(folder, "run", "--resume", "killed")

    assert code == -signal.SIGKILL
    assert is_gone
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert sorted(ledger(folder)) == ["a first", "a last", "a quick", "a slow", "a slow"]


def test_the_second_signal_ends_at_once(folder: Path, begin: Begin) -> None:
    """A step that does not want to end holds up the first Ctrl-C, but not the second; nothing of it is left."""
    text = """
workflow:
  id: stubborn
  version: 1
  steps:
    - name: stubborn
      config: {run: 'trap "echo asked" TERM; echo $$ > a.pid; echo here I stay; while :; do sleep 0.05; done'}
"""
    (folder / "stubborn.yaml").write_text(text, encoding="utf-8")
    command = begin("run", "stubborn.yaml", "--name", "tough")
    command.read_until("here I stay")

    command.send(signal.SIGINT)
    command.read_until("asked")
    command.send(signal.SIGINT)
    code = command.end()

    assert code == 130
    assert "Forced to end" in command.output
    assert ended(folder / "a.pid", within=10)


def test_a_run_whose_time_is_over_is_saved(folder: Path) -> None:
    """--timeout saves as Ctrl-C does, with exit code 3."""
    stopped = wfe(folder, "run", "long.yaml", "--name", "late", "--timeout", "1500ms")
    (folder / "go").touch()
    resumed = wfe(folder, "run", "--resume", "late")

    assert stopped.returncode == 3, stopped.stdout
    assert "Its time is over: the state of late is saved." in stopped.stdout
    assert resumed.returncode == 0


def test_an_interrupted_run_waits_for_its_own_resumption(folder: Path, begin: Begin) -> None:
    """Another run of the same pipeline does not bring it back to life."""
    command = begun(begin, "--name", "mine")
    command.send(signal.SIGINT)
    command.end()
    (folder / "go").touch()

    other = wfe(folder, "run", "long.yaml", "-i", "who=b")

    assert other.returncode == 0
    assert sorted(line for line in ledger(folder) if line.startswith("a")) == ["a first", "a quick", "a slow"]
    assert "mine" in wfe(folder, "list", "--status", "runnable").stdout


def test_a_resumed_run_keeps_the_plan_it_was_started_with(folder: Path, begin: Begin) -> None:
    """Its own -c values and scripts hold, even when another run of the same version had others since."""
    text = (folder / "long.yaml").read_text(encoding="utf-8").replace('last" >>', 'last ((var.target))" >>')
    (folder / "long.yaml").write_text(text, encoding="utf-8")
    command = begun(begin, "--name", "staged", "-c", "target=staging")
    command.send(signal.SIGINT)
    command.end()
    (folder / "go").touch()
    wfe(folder, "run", "long.yaml", "-i", "who=b", "-c", "target=production")
    (folder / "go").unlink()
    second = begun(begin, "--name", "third", "-i", "who=c", "-c", "target=moon")
    second.send(signal.SIGINT)
    second.end()
    (folder / "go").touch()

    codes = [wfe(folder, "run", "--resume", name).returncode for name in ("staged", "third")]

    assert codes == [0, 0]
    assert [line for line in ledger(folder) if "last" in line] == [
        "b last production",
        "a last staging",
        "c last moon",
    ]


def test_resuming_with_another_plan_is_refused(folder: Path, begin: Begin) -> None:
    """With a file whose steps are others, exit code 2 tells that the file can be left out; nothing is run."""
    command = begun(begin, "--name", "mine")
    command.send(signal.SIGINT)
    command.end()
    before = ledger(folder)
    text = (folder / "long.yaml").read_text(encoding="utf-8")
    (folder / "long.yaml").write_text(text.replace("name: quick", "name: quicker"), encoding="utf-8")

    resumed, again = wfe(folder, "run", "long.yaml", "--resume", "mine"), wfe(folder, "run", "long.yaml")

    assert resumed.returncode == 2
    assert "wfe run --resume mine" in resumed.stderr
    assert again.returncode == 2
    assert "new version" in again.stderr
    assert ledger(folder) == before


def test_a_run_that_is_over_is_not_run_again(folder: Path) -> None:
    """Resuming tells how it ended, with that exit code."""
    (folder / "go").touch()
    wfe(folder, "run", "long.yaml", "--name", "done")
    before = ledger(folder)

    resumed = wfe(folder, "run", "--resume", "done")

    assert resumed.returncode == 0
    assert "was over already" in resumed.stdout
    assert ledger(folder) == before


def test_a_run_of_another_process_is_watched_and_taken_over(folder: Path, begin: Begin) -> None:
    """Resuming what still runs elsewhere changes nothing; when that process dies, it goes on here."""
    first = begun(begin, "--name", "shared")
    second = begin("run", "--resume", "shared")
    second.read_until("is run by another process")

    (folder / "go").touch()
    first.send(signal.SIGKILL)
    first.end()
    code = second.end()

    assert code == 0, second.output
    assert sorted(ledger(folder)) == ["a first", "a last", "a quick", "a slow", "a slow"]

"""What commands tell of failures, and of runs that need the code of a program."""

from __future__ import annotations

import json
from pathlib import Path

from tests.scenarios.cli.command import wfe
from wfe import Suspend, WorkflowBuilder, WorkflowHost, WorkflowStatus

FAILING = """
workflow:
  id: failing
  version: 1
  steps:
    - name: compile
      config:
        run: |
          echo "main.c:7: error: missing semicolon" >&2
          exit 3
"""


def test_the_last_lines_of_a_failed_step_are_shown(folder: Path) -> None:
    """Who looks at a failed run learns what its step wrote last, without the history."""
    (folder / "failing.yaml").write_text(FAILING, encoding="utf-8")
    wfe(folder, "run", "failing.yaml", "--name", "red")

    shown = wfe(folder, "get", "red").stdout

    assert "compile: The command exited with code 3." in shown
    assert "  | main.c:7: error: missing semicolon" in shown


def broken(context: object) -> None:
    raise ValueError("amount must be positive")


async def program(folder: Path) -> None:
    """A program with one run that waits and one that a failure has suspended."""
    waiting = WorkflowBuilder().wait_for("approved", "o-1").id("approval").then(broken).build("waiting")
    held = WorkflowBuilder().start_with(broken).on_error(Suspend()).build("held")
    async with WorkflowHost(f"sqlite:///{folder / 'app.db'}") as host:
        await host.start_workflow(waiting, name="waits")
        await host.start_workflow(held, name="holds")
        await host.wait("holds", until=WorkflowStatus.SUSPENDED, timeout=20)


async def test_runs_of_a_program_are_continued_by_that_program(folder: Path) -> None:
    """`wfe run --resume` cannot run Python code, so nothing sends people there; trying it says what to do."""
    await program(folder)
    db = ("--db", "sqlite:///app.db")

    waits = wfe(folder, "get", "waits", *db).stdout
    holds = wfe(folder, "get", "holds", *db).stdout
    resumed = wfe(folder, "resume", "holds", *db).stdout
    tried = wfe(folder, "run", "--resume", "waits", *db)

    assert "step approval: waits for event 'approved' with key 'o-1'" in waits
    assert "It goes on in the program that has its code; start that again if it does not run." in waits
    assert "It goes on after wfe resume holds --db sqlite:///app.db, in the program" in holds
    assert "ValueError: amount must be positive" in holds
    assert "in the program that has its code" in resumed
    assert "--resume" not in waits + holds + resumed
    assert tried.returncode == 2
    assert "waits goes on in the program that has this code; start that again." in tried.stderr


def test_a_resumed_run_tells_its_time_from_its_start(folder: Path) -> None:
    """Nobody ran it for most of that time, so it is not said to have taken it."""
    wfe(folder, "run", "long.yaml", "--name", "late", "--timeout", "1s")
    (folder / "go").touch()

    resumed = wfe(folder, "run", "--resume", "late").stdout

    assert resumed.splitlines()[-1].startswith("Complete, ")
    assert resumed.splitlines()[-1].endswith(" after its start.")


def test_inputs_are_refused_before_a_store_is_made(folder: Path) -> None:
    """All wrong inputs in one message, exit code 2, and nothing left behind."""
    text = (
        "workflow:\n  id: w\n  version: 1\n  inputs: {a: string, n: integer}\n  steps: [{name: s, config: {run: x}}]\n"
    )
    (folder / "w.yaml").write_text(text, encoding="utf-8")

    ended = wfe(folder, "run", "w.yaml", "-i", "n=many")

    assert ended.returncode == 2
    assert "input 'a' (string) is missing" in ended.stderr
    assert "input 'n' (integer): expected an integer, got 'many'" in ended.stderr
    assert not (folder / ".wfe").exists()


def test_a_failure_in_json_has_message_and_class(folder: Path) -> None:
    """Programs get the whole message, with all lines."""
    (folder / "failing.yaml").write_text(FAILING, encoding="utf-8")
    wfe(folder, "run", "failing.yaml", "--name", "red")

    found = json.loads(wfe(folder, "get", "red", "--output", "json").stdout)

    assert found["error"]["code"] == "command_failed"
    assert "missing semicolon" in found["error"]["message"]


def test_a_store_that_is_away_is_told_once(folder: Path) -> None:
    """One line when it begins to wait, one when it gives up, with the exit code for a store that did not answer."""
    ended = wfe(folder, "list", "--db", "postgresql://nobody@127.0.0.1:1/none?unavailable_after=1")

    lines = ended.stderr.splitlines()
    assert ended.returncode == 3
    assert len(lines) == 2
    assert "trying again" in lines[0]
    assert "Check that the server runs and can be reached" in lines[1]


def test_a_request_that_changes_nothing_says_so(folder: Path) -> None:
    """Who resumes or cancels a run that is over learns that it is."""
    (folder / "failing.yaml").write_text(FAILING, encoding="utf-8")
    wfe(folder, "run", "failing.yaml", "--name", "red")

    said = [wfe(folder, verb, "red").stdout for verb in ("suspend", "resume", "cancel", "terminate")]

    assert said == ["red is failed already; nothing has changed\n"] * 4


def test_a_program_given_as_a_file_is_told_apart(folder: Path) -> None:
    """Programs are started with Python; a syntax error of YAML would not say so."""
    (folder / "orders.py").write_text("print(1)\n", encoding="utf-8")

    ended = wfe(folder, "run", "orders.py")

    assert ended.returncode == 2
    assert "start it with: python orders.py" in ended.stderr

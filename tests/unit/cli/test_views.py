"""Runs as plain lines and as JSON."""

from __future__ import annotations

import json
from datetime import timedelta

from tests.unit.cli.events import BEGIN, Announcer, pipeline
from wfe.cli.board import Board
from wfe.cli.exits import Exit, exit_of
from wfe.cli.json_lines import JsonView
from wfe.cli.plain import PlainView
from wfe.cli.views import Outcome, RunInfo
from wfe.model.instance import StepError
from wfe.model.status import LifecycleKind as Kind
from wfe.model.status import WorkflowStatus

INFO = RunInfo("w", "brave-otter", "ci", 1, "sqlite:///x.db")
ERROR = StepError(
    "command_failed",
    "The command exited with code 1. Its last lines were:\n  a\n  b",
    "tests",
    "3",
    2,
    BEGIN,
    "wfe.executors.shell.errors.ShellStepError",
    "",
)


def test_plain_lines_tell_events_and_prefix_what_steps_write() -> None:
    """One line per event, and each line of a step after its name; errors are marked apart."""
    lines: list[str] = []
    announce, board = Announcer(), Board(pipeline())
    view = PlainView(board, lines.append)

    view.begin(INFO)
    view.event(announce(Kind.WORKFLOW_STARTED))
    view.event(announce(Kind.STEP_STARTED, "tests"))
    view.line("tests", "stdout", "fine")
    view.line("tests", "stderr", "bad")
    view.event(announce(Kind.STEP_RETRYING, "tests", error="exited with code 1.\nmore"))
    view.event(announce(Kind.STEP_SUCCEEDED, "tests", attempt=2, took=1.25))

    assert lines == [
        "brave-otter started: ci version 1 in sqlite:///x.db",
        "tests: started",
        "tests | fine",
        "tests ! bad",
        "tests: tries again: exited with code 1.",
        "tests: done in 1.2s (attempt 2)",
    ]


def test_plain_end_shows_the_last_lines_of_the_failed_step() -> None:
    """The reason of a failure stands last, where people look."""
    lines: list[str] = []
    view = PlainView(Board(pipeline()), lines.append)

    view.end(Outcome(Exit.FAILED, WorkflowStatus.FAILED, timedelta(seconds=2), error=ERROR))

    assert lines == ["Failed in 2s. Step tests: The command exited with code 1. Its last lines were:", "  a", "  b"]


def test_an_error_of_the_workflow_itself_names_no_step() -> None:
    """A workflow that took too long failed as a whole."""
    lines: list[str] = []
    error = StepError(
        "workflow_timeout", "It took too long.", "", "0", 1, BEGIN, "wfe.model.errors.WorkflowTimeout", ""
    )

    PlainView(Board(pipeline()), lines.append).end(
        Outcome(Exit.FAILED, WorkflowStatus.FAILED, timedelta(seconds=2), error=error)
    )

    assert lines == ["Failed in 2s. It took too long."]


def test_a_run_that_goes_on_later_ends_with_how_to_resume_it() -> None:
    """There is no status to tell, only what to do next."""
    lines: list[str] = []

    PlainView(Board(pipeline()), lines.append).end(Outcome(Exit.INTERRUPTED, None, message="Resume it with: x"))

    assert lines == ["Resume it with: x"]


def test_json_gives_one_object_per_line_and_a_result_last() -> None:
    """Every line parses by itself, `type` tells them apart, and the result holds status, exit code, data and error."""
    lines: list[str] = []
    announce = Announcer()
    view = JsonView(lines.append)

    view.begin(INFO)
    view.event(announce(Kind.STEP_SUCCEEDED, "tests", took=1.5))
    view.line("tests", "stdout", 'quote " and \u2028')
    view.end(Outcome(Exit.FAILED, WorkflowStatus.FAILED, timedelta(seconds=2), {"n": 1}, ERROR))

    objects = [json.loads(line) for line in lines]
    assert [each["type"] for each in objects] == ["run", "event", "log", "result"]
    assert objects[1]["kind"] == "step succeeded"
    assert objects[1]["duration_seconds"] == 1.5
    assert objects[2]["text"] == 'quote " and \u2028'
    result = objects[3]
    assert (result["status"], result["exit_code"], result["data"], result["error"]["step"]) == (
        "failed",
        1,
        {"n": 1},
        "tests",
    )


def test_every_status_has_its_exit_code() -> None:
    """0 complete, 3 while it can go on, 1 for every other end."""
    codes = {status: int(exit_of(status)) for status in WorkflowStatus}

    assert codes.pop(WorkflowStatus.COMPLETE) == 0
    assert codes.pop(WorkflowStatus.RUNNABLE) == 3
    assert codes.pop(WorkflowStatus.SUSPENDED) == 3
    assert set(codes.values()) == {1}

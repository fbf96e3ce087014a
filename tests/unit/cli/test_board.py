"""What is gathered from events and lines, and how it is drawn."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.cli.events import Announcer, pipeline
from wfe.cli.board import Board, Mark, safe_line
from wfe.cli.drawing import draw
from wfe.model.status import LifecycleKind as Kind


def drawn(board: Board, announce: Announcer, *, is_over: bool = False) -> list[str]:
    return [str(line) for line in draw(board, announce.now, is_over=is_over)]


def test_a_fresh_board_shows_every_step_as_not_reached() -> None:
    """Before anything happens the whole plan is there, nested as it was written."""
    lines = drawn(Board(pipeline()), Announcer())

    assert lines == ["├─ ○ prepare", "├─ ○ checks", "│  ├─ ○ lint", "│  └─ ○ tests", "└─ ○ publish"]


def test_a_running_step_shows_its_time_and_its_last_line() -> None:
    """The container of a running step runs too, and time goes on between events."""
    announce, board = Announcer(), Board(pipeline())
    board.apply(announce(Kind.WORKFLOW_STARTED))
    board.apply(announce(Kind.STEP_STARTED, "tests"))
    board.add_line("tests", "collecting")
    board.add_line("tests", "12 passed")

    lines = [str(line) for line in draw(board, announce.now + timedelta(seconds=3.04))]

    assert lines[1].split() == ["├─", "●", "checks", "3s"]
    assert lines[3].split() == ["│", "└─", "●", "tests", "3s", "12", "passed"]


def test_a_failed_step_shows_its_last_ten_lines_and_its_attempts() -> None:
    """Only the attempt that failed last is shown, and what was not reached says so."""
    announce, board = Announcer(), Board(pipeline())
    board.apply(announce(Kind.STEP_STARTED, "prepare"))
    board.add_line("prepare", "line of the first attempt")
    board.apply(announce(Kind.STEP_RETRYING, "prepare", error="no luck"))
    board.apply(announce(Kind.STEP_STARTED, "prepare", attempt=2))
    for number in range(12):
        board.add_line("prepare", f"line {number}")
    board.apply(announce(Kind.STEP_FAILED, "prepare", attempt=2, took=1.5, error="exited with code 1.\nmore"))

    lines = drawn(board, announce, is_over=True)

    assert lines[0].split(maxsplit=3)[1:] == ["✗", "prepare", "1.5s  exited with code 1.  (2 attempts)"]
    assert lines[1:11] == [f"│    line {number}" for number in range(2, 12)]
    assert lines[-1].endswith("not reached")


def test_a_line_that_is_quicker_than_its_announcement_is_kept() -> None:
    """Lines come at once and announcements by way of the store, so a line may come first."""
    announce, board = Announcer(), Board(pipeline())
    board.apply(announce(Kind.STEP_STARTED, "prepare"))
    board.add_line("prepare", "old")
    board.apply(announce(Kind.STEP_RETRYING, "prepare", error="no luck"))

    board.add_line("prepare", "new")
    board.apply(announce(Kind.STEP_STARTED, "prepare", attempt=2))

    assert list(board.steps["prepare"].tail) == ["new"]


def test_an_event_that_comes_twice_counts_once() -> None:
    """Announcements are made at least once; a repeat changes nothing."""
    announce, board = Announcer(), Board(pipeline())
    done = announce(Kind.STEP_SUCCEEDED, "prepare", took=1)

    first, second = board.apply(done), board.apply(done)

    assert (first, second) == (True, False)
    assert board.steps["prepare"].runs == 1


def test_a_step_with_two_open_branches_runs_until_both_have_ended() -> None:
    """In a parallel loop one step runs several times at once."""
    announce, board = Announcer(), Board(pipeline())
    board.apply(announce(Kind.STEP_STARTED, "lint", pointer=1))
    board.apply(announce(Kind.STEP_STARTED, "lint", pointer=2))

    board.apply(announce(Kind.STEP_SUCCEEDED, "lint", pointer=1, took=1))
    between = board.steps["lint"].mark
    board.apply(announce(Kind.STEP_SUCCEEDED, "lint", pointer=2, took=1))

    assert between is Mark.RUNNING
    assert board.steps["lint"].mark is Mark.DONE
    assert "(2 times)" in drawn(board, announce)[2]


def test_skipped_and_waiting_steps_say_why() -> None:
    """A skipped step and one that pauses are told apart from those that were not reached."""
    announce, board = Announcer(), Board(pipeline())
    board.apply(announce(Kind.STEP_SKIPPED, "prepare"))
    board.apply(announce(Kind.STEP_RETRYING, "lint", error="no luck"))

    lines = drawn(board, announce)

    assert lines[0].split() == ["├─", "○", "prepare", "skipped"]
    assert "◌ lint" in lines[2]
    assert "tries again (attempt 1: no luck)" in lines[2]


def test_an_interrupted_board_shows_what_will_run_again() -> None:
    """After Ctrl-C no step looks as if it were still running."""
    announce, board = Announcer(), Board(pipeline())
    board.apply(announce(Kind.STEP_STARTED, "tests"))

    board.interrupted()

    assert list(board.running()) == []
    assert "interrupted, will run again" in drawn(board, announce)[3]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("10%\r50%\r100%", "100%"),
        ("done\r", "done"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("a\x07b\x00c\x9bd", "abcd"),
        ("x" * 2000, "x" * 500),
    ],
)
def test_a_line_cannot_change_the_terminal(line: str, shown: str) -> None:
    """Control sequences are taken out of what a step wrote, and a long line is cut."""
    assert safe_line(line) == shown

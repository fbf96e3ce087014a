"""The board as lines of a tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from wfe.cli.board import Board, Mark, StepView, duration_text
from wfe.model.durations import format_duration

__all__ = ["DRAWN", "MARKS", "SPINNER", "Line", "draw"]

MARKS = {
    Mark.WAITING: "○",
    Mark.RUNNING: "●",
    Mark.PAUSED: "◌",
    Mark.DONE: "✓",
    Mark.FAILED: "✗",
    Mark.SKIPPED: "○",
    Mark.CANCELLED: "⊘",
}
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
"""In place of the mark of a step that runs."""
DRAWN = "".join(MARKS.values()) + SPINNER + "├└─│…"
"""The characters of the tree beyond those of every terminal."""
_NAME_LIMIT = 48


@dataclass(frozen=True)
class Line:
    """One line of the tree: guides, then either a step or text that it wrote."""

    guides: str
    mark: Mark | None
    """None: a line of output."""
    name: str
    padding: str = ""
    time: str = ""
    note: str = ""

    def __str__(self) -> str:
        if self.mark is None:
            return f"{self.guides}{self.name}"
        note = f"  {self.note}" if self.note else ""
        return f"{self.guides}{MARKS[self.mark]} {self.name}{self.padding}{self.time:>8}{note}".rstrip()


def draw(board: Board, now: datetime, *, is_over: bool = False) -> list[Line]:
    """Draw all steps, with the last lines of those that failed and the last line of those that run.

    Args:
        is_over: Whether the run has ended: then steps that were not reached say so.
    """
    rows = list(_rows(board.top, ""))
    width = min(_NAME_LIMIT, max((len(guides) + len(view.name) for guides, _, view in rows), default=0))
    lines: list[Line] = []
    for guides, below, view in rows:
        padding = " " * max(1, width + 2 - len(guides) - len(view.name))
        time, note = _time(view, now), _note(view, is_over=is_over)
        lines.append(Line(guides, view.mark, view.name, padding, time, note))
        if view.mark is Mark.FAILED and not view.children:
            lines += [Line(below, None, text) for text in view.tail]
    return lines


def _rows(views: Iterable[StepView], indent: str) -> Iterator[tuple[str, str, StepView]]:
    """Give (guides of the step's line, guides of lines below it, step)."""
    views = list(views)
    for number, view in enumerate(views):
        is_last = number == len(views) - 1
        inner = indent + ("   " if is_last else "│  ")
        yield indent + ("└─ " if is_last else "├─ "), inner + ("│ " if view.children else "  "), view
        yield from _rows(view.children, inner)


def _time(view: StepView, now: datetime) -> str:
    if view.mark in {Mark.WAITING, Mark.SKIPPED}:
        return ""
    if view.duration is None and view.mark is Mark.RUNNING and view.started is not None:
        return format_duration(_tenths(max(timedelta(0), now - view.started)))
    return duration_text(view.duration)


def _tenths(duration: timedelta) -> timedelta:
    """Round, so that a running clock does not flicker."""
    return timedelta(seconds=round(duration.total_seconds(), 1))


def _note(view: StepView, *, is_over: bool) -> str:
    parts: list[str] = []
    if view.mark is Mark.WAITING and is_over:
        return "not reached"
    if view.mark is Mark.SKIPPED:
        parts.append(f"skipped: {view.note}" if view.note else "skipped")
    elif view.mark is Mark.RUNNING:
        parts.append(view.tail[-1] if view.tail and not view.children else "")
    elif view.mark is Mark.FAILED and view.has_failed_child:
        pass
    else:
        parts.append(view.note)
    if view.attempt > 1:
        parts.append(f"(attempt {view.attempt})" if view.mark is Mark.RUNNING else f"({view.attempt} attempts)")
    if view.runs > 1:
        parts.append(f"({view.runs} times)")
    return "  ".join(part for part in parts if part)

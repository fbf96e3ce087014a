"""A run as plain lines: one per event, and the lines of steps with the step's name before them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from wfe.cli.board import Board, Mark, duration_text, first_line
from wfe.model.durations import format_duration
from wfe.model.status import LifecycleKind

if TYPE_CHECKING:
    from wfe.cli.views import Outcome, RunInfo
    from wfe.model.instance import StepError
    from wfe.model.lifecycle import LifecycleEvent

__all__ = ["PlainView", "ending"]

_SAYS = {
    LifecycleKind.STEP_STARTED: "started",
    LifecycleKind.STEP_SUCCEEDED: "done",
    LifecycleKind.STEP_FAILED: "failed",
    LifecycleKind.STEP_RETRYING: "tries again",
    LifecycleKind.STEP_SKIPPED: "skipped",
    LifecycleKind.STEP_SLEEPING: "sleeps",
    LifecycleKind.STEP_WAITING: "waits for",
    LifecycleKind.STEP_CANCELLED: "cancelled",
    LifecycleKind.STEP_COMPENSATED: "undone",
    LifecycleKind.STEP_BLOCKED: "blocked",
}
_SHOWN_LINES = 10


class PlainView:
    """For pipes, files and logs of CI."""

    def __init__(self, board: Board, write: Callable[[str], None]) -> None:
        self._board = board
        self._write = write

    def begin(self, info: RunInfo) -> None:
        verb = "resumed" if info.is_resumed else "started"
        self._write(f"{info.name} {verb}: {info.definition_id} version {info.version} in {info.url}")

    def event(self, event: LifecycleEvent) -> None:
        says = _SAYS.get(event.kind)
        if event.step is None or says is None:
            return
        view = self._board.steps.get(event.step)
        name = view.name if view is not None else event.step
        attempt = f" (attempt {event.attempt})" if (event.attempt or 1) > 1 else ""
        time = f" in {duration_text(event.duration)}" if event.duration is not None else ""
        why = first_line(event.error or event.detail or "")
        if view is not None and view.mark is Mark.FAILED and view.has_failed_child:
            why = ""
        self._write(f"{name}: {says}{time}{attempt}" + (f": {why}" if why else ""))

    def line(self, step: str, stream: str, text: str) -> None:
        view = self._board.steps.get(step)
        name = view.name if view is not None else step
        self._write(f"{name} {'!' if stream == 'stderr' else '|'} {text}")

    def note(self, text: str) -> None:
        self._write(text)

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass

    def end(self, outcome: Outcome) -> None:
        for text in ending(outcome):
            self._write(text)


def ending(outcome: Outcome, *, with_lines: bool = True) -> list[str]:
    """Give the last lines of a run: how it ended, and the last lines of the step that failed."""
    lines: list[str] = []
    if outcome.status is not None:
        lines.append(f"{outcome.status.capitalize()}{_time(outcome)}.")
    if outcome.error is not None:
        reason, *further = _reason(outcome.error, with_lines=with_lines)
        lines[-1:] = [" ".join([*lines[-1:], reason]), *further]
    return [*lines, outcome.message] if outcome.message else lines


def _time(outcome: Outcome) -> str:
    if outcome.duration is None:
        return ""
    text = format_duration(_rounded(outcome.duration))
    # Nobody may have run it for most of that time.
    return f", {text} after its start" if outcome.is_resumed else f" in {text}"


def _reason(error: StepError, *, with_lines: bool) -> list[str]:
    # An error of the workflow itself, such as its timeout, has no step.
    where = f"Step {error.step}: " if error.step else ""
    if not with_lines:
        return [where + first_line(error.summary)]
    first, *further = error.summary.splitlines() or [""]
    return [where + first, *further[-_SHOWN_LINES:]]


def _rounded(duration: timedelta) -> timedelta:
    return timedelta(seconds=round(duration.total_seconds(), 2))

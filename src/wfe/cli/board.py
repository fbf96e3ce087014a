"""How far a run is: what its events and log lines say, gathered per step. What is shown is drawn from it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from wfe.model.definition import WorkflowDefinition
from wfe.model.durations import format_duration
from wfe.model.lifecycle import LifecycleEvent
from wfe.model.status import LifecycleKind

__all__ = ["Board", "Mark", "StepView", "first_line"]

TAIL_LINES = 10
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_MAX_LINE = 500
_PROTOCOL = "##wfe["


class Mark(StrEnum):
    """Where a step stands, as people see it."""

    WAITING = "waiting"
    """Not reached yet."""
    RUNNING = "running"
    PAUSED = "paused"
    """It goes on by itself: after a time, an event, or before its next attempt."""
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


_ENDS = {
    LifecycleKind.STEP_SUCCEEDED: Mark.DONE,
    LifecycleKind.STEP_FAILED: Mark.FAILED,
    LifecycleKind.STEP_SKIPPED: Mark.SKIPPED,
    LifecycleKind.STEP_CANCELLED: Mark.CANCELLED,
    LifecycleKind.STEP_COMPENSATED: Mark.CANCELLED,
    LifecycleKind.STEP_BLOCKED: Mark.CANCELLED,
}
_PAUSES = {
    LifecycleKind.STEP_SLEEPING: "sleeping",
    LifecycleKind.STEP_WAITING: "waiting for",
    LifecycleKind.STEP_RETRYING: "tries again",
}


@dataclass(eq=False)
class StepView:
    """What is known of one step."""

    id: str
    name: str
    parent: StepView | None = None
    children: list[StepView] = field(default_factory=list)
    mark: Mark = Mark.WAITING
    started: datetime | None = None
    duration: timedelta | None = None
    attempt: int = 1
    runs: int = 0
    """How often it has ended; more than once in loops."""
    note: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    """The last lines that its present or last attempt wrote, made safe for a terminal."""
    is_tail_old: bool = False
    """Whether `tail` belongs to an attempt that has ended; the next line begins anew."""
    running: set[str] = field(default_factory=set)
    """Pointers of it that are open."""

    @property
    def has_failed_child(self) -> bool:
        """Whether its failure is only that of a step in it."""
        return any(child.mark is Mark.FAILED for child in self.children)


class Board:
    """All steps of one run, in the order in which they were written."""

    def __init__(self, definition: WorkflowDefinition[dict[str, object]]) -> None:
        self.steps: dict[str, StepView] = {}
        self.top: list[StepView] = []
        self.started: datetime | None = None
        self.ended: datetime | None = None
        self.sequence = 0
        """Number of the last event seen."""
        for place in definition.places.values():
            parent = self.steps.get(place.container)
            view = StepView(place.step.id, place.step.name or place.step.id, parent)
            self.steps[view.id] = view
            (self.top if parent is None else parent.children).append(view)

    def apply(self, event: LifecycleEvent) -> bool:
        """Take an event. False: it is known already."""
        if event.sequence <= self.sequence:
            return False
        self.sequence = event.sequence
        if event.kind is LifecycleKind.WORKFLOW_STARTED and self.started is None:
            self.started = event.time
        elif event.kind in _WORKFLOW_ENDS:
            self.ended = event.time
        view = self.steps.get(event.step or "")
        if view is not None:
            _apply(view, event)
        return True

    def add_line(self, step_id: str, text: str) -> None:
        """Take a line that a step wrote."""
        view = self.steps.get(step_id)
        if view is not None and not text.startswith(_PROTOCOL):
            _begin_tail(view)
            view.tail.append(safe_line(text))

    def interrupted(self) -> None:
        """What runs is ended, and will be run again when the run is resumed."""
        for view in self.steps.values():
            if view.mark is Mark.RUNNING:
                view.mark = Mark.PAUSED
                view.note = "" if view.children else "interrupted, will run again"

    def running(self) -> Iterator[StepView]:
        """Give the steps without children that run now."""
        return (view for view in self.steps.values() if view.mark is Mark.RUNNING and not view.children)


_WORKFLOW_ENDS = frozenset(
    {
        LifecycleKind.WORKFLOW_COMPLETED,
        LifecycleKind.WORKFLOW_FAILED,
        LifecycleKind.WORKFLOW_COMPENSATED,
        LifecycleKind.WORKFLOW_CANCELLED,
        LifecycleKind.WORKFLOW_TERMINATED,
    }
)


def _apply(view: StepView, event: LifecycleEvent) -> None:
    pointer = event.pointer_id or ""
    if event.kind is LifecycleKind.STEP_STARTED:
        _open(view, event.time)
        view.running.add(pointer)
        view.mark, view.started, view.duration = Mark.RUNNING, event.time, None
        view.attempt, view.note = event.attempt or 1, ""
        _begin_tail(view)
    elif event.kind in _PAUSES:
        _open(view, event.time)
        view.running.discard(pointer)
        view.mark = Mark.PAUSED
        view.note = _pause_note(event)
        view.is_tail_old = True
    elif event.kind in _ENDS:
        view.running.discard(pointer)
        view.runs += 1
        view.is_tail_old = True
        view.duration = event.duration
        if view.duration is None and view.started is not None:
            view.duration = event.time - view.started
        view.attempt = max(view.attempt, event.attempt or 1)
        view.note = first_line(event.error or event.detail or "")
        view.mark = Mark.RUNNING if view.running else _ENDS[event.kind]


def _begin_tail(view: StepView) -> None:
    # A line may come before the announcement of the attempt that wrote it: whichever is first begins anew.
    if view.is_tail_old:
        view.tail.clear()
        view.is_tail_old = False


def _open(view: StepView, now: datetime) -> None:
    """A step begins: what contains it is under way, and its other children may run anew (in a loop)."""
    parent = view.parent
    while parent is not None:
        if parent.mark is not Mark.RUNNING:
            parent.mark, parent.started, parent.duration = Mark.RUNNING, now, None
        parent = parent.parent


def _pause_note(event: LifecycleEvent) -> str:
    what = _PAUSES[event.kind]
    if event.kind is LifecycleKind.STEP_RETRYING:
        return f"{what} (attempt {event.attempt}: {first_line(event.error or '')})"
    return f"{what} {event.detail}" if event.detail else what


def first_line(text: str) -> str:
    """Give the first line of an error, without the announcement of further lines."""
    line = text.partition("\n")[0]
    return safe_line(line.removesuffix(" Its last lines were:"))


def safe_line(text: str) -> str:
    """Give a line that does not change the terminal: no control sequences, of bounded length."""
    # A carriage return redraws a progress line; what stands after the last one is what a terminal would show.
    shown = text.rstrip("\r").rpartition("\r")[2]
    return _CONTROL.sub("", shown.expandtabs())[:_MAX_LINE]


def duration_text(duration: timedelta | None) -> str:
    """Give a duration for a column; empty for none."""
    return "" if duration is None else format_duration(duration)

"""A run as a tree that lives on the terminal."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from wfe.cli.board import Board, Mark
from wfe.cli.drawing import MARKS, SPINNER, Line, draw
from wfe.cli.plain import ending

if TYPE_CHECKING:
    from wfe.cli.views import Outcome, RunInfo
    from wfe.model.lifecycle import LifecycleEvent

__all__ = ["LiveTreeView"]

_STYLES = {
    Mark.WAITING: "dim",
    Mark.RUNNING: "cyan",
    Mark.PAUSED: "yellow",
    Mark.DONE: "green",
    Mark.FAILED: "bold red",
    Mark.SKIPPED: "dim",
    Mark.CANCELLED: "yellow",
}


class LiveTreeView:
    """For people at a terminal."""

    def __init__(self, board: Board, console: Console | None = None) -> None:
        self._board = board
        self._console = console or Console(highlight=False)
        self._info: RunInfo | None = None
        self._is_over = False
        # Drawn by `tick`, in the event loop's thread: the board is not safe to read from another one.
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="ellipsis")

    def begin(self, info: RunInfo) -> None:
        self._info = info
        self._live.start()
        self.tick()

    def event(self, event: LifecycleEvent) -> None:
        pass

    def line(self, step: str, stream: str, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        self._console.print(Text(text, style="yellow"))

    def tick(self) -> None:
        if self._live.is_started:
            self._live.update(self._tree(), refresh=True)

    def end(self, outcome: Outcome) -> None:
        self._is_over = outcome.status is not None and outcome.status.is_terminal
        self.tick()
        self._live.stop()
        style = "green" if outcome.exit_code == 0 else "red" if outcome.exit_code == 1 else "yellow"
        for text in ending(outcome, with_lines=False):
            self._console.print(Text(text, style=style))

    def close(self) -> None:
        try:
            self._live.stop()
        finally:
            self._console.show_cursor()

    def _tree(self) -> Text:
        info = self._info
        head = Text()
        if info is not None:
            head = Text.assemble((info.definition_id, "bold"), "  ", (info.name, "cyan"))
        lines = [head, *(self._line(line) for line in draw(self._board, datetime.now(UTC), is_over=self._is_over))]
        width = self._console.width
        for line in lines:
            # A line that the terminal wraps would put the redrawing out of step.
            line.truncate(width, overflow="ellipsis")
        return Text("\n").join(lines)

    @staticmethod
    def _line(line: Line) -> Text:
        if line.mark is None:
            return Text.assemble((line.guides, "dim"), (line.name, "red"))
        style = _STYLES[line.mark]
        mark = SPINNER[int(time.monotonic() * 10) % len(SPINNER)] if line.mark is Mark.RUNNING else MARKS[line.mark]
        note_style = "dim" if line.mark is not Mark.FAILED else "red"
        return Text.assemble(
            (line.guides, "dim"),
            (f"{mark} ", style),
            (line.name, "dim" if style == "dim" else ""),
            line.padding,
            (f"{line.time:>8}", "dim"),
            (f"  {line.note}" if line.note else "", note_style),
        )

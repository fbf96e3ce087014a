"""Ways to show a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from wfe.cli.exits import Exit

if TYPE_CHECKING:
    from wfe.model.instance import StepError
    from wfe.model.lifecycle import LifecycleEvent
    from wfe.model.status import WorkflowStatus

__all__ = ["Outcome", "RunInfo", "RunView"]


@dataclass(frozen=True)
class RunInfo:
    """Which run is shown."""

    id: str
    name: str
    definition_id: str
    version: int
    url: str
    is_resumed: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a run stands when the command ends."""

    exit_code: Exit
    status: WorkflowStatus | None
    """None: it goes on when it is resumed."""
    duration: timedelta | None = None
    """From its start to its end, whether it ran all the time or not."""
    data: Mapping[str, object] = field(default_factory=dict)
    error: StepError | None = None
    message: str = ""
    """What is to be said: why it has not ended, how it is resumed."""
    is_resumed: bool = False


class RunView(Protocol):
    """Shows one run. All methods are called in the event loop's thread, and none of them fails the run."""

    def begin(self, info: RunInfo) -> None:
        """The run is known."""
        ...

    def event(self, event: LifecycleEvent) -> None:
        """Something was announced; the board knows it already."""
        ...

    def line(self, step: str, stream: str, text: str) -> None:
        """A step wrote a line; the board knows it already."""
        ...

    def note(self, text: str) -> None:
        """Something is to be said about the run."""
        ...

    def tick(self) -> None:
        """Time has passed."""
        ...

    def end(self, outcome: Outcome) -> None:
        """The command ends. Nothing is shown after that."""
        ...

    def close(self) -> None:
        """Leave the terminal in order, also when there was no end."""
        ...

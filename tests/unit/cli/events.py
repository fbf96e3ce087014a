"""Events and definitions for the tests of what is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from wfe.authoring.yaml import load_workflow
from wfe.model.definition import WorkflowDefinition
from wfe.model.lifecycle import LifecycleEvent
from wfe.model.status import LifecycleKind

__all__ = ["BEGIN", "PIPELINE", "Announcer", "pipeline"]

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
PIPELINE = """
workflow:
  id: ci
  version: 1
  steps:
    - name: prepare
      config: {run: "true"}
    - name: checks
      parallel:
        - name: lint
          config: {run: "true"}
        - name: tests
          config: {run: "true"}
    - name: publish
      config: {run: "true"}
"""


def pipeline() -> WorkflowDefinition[dict[str, object]]:
    """Give prepare, then lint beside tests, then publish."""
    return load_workflow(PIPELINE).definition


class Announcer:
    """Makes events with rising numbers, a second apart."""

    def __init__(self) -> None:
        self._sequence = 0

    @property
    def now(self) -> datetime:
        """The time of the last event."""
        return BEGIN + timedelta(seconds=self._sequence)

    def __call__(
        self,
        kind: LifecycleKind,
        step: str | None = None,
        *,
        pointer: int = 1,
        attempt: int = 1,
        took: float | None = None,
        error: str | None = None,
    ) -> LifecycleEvent:
        self._sequence += 1
        return LifecycleEvent(
            sequence=self._sequence,
            time=self.now,
            kind=kind,
            workflow_id="w",
            definition_id="ci",
            version=1,
            step=step,
            pointer_id=str(pointer) if step else None,
            attempt=attempt if step else None,
            duration=None if took is None else timedelta(seconds=took),
            error=error,
        )

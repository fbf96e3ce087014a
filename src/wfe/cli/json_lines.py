"""A run as JSON: one object per line, told apart by `type`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wfe.cli.views import Outcome, RunInfo
    from wfe.model.instance import StepError
    from wfe.model.lifecycle import LifecycleEvent

__all__ = ["JsonView", "error_object", "event_object", "to_json"]


class JsonView:
    """For programs. `run` comes first, `result` last; `event` and `log` between."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._info: RunInfo | None = None

    def begin(self, info: RunInfo) -> None:
        self._info = info
        self._write(
            to_json(
                {
                    "type": "run",
                    "id": info.id,
                    "name": info.name,
                    "definition_id": info.definition_id,
                    "version": info.version,
                    "db": info.url,
                    "resumed": info.is_resumed,
                }
            )
        )

    def event(self, event: LifecycleEvent) -> None:
        self._write(to_json({"type": "event", **event_object(event)}))

    def line(self, step: str, stream: str, text: str) -> None:
        now = datetime.now(UTC)
        self._write(to_json({"type": "log", "time": now, "step": step, "stream": stream, "text": text}))

    def note(self, text: str) -> None:
        self._write(to_json({"type": "note", "text": text}))

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass

    def end(self, outcome: Outcome) -> None:
        info = self._info
        self._write(
            to_json(
                {
                    "type": "result",
                    "id": info.id if info is not None else None,
                    "name": info.name if info is not None else None,
                    "status": outcome.status,
                    "exit_code": int(outcome.exit_code),
                    "duration_seconds": outcome.duration,
                    "data": dict(outcome.data),
                    "error": None if outcome.error is None else error_object(outcome.error),
                    "message": outcome.message or None,
                }
            )
        )


def event_object(event: LifecycleEvent) -> dict[str, object]:
    """Give a lifecycle event as an object of JSON."""
    return {
        "sequence": event.sequence,
        "time": event.time,
        "kind": event.kind,
        "workflow_id": event.workflow_id,
        "definition_id": event.definition_id,
        "version": event.version,
        "run": event.run,
        "step": event.step,
        "pointer_id": event.pointer_id,
        "attempt": event.attempt,
        "duration_seconds": event.duration,
        "error": event.error,
        "detail": event.detail,
    }


def error_object(error: StepError) -> dict[str, object]:
    """Give a failed attempt as an object of JSON."""
    return {
        "code": error.code,
        "message": error.message,
        "step": error.step,
        "attempt": error.attempt,
        "time": error.time,
        "type": error.type,
    }


def to_json(value: object) -> str:
    """Give one line of JSON: times in ISO form, durations in seconds."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)

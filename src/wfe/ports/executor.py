"""What a host asks of the code that runs steps of some type, such as `shell`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

__all__ = ["CancelSignal", "StepExecutor", "StepRequest"]


class CancelSignal(Protocol):
    """Tells a running step that it shall end; `asyncio.Event` is one."""

    def is_set(self) -> bool:
        """Tell whether the step shall end."""
        ...

    async def wait(self) -> object:
        """Return once the step shall end."""
        ...


@dataclass(frozen=True, kw_only=True)
class StepRequest:
    """One attempt of one step, as an executor gets it. Nothing in it is shared with other steps."""

    step_id: str
    step_name: str
    config: Mapping[str, object]
    """The step's settings as stored with the definition; its templates (`wfe.model.templates`) are not filled in."""
    data: Mapping[str, object]
    """The workflow's data as plain JSON values, read-only."""
    workflow_id: str
    """Id of the instance."""
    definition_id: str
    attempt: int
    """Recorded failures + 1."""
    idempotency_key: str
    """The same for every attempt of this pointer's step."""
    log: Callable[[str, str], None]
    """Takes a line: (stream, text without line end). Cheap; may be called from the event loop only."""
    cancelled: CancelSignal
    timeout: timedelta | None = None
    """How long this attempt may take, from the call of `execute` on.

    The host enforces it too; knowing it, an executor can end in good order."""
    values: Mapping[str, object] = field(default_factory=dict)
    """Further roots for templates: `item`, `index`, `workflow`."""


class StepExecutor(Protocol):
    """Runs the steps of one type. A host knows it by its `step_type`; one object serves many steps at once."""

    @property
    def step_type(self) -> str:
        """The `type` of steps that it runs."""
        ...

    @property
    def max_running(self) -> int | None:
        """How many steps a host lets it run at once; None: as many as the host has room for.

        Further steps wait in the host, where the time that they wait does not count towards their time limit. So an
        executor does not let steps queue inside `execute`.
        """
        ...

    async def execute(self, request: StepRequest) -> Mapping[str, object]:
        """Run one attempt and return what is merged into the workflow's data, key by key at the top level.

        May be called again for the same step (after a failure, or after a crash of the host), with the same idempotency
        key. When `request.cancelled` is set, or the calling task is cancelled, everything that the step has started has
        ended before this method ends.

        Raises:
            StepFailed: The step failed; the message is for people.
            StepTimeout: It took longer than its timeout, and has ended.
        """
        ...

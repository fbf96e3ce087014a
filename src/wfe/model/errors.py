"""Every error that wfe raises, as one tree.

WfeError
├── author: the definition or a value is wrong
│   ├── DefinitionError ── YamlError
│   ├── DataError
│   └── ContextValueNotFound
├── caller: the request cannot be met
│   ├── DefinitionNotFound, WorkflowNotFound, StartConflict, InvalidStateTransition
│   ├── UnknownOption, StaleToken, ShuttingDown
│   └── WaitTimeout (also a TimeoutError)
├── outcome: how a step or an instance ended
│   ├── StepFailed ── StepTimeout, EventTimeout, ChildWorkflowFailed, HostDied
│   ├── WorkflowTimeout
│   └── Cancelled
├── operator: the surroundings are wrong
│   ├── ConfigurationError
│   └── ProviderUnavailable
└── another host
    ├── LeaseLost
    └── RevisionConflict
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Cancelled",
    "ChildWorkflowFailed",
    "ConfigurationError",
    "ContextValueNotFound",
    "DataError",
    "DefinitionError",
    "DefinitionNotFound",
    "EventTimeout",
    "HostDied",
    "InvalidStateTransition",
    "LeaseLost",
    "ProviderUnavailable",
    "RevisionConflict",
    "ShuttingDown",
    "StaleToken",
    "StartConflict",
    "StepFailed",
    "StepTimeout",
    "UnknownOption",
    "WaitTimeout",
    "WfeError",
    "WorkflowNotFound",
    "WorkflowTimeout",
    "YamlError",
]


class WfeError(Exception):
    """Root of all errors of wfe. `code` is stable; faces and logs use it."""

    code = "wfe_error"


class DefinitionError(WfeError):
    """A definition is wrong. `problems` has every problem found, not only the first.

    Nothing was registered or stored.
    """

    code = "definition_error"

    def __init__(self, problems: str | Sequence[str], *, definition_id: str = "") -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        self.definition_id = definition_id
        where = f"Workflow definition {definition_id!r}" if definition_id else "The workflow definition"
        if len(self.problems) == 1:
            text = f"{where} is not valid: {self.problems[0]}"
        else:
            text = f"{where} has {len(self.problems)} problems:" + "".join(f"\n  - {p}" for p in self.problems)
        super().__init__(text)


class YamlError(DefinitionError):
    """A YAML file is wrong; `details` has each problem with file, line, column and path."""

    code = "yaml_error"

    def __init__(self, details: Sequence[object]) -> None:
        self.details = tuple(details)
        super().__init__([str(problem) for problem in self.details])
        self.args = ("\n".join(self.problems),)


class DataError(WfeError):
    """A value cannot be stored, or has the wrong type or size. `path` names the value inside the document.

    The step that produced the value fails; the stored state is unchanged.
    """

    code = "data_error"

    def __init__(self, message: str, *, path: str = "$", reason: str = "invalid") -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


class ContextValueNotFound(WfeError):
    """`context.value(name, …)` was asked for a value that nobody has set."""

    code = "context_value_not_found"

    def __init__(self, name: str, known: Sequence[str] = ()) -> None:
        hint = f" Set are: {', '.join(sorted(known))}." if known else " No value is set."
        super().__init__(f"The instance keeps no value named {name!r}.{hint}")
        self.name = name


class DefinitionNotFound(WfeError):
    """No definition of that id (and version) is registered on this host. Nothing was started."""

    code = "definition_not_found"

    def __init__(self, definition_id: str, version: int | None = None, known: Sequence[str] = ()) -> None:
        what = f"{definition_id!r}" + (f" version {version}" if version is not None else "")
        hint = f" Registered: {', '.join(known)}." if known else " No definition is registered; call host.register(…)."
        names = {name.rpartition(" v")[0].casefold(): name.rpartition(" v")[0] for name in known}
        near = difflib.get_close_matches(definition_id.casefold(), names, n=1) if version is None else []
        if near:
            hint += f" Did you mean {names[near[0]]!r}?"
        super().__init__(f"No workflow definition {what} is registered on this host.{hint}")
        self.definition_id = definition_id
        self.version = version


class WorkflowNotFound(WfeError):
    """The store has no instance of that id. It was never started, or it has been purged."""

    code = "workflow_not_found"

    def __init__(self, workflow_id: str, *, named: str = "") -> None:
        text = f"There is no workflow instance {workflow_id!r} in this store."
        if named:
            text = f"{workflow_id!r} is the name of workflow instance {named!r}; give that id here."
        super().__init__(text)
        self.workflow_id = workflow_id


class StartConflict(WfeError):
    """An instance of that id exists, started with another definition or other data. It is unchanged."""

    code = "start_conflict"

    def __init__(self, workflow_id: str, *, detail: str = "another definition or other data") -> None:
        super().__init__(
            f"Workflow instance {workflow_id!r} was already started with {detail}. "
            "Use another id, or start it with exactly what it was started with."
        )
        self.workflow_id = workflow_id


class InvalidStateTransition(WfeError):
    """The change asked for is not possible from the present state. Nothing has changed."""

    code = "invalid_state_transition"


class UnknownOption(WfeError):
    """A user task was answered with an option that it does not have."""

    code = "unknown_option"


class StaleToken(WfeError):
    """The token belongs to a claim that has expired or was released; someone else may hold the work."""

    code = "stale_token"


class ShuttingDown(WfeError):
    """The host is stopping or has not been started; the call had no effect."""

    code = "shutting_down"


class WaitTimeout(WfeError, TimeoutError):
    """The instance did not end in the time given to `wait`. It goes on; wait again to hear of its end."""

    code = "wait_timeout"


class StepFailed(WfeError):
    """A step failed for good, and the workflow with it. `error` is the record of the last failed attempt."""

    code = "step_failed"

    def __init__(self, message: str, *, error: object = None) -> None:
        super().__init__(message)
        self.error = error


class StepTimeout(StepFailed):
    """One attempt of a step took longer than its timeout; its body was cancelled."""

    code = "step_timeout"


class HostDied(StepFailed):
    """The host that ran an attempt died, or lost its session, before the attempt had a result.

    Only steps that count crashes fail by it; other ones are repeated, as the same attempt.
    """

    code = "host_died"


class EventTimeout(StepFailed):
    """No matching event came before the wait's timeout."""

    code = "event_timeout"


class ChildWorkflowFailed(StepFailed):
    """A child workflow ended otherwise than complete."""

    code = "child_workflow_failed"


class WorkflowTimeout(WfeError):
    """The instance took longer than its workflow timeout."""

    code = "workflow_timeout"


class Cancelled(WfeError):
    """The instance was cancelled or terminated."""

    code = "cancelled"


class ConfigurationError(WfeError):
    """A setting or a combination of settings is not possible. Nothing was started."""

    code = "configuration_error"


class ProviderUnavailable(WfeError):
    """The backend did not answer. What was asked may or may not have happened; asking again is safe.

    `took_too_long`: it did answer, that it gave this up after the time that it may work on it. Nothing was written.
    """

    code = "provider_unavailable"

    def __init__(self, message: str, *, took_too_long: bool = False) -> None:
        super().__init__(message)
        self.took_too_long = took_too_long


class LeaseLost(WfeError):
    """Another host now holds the instance that this host tried to save, or this host's session has ended.

    Nothing was written. The copy in hand is dropped; the new holder continues from the last saved state.
    """

    code = "lease_lost"


class RevisionConflict(WfeError):
    """The instance was saved by someone else since it was loaded. Nothing was written."""

    code = "revision_conflict"

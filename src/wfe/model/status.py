"""The states that instances and execution pointers can be in, and the things that are announced about them."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["LifecycleKind", "PointerStatus", "WorkflowStatus"]


class WorkflowStatus(StrEnum):
    """Where a workflow instance stands."""

    RUNNABLE = "runnable"
    """It can go on, now or when a timer, an event or a missing definition arrives (see `blocked_reason`)."""
    SUSPENDED = "suspended"
    """Nothing begins until it is resumed; events and timers are kept."""
    COMPLETE = "complete"
    """Every branch has ended and nothing failed, or the workflow ended itself."""
    FAILED = "failed"
    """A step failed for good."""
    COMPENSATED = "compensated"
    """A saga was rolled back and nothing let the workflow go on."""
    CANCELLED = "cancelled"
    """Someone cancelled it; running bodies were asked to stop first."""
    TERMINATED = "terminated"
    """It was ended at once, by a caller or by an error rule."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can happen to the instance any more, unless it is retried."""
        return self not in _LIVE


_LIVE = frozenset({WorkflowStatus.RUNNABLE, WorkflowStatus.SUSPENDED})


class PointerStatus(StrEnum):
    """Where one branch of an instance stands."""

    PENDING = "pending"
    """Reached, but not begun: the instance is suspended, or the transition had enough to decide."""
    RUNNING = "running"
    """May run under the lease; nothing is written between ready and running."""
    SLEEPING = "sleeping"
    """Goes on at its wake time."""
    WAITING_FOR_EVENT = "waiting_for_event"
    """Goes on when an event, a child's end or its timeout arrives."""
    PENDING_PREDECESSOR = "pending_predecessor"
    """Waits for its dependencies (DAG) or for the branches of its own scope."""
    COMPLETE = "complete"
    SKIPPED = "skipped"
    FAILED = "failed"
    COMPENSATED = "compensated"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"
    """Cannot start because what it depends on failed."""


class LifecycleKind(StrEnum):
    """What a lifecycle event announces."""

    WORKFLOW_STARTED = "workflow started"
    WORKFLOW_COMPLETED = "workflow completed"
    WORKFLOW_FAILED = "workflow failed"
    WORKFLOW_COMPENSATED = "workflow compensated"
    WORKFLOW_CANCELLED = "workflow cancelled"
    WORKFLOW_SUSPENDED = "workflow suspended"
    WORKFLOW_RESUMED = "workflow resumed"
    WORKFLOW_TERMINATED = "workflow terminated"
    WORKFLOW_BLOCKED = "workflow blocked"
    WORKFLOW_RETRIED = "workflow retried"
    STEP_STARTED = "step started"
    STEP_SUCCEEDED = "step succeeded"
    STEP_FAILED = "step failed"
    STEP_RETRYING = "step retrying"
    STEP_SKIPPED = "step skipped"
    STEP_SLEEPING = "step sleeping"
    STEP_WAITING = "step waiting"
    STEP_CANCELLED = "step cancelled"
    STEP_COMPENSATED = "step compensated"
    STEP_BLOCKED = "step blocked"
    DATA_OVERWRITTEN = "data overwritten"
    """Two parallel branches wrote one field; the later commit won."""

"""How the command ends."""

from __future__ import annotations

from enum import IntEnum

from wfe.model.status import WorkflowStatus

__all__ = ["CommandError", "Exit", "exit_of"]


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    COMPLETE = 0
    FAILED = 1
    """The workflow ended otherwise than complete; or a check found something."""
    INVALID = 2
    """Wrong usage, a file that is not valid, or no such store or run; nothing was started."""
    UNFINISHED = 3
    """The workflow has not ended: it is suspended, or its time was over, with its state saved; or no store answered."""
    BROKEN = 4
    """The command itself failed: its output cannot be written, or there is a fault in wfe."""
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM. The state is saved."""


class CommandError(Exception):
    """A command cannot go on; the message is for people."""

    def __init__(self, message: str, exit_code: Exit = Exit.INVALID) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_of(status: WorkflowStatus) -> Exit:
    """Give the exit code for how an instance stands."""
    if status is WorkflowStatus.COMPLETE:
        return Exit.COMPLETE
    return Exit.FAILED if status.is_terminal else Exit.UNFINISHED

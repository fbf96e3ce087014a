"""How a shell step fails."""

from __future__ import annotations

from wfe.model.errors import StepFailed

__all__ = ["ShellStepError"]


class ShellStepError(StepFailed):
    """A shell step could not be started, exited with an error, or gave outputs that cannot be used.

    `code` says which: `command_failed`, `command_not_started`, `env_forbidden`, `output_invalid`, `resource_exceeded`.
    `exit_code` is the command's, where it had one (negative: killed by that signal).
    """

    def __init__(self, message: str, *, code: str = "command_failed", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code

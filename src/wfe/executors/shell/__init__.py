"""Runs steps of type `shell`: scripts in processes of their own, of which nothing is left when the step has ended."""

from wfe.executors.shell.errors import ShellStepError
from wfe.executors.shell.executor import ShellStepExecutor
from wfe.executors.shell.runner import ShellOutcome, ShellSpec, run_shell

__all__ = ["ShellOutcome", "ShellSpec", "ShellStepError", "ShellStepExecutor", "run_shell"]

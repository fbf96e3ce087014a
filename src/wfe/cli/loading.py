"""Files named on the command line, as workflows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wfe.cli.exits import CommandError

if TYPE_CHECKING:
    from wfe.authoring.yaml import CompiledWorkflow, Problem

__all__ = ["InvalidFile", "choose", "load_file", "shown"]


class InvalidFile(CommandError):
    """A file is not valid; `problems` has everything that is wrong in it."""

    def __init__(self, file: Path, problems: tuple[Problem, ...]) -> None:
        self.file = file
        self.problems = problems
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        listed = "\n".join(shown(problem, file) for problem in problems)
        super().__init__(f"{listed}\n{file} is not valid: {count}")


def load_file(file: Path, config: Mapping[str, str], *, lenient: bool) -> list[CompiledWorkflow]:
    """Load all workflows of a file.

    Raises:
        InvalidFile: With every problem.
        CommandError: It cannot be read.
    """
    from wfe.authoring.yaml import Problem, load_workflows
    from wfe.model.errors import YamlError

    if file.suffix == ".py":
        raise CommandError(f"{file} is a Python program, and no file of workflows; start it with: python {file}")
    try:
        return load_workflows(file, config, strict=not lenient)
    except YamlError as error:
        raise InvalidFile(file, tuple(each for each in error.details if isinstance(each, Problem))) from error
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror or error}") from None


def choose(workflows: list[CompiledWorkflow], wanted: str | None, file: Path) -> CompiledWorkflow:
    """Give the workflow with an id (the newest version), or the only one.

    Raises:
        CommandError: There is none of that id, or several to choose from.
    """
    ids = sorted({workflow.definition.id for workflow in workflows})
    if wanted is None and len(ids) > 1:
        raise CommandError(f"{file} has several workflows; choose one with --workflow: {', '.join(ids)}")
    if wanted is not None and wanted not in ids:
        raise CommandError(f"{file} has no workflow {wanted!r}; it has: {', '.join(ids)}")
    found = [workflow for workflow in workflows if workflow.definition.id == (wanted or ids[0])]
    return max(found, key=lambda workflow: workflow.definition.version)


def shown(problem: Problem, file: Path) -> str:
    """Give a problem with the line that it is about, and a caret below its column."""
    text = f"warning: {problem}" if problem.is_warning else str(problem)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        line = lines[problem.line - 1]
    except (OSError, UnicodeDecodeError, IndexError):
        return text
    number = f"{problem.line:>5} | "
    # Tabs are kept in the margin, so that the caret stands below its column.
    margin = "".join(character if character == "\t" else " " for character in line[: problem.column - 1])
    return f"{text}\n{number}{line}\n{' ' * (len(number) - 2)}| {margin}^"

"""`wfe validate`: every problem of every file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wfe.cli.exits import Exit
from wfe.cli.inputs import key_values
from wfe.cli.json_lines import to_json
from wfe.cli.loading import InvalidFile, load_file, shown
from wfe.cli.output import say

if TYPE_CHECKING:
    from wfe.authoring.yaml import CompiledWorkflow, Problem

__all__ = ["problem_object", "validate"]


def validate(files: Sequence[Path], config: Sequence[str], *, lenient: bool, json: bool) -> Exit:
    """Check files; problems go to standard output as JSON, or to standard error for people."""
    values = key_values(config, "-c")
    code = Exit.COMPLETE
    for file in files:
        try:
            workflows = load_file(file, values, lenient=lenient)
        except InvalidFile as error:
            code = Exit.INVALID
            if not json:
                click.echo(str(error), err=True)
                continue
            for problem in error.problems:
                say(to_json(problem_object(problem)))
        else:
            _tell_valid(file, workflows, json=json)
    return code


def _tell_valid(file: Path, workflows: Sequence[CompiledWorkflow], *, json: bool) -> None:
    for warning in dict.fromkeys(each for workflow in workflows for each in workflow.warnings):
        if json:
            say(to_json(problem_object(warning)))
        else:
            click.echo(shown(warning, file), err=True)
    if not json:
        found = ", ".join(
            f"{workflow.definition.id} version {workflow.definition.version} ({len(workflow.definition.steps)} steps)"
            for workflow in workflows
        )
        say(f"{file}: valid: {found}")


def problem_object(problem: Problem) -> dict[str, object]:
    """Give a problem as an object of JSON."""
    return {
        "type": "warning" if problem.is_warning else "problem",
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "code": problem.code,
        "message": problem.message,
        "expected": problem.expected or None,
        "nearest": problem.nearest or None,
    }

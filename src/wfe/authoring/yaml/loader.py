"""Load workflows from files or text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from wfe.authoring.yaml.checks import Checker
from wfe.authoring.yaml.compiler import compile_workflow
from wfe.authoring.yaml.documents import Declaration
from wfe.authoring.yaml.parser import parse_file
from wfe.authoring.yaml.problems import Position, Problem, Problems
from wfe.authoring.yaml.reader import MAX_FILE_BYTES, read_document
from wfe.model.definition import WorkflowDefinition

__all__ = ["CompiledWorkflow", "load_workflow", "load_workflows"]


@dataclass(frozen=True)
class CompiledWorkflow:
    """A workflow of a file, ready to be registered with a host."""

    definition: WorkflowDefinition[dict[str, object]]
    inputs: tuple[Declaration, ...] | None = None
    """Declared inputs; None: none are declared, so anything may be given."""
    outputs: tuple[Declaration, ...] = ()
    """Declared outputs."""
    warnings: tuple[Problem, ...] = ()
    """What is doubtful in its file."""


def load_workflows(
    source: str | PathLike[str], config: Mapping[str, object] | None = None, *, strict: bool = True
) -> list[CompiledWorkflow]:
    """Load all workflows of a file (a path object) or of YAML text (a `str`).

    Args:
        config: Values of `((var.name))`, filled in now.
        strict: Whether unknown keys are errors; else they are warnings.

    Raises:
        YamlError: With every problem found; nothing was loaded.
        OSError: The file cannot be read.
    """
    problems = Problems(file="" if isinstance(source, str) else str(Path(source)), lenient=not strict)
    root = read_document(_content(source, problems), problems)
    problems.raise_if_any()
    if root is None:
        raise AssertionError("reading gave neither a document nor a problem")
    check = Checker(problems, config or {})
    docs = parse_file(root, check)
    compiled = [(doc, compile_workflow(doc, check)) for doc in docs]
    problems.raise_if_any()
    _check_ids(docs_keys=[(doc.id, doc.version, doc.path, doc.position) for doc in docs], problems=problems)
    problems.raise_if_any()
    return [CompiledWorkflow(definition, doc.inputs, doc.outputs, problems.warnings) for doc, definition in compiled]


def load_workflow(
    source: str | PathLike[str], config: Mapping[str, object] | None = None, *, strict: bool = True
) -> CompiledWorkflow:
    """Load the one workflow of a file or text; see `load_workflows`.

    Raises:
        YamlError: As there, or the file has several workflows.
    """
    found = load_workflows(source, config, strict=strict)
    if len(found) != 1:
        problems = Problems(file="" if isinstance(source, str) else str(Path(source)))
        ids = ", ".join(workflow.definition.id for workflow in found)
        message = f"the file has {len(found)} workflows ({ids})"
        problems.add(Position(1, 1), "workflows", message, expected="exactly one, or load_workflows to be used")
        problems.raise_if_any()
    return found[0]


def _content(source: str | PathLike[str], problems: Problems) -> str | bytes:
    if not isinstance(source, str):
        with Path(source).open("rb") as file:
            # One byte more than allowed tells that there is too much.
            return file.read(MAX_FILE_BYTES + 1)
    if "\n" not in source and _is_file(source):
        problems.add(
            Position(1, 1),
            "",
            f"the text {source!r} is the name of a file",
            expected="YAML text, or a path object for a file: load_workflows(Path(…))",
        )
        problems.raise_if_any()
    return source


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _check_ids(*, docs_keys: list[tuple[str, int, str, Position]], problems: Problems) -> None:
    seen: dict[tuple[str, int], str] = {}
    for id_, version, path, position in docs_keys:
        first = seen.setdefault((id_, version), path)
        if first != path:
            problems.add(
                position, path, f"id {id_!r} with version {version} is also that of {first}", expected="unique ids"
            )

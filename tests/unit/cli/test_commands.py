"""The command line as it is typed: usage, exit codes, messages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.unit.cli.events import PIPELINE
from wfe.cli.main import cli

BAD = """workflow:
  id: bad
  version: 1
  steps:
    - name: one
      wehn: {field: x, equals: 1}
      config: {run: "true"}
    - name: one
      config: {rum: "true"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WFE_DB", raising=False)
    (tmp_path / "ci.yaml").write_text(PIPELINE, encoding="utf-8")
    (tmp_path / "bad.yaml").write_text(BAD, encoding="utf-8")
    return tmp_path


def wfe(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="wfe")


@pytest.mark.usefixtures("folder")
def test_validate_accepts_a_good_file() -> None:
    """Exit code 0, and what was found in the file."""
    result = wfe("validate", "ci.yaml")

    assert result.exit_code == 0
    assert result.stdout == "ci.yaml: valid: ci version 1 (5 steps)\n"


@pytest.mark.usefixtures("folder")
def test_validate_lists_every_problem_with_its_place() -> None:
    """Exit code 2; each problem begins with file:line:column and shows the line; good files are still reported."""
    result = wfe("validate", "bad.yaml", "ci.yaml")

    assert result.exit_code == 2
    starts = [line.partition(": ")[0] for line in result.stderr.splitlines() if line.startswith("bad.yaml:")]
    assert starts[:3] == ["bad.yaml:6:7", "bad.yaml:8:7", "bad.yaml:9:15"]
    assert "did you mean 'when'?" in result.stderr
    assert "    6 |       wehn: {field: x, equals: 1}\n      |       ^" in result.stderr
    assert "ci.yaml: valid" in result.stdout


@pytest.mark.usefixtures("folder")
def test_validate_gives_problems_as_json() -> None:
    """For editors: one object per problem, with numbers for line and column."""
    result = wfe("validate", "--json", "bad.yaml")

    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 2
    assert {"file": "bad.yaml", "line": 6, "column": 7, "nearest": "when"}.items() <= objects[0].items()


@pytest.mark.usefixtures("folder")
def test_run_of_an_invalid_file_starts_nothing() -> None:
    """Exit code 2 with the same problems as validate, and no store is made."""
    result = wfe("run", "bad.yaml")

    assert result.exit_code == 2
    assert "bad.yaml:6:7" in result.stderr
    assert not Path(".wfe").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Name a FILE to run"),
        (["run", "none.yaml"], "does not exist"),
        (["run", "ci.yaml", "--workflow", "nix"], "ci.yaml has no workflow 'nix'; it has: ci"),
        (["run", "ci.yaml", "-i", "word"], "-i 'word': expected key=value"),
        (["run", "--resume", "x", "-i", "a=b"], "leave out --name and -i"),
        (["run", "ci.yaml", "--timeout", "5"], "is not a duration"),
        (["run", "ci.yaml", "--db", "mysql://x"], "No provider serves"),
        (["run", "--resume", "x"], "/.wfe/wfe.db (there is no such file)"),
        (["list", "--db", "sqlite:///none.db"], "There is no wfe store at sqlite:////"),
        (["graph", "bad.yaml"], "bad.yaml:6:7"),
        (["walk"], "No such command"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_wrong_usage_is_refused(arguments: list[str], message: str) -> None:
    """Exit code 2 and a message that says what is wrong."""
    result = wfe(*arguments)

    assert result.exit_code == 2
    assert message in result.stderr


def test_unknown_keys_are_warnings_when_lenient(folder: Path) -> None:
    """A file with keys for another engine can be used all the same, and the keys are still named."""
    (folder / "other.yaml").write_text(PIPELINE.replace("  id: ci\n", "  id: ci\n  mood: good\n"), encoding="utf-8")

    strict, lenient = wfe("validate", "other.yaml"), wfe("validate", "--lenient", "other.yaml")

    assert (strict.exit_code, lenient.exit_code) == (2, 0)
    assert "warning: other.yaml:4:3" in lenient.stderr


def test_several_workflows_have_to_be_chosen_from(folder: Path) -> None:
    """Without --workflow, a file with several is ambiguous; the message lists them."""
    one = PIPELINE.replace("workflow:", "workflows:").replace("  id: ci", "  - id: ci")
    indented = one.replace("\n  version", "\n    version").replace("\n  steps", "\n    steps")
    (folder / "two.yaml").write_text(indented + "  - {id: other, version: 1, steps: [{name: a, config: {run: x}}]}\n")

    result, chosen = wfe("graph", "two.yaml"), wfe("graph", "two.yaml", "--workflow", "other")

    assert (result.exit_code, chosen.exit_code) == (2, 0)
    assert "choose one with --workflow: ci, other" in result.stderr


@pytest.mark.parametrize(("form", "begin"), [("mermaid", "flowchart"), ("dot", "digraph")])
@pytest.mark.usefixtures("folder")
def test_graph_draws_the_workflow(form: str, begin: str) -> None:
    """Text for Mermaid or Graphviz with every step in it."""
    result = wfe("graph", "ci.yaml", "--format", form)

    assert result.exit_code == 0
    assert result.stdout.startswith(begin)
    assert all(name in result.stdout for name in ("prepare", "lint", "tests", "publish"))


def test_a_step_type_that_nothing_runs_is_refused(folder: Path) -> None:
    """Before anything is started: exit code 2, naming type and step."""
    text = "workflow: {id: a, version: 1, steps: [{name: talk, type: activity, config: {name: x}}]}"
    (folder / "other.yaml").write_text(text, encoding="utf-8")

    result = wfe("run", "other.yaml", "--db", "memory:")

    assert result.exit_code == 2
    assert "talk" in result.stderr
    assert "activity" in result.stderr


def test_every_command_has_help() -> None:
    """`wfe --help` lists the commands, and each has a sentence of its own."""
    assert wfe("--help").exit_code == 0
    for name, command in cli.commands.items():
        assert command.help, name
        assert wfe(name, "--help").exit_code == 0


def test_the_command_line_loads_quickly() -> None:
    """Help and completion load neither the engine nor the terminal library."""
    code = (
        "import sys, wfe.cli.main; "
        "print([name for name in ('rich', 'yaml', 'asyncio', 'sqlite3', 'msgspec', 'wfe.host') if name in sys.modules])"
    )

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "[]"

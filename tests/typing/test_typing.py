from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GOOD = sorted(HERE.glob("good_*.py"))
BAD = sorted(HERE.glob("bad_*.py"))
_MARK = re.compile(r"# error: \w")


@cache
def mypy_errors() -> dict[str, set[int]]:
    """Give file name → lines with errors, by one strict run over all files."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--no-pretty",
        "--config-file",
        "pyproject.toml",
    ]
    result = subprocess.run([*command, *map(str, GOOD + BAD)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode in {0, 1}, result.stdout + result.stderr
    found: dict[str, set[int]] = {}
    for line in result.stdout.splitlines():
        match = re.match(r"(.+?):(\d+): error: ", line)
        if match:
            found.setdefault(Path(match[1]).name, set()).add(int(match[2]))
    return found


@cache
def pyright_errors() -> dict[str, set[int]]:
    """Give file name → lines with errors, by one strict run over all files."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    result = subprocess.run([*command, *map(str, GOOD + BAD)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode in {0, 1}, result.stdout + result.stderr
    found: dict[str, set[int]] = {}
    for diagnostic in json.loads(result.stdout)["generalDiagnostics"]:
        if diagnostic["severity"] == "error":
            line = int(diagnostic["range"]["start"]["line"]) + 1
            found.setdefault(Path(diagnostic["file"]).name, set()).add(line)
    return found


CHECKERS = [pytest.param(mypy_errors, id="mypy"), pytest.param(pyright_errors, id="pyright")]


def marked_lines(path: Path) -> set[int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if _MARK.search(line)}


@pytest.mark.parametrize("errors", CHECKERS)
@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_what_users_write_is_accepted(path: Path, errors: Callable[[], dict[str, set[int]]]) -> None:
    """Good examples have no error in either checker."""
    assert errors().get(path.name, set()) == set()


@pytest.mark.parametrize("errors", CHECKERS)
@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_planted_mistakes_are_found(path: Path, errors: Callable[[], dict[str, set[int]]]) -> None:
    """Both checkers refuse exactly the marked lines: they follow the data into bodies, blocks and conditions."""
    assert errors().get(path.name, set()) == marked_lines(path)


def test_there_are_examples_and_mistakes() -> None:
    """The lists are not empty, and every bad file has marks."""
    assert GOOD
    assert all(len(marked_lines(path)) > 5 for path in BAD)
    assert BAD

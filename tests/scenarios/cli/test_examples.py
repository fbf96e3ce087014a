"""The examples of this repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.cli.command import wfe

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_every_example_is_valid(tmp_path: Path, name: str) -> None:
    """Without errors, and without warnings."""
    result = wfe(tmp_path, "validate", str(EXAMPLES / name))

    assert result.returncode == 0
    assert result.stderr == ""


def test_the_smoke_workflow_outlives_its_host(tmp_path: Path) -> None:
    """It begins on one host and ends on another, and hands its result on to the pipeline that calls it."""
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "smoke.py"), "--anywhere", "smoke.db"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert "##wfe[output greeting=Hello, wfe!]\n" in result.stdout


def test_the_first_example_greets(tmp_path: Path) -> None:
    """`wfe run examples/hello.yaml` needs nothing but a shell, and uses inputs, outputs and a condition."""
    shutil.copy(EXAMPLES / "hello.yaml", tmp_path)

    result = wfe(tmp_path, "run", "hello.yaml", "-i", "name=Bartholomew")

    lines = result.stdout.splitlines()
    assert result.returncode == 0
    assert "greet | Hello, Bartholomew" in lines
    assert "long names | what a long name" in lines

"""Copies of the source with one fault each, and the runs of layers on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.canaries.layers import Layer

__all__ = ["SOURCE", "Canary", "Run", "copy_source", "plant", "run_on"]

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
_LONGEST = 170.0
"""Seconds that a run may take: a canary that hangs its layer is not caught by it."""


@dataclass(frozen=True)
class Canary:
    """A fault of one line, and the layer that has to notice it."""

    name: str
    """As docs/guarantees.md names it, after `fault:`."""
    fault: str
    """What the fault is, in a sentence."""
    file: str
    """Below `src/wfe`."""
    old: str
    """Text that is there exactly once. More than one line only to say which place is meant."""
    new: str
    rule: str
    """The rule that is broken by it, by its name in docs/guarantees.md."""
    layer: Layer
    is_slow: bool = False
    """Run with `--full` alone."""


@dataclass(frozen=True)
class Run:
    """How the run of a layer ended."""

    status: int
    output: str


def copy_source(goal: Path) -> Path:
    """Copy the source tree; give the folder to import from."""
    shutil.copytree(SOURCE, goal)
    return goal


def plant(source: Path, canary: Canary) -> None:
    """Put the fault into a copy of the source."""
    file = source / "wfe" / canary.file
    text = file.read_text("utf-8")
    count = text.count(canary.old)
    assert count == 1, f"{canary.name}: {canary.old!r} is {count} times in {canary.file}"
    file.write_text(text.replace(canary.old, canary.new), "utf-8")
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
        compiled.unlink()  # it may look as young as what was just written


def run_on(source: Path, layer: Layer) -> Run:
    """Run a layer with the copy in place of the source."""
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *layer.command()],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LONGEST,
        check=False,
    )
    return Run(done.returncode, done.stdout)

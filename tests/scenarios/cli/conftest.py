"""A folder with a pipeline, and commands that are ended with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scenarios.cli.command import LONG_PIPELINE, RunningCommand


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that commands run in, with the file `long.yaml`."""
    (tmp_path / "long.yaml").write_text(LONG_PIPELINE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def begin(folder: Path) -> Iterator[Callable[..., RunningCommand]]:
    """Start a command in the folder; whatever still runs after the test is killed."""
    begun: list[RunningCommand] = []

    def start(*arguments: str) -> RunningCommand:
        begun.append(RunningCommand(folder, *arguments))
        return begun[-1]

    yield start
    for command in begun:
        command.kill()

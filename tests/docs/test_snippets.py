"""The programs, pipelines and commands of the pages below docs/ run, and print what is shown.

A block of Python or YAML begins with the name of its file. A console block has commands behind `$`, each with its
output; there `…` stands for anything, and on a line of its own for any number of lines.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATIENCE = 120.0
_COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """A page, and what can be run of it."""

    path: Path

    def blocks(self, *languages: str) -> list[str]:
        """Give the fenced blocks of some languages."""
        return [text for found, text in _BLOCK.findall(self.path.read_text("utf-8")) if found in languages]

    def files(self) -> dict[str, str]:
        """Give the files that the page shows, by name."""
        found: dict[str, str] = {}
        for text in self.blocks("python", "yaml"):
            name = re.match(r"# (\S+\.(?:py|yaml))\n", text)
            assert name is not None, f"{self.path.name}: a block without the name of its file: {text[:60]}"
            found[name[1]] = text
        return found

    def commands(self) -> list[tuple[str, str]]:
        """Give the commands with the output shown below each, in order."""
        return _COMMAND.findall("".join(self.blocks("console")))


def pages() -> list[Page]:
    """List the pages that show commands."""
    found = [Page(path) for path in sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if page.commands()]


def pattern(output: str) -> re.Pattern[str]:
    """Give what output, without repeated blanks, has to match."""
    lines = [
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n"
        for line in without_repeated_blanks(output).splitlines()
    ]
    return re.compile("".join(lines))


def without_repeated_blanks(text: str) -> str:
    """Give a text in which the widths of columns do not count."""
    return re.sub(r" +$", "", re.sub(r" +", " ", text), flags=re.MULTILINE)


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Give what a command prints. The time of `timeout --signal=… SECONDS` begins with its first line.

    So a machine on which everything takes longer comes to the same place of the program before the signal.
    """
    signal_name, seconds = "KILL", _PATIENCE
    if command[0] == "timeout":
        signal_name, seconds, command = command[1].removeprefix("--signal="), float(command[2]), command[3:]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    watchdog = threading.Timer(_PATIENCE, process.kill)
    ending = threading.Timer(seconds, process.send_signal, [getattr(signal, f"SIG{signal_name}")])
    watchdog.start()
    assert process.stdout is not None
    with process, process.stdout:
        first = process.stdout.readline()
        ending.start()
        printed = first + process.stdout.read()
    for timer in (watchdog, ending):
        timer.cancel()
    return printed


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.path.relative_to(ROOT)))
def test_what_a_page_shows_happens(page: Page, tmp_path: Path) -> None:
    """The commands of a page, run one after the other in an empty folder, print what stands below them."""
    for name, text in page.files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if name not in {"WFE_DB", "FORCE_COLOR"}}
    kept |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}

    for command, output in page.commands():
        printed = run(shlex.split(command), tmp_path, kept)

        assert pattern(output).fullmatch(without_repeated_blanks(printed)), f"$ {command}\n{printed}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.path.relative_to(ROOT)))
def test_every_file_of_a_page_is_used(page: Page) -> None:
    """No program or pipeline of a page is left untried by its commands, or by a program that imports it."""
    files = page.files()
    used = " ".join(command for command, _ in page.commands())
    used += " ".join(
        f"{name}.py" for text in files.values() for name in re.findall(r"^from (\w+) import", text, re.MULTILINE)
    )

    unused = [name for name in files if name not in used]

    assert unused == []

"""The programs and pipelines of the README run, and print what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """Give the fenced blocks of a language."""
    return [text for found, text in _BLOCK.findall(README) if found == language]


def sessions() -> list[tuple[str, str]]:
    """Give the commands of the console blocks, each with the output shown below it, in order."""
    text = "".join(blocks("console"))
    return [(command, output) for command, output in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", text, re.MULTILINE)]


def pattern(output: str) -> re.Pattern[str]:
    """Give what output has to match: `…` stands for anything, on a line of its own for any lines."""
    lines = [
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in output.splitlines()
    ]
    return re.compile("".join(lines))


def write_files(folder: Path) -> None:
    """Write each block that begins with its file's name."""
    for text in blocks("python") + blocks("yaml"):
        name = re.match(r"# (\S+)\n", text)
        assert name is not None, f"a block without the name of its file: {text[:60]}"
        (folder / name[1]).write_text(text, encoding="utf-8")


def test_what_the_readme_shows_happens(tmp_path: Path) -> None:
    """The commands of the README, run one after the other in an empty folder, print what stands below them."""
    write_files(tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Output to a pipe is kept back by Python; a terminal shows it at once, which the program that kills itself needs.
    environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}

    shown = [
        (
            command,
            output,
            subprocess.run(
                command.split(), check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
            ),
        )
        for command, output in sessions()
    ]

    assert shown
    for command, output, ended in shown:
        assert pattern(output).fullmatch(ended.stdout), f"$ {command}\n{ended.stdout}{ended.stderr}"


def test_every_block_is_run() -> None:
    """Each file of the README is named in one of its commands."""
    commands = " ".join(command for command, _ in sessions())

    files = re.findall(r"^# (\S+\.(?:py|yaml))$", "".join(blocks("python") + blocks("yaml")), re.MULTILINE)

    assert files
    assert [name for name in files if name not in commands] == []

"""`wfe run` at a terminal: the live tree."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scenarios.cli.command import WFE, environment, wfe

PIPELINE = """
workflow:
  id: tree
  version: 1
  steps:
    - name: prepare
      config: {run: echo ready}
    - name: checks
      parallel:
        - name: lint
          config: {run: echo fine}
        - name: tests
          config: {run: "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i; done; exit ((var.code))"}
    - name: optional
      when: {field: outputs.unset, exists: true}
      config: {run: "true"}
    - name: publish
      config: {run: "echo '##wfe[output unset=1]'"}
"""
# A program that has a terminal of its own gets Ctrl-C from it; the session's first process has to ask for that.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PATIENCE_MS = 60_000


class Terminal:
    """A terminal of 30 lines with 100 columns, and a command in it."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.text = ""
        self._process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, WFE, *arguments],
            cwd=folder,
            env=environment(**{"TERM": "xterm-256color", "LANG": "C.UTF-8"} | variables),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def read_until(self, text: str) -> None:
        """Read until the text was shown."""
        while text not in _CONTROL.sub("", self.text):
            if not self._read():
                raise AssertionError(f"the command ended without {text!r}:\n{self.text}")

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def end(self) -> int:
        """Read to the end and give the exit code."""
        while self._read():
            pass
        return self._process.wait(60)

    @property
    def last_frame(self) -> list[str]:
        """What stands on the terminal at the end: the last drawing of the tree and what follows it."""
        return _CONTROL.sub("", self.text.rpartition("\x1b[2K")[2]).splitlines()

    def _read(self) -> bool:
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        if not poll.poll(_PATIENCE_MS):
            raise AssertionError(f"nothing was shown for a minute:\n{self.text}")
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux says that nobody has the other end any more
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)

    def close(self) -> None:
        """End the command and the terminal."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)


@pytest.fixture
def open_terminal(folder: Path) -> Iterator[Callable[..., Terminal]]:
    """Open terminals that are closed after the test."""
    (folder / "tree.yaml").write_text(PIPELINE, encoding="utf-8")
    opened: list[Terminal] = []

    def make(*arguments: str, **variables: str) -> Terminal:
        opened.append(Terminal(folder, *arguments, **variables))
        return opened[-1]

    yield make
    for terminal in opened:
        terminal.close()


def test_the_last_frame_shows_every_step_with_its_mark(open_terminal: Callable[..., Terminal]) -> None:
    """A run that completes ends with the tree of all its steps, their marks and times, and how it ended."""
    terminal = open_terminal("run", "tree.yaml", "-c", "code=0", "--name", "brave-otter")

    code = terminal.end()

    frame = [re.sub(r" +[0-9.]+m?s$", " TIME", line.rstrip()) for line in terminal.last_frame]
    assert code == 0
    assert frame[:-1] == [
        "tree  brave-otter",
        "├─ ✓ prepare TIME",
        "├─ ✓ checks TIME",
        "│  ├─ ✓ lint TIME",
        "│  └─ ✓ tests TIME",
        "├─ ○ optional            skipped",
        "└─ ✓ publish TIME",
    ]
    assert frame[-1].startswith("Complete in ")


def test_a_failed_step_shows_its_last_lines_in_the_tree(open_terminal: Callable[..., Terminal]) -> None:
    """The last ten lines of the step that failed stand below it, and what was not reached says so."""
    terminal = open_terminal("run", "tree.yaml", "-c", "code=4")

    code = terminal.end()

    frame = [line.rstrip() for line in terminal.last_frame]
    assert code == 1
    failed = next(number for number, line in enumerate(frame) if "✗ tests" in line)
    assert "exited with code 4" in frame[failed]
    assert frame[failed + 1 : failed + 11] == [f"│       line {number}" for number in range(3, 13)]
    assert frame[-2].split() == ["└─", "○", "publish", "not", "reached"]
    assert frame[-1].startswith("Failed in ")


def test_ctrl_c_at_the_terminal_saves_the_run(folder: Path, open_terminal: Callable[..., Terminal]) -> None:
    """Ctrl-C ends the tree in order, shows the cursor again and says how to resume."""
    terminal = open_terminal("run", "long.yaml", "--name", "brave")
    terminal.read_until("here I stay")

    terminal.type(b"\x03")
    code = terminal.end()
    (folder / "go").touch()
    resumed = wfe(folder, "run", "--resume", "brave")

    assert code == 130
    assert any("◌ slow" in line and "will run again" in line for line in terminal.last_frame)
    assert terminal.last_frame[-1] == "Resume it with: wfe run --resume brave"
    assert terminal.text.rfind("\x1b[?25h") > terminal.text.rfind("\x1b[?25l")
    assert resumed.returncode == 0


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=["ascii", "latin-1", "posix"],
)
def test_a_terminal_without_the_characters_gets_plain_lines(
    folder: Path, open_terminal: Callable[..., Terminal], variables: dict[str, str]
) -> None:
    """The run ends as at any other terminal; what cannot be shown stands there as an escape."""
    sign = "workflow: {id: sign, version: 1, steps: [{name: one, config: {run: echo so ✓}}]}"
    (folder / "sign.yaml").write_text(sign, encoding="utf-8")
    terminal = open_terminal("run", "sign.yaml", "--name", "brave", **variables)

    code = terminal.end()

    assert code == 0, terminal.text
    lines = terminal.text.split("\r\n")
    assert lines[2] == r"one | so \u2713"
    assert lines[-2].startswith("Complete in ")
    assert "\x1b[?25l" not in terminal.text


def test_a_run_that_breaks_gives_the_cursor_back(folder: Path, open_terminal: Callable[..., Terminal]) -> None:
    """Whatever happens after the tree has begun to live: here reading the run fails, once it is shown."""
    (folder / "sitecustomize.py").write_text(
        "from wfe.cli.session import Session\n"
        "async def broken(*_):\n    raise LookupError('planted')\n"
        "Session.follow = broken\n",
        encoding="utf-8",
    )
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    terminal = open_terminal("run", "tree.yaml", "-c", "code=0", PYTHONPATH=path)

    code = terminal.end()

    assert code == 4, terminal.text
    assert terminal.text.rfind("\x1b[?25h") > terminal.text.rfind("\x1b[?25l") >= 0

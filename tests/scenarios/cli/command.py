"""The real command as a process of its own, and pipelines that leave a trace of what they ran."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

__all__ = ["LONG_PIPELINE", "WFE", "RunningCommand", "ended", "environment", "wfe"]

WFE = str(Path(sys.executable).with_name("wfe"))
_PATIENCE = 60.0

LONG_PIPELINE = """
workflow:
  id: long
  version: 1
  inputs:
    who: {type: string, default: a}
  steps:
    - name: first
      config: {run: echo "((who)) first" >> ledger}
    - name: both
      parallel:
        - name: quick
          config: {run: echo "((who)) quick" >> ledger}
        - name: slow
          config:
            run: |
              echo "((who)) slow" >> ledger
              # With the file `go` it ends at once; else it stays until it is ended, with a process that has left.
              if [ -e go ]; then exit 0; fi
              setsid sleep 600 > /dev/null 2>&1 &
              echo $! > "((who)).left"
              echo $$ > "((who)).pid"
              echo "here I stay"
              sleep 600
    - name: last
      config: {run: echo "((who)) last" >> ledger}
"""
"""first, then quick beside slow, then last. Each run of a step writes a line to `ledger`."""


def environment(**further: str) -> dict[str, str]:
    """Give the variables for a command: those of this process, without what would change its output."""
    kept = {name: value for name, value in os.environ.items() if name not in {"WFE_DB", "NO_COLOR", "FORCE_COLOR"}}
    return kept | further


def wfe(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end."""
    return subprocess.run(
        [WFE, *arguments],
        cwd=folder,
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )


class RunningCommand:
    """A command whose lines are read as they come."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [WFE, *arguments],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        # A command that hangs ends with a message instead of holding up all tests.
        self._watchdog = threading.Timer(_PATIENCE, self._process.kill)
        self._watchdog.start()

    def read_until(self, text: str) -> str:
        """Read lines until one holds the text, and give that line; those read before count too."""
        for line in chain(tuple(self.lines), self._incoming()):
            if text in line:
                return line
        raise AssertionError(f"the command ended without {text!r}:\n{self.output}")

    def _incoming(self) -> Iterator[str]:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            self.lines.append(line)
            yield line

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the command alone, not to what it has started."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Read to the end and give the exit code (negative: killed by that signal)."""
        for _ in self._incoming():
            pass
        return self._process.wait(_PATIENCE)

    def stop_reading(self) -> int:
        """Close the pipe that it writes to, and give its exit code."""
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self._process.wait(_PATIENCE)

    @property
    def output(self) -> str:
        """All that was read."""
        return "".join(self.lines)

    def kill(self) -> None:
        """End it, whatever it does."""
        self._watchdog.cancel()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def ended(pid_file: Path, *, within: float) -> bool:
    """Tell whether the process whose id is in a file has ended, waiting for that for some seconds."""
    try:
        handle = os.pidfd_open(int(pid_file.read_text(encoding="utf-8")))
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(within * 1000))
    finally:
        os.close(handle)

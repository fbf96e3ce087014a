"""Starting the program of the crash tests, and ending it without warning."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Process"]

_ROOT = Path(__file__).parents[2]
_READY_SECONDS = 30.0


class Process:
    """One running program; leaving the context kills it."""

    def __init__(self, url: str, ledger: Path, life: str, *arguments: str) -> None:
        self.life = life
        self.log_path = ledger.with_name(f"{life}.log")
        command = [sys.executable, "-m", "tests.crash.program", url, str(ledger), life, *arguments]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=_environment()
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Return once its host runs."""
        self._expect(b"ready\n")

    def finish(self) -> None:
        """Let it stop in order: its work ends, its host stops."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._expect(b"stopped\n")
        assert self._process.wait(_READY_SECONDS) == 0, self.log

    def has_ended(self) -> bool:
        """Tell whether it has ended by itself."""
        return self._process.poll() is not None

    def stays_for(self, seconds: float) -> None:
        """Return after a while in which it must not end."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"{self.life} ended by itself with {code}: {self.log}")

    def kill_after(self, seconds: float) -> None:
        """SIGKILL it after a while."""
        self.stays_for(seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL it and return once it is gone."""
        self._process.kill()
        self._process.wait()
        self._close()

    def pause(self) -> None:
        """SIGSTOP it and return once it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """SIGCONT it."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text(errors="replace")

    def _expect(self, line: bytes) -> None:
        assert self._process.stdout is not None
        file = self._process.stdout.fileno()
        deadline = time.monotonic() + _READY_SECONDS
        found = b""
        while not found.endswith(line):
            ready, _, _ = select.select([file], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(file, 100) if ready else b""
            assert piece, f"{self.life} did not say {line!r} but {found!r}: {self.log}"
            found += piece

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    path = os.pathsep.join(filter(None, [kept.get("PYTHONPATH"), str(_ROOT)]))
    return kept | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}

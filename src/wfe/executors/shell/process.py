"""The host's side of a running command: the launcher, its control socket and the command's two streams."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from wfe.executors.shell.output import StreamReader
from wfe.executors.shell.values import encoded
from wfe.ports.executor import CancelSignal

__all__ = ["Command", "CommandEnd", "LaunchedCommand"]

_LAUNCHER = Path(__file__).with_name("launcher.py")
_LAUNCHER_SLACK = 8.0
"""Seconds that the launcher may need beyond the grace to kill everything; after that it is itself at fault."""
_DRAIN = 1.0
"""Seconds to wait for the end of the streams once every process has ended."""
_READ_BYTES = 16 << 10
_FLOOD_BYTES = 4 << 20
"""After so many bytes that nobody will see, the reader lets the rest of the host work first."""
_FLOOD_PAUSE = 0.01
_ROUNDS = 50
_EXEC_TAKES = 0.002
"""Seconds after which a process that is becoming another program is looked at again."""
TOKEN = "WFE_STEP_TOKEN"  # noqa: S105 - the name of a variable
"""Variable by which processes of a step are found should the launcher be gone."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to start, and how long it may run."""

    arguments: Sequence[str]
    """The first one is the path of the program."""
    environment: Mapping[str, str]
    directory: str
    scratch: str
    """Directory that the launcher removes should the host die."""
    timeout: timedelta | None
    grace: timedelta
    """Time between TERM and KILL."""
    stdin: str = os.devnull
    """Path of the file that it reads."""


@dataclass
class CommandEnd:
    """How a command ended."""

    exit_code: int | None = None
    """None: never started."""
    failure: str = ""
    """Why it could not be started."""
    timed_out: bool = False
    killed: int = 0
    """Processes that did not end by themselves."""
    survivors: int = 0
    """Processes that could not be killed."""
    is_complete: bool = field(default=False, repr=False)
    """Whether the launcher reported to the end."""


class LaunchedCommand:
    """One running command. All of its processes have ended when `wait` returns or raises."""

    def __init__(self, command: Command, readers: Sequence[StreamReader]) -> None:
        self._command = command
        self._readers = readers
        self._control = _Control()
        self._begun_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._pipes: list[_Pipe] = []
        self._launcher: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start the launcher, which starts the command.

        Raises:
            OSError: The launcher could not be started (no memory, too many processes or files); nothing runs.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003 - named so
        ends: list[int] = []
        try:
            for reader in self._readers:
                reading, writing = os.pipe()
                ends.append(writing)
                self._pipes.append(_Pipe(reading, reader))
            self._launcher = self._spawn(theirs, ends)
        except BaseException:
            ours.close()
            for pipe in self._pipes:
                pipe.close()
            raise
        finally:
            theirs.close()
            for number in ends:
                os.close(number)
        try:
            await loop.create_unix_connection(lambda: self._control, sock=ours)
        except BaseException:
            # The launcher has no command yet, and ends as it loses its host.
            ours.close()
            for pipe in self._pipes:
                pipe.close()
            raise
        for pipe in self._pipes:
            pipe.open()
        self._control.send(_encode(self._command))

    async def wait(self, cancelled: CancelSignal | None = None) -> CommandEnd:
        """Wait for the end of the command and of everything it started; end it when *cancelled* is set.

        A cancelled task kills the command too; the exception goes on when nothing of it is left.
        """
        cancelling = asyncio.ensure_future(_wait_for(cancelled)) if cancelled is not None else None
        try:
            await self._wait_for_end(cancelling)
        except asyncio.CancelledError:
            await self._stop_at_all_costs()
            raise
        finally:
            if cancelling is not None:
                cancelling.cancel()
            await self._close()
        return self._control.end

    def _spawn(self, control: socket.socket, streams: Sequence[int]) -> subprocess.Popen[bytes]:
        # The launcher gets nothing of the command's environment: that may name libraries to load.
        needed = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
        python = sys.executable or shutil.which("python3") or "python3"
        with open(self._command.stdin, "rb") as stdin:  # noqa: PTH123 - may be the null device
            return subprocess.Popen(
                [python, "-I", "-S", str(_LAUNCHER), str(control.fileno()), str(os.getpid())],
                stdin=stdin,
                stdout=streams[0],
                stderr=streams[1],
                pass_fds=(control.fileno(),),
                env=needed,
                cwd="/",
                start_new_session=True,
            )

    async def _wait_for_end(self, cancelling: asyncio.Future[object] | None) -> None:
        waited: set[asyncio.Future[object]] = {self._control.closed}
        if cancelling is not None:
            waited.add(cancelling)
        limit = self._command.timeout
        patience = None if limit is None else (limit + self._command.grace).total_seconds() + _LAUNCHER_SLACK
        await asyncio.wait(waited, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not self._control.closed.done():
            await self._stop(self._command.grace)

    async def _stop(self, grace: timedelta) -> None:
        self._control.send(b"stop %d\n" % (grace.total_seconds() * 1000))
        await asyncio.wait({self._control.closed}, timeout=grace.total_seconds() + _LAUNCHER_SLACK)

    async def _stop_at_all_costs(self) -> None:
        """Stop the command although this task is being cancelled; a further cancel takes the grace away."""
        grace = self._command.grace
        while not self._control.closed.done():
            stopping = asyncio.ensure_future(self._stop(grace))
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                stopping.cancel()
                grace = timedelta()
            else:
                return

    async def _close(self) -> None:
        """Make sure that nothing is left, and take what is still in the streams."""
        if not self._control.end.is_complete:
            self._kill_all()
        if self._launcher is not None:
            # Its socket has ended, so it ends within a moment; there is nothing to wait on for that moment.
            while self._launcher.poll() is None:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        self._control.close()
        if self._pipes:
            await asyncio.wait([pipe.ended for pipe in self._pipes], timeout=_DRAIN)
        for pipe in self._pipes:
            pipe.close()

    def _kill_all(self) -> None:
        """Kill what a launcher that hangs or was killed has left behind."""
        if self._launcher is not None and self._launcher.poll() is None:
            self._launcher.kill()
        if self._control.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._control.pid, signal.SIGKILL)
        token = self._command.environment.get(TOKEN, "")
        self._control.end.killed += _kill_marked(f"{TOKEN}={token}".encode(), since=self._begun_at)


async def _wait_for(signal: CancelSignal) -> object:
    return await signal.wait()


class _Control(asyncio.Protocol):
    """Reads what the launcher tells (see `launcher`)."""

    def __init__(self) -> None:
        self.end = CommandEnd()
        self.pid = 0
        self.closed: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport if isinstance(transport, asyncio.Transport) else None

    def data_received(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._take(line.decode("utf-8", "replace"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _take(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        match word:
            case "started":
                self.pid = int(rest)
            case "exit":
                self.end.exit_code = int(rest)
            case "timeout":
                self.end.timed_out = True
            case "error":
                self.end.failure = rest.partition(" ")[2]
            case "done":
                killed, survivors = rest.split()
                self.end.killed, self.end.survivors = int(killed), int(survivors)
                self.end.is_complete = True
            case _:
                pass


class _Pipe:
    """Reads one stream of the command whenever it has something."""

    def __init__(self, number: int, reader: StreamReader) -> None:
        self._number = number
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._unseen = 0
        self._is_open = True
        self.ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(number, False)

    def open(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._number, self._read)

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._number)
        os.close(self._number)
        if not self.ended.done():
            self.ended.set_result(None)

    def _read(self) -> None:
        size = 4 * _READ_BYTES if self._reader.is_log_full else _READ_BYTES
        try:
            data = os.read(self._number, size)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._reader.feed(data)
        if self._reader.is_log_full:
            self._rest_now_and_then(len(data))

    def _rest_now_and_then(self, size: int) -> None:
        self._unseen += size
        if self._unseen >= _FLOOD_BYTES:
            self._unseen = 0
            self._loop.remove_reader(self._number)
            self._loop.call_later(_FLOOD_PAUSE, self.open)


def _encode(command: Command) -> bytes:
    fields = [
        command.directory,
        str(command.timeout.total_seconds() if command.timeout is not None else 0),
        str(command.grace.total_seconds()),
        command.scratch,
        str(len(command.arguments)),
        *command.arguments,
        *(f"{name}={value}" for name, value in command.environment.items()),
    ]
    body = b"\0".join(encoded(field) for field in fields)
    return b"%d\n%b" % (len(body), body)


def _kill_marked(mark: bytes, *, since: float) -> int:
    """Kill every process whose environment has this entry; give how many there were.

    Args:
        mark: The entry, `NAME=value`.
        since: Seconds since the machine was booted, when the first of them may have begun.
    """
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        environments = {each: environment_of(each) for each in Path("/proc").glob("[0-9]*")}
        found = {int(each.name) for each, text in environments.items() if mark in text.split(b"\0")}
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
        if not found:
            if not any(_may_be_in_exec(each, since) for each, text in environments.items() if not text):
                break
            time.sleep(_EXEC_TAKES)
    return len(killed)


def environment_of(process: Path) -> bytes:
    """Read the environment of a process, given as its folder below `/proc`. Nothing where it may not be read."""
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def _may_be_in_exec(process: Path, since: float) -> bool:
    """Tell whether a process that shows no environment may have one: it shows none while it becomes another program."""
    try:
        (process / "exe").readlink()  # threads of the kernel, and what has ended already, have no program
        begun = int((process / "stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return False
    return begun / os.sysconf("SC_CLK_TCK") >= since - 1

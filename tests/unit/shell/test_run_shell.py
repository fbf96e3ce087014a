# ruff: noqa: E501, ASYNC220, ASYNC221, ASYNC240 - scripts stand in one piece; the short blocking calls of a test disturb nobody
"""Commands as they really run: how they end, and that nothing is left of them.

Processes are watched by descriptors that become readable when a process ends, so no test sleeps to see whether one is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from wfe.executors.shell import ShellOutcome, ShellSpec, ShellStepError, process, run_shell
from wfe.executors.shell.output import KEPT_BYTES
from wfe.executors.shell.values import RawOutput

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes by pidfd, which is Linux's")

PATIENCE = 5.0
"""Seconds within which nothing of a step may be left (reliability rule R2)."""
ENVIRONMENT = {"PATH": os.environ["PATH"]}


class Watched:
    """Processes that a script announced by lines `pid <number>`."""

    def __init__(self) -> None:
        self.handles: list[int] = []
        self.lines: list[tuple[str, str]] = []
        self._arrived = asyncio.Event()

    def on_line(self, stream: str, text: str) -> None:
        self.lines.append((stream, text))
        if text.startswith("pid "):
            # A process that has already ended is gone, which is what the tests wait for.
            with contextlib.suppress(ProcessLookupError):
                self.handles.append(os.pidfd_open(int(text[4:])))
        if text == "ready":
            self._arrived.set()

    async def ready(self) -> None:
        await asyncio.wait_for(self._arrived.wait(), 20)

    def all_gone(self, patience: float = PATIENCE) -> bool:
        """Wait until every process has ended; False when one still runs after *patience* seconds."""
        return all(select.select([handle], [], [], patience)[0] for handle in self.handles)

    def close(self) -> None:
        for handle in self.handles:
            os.close(handle)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    watched = Watched()
    yield watched
    watched.close()


def spec(run: str, **settings: object) -> ShellSpec:
    return ShellSpec(run=run, environment=ENVIRONMENT, **settings)  # type: ignore[arg-type]  # settings of ShellSpec


async def run(script: str, **settings: object) -> ShellOutcome:
    return await run_shell(spec(script, **settings), on_line=lambda *_: None)


# A daemon of its own session, one forked twice out of it, one that ignores TERM, one that holds the step's pipes, and one
# that has nothing of the step's environment. Each tells its id to the test and to a file, by which the script waits for all.
ESCAPES = """
PIDS="${WFE_OUTPUT%/*}/pids"; : > "$PIDS"; export PIDS
TELL='echo "pid $$"; echo $$ >> "$PIDS"'
export TELL
setsid sh -c "$TELL"'; exec sleep 1000' &
(setsid sh -c 'sh -c "$TELL; exec sleep 1000" & exit 0' &)
sh -c 'trap "" TERM; '"$TELL"'; while :; do sleep 1000; done' &
nohup sh -c "$TELL"'; exec sleep 1000' 2>&1 &
env -i PATH="$PATH" PIDS="$PIDS" setsid sh -c "$TELL"'; exec sleep 1000' &
while [ "$(wc -l < "$PIDS")" -lt 5 ]; do :; done
echo ready
"""


async def test_success() -> None:
    """A script that ends with 0 gives its streams, its outputs and its duration."""
    outcome = await run("echo out; echo err >&2; echo '##wfe[output a=1]'; echo b=x >> \"$WFE_OUTPUT\"")

    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, "out\n##wfe[output a=1]\n", "err\n")
    assert outcome.outputs == {"a": RawOutput("1", is_text=True), "b": RawOutput("x", is_text=True)}
    assert timedelta() < outcome.duration < timedelta(seconds=20)
    assert (outcome.killed, outcome.survivors, outcome.dropped_bytes) == (0, 0, 0)


async def test_exit_codes_and_signals() -> None:
    """The exit code is the command's; an end by signal is negative."""
    assert (await run("exit 7")).exit_code == 7
    assert (await run("kill -9 $$")).exit_code == -9


async def test_lines_are_streamed_while_the_script_runs(watched: Watched) -> None:
    """A line is passed on when it is printed, not at the end."""
    cancelled = asyncio.Event()
    running = asyncio.create_task(
        run_shell(spec("echo ready; sleep 1000"), on_line=watched.on_line, cancelled=cancelled)
    )

    await watched.ready()
    cancelled.set()

    assert (await running).cancelled


async def test_a_timeout_ends_the_whole_tree(watched: Watched) -> None:
    """When its time is over, the command and all it started, however detached, are ended."""
    script = f"{ESCAPES}sleep 1000"
    limit, grace = timedelta(seconds=3), timedelta(seconds=0.2)

    outcome = await run_shell(spec(script, timeout=limit, grace=grace), on_line=watched.on_line)

    assert (outcome.timed_out, outcome.survivors) == (True, 0)
    assert outcome.killed >= 6
    assert len(watched.handles) == 5
    assert watched.all_gone(0)


async def test_what_a_finished_script_leaves_running_is_ended(watched: Watched) -> None:
    """The step is over when its script is, even where daemons hold its pipes; they are ended."""
    outcome = await run_shell(spec(ESCAPES), on_line=watched.on_line)

    assert outcome.exit_code == 0
    assert outcome.killed >= 5
    assert outcome.duration < timedelta(seconds=PATIENCE + 15)
    assert watched.all_gone(0)


async def test_cancel_ends_the_whole_tree(watched: Watched) -> None:
    """Setting the cancel signal ends everything, by TERM first."""
    cancelled = asyncio.Event()
    script = f"trap 'echo cleaning; exit 3' TERM\n{ESCAPES}while :; do sleep 0.1; done"
    running = asyncio.create_task(
        run_shell(spec(script, grace=timedelta(seconds=1)), on_line=watched.on_line, cancelled=cancelled)
    )
    await watched.ready()

    cancelled.set()
    outcome = await running

    assert outcome.cancelled
    assert outcome.exit_code == 3
    assert ("stdout", "cleaning") in watched.lines
    assert watched.all_gone(0)


async def test_a_cancelled_task_ends_the_whole_tree(watched: Watched) -> None:
    """Cancelling the task raises only when nothing is left."""
    running = asyncio.create_task(
        run_shell(spec(f"{ESCAPES}sleep 1000", grace=timedelta(seconds=0.2)), on_line=watched.on_line)
    )
    await watched.ready()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert watched.all_gone(0)


async def test_a_second_cancel_takes_the_grace_away(watched: Watched) -> None:
    """A host in a hurry does not wait for a script that ignores TERM."""
    script = "trap '' TERM\necho \"pid $$\"\necho ready\nwhile :; do sleep 1000; done"
    running = asyncio.create_task(run_shell(spec(script, grace=timedelta(hours=1)), on_line=watched.on_line))
    await watched.ready()

    running.cancel()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 20)

    assert watched.all_gone(0)


HOST = """
import asyncio, os, sys
from wfe.executors.shell import ShellSpec, run_shell

def on_line(stream, text):
    print(text, flush=True)

asyncio.run(run_shell(ShellSpec(run=sys.argv[1], environment={"PATH": os.environ["PATH"]}), on_line=on_line))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_the_death_of_its_host_ends_the_whole_tree(
    watched: Watched, number: signal.Signals, tmp_path: Path
) -> None:
    """When the host is killed, nothing of its steps is left 5 s later, nor their scratch files."""
    script = f'echo "scratch ${{WFE_OUTPUT%/*}}"\necho "pid $$"\n{ESCAPES}sleep 1000'
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert host.stdout is not None
    for line in host.stdout:
        watched.on_line("stdout", line.rstrip("\n"))
        if line == "ready\n":
            break

    host.send_signal(number)
    host.wait(20)
    host.stdout.close()

    assert len(watched.handles) == 6
    assert watched.all_gone()
    # Removing the scratch directory is the launcher's last act, after the last process of the step.
    assert await _vanishes(tmp_path)


async def _vanishes(directory: Path) -> bool:
    async with asyncio.timeout(PATIENCE):
        while any(directory.iterdir()):  # noqa: ASYNC110 - the one who removes it is not ours to wait for
            await asyncio.sleep(0.01)
    return True


async def test_the_death_of_the_launcher_ends_the_step(watched: Watched) -> None:
    """A launcher that is killed takes the command with it, and what it left is found by its token."""
    script = (
        'mkfifo "${WFE_OUTPUT%/*}/told"; echo "pid $$"; echo "parent $PPID"\n'
        'setsid sh -c \'echo "pid $$"; echo > "$0"; exec sleep 1000\' "${WFE_OUTPUT%/*}/told" &\n'
        'read -r _ < "${WFE_OUTPUT%/*}/told"; echo ready; sleep 1000'
    )
    running = asyncio.create_task(run_shell(spec(script), on_line=watched.on_line))
    await watched.ready()
    launcher = next(int(text[7:]) for _, text in watched.lines if text.startswith("parent "))

    os.kill(launcher, signal.SIGKILL)
    outcome = await running

    assert outcome.exit_code is None
    assert len(watched.handles) == 2
    assert watched.all_gone()


async def test_what_is_just_becoming_another_program_is_found(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process in the middle of `exec` has no environment for a moment; it is looked at again."""
    script = 'echo "parent $PPID"; setsid sh -c \'echo "pid $$"; echo ready; exec sleep 1000\' & wait'
    running = asyncio.create_task(run_shell(spec(script), on_line=watched.on_line))
    await watched.ready()
    launcher, escaped = (
        next(int(text.split()[1]) for _, text in watched.lines if text.startswith(word)) for word in ("parent", "pid")
    )
    read, looked = process.environment_of, list[str]()

    def empty_at_first(folder: Path) -> bytes:
        if folder.name == str(escaped):
            looked.append(folder.name)
            if len(looked) < 4:
                return b""
        return read(folder)

    monkeypatch.setattr(process, "environment_of", empty_at_first)
    os.kill(launcher, signal.SIGKILL)
    await running

    assert len(looked) >= 4
    assert watched.all_gone()


async def test_a_fork_storm_is_ended(watched: Watched) -> None:
    """Processes that fork faster than they are killed are stopped first, so that they end."""
    script = 'storm() { while :; do (exec sleep 1000) & sleep 0.01; done; }\nstorm & storm & setsid sh -c "sleep 1000" &\necho ready\nwait'
    outcome = await run_shell(spec(script, timeout=timedelta(seconds=0.5), grace=timedelta(0)), on_line=watched.on_line)

    assert (outcome.timed_out, outcome.survivors) == (True, 0)
    assert outcome.killed > 5


async def test_a_flood_of_output_is_bounded_and_drained() -> None:
    """First and last MiB are kept, the rest is counted, outputs are still found, and the script is not held up."""
    lines = 0

    def on_line(stream: str, text: str) -> None:
        nonlocal lines
        lines += 1

    script = "echo first; yes | head -c 100000000; echo '##wfe[output found=1]'; yes | head -c 5000000; echo last"
    outcome = await run_shell(spec(script), on_line=on_line)

    assert outcome.exit_code == 0
    assert outcome.stdout.startswith("first\ny\n")
    assert outcome.stdout.endswith("y\nlast\n")
    assert len(outcome.stdout) < 2 * KEPT_BYTES + 100
    assert outcome.dropped_bytes > 100_000_000
    assert outcome.outputs == {"found": RawOutput("1", is_text=True)}
    assert lines < 200_000


async def test_a_flood_takes_bounded_memory() -> None:
    """While 100 MB come through, a few MiB of them are kept at once."""
    tracemalloc.start()
    try:
        outcome = await run("yes | head -c 100000000")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert outcome.dropped_bytes > 90_000_000
    assert peak < 16 << 20


async def test_a_flood_leaves_the_loop_to_others() -> None:
    """While a step floods its output, other work of the loop goes on."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await run("yes", timeout=timedelta(seconds=0.5), grace=timedelta(0))
    counting.cancel()

    assert turns > 100


async def test_invalid_utf_8_is_replaced() -> None:
    """Bytes that are no text become replacement characters."""
    lines: list[str] = []

    outcome = await run_shell(spec(r"printf 'a\377b\n'"), on_line=lambda _, text: lines.append(text))

    assert outcome.stdout == "a\ufffdb\n"
    assert lines == ["a\ufffdb"]


async def test_bash_stops_at_the_first_failure() -> None:
    """`bash` runs with -e and pipefail, `sh` without."""
    assert (await run("false | true; echo on", shell="bash")).exit_code == 1
    assert (await run("false; echo on")).stdout == "on\n"


async def test_bash_ignores_startup_files_and_functions_of_the_environment(tmp_path: Path) -> None:
    """Neither BASH_ENV nor an exported function changes what a script does."""
    (tmp_path / "evil").write_text("echo PWNED\n", "utf-8")
    environment = ENVIRONMENT | {
        "BASH_ENV": str(tmp_path / "evil"),
        "ENV": str(tmp_path / "evil"),
        "BASH_FUNC_ls%%": "() { echo PWNED; }",
    }

    outcome = await run_shell(
        ShellSpec(run="ls /nowhere 2>/dev/null || echo done", shell="bash", environment=environment),
        on_line=lambda *_: None,
    )

    assert outcome.stdout == "done\n"


_OF_THE_C_LIBRARY = 0b11 << 31
"""Signals 32 and 33 are glibc's own: no program can set what they do, so what was inherited stays."""


async def test_the_environment_is_what_is_given() -> None:
    """Nothing of the host's environment reaches the script by itself, nor do its descriptors or ignored signals."""
    outcome = await run("env | sort | cut -d= -f1; ls /proc/self/fd | wc -l; grep SigIgn /proc/self/status | cut -f2")

    *rest, ignored = outcome.stdout.split()
    assert rest == ["PATH", "PWD", "WFE_OUTPUT", "WFE_STEP_TOKEN", "4"]
    assert int(ignored, 16) & ~_OF_THE_C_LIBRARY == 0


async def test_stdin_is_empty_or_what_is_given() -> None:
    """A script that reads gets the text it was given, else nothing."""
    assert (await run("cat; echo .")).stdout == ".\n"
    assert (await run("cat; echo .", stdin="text")).stdout == "text.\n"


async def test_line_numbers_are_the_authors(tmp_path: Path) -> None:
    """A shell's complaint names the line of the script, also where a large value is passed beside it."""
    script = "true\n\n)"

    outcome = await run(script, shell="bash", expressions={"WFE_EXPR_1": "x" * 200_000})

    assert "line 3" in outcome.stderr


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("value", ["x" * 200_000, "é\n\n" * 50_000, "'\"$(id)" * 20_000 + "\n"])
async def test_large_values_of_expressions_come_through(shell: str, value: str) -> None:
    """A value that no environment can carry reaches the script whole."""
    outcome = await run('printf %s "${WFE_EXPR_1}" | cksum', shell=shell, expressions={"WFE_EXPR_1": value})

    direct = subprocess.run(["cksum"], input=value.encode(), capture_output=True, check=True)
    assert outcome.stdout == direct.stdout.decode()


async def test_large_variables_go_by_file() -> None:
    """A variable too large for the system becomes a file named by `NAME_FILE`."""
    large = ShellSpec(run='echo "${BIG-unset}"; wc -c < "$BIG_FILE"', environment=ENVIRONMENT | {"BIG": "x" * 200_000})

    outcome = await run_shell(large, on_line=lambda *_: None)

    assert outcome.stdout.split() == ["unset", "200000"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shell": "no-such-shell"}, "there is no program 'no-such-shell' in PATH"),
        ({"working_dir": "/no/such/place"}, "the working directory '/no/such/place' does not exist"),
        ({"run": "a\0b"}, "the script holds a NUL character"),
        ({"expressions": {"WFE_EXPR_1": "a\0b"}}, "the value of an expression (WFE_EXPR_1) holds a NUL character"),
    ],
)
async def test_what_cannot_be_started(settings: dict[str, object], message: str) -> None:
    """A step that cannot be started says why, with its own code."""
    with pytest.raises(ShellStepError) as caught:
        await run(**({"script": settings.pop("run", "true")} | settings))  # type: ignore[arg-type]  # as in `spec`

    assert caught.value.code == "command_not_started"
    assert message in str(caught.value)


async def test_a_program_that_is_no_program(tmp_path: Path) -> None:
    """An error of the system at the start is passed on in words."""
    program = tmp_path / "broken"
    program.write_bytes(b"\x7fELF nothing")
    program.chmod(0o755)

    with pytest.raises(ShellStepError, match=r"The command was not started: .*Exec format error"):
        await run("true", shell=str(program))


async def test_scratch_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of a step on the disk."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    await run('echo x > "${WFE_OUTPUT%/*}/more"; exit 1')

    assert list(tmp_path.iterdir()) == []


async def test_outputs_of_a_failed_script_are_not_looked_at() -> None:
    """A broken output file does not hide why a script failed."""
    outcome = await run('echo "not an output" > "$WFE_OUTPUT"; exit 2')

    assert (outcome.exit_code, outcome.outputs) == (2, {})


@pytest.mark.parametrize(
    "script",
    [
        'echo "not an output" > "$WFE_OUTPUT"',
        'echo "1x=2" > "$WFE_OUTPUT"',
        'rm "$WFE_OUTPUT"',
        'head -c 2000000 /dev/zero | tr "\\0" x > "$WFE_OUTPUT"',
        "echo '##wfe[output a<<END]'; head -c 2000000 /dev/zero | tr '\\0' '\\n'; echo END",
    ],
)
async def test_outputs_that_cannot_be_used_fail_the_step(script: str) -> None:
    """What was meant as an output is never lost silently."""
    with pytest.raises(ShellStepError) as caught:
        await run(script)

    assert caught.value.code == "output_invalid"


async def test_many_steps_at_once() -> None:
    """Steps do not wait for one another, and each gets its own outputs."""
    outcomes = await asyncio.gather(*(run(f"echo '##wfe[output n={n}]'; sleep 0.2") for n in range(20)))

    assert [outcome.outputs["n"].value for outcome in outcomes] == [str(n) for n in range(20)]


def test_the_tools_that_these_tests_use_are_there() -> None:
    """The scripts above need setsid, nohup and bash."""
    assert all(shutil.which(tool) for tool in ("setsid", "nohup", "bash"))

"""Run one script with one environment, and tell how it went."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from wfe.executors.shell.environment import LARGE_VALUE_BYTES
from wfe.executors.shell.errors import ShellStepError
from wfe.executors.shell.output import MAX_OUTPUT_BYTES, OutputSet, StreamReader
from wfe.executors.shell.process import TOKEN, Command, CommandEnd, LaunchedCommand
from wfe.executors.shell.values import RawOutput, encoded, read_output_file
from wfe.ports.executor import CancelSignal

__all__ = ["DEFAULT_GRACE", "ShellOutcome", "ShellSpec", "run_shell"]

DEFAULT_GRACE = timedelta(seconds=2)
"""Time between TERM and KILL."""
_MAX_ENVIRONMENT_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ShellSpec:
    """What to run. Exactly one of `run` and `file` is given."""

    run: str = ""
    """The script's text."""
    file: str = ""
    """Path of a script."""
    shell: str = "sh"
    environment: Mapping[str, str] = field(default_factory=dict)
    """All variables; nothing else reaches the script but `WFE_OUTPUT` and a token."""
    expressions: Mapping[str, str] = field(default_factory=dict)
    """Variables that the script's text refers to; of any size."""
    working_dir: str = ""
    """Empty: the host's."""
    timeout: timedelta | None = None
    grace: timedelta = DEFAULT_GRACE
    stdin: str | None = None
    """Text that the script reads; None: nothing."""


@dataclass(frozen=True, kw_only=True)
class ShellOutcome:
    """How a script ended. All its processes have ended, whatever it started."""

    exit_code: int | None
    """Negative: killed by that signal. None: it ended together with its launcher, which was killed."""
    stdout: str
    """The first and last MiB."""
    stderr: str
    outputs: Mapping[str, RawOutput]
    duration: timedelta
    dropped_bytes: int
    """How much of stdout and stderr was not kept."""
    timed_out: bool
    cancelled: bool
    killed: int
    """Processes that did not end by themselves."""
    survivors: int
    """Processes that could not be killed."""


async def run_shell(
    spec: ShellSpec, *, on_line: Callable[[str, str], None], cancelled: CancelSignal | None = None
) -> ShellOutcome:
    """Run a script until it ends, its time is over or *cancelled* is set, and end all that it started.

    The same happens when the calling task is cancelled, and when this process dies.

    Args:
        on_line: Called with (`stdout` or `stderr`, line) as lines come. Invalid UTF-8 is replaced; what exceeds the
            stream's budget is left out.

    Raises:
        ShellStepError: It could not be started (`command_not_started`), or its outputs cannot be used
        (`output_invalid`).
    """
    directory = _working_directory(spec)
    program = _program(spec)
    scratch = Path(tempfile.mkdtemp(prefix="wfe-step-"))
    try:
        return await _run(spec, program, directory, scratch, on_line, cancelled)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


async def _run(  # noqa: PLR0917 - the parts of one call
    spec: ShellSpec,
    program: str,
    directory: str,
    scratch: Path,
    on_line: Callable[[str, str], None],
    cancelled: CancelSignal | None,
) -> ShellOutcome:
    outputs = OutputSet()
    streams = (StreamReader("stdout", on_line, outputs), StreamReader("stderr", on_line, None))
    command = _command(spec, program, directory, scratch)
    began = time.monotonic()
    launched = LaunchedCommand(command, streams)
    try:
        await launched.start()
    except OSError as error:
        raise _not_started(f"the launcher failed: {error}") from error
    end = await launched.wait(cancelled)
    duration = timedelta(seconds=time.monotonic() - began)
    for stream in streams:
        stream.finish()
    if end.failure:
        raise _not_started(end.failure)
    for note in outputs.notes:
        on_line("stderr", f"wfe: {note}")
    was_cancelled = cancelled is not None and cancelled.is_set() and not end.timed_out
    return ShellOutcome(
        exit_code=end.exit_code,
        stdout=streams[0].capture.text(),
        stderr=streams[1].capture.text(),
        outputs={} if end.timed_out or was_cancelled else _outputs(outputs, scratch / "output", end),
        duration=duration,
        dropped_bytes=sum(stream.capture.dropped_bytes for stream in streams),
        timed_out=end.timed_out,
        cancelled=was_cancelled,
        killed=end.killed,
        survivors=end.survivors,
    )


def _outputs(printed: OutputSet, file: Path, end: CommandEnd) -> dict[str, RawOutput]:
    """Join both ways of giving outputs; those of the file come last. A failed command's are not looked at."""
    if end.exit_code != 0:
        return {}
    if printed.is_full:
        raise ShellStepError(
            f"The step's outputs exceed {MAX_OUTPUT_BYTES} bytes; write large results to a file and give its path.",
            code="output_invalid",
        )
    values = {name: RawOutput(value, is_text=True) for name, value in printed.values.items()}
    try:
        with file.open("rb") as opened:
            values.update(read_output_file(opened.read(MAX_OUTPUT_BYTES + 1)))
    except OSError as error:
        raise ShellStepError(
            f"The step's output file ($WFE_OUTPUT) cannot be read: {error.strerror}.", code="output_invalid"
        ) from None
    return values


def _working_directory(spec: ShellSpec) -> str:
    directory = os.path.abspath(spec.working_dir or ".")  # noqa: PTH100 - a link stays what the author wrote
    if not os.path.isdir(directory):  # noqa: PTH112
        raise _not_started(f"the working directory {directory!r} does not exist")
    return directory


def _program(spec: ShellSpec) -> str:
    path = shutil.which(spec.shell, path=spec.environment.get("PATH", os.defpath))
    if path is None:
        raise _not_started(f"there is no program {spec.shell!r} in PATH")
    return os.path.abspath(path)  # noqa: PTH100


def _command(spec: ShellSpec, program: str, directory: str, scratch: Path) -> Command:
    (scratch / "output").touch(mode=0o600)
    variables = dict(spec.environment)
    variables |= {"WFE_OUTPUT": str(scratch / "output"), TOKEN: uuid.uuid4().hex}
    _move_large_values(variables, scratch)
    expressions = dict(spec.expressions)
    prelude = _prelude(expressions, scratch)
    stdin = os.devnull
    if spec.stdin is not None:
        stdin = str(scratch / "stdin")
        Path(stdin).write_bytes(encoded(spec.stdin))
    return Command(
        arguments=[program, *_options(spec.shell), _script(spec, prelude, directory, scratch)],
        environment=variables | expressions,
        directory=directory,
        scratch=str(scratch),
        timeout=spec.timeout,
        grace=spec.grace,
        stdin=stdin,
    )


def _options(shell: str) -> list[str]:
    # Long options come first. -p keeps bash from reading BASH_ENV and functions from its environment.
    if os.path.basename(shell) == "bash":  # noqa: PTH119
        return ["--noprofile", "--norc", "-p", "-eo", "pipefail"]
    return []


def _script(spec: ShellSpec, prelude: str, directory: str, scratch: Path) -> str:
    if spec.file:
        return os.path.join(directory, spec.file)  # noqa: PTH118 - an absolute file stays as it is
    if "\0" in spec.run:
        raise _not_started("the script holds a NUL character")
    path = scratch / "script"
    # On the first line, so that the shell's messages name the author's line numbers.
    path.write_bytes(encoded(prelude + spec.run))
    return str(path)


def _move_large_values(variables: dict[str, str], scratch: Path) -> None:
    """Pass values that the system would refuse by file: `NAME_FILE` instead of `NAME`."""
    sizes = {name: len(encoded(value)) for name, value in variables.items()}
    total = sum(sizes.values())
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if sizes[name] <= LARGE_VALUE_BYTES and total <= _MAX_ENVIRONMENT_BYTES:
            break
        path = scratch / f"value-{name}"
        path.write_bytes(encoded(variables.pop(name)))
        variables[f"{name}_FILE"] = str(path)
        total -= sizes[name]


def _prelude(expressions: dict[str, str], scratch: Path) -> str:
    """Give shell text that sets the values too large for the environment, and take them out of *expressions*."""
    statements: list[str] = []
    total = 0
    for name, value in sorted(expressions.items(), key=lambda item: len(item[1])):
        if "\0" in value:
            raise _not_started(f"the value of an expression ({name}) holds a NUL character")
        data = encoded(value)
        total += len(data)
        if len(data) <= LARGE_VALUE_BYTES and total <= _MAX_ENVIRONMENT_BYTES:
            continue
        path = scratch / f"value-{name}"
        path.write_bytes(data)
        del expressions[name]
        # The x keeps line ends at the value's end, which $(…) would strip.
        statements.append(f"{name}=$(cat {_quoted(str(path))}; printf x); {name}=${{{name}%x}}; ")
    return "".join(statements)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _not_started(why: str) -> ShellStepError:
    return ShellStepError(f"The command was not started: {why}.", code="command_not_started")

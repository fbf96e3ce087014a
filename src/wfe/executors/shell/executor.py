"""Steps of type `shell`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta

from wfe.executors.shell.environment import build_environment
from wfe.executors.shell.errors import ShellStepError
from wfe.executors.shell.runner import DEFAULT_GRACE, ShellOutcome, ShellSpec, run_shell
from wfe.executors.shell.values import RawOutput
from wfe.model.durations import format_duration
from wfe.model.errors import StepFailed, StepTimeout
from wfe.model.templates import as_text, resolve
from wfe.ports.executor import StepRequest

__all__ = ["ShellStepExecutor"]

DEFAULT_MAX_RUNNING = 100
"""Each command costs its host some descriptors, and the machine some 10 MB for its launcher."""
_RECORDED_BYTES = 64 << 10
_SHOWN_LINES = 20
_SHOWN_CHARACTERS = 4_000


class ShellStepExecutor:
    """Runs steps of type `shell`.

    Of the step's config it reads: `run` or `file`, `shell`, `env`, `working_dir`, `stdin`, `env_passthrough`,
    `timeout_ms`, `expressions` (variable → template, referred to by the text of `run`), `outputs` (name → type, or null
    for by form; given: only these are handed on), `inputs` (names passed as `INPUT_<NAME>`), and `record` (which of
    `stdout`, `stderr`, `exit_code`, `duration`, `outputs` go into the data under the key `steps.<step name>`).
    """

    step_type = "shell"

    def __init__(self, *, grace: timedelta = DEFAULT_GRACE, max_running: int = DEFAULT_MAX_RUNNING) -> None:
        """Make an executor.

        Args:
            grace: Time between TERM and KILL for a command that has to end.
            max_running: How many commands a host runs at once; further steps wait for their turn.
        """
        self._grace = grace
        self.max_running: int | None = max_running

    async def execute(self, request: StepRequest) -> Mapping[str, object]:
        config = _resolved(request)
        spec = self._spec(request, config)
        outcome = await run_shell(spec, on_line=request.log, cancelled=request.cancelled)
        if outcome.survivors:
            request.log("stderr", f"wfe: {outcome.survivors} processes of the step could not be killed")
        _raise_for(outcome, spec, request.step_name)
        outputs = _typed_outputs(outcome.outputs, _mapping(config, "outputs") if "outputs" in config else None, request)
        record = _record(outcome, outputs, _names(config, "record"))
        return outputs | ({f"steps.{request.step_name}": record} if record else {})

    def _spec(self, request: StepRequest, config: Mapping[str, object]) -> ShellSpec:
        inputs = {name: request.data[name] for name in _names(config, "inputs") if name in request.data}
        environment = build_environment(
            host=os.environ,
            passthrough=_names(config, "env_passthrough"),
            data=request.data,
            inputs=inputs,
            own=_mapping(config, "env"),
        )
        for note in environment.notes if request.attempt == 1 else ():
            request.log("stderr", note)
        expressions = {name: as_text(value) for name, value in _mapping(config, "expressions").items()}
        return ShellSpec(
            run=as_text(config.get("run")),
            file=as_text(config.get("file")),
            shell=as_text(config.get("shell")) or "sh",
            environment=environment.variables | _own_variables(request),
            expressions=expressions,
            working_dir=as_text(config.get("working_dir")),
            timeout=_shorter(request.timeout, config.get("timeout_ms")),
            grace=self._grace,
            stdin=as_text(config["stdin"]) if config.get("stdin") is not None else None,
        )


def _resolved(request: StepRequest) -> Mapping[str, object]:
    missing: list[str] = []
    workflow = {"id": request.workflow_id, "definition_id": request.definition_id}
    roots = {"workflow": workflow, **request.values, "data": request.data}
    config = {key: resolve(value, roots, missing.append) for key, value in request.config.items()}
    for path in dict.fromkeys(missing):
        request.log("stderr", f"wfe: {path} has no value; it is passed as empty")
    return config


def _own_variables(request: StepRequest) -> dict[str, str]:
    return {
        "WFE_WORKFLOW_ID": request.workflow_id,
        "WFE_DEFINITION_ID": request.definition_id,
        "WFE_STEP": request.step_name,
        "WFE_ATTEMPT": str(request.attempt),
        "WFE_IDEMPOTENCY_KEY": request.idempotency_key,
    }


def _mapping(config: Mapping[str, object], key: str) -> dict[str, object]:
    value = config.get(key)
    return {str(name): item for name, item in value.items()} if isinstance(value, Mapping) else {}


def _names(config: Mapping[str, object], key: str) -> list[str]:
    value = config.get(key)
    return [str(name) for name in value] if isinstance(value, Iterable) and not isinstance(value, str) else []


def _shorter(limit: timedelta | None, milliseconds: object) -> timedelta | None:
    own = timedelta(milliseconds=milliseconds) if isinstance(milliseconds, int | float) else None
    return min(limit, own) if limit is not None and own is not None else limit or own


def _raise_for(outcome: ShellOutcome, spec: ShellSpec, step_name: str) -> None:
    last = _last_lines(outcome)
    if outcome.timed_out and spec.timeout is not None:
        raise StepTimeout(
            f"Step {step_name!r} timed out after {format_duration(spec.timeout)}; its command was ended"
            f"{_killed(outcome.killed)}.{last}"
        )
    if outcome.cancelled:
        raise StepFailed(f"The command was ended because the step was cancelled{_killed(outcome.killed)}.{last}")
    code = outcome.exit_code
    if code is None:
        raise ShellStepError(f"The command was killed together with its launcher.{last}", code="command_failed")
    if code < 0:
        raise ShellStepError(f"The command was killed by signal {-code}.{last}", exit_code=code)
    if code > 0:
        raise ShellStepError(f"The command exited with code {code}.{last}", exit_code=code)


def _killed(count: int) -> str:
    return "" if count == 0 else f" ({count} process{'es' if count > 1 else ''} killed)"


def _last_lines(outcome: ShellOutcome) -> str:
    text = outcome.stderr if outcome.stderr.strip() else outcome.stdout
    lines = text[-_SHOWN_CHARACTERS:].rstrip().splitlines()[-_SHOWN_LINES:]
    return " Its last lines were:\n" + "\n".join(f"  {line}" for line in lines) if lines else " It printed nothing."


def _typed_outputs(
    raw: Mapping[str, RawOutput], declared: Mapping[str, object] | None, request: StepRequest
) -> dict[str, object]:
    if declared is None:
        return {name: output.typed(None) for name, output in raw.items()}
    values: dict[str, object] = {}
    for name, type_name in declared.items():
        if name not in raw:
            request.log("stderr", f"wfe: the step gave no output {name!r}; it is null")
            values[name] = None
            continue
        try:
            values[name] = raw[name].typed(type_name if isinstance(type_name, str) else None)
        except ValueError as error:
            raise ShellStepError(
                f"The output {name!r} is not of its declared type {type_name}: {error}.", code="output_invalid"
            ) from None
    return values


def _record(outcome: ShellOutcome, outputs: Mapping[str, object], wanted: Iterable[str]) -> dict[str, object]:
    found: dict[str, object] = {
        "stdout": _bounded(outcome.stdout),
        "stderr": _bounded(outcome.stderr),
        "exit_code": outcome.exit_code,
        "duration": round(outcome.duration.total_seconds(), 3),
        "outputs": dict(outputs),
    }
    return {name: found[name] for name in wanted if name in found}


def _bounded(text: str) -> str:
    """Give the text without its last line end, at most its first and last 32 Ki characters."""
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}").removesuffix("\n")
    half = _RECORDED_BYTES // 2
    if len(text) <= _RECORDED_BYTES:
        return text
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"

"""The environment of a shell step: built from nothing, so that only what is listed here reaches the command.

Later sources win: a few variables of the host, the workflow's data as `UPPER_CASE`, its inputs as `INPUT_<NAME>`, the
step's own `env`, then the engine's `WFE_…`. Data never sets a variable that changes how programs are loaded or
interpreted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wfe.executors.shell.errors import ShellStepError
from wfe.model.templates import as_text

__all__ = ["LARGE_VALUE_BYTES", "Environment", "build_environment"]

LARGE_VALUE_BYTES = 100 << 10
"""Larger values go by file: the system limits one variable to 128 KiB."""

_HOST_NAMES = frozenset(
    (
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "TERM",
        "COLUMNS",
        "NO_COLOR",
        "FORCE_COLOR",
    )
)
_HOST_PREFIXES = ("LC_",)

_DENIED_NAMES = frozenset(
    (
        "PATH",
        "HOME",
        "SHELL",
        "USER",
        "LOGNAME",
        "TMPDIR",
        "PWD",
        "OLDPWD",
        "ENV",
        "IFS",
        "PS1",
        "PS2",
        "PS4",
        "OPTARG",
        "OPTIND",
        "SHELLOPTS",
        "CDPATH",
        "GLOBIGNORE",
        "PROMPT_COMMAND",
        "POSIXLY_CORRECT",
        "EDITOR",
        "VISUAL",
        "PAGER",
        "BROWSER",
        "LESSOPEN",
        "LESSCLOSE",
        "GCONV_PATH",
        "LOCPATH",
        "NLSPATH",
        "HOSTALIASES",
        "RES_OPTIONS",
        "RESOLV_HOST_CONF",
        "TERMINFO",
        "TERMCAP",
        "MAKEFLAGS",
        "MFLAGS",
        "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "CLASSPATH",
    )
)
_DENIED_PREFIXES = (
    "LD_",
    "DYLD_",
    "GLIBC_",
    "MALLOC_",
    "BASH",
    "ZDOTDIR",
    "PYTHON",
    "PERL",
    "RUBY",
    "GEM_",
    "NODE_",
    "NPM_CONFIG_",
    "DENO_",
    "GIT_",
    "SSH_",
    "WFE_",
)
_DENIED_SUFFIXES = ("_PROXY",)

_OWN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_DATA_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")


@dataclass(frozen=True)
class Environment:
    """What a command gets."""

    variables: dict[str, str]
    notes: tuple[str, ...] = ()
    """What was left out, for the step's log."""


def build_environment(
    *,
    host: Mapping[str, str],
    passthrough: Iterable[str] = (),
    data: Mapping[str, object],
    inputs: Mapping[str, object],
    own: Mapping[str, object],
) -> Environment:
    """Put together the variables of one step.

    Args:
        host: The host's environment, of which a short list and *passthrough* is taken.
        data: The workflow's data; top-level keys become variables.
        inputs: Becomes `INPUT_<NAME>`.
        own: The step's `env`, taken as it is written.

    Raises:
        ShellStepError: A name in *own* is malformed, or a value holds a NUL character (`env_forbidden`); nothing was
        started.
    """
    variables = _from_host(host, frozenset(passthrough))
    skipped: list[str] = []
    for key, value in data.items():
        name = _variable_name(key)
        if name is None or _is_denied(name) or _has_nul(value):
            skipped.append(key)
        elif not key.startswith(("steps.", "_wfe")):
            variables[name] = as_text(value)
    for key, value in inputs.items():
        name = _variable_name(f"INPUT_{key}")
        if name is None or _has_nul(value):
            skipped.append(f"INPUT_{key}")
        else:
            variables[name] = as_text(value)
    for name, value in own.items():
        variables[name] = _own_value(name, value)
    skipped = [name for name in skipped if not name.startswith(("steps.", "_wfe"))]
    return Environment(variables, (_skipped_note(skipped),) if skipped else ())


def _from_host(host: Mapping[str, str], passthrough: frozenset[str]) -> dict[str, str]:
    return {
        name: value
        for name, value in host.items()
        if name in _HOST_NAMES or name in passthrough or name.startswith(_HOST_PREFIXES)
    }


def _variable_name(key: str) -> str | None:
    name = re.sub(r"[^A-Z0-9_]", "_", key.upper())
    return name if _DATA_NAME.fullmatch(name) and key.isascii() else None


def _is_denied(name: str) -> bool:
    return name in _DENIED_NAMES or name.startswith(_DENIED_PREFIXES) or name.endswith(_DENIED_SUFFIXES)


def _has_nul(value: object) -> bool:
    return isinstance(value, str) and "\0" in value


def _own_value(name: str, value: object) -> str:
    if not _OWN_NAME.fullmatch(name):
        raise ShellStepError(
            f"The variable name {name[:80]!r} in the step's env is not valid; expected letters, digits and _, "
            "not beginning with a digit, at most 128 characters. Nothing was started.",
            code="env_forbidden",
        )
    if _has_nul(value):
        raise ShellStepError(
            f"The value of the variable {name} in the step's env holds a NUL character, which no environment can "
            "carry. Nothing was started.",
            code="env_forbidden",
        )
    return as_text(value)


def _skipped_note(keys: list[str]) -> str:
    shown = ", ".join(repr(key[:40]) for key in keys[:10]) + (", …" if len(keys) > 10 else "")  # noqa: PLR2004
    return (
        f"wfe: data not exported as environment variables, because the name is reserved or cannot be one: {shown}; "
        "use an expression such as ((name)) to pass it"
    )

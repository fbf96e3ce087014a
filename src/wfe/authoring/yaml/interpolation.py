"""Expressions in the scalars of a file: `((path))` and `${{ path }}`, which mean the same.

What is known when the file is loaded (`var`, that is config) is filled in then; the rest becomes a template that is
filled in when the step runs (`wfe.model.templates`). Since this happens to parsed scalars, a value can never become
YAML structure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from wfe.authoring.yaml.problems import nearest_name
from wfe.model.templates import MISSING, as_text, member_of, text_template, value_template

__all__ = [
    "BadExpression",
    "Constant",
    "Expression",
    "Path",
    "Resolved",
    "RuntimePath",
    "Scope",
    "UnknownName",
    "constant_value",
    "interpolate",
    "match_expression",
    "setting_of",
    "split_text",
]

Path: TypeAlias = tuple[str | int, ...]

STEP_FIELDS = ("stdout", "stderr", "exit_code", "duration", "outputs")
"""What `steps.<name>.` can be followed by."""
WORKFLOW_FIELDS = ("id", "name", "definition_id", "version", "reference")
_LATER_ROOTS = ("matrix", "secrets")
ROOTS = ("var", "inputs", "outputs", "steps", "item", "index", "env", "workflow", *_LATER_ROOTS)

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_PATH = rf'{_NAME}(?:\.{_NAME}|\.[0-9]+|\[[0-9]+\]|\["[^"\]]*"\]|\[\'[^\'\]]*\'\])*'
_DOTTED = rf"{_NAME}(?:\.(?:{_NAME}|[0-9]+))*"
_IN_PARENTHESES = re.compile(rf"\(\([ \t]*({_PATH})[ \t]*\)\)")
_IN_PARENTHESES_OF_SCRIPT = re.compile(rf"\(\([ \t]*({_DOTTED})[ \t]*\)\)")
_IN_BRACES = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_WHOLE_PATH = re.compile(_PATH)
_SEGMENT = re.compile(rf'\.?({_NAME})|\.?([0-9]+)|\[([0-9]+)\]|\["([^"\]]*)"\]|\[\'([^\'\]]*)\'\]')


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression in a text."""

    path: Path
    text: str
    """As it is written, with its delimiters."""
    end: int
    """Where the text goes on."""
    is_braced: bool
    """Whether it is written `${{ … }}`, which can be nothing else."""


class BadExpression(ValueError):
    """A `${{ … }}` that holds something else than a path, or has no end."""

    def __init__(self, text: str, end: int) -> None:
        super().__init__(f"{text if len(text) <= 80 else text[:80] + '…'!r} is not an expression")  # noqa: PLR2004
        self.end = end


class UnknownName(ValueError):
    """An expression names something that is not there."""

    def __init__(self, message: str, *, expected: str = "", nearest: str = "", is_bare: bool = False) -> None:
        super().__init__(message)
        self.expected = expected
        self.nearest = nearest
        self.is_bare = is_bare
        """Whether it is a single name, which may be meant as something else in a script."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A value known when the file is loaded."""

    value: object


@dataclass(frozen=True, slots=True)
class RuntimePath:
    """A value known when the step runs: a path of `wfe.model.templates`."""

    path: Path


@dataclass(frozen=True, slots=True)
class _Setting:
    """A setting that holds templates itself (a variable of `env`)."""

    setting: object


Resolved: TypeAlias = Constant | RuntimePath | _Setting


@dataclass
class Scope:
    """What names mean at some place of a file."""

    config: Mapping[str, object] = field(default_factory=dict)
    inputs: frozenset[str] | None = None
    """Declared inputs; None: none are declared, so any may be given."""
    outputs: frozenset[str] = frozenset()
    """Every output that some step declares or prints."""
    steps: frozenset[str] = frozenset()
    env: Mapping[str, object] = field(default_factory=dict)
    """Variables set outside this place, as settings."""
    has_item: bool = False
    recorded: dict[str, set[str]] = field(default_factory=dict)
    """Step → what expressions ask of it; shared by all scopes of a workflow."""

    def resolve(self, path: Path) -> Resolved:  # noqa: PLR0911 - one kind of root after another
        """Say what a path means here.

        Raises:
            UnknownName: Nothing of that name is known.
        """
        root, rest = str(path[0]), path[1:]
        match root:
            case "var":
                return self._constant(rest)
            case "inputs" | "outputs":
                return self._datum(root, rest)
            case "steps":
                return self._step(rest)
            case "env":
                return self._variable(rest)
            case "workflow":
                return _workflow(path)
            case "item" | "index" if self.has_item:
                return RuntimePath(path)
            case "item" | "index":
                raise UnknownName(f"{root!r} has a meaning only inside for_each")
            case _:
                return self._bare(path)

    def _bare(self, path: Path) -> Resolved:
        name = str(path[0])
        if name in self.config:
            return self._constant(path)
        if name in (self.inputs or ()) or name in self.outputs:
            return RuntimePath(("data", *path))
        if name in _LATER_ROOTS:
            raise UnknownName(f"the root {name!r} is not supported by this version")
        known = [*ROOTS, *self.config, *sorted(self.inputs or ()), *sorted(self.outputs)]
        what = (
            "there is no config value, input or output"
            if len(path) == 1
            else "there is no root, config value, input or output"
        )
        raise UnknownName(
            f"{what} named {name!r}",
            expected=f"a declared name, or a path that begins with one of {', '.join(ROOTS[:8])}",
            nearest=nearest_name(name, known),
            is_bare=len(path) == 1,
        )

    def _constant(self, path: Path) -> Constant:
        value: object = self.config
        for depth, segment in enumerate(path):
            inner = member_of(value, segment)
            if inner is not MISSING:
                value = inner
            else:
                known = sorted(map(str, value)) if isinstance(value, Mapping) else []
                name = ".".join(map(str, path[: depth + 1]))
                given = f"the config has {', '.join(known)}" if known else "no config was given"
                raise UnknownName(
                    f"there is no config value {name!r}; {given}",
                    expected=f"it to be given, for example with -c {name}=…",
                    nearest=nearest_name(str(segment), known),
                )
        if not path:
            raise UnknownName("'var' needs the name of a config value", expected="var.<name>")
        return Constant(value)

    def _datum(self, root: str, rest: Path) -> RuntimePath:
        if not rest:
            raise UnknownName(f"{root!r} needs a name", expected=f"{root}.<name>")
        known = self.inputs if root == "inputs" else self.outputs
        name = str(rest[0])
        if known is not None and name not in known:
            advice = (
                "declared under the workflow's inputs" if root == "inputs" else "declared under the outputs of its step"
            )
            raise UnknownName(
                f"there is no {root[:-1]} {name!r}", expected=f"a name {advice}", nearest=nearest_name(name, known)
            )
        return RuntimePath(("data", *rest))

    def _step(self, rest: Path) -> RuntimePath:
        if len(rest) < 2:  # noqa: PLR2004 - the step's name and what of it
            raise UnknownName("'steps' needs a step and what of it", expected=f"steps.<name>.{'|'.join(STEP_FIELDS)}")
        name, wanted = str(rest[0]), str(rest[1])
        if name not in self.steps:
            raise UnknownName(
                f"there is no step {name!r}", expected="the name of a step", nearest=nearest_name(name, self.steps)
            )
        if wanted not in STEP_FIELDS:
            raise UnknownName(
                f"a step has no {wanted!r}",
                expected=f"one of {', '.join(STEP_FIELDS)}",
                nearest=nearest_name(wanted, STEP_FIELDS),
            )
        self.recorded.setdefault(name, set()).add(wanted)
        return RuntimePath(("data", f"steps.{name}", wanted, *rest[2:]))

    def _variable(self, rest: Path) -> Resolved:
        if len(rest) != 1 or rest[0] not in self.env:
            name = ".".join(map(str, rest))
            raise UnknownName(
                f"there is no variable {name!r} in env",
                expected="a variable set in an env of the file",
                nearest=nearest_name(name, self.env),
            )
        return _Setting(self.env[str(rest[0])])


def match_expression(text: str, at: int, *, in_script: bool = False) -> Expression | None:
    """Give the expression that begins at this place of a text, or None.

    In scripts `((` after `$`, or around anything but a dotted path, is the shell's arithmetic.

    Raises:
        BadExpression: A `${{` begins here that is not an expression.
    """
    if text.startswith("${{", at):
        return _braced(text, at)
    if not text.startswith("((", at) or (in_script and at > 0 and text[at - 1] == "$"):
        return None
    match = (_IN_PARENTHESES_OF_SCRIPT if in_script else _IN_PARENTHESES).match(text, at)
    return Expression(_path(match[1]), match[0], match.end(), is_braced=False) if match else None


def _braced(text: str, at: int) -> Expression:
    match = _IN_BRACES.match(text, at)
    if match is None:
        raise BadExpression(text[at : at + 80], len(text))
    inner = match[1].strip()
    if not _WHOLE_PATH.fullmatch(inner):
        raise BadExpression(match[0], match.end())
    return Expression(_path(inner), match[0], match.end(), is_braced=True)


def split_text(text: str) -> Iterator[str | Expression]:
    """Give a text's literal parts and its expressions, in order; a backslash before an expression makes it literal.

    Raises:
        BadExpression: See `match_expression`.
    """
    literal = at = 0
    for match in _CANDIDATE.finditer(text):
        if match.start() < at:
            continue
        begin = match.end() - len(match["open"])
        expression = match_expression(text, begin)
        if expression is None:
            continue
        if text[literal : match.start()]:
            yield text[literal : match.start()]
        if match["escape"]:
            yield expression.text
        else:
            yield expression
        literal = at = expression.end
    if text[literal:]:
        yield text[literal:]


_CANDIDATE = re.compile(r"(?P<escape>\\?)(?P<open>\(\((?!\()|\$\{\{)")


def interpolate(text: str, scope: Scope) -> object:
    """Give the setting that a scalar stands for: its text, a value, or a template.

    A scalar that is one expression keeps the type of its value.

    Raises:
        BadExpression, UnknownName: The text cannot be understood.
    """
    if "((" not in text and "${{" not in text:
        return text
    parts = [part if isinstance(part, str) else scope.resolve(part.path) for part in split_text(text)]
    if len(parts) == 1 and not isinstance(parts[0], str):
        return setting_of(parts[0])
    pieces: list[str | Path] = []
    for part in parts:
        pieces.extend(_pieces(part))
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(map(str, pieces))
    return text_template(_joined(pieces))


def constant_value(setting: object) -> bool:
    """Tell whether a setting holds no template."""
    if isinstance(setting, Mapping):
        return "$wfe" not in setting and all(constant_value(value) for value in setting.values())
    if isinstance(setting, list | tuple):
        return all(constant_value(item) for item in setting)
    return True


def setting_of(resolved: Resolved) -> object:
    """Give the setting that stands for one expression."""
    match resolved:
        case Constant(value):
            return value
        case RuntimePath(path):
            return value_template(path)
        case _Setting(setting):
            return setting


def _pieces(part: str | Resolved) -> Iterator[str | Path]:
    match part:
        case str():
            yield part
        case Constant(value):
            yield as_text(value)
        case RuntimePath(path):
            yield path
        case _Setting(setting):
            yield from _pieces_of_setting(setting)


def _pieces_of_setting(setting: object) -> Iterator[str | Path]:
    content = setting.get("$wfe") if isinstance(setting, Mapping) else None
    if content is None:
        yield as_text(setting)
        return
    for piece in content if isinstance(content, list) else [content]:
        yield piece if isinstance(piece, str) else tuple(piece["path"])


def _joined(pieces: list[str | Path]) -> list[str | Path]:
    joined: list[str | Path] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def _path(text: str) -> Path:
    segments: list[str | int] = []
    for name, number, index, quoted, single in _SEGMENT.findall(text):
        segments.append(name or (int(number or index) if number or index else quoted or single))
    return tuple(segments)


def _workflow(path: Path) -> RuntimePath:
    if len(path) != 2 or path[1] not in WORKFLOW_FIELDS:  # noqa: PLR2004 - the root and one field
        name = ".".join(map(str, path[1:]))
        raise UnknownName(
            f"a workflow has no {name!r}",
            expected=f"one of {', '.join(WORKFLOW_FIELDS)}",
            nearest=nearest_name(name, WORKFLOW_FIELDS),
        )
    return RuntimePath(path)

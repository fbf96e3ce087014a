"""Expressions in shell scripts: passed beside the text, never pasted into it.

Each expression becomes an environment variable `WFE_EXPR_<n>`, and the text a quoted reference to it. So whatever the
value is, it stays one word of data. How the reference is quoted depends on where it stands, which is why the script is
read here as far as its quoting goes:

    echo ((x))        →  echo "${WFE_EXPR_1}"
    echo "hi ((x))"   →  echo "hi ${WFE_EXPR_1}"
    echo 'hi ((x))'   →  echo 'hi '"${WFE_EXPR_1}"''

Where no reference could be right (a quoted here-document, arithmetic, which evaluates what it reads) loading fails.
Should the quoting be misread in an exotic script, the value is split or taken literally; it is still never run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto

from wfe.authoring.yaml.interpolation import (
    BadExpression,
    Expression,
    Resolved,
    Scope,
    UnknownName,
    match_expression,
    setting_of,
)

__all__ = ["QUOTING_SHELLS", "CompiledScript", "ScriptProblem", "compile_script"]

QUOTING_SHELLS = ("sh", "bash", "dash", "ash", "ksh", "zsh")
"""Shells whose quoting is understood here. Scripts for other programs cannot hold expressions."""


@dataclass(frozen=True)
class ScriptProblem:
    """Something that is wrong in a script."""

    line: int
    """Line within the script, from 1."""
    message: str
    expected: str = ""
    nearest: str = ""
    code: str = "definition_invalid"
    is_warning: bool = False


@dataclass
class CompiledScript:
    """A script with references in place of expressions."""

    text: str = ""
    expressions: dict[str, object] = field(default_factory=dict)
    """Variable → setting."""
    problems: list[ScriptProblem] = field(default_factory=list)


def compile_script(text: str, scope: Scope, shell: str) -> CompiledScript:
    """Replace every expression of a script by a reference to a variable."""
    if "((" not in text and "${{" not in text:
        return CompiledScript(text)
    scanner = _Scanner(scope, shell.rsplit("/", 1)[-1])
    scanner.compiled.text = scanner.scan(text, _Frame(_Kind.COMMANDS), 1)
    return scanner.compiled


class _Kind(Enum):
    COMMANDS = auto()
    """Unquoted: commands and their words; the top, `( … )` and `$( … )`."""
    DOUBLE = auto()
    SINGLE = auto()
    ANSI = auto()
    """`$'…'`"""
    BACKTICK = auto()
    BRACE = auto()
    """`${…}`"""
    ARITHMETIC = auto()
    HEREDOC = auto()
    """The text of a here-document whose delimiter is not quoted."""


@dataclass
class _Frame:
    """One level of quoting or nesting."""

    kind: _Kind
    is_quoted: bool = False
    """For BRACE: whether it stands in double quotes or a here-document."""
    depth: int = 0
    """For ARITHMETIC: open parentheses."""
    cases: int = 0
    """For COMMANDS: open `case … esac`, whose patterns end with `)`."""
    at_command: bool = True
    """For COMMANDS: whether the next word is the name of a command."""
    command: str = ""
    """For COMMANDS: the command whose words are being read."""
    arithmetic_until: int = 0
    """For COMMANDS: the end of a `[[ … ]]` that compares as numbers."""
    refuses: str = ""
    """Why no expression may stand here; empty: it may."""


@dataclass
class _Heredoc:
    delimiter: str
    is_quoted: bool
    strips_tabs: bool


_HEREDOC = re.compile(r"""<<(-?)[ \t]*((?:'[^'\n]*'|"[^"\n]*"|\\.|[^\s;&|<>()'"\\`$])+)""")
_WORD = re.compile(r"[^\s;&|<>()'\"\\`$#]+")
_OPENERS = frozenset(("then", "do", "else", "elif", "if", "while", "until", "!", "{", "time", "&&", "||"))
_NUMBER_TESTS = re.compile(r"\s-(?:eq|ne|lt|le|gt|ge)\s")
_SUBSCRIPT = re.compile(r"[A-Za-z0-9_]\[[^\]\s]*\Z")
_DEFAULT_OPERATOR = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*:?[-=+?]")
_UNSAFE = "unsafe_interpolation"


class _Scanner:
    def __init__(self, scope: Scope, shell: str) -> None:
        self.compiled = CompiledScript()
        self._scope = scope
        self._shell = shell
        self._names: dict[tuple[str | int, ...], str] = {}
        self._text = ""
        self._at = 0
        self._out: list[str] = []
        self._stack: list[_Frame] = []
        self._heredocs: list[_Heredoc] = []
        self._first_line = 1

    def scan(self, text: str, frame: _Frame, first_line: int) -> str:
        """Give the text with its expressions replaced, read from this state on."""
        outer = (self._text, self._at, self._out, self._stack, self._heredocs, self._first_line)
        self._text, self._at, self._out, self._stack, self._heredocs = text, 0, [], [frame], []
        self._first_line = first_line
        while self._at < len(text):
            if not self._expression():
                self._step(self._stack[-1])
        done = "".join(self._out)
        self._text, self._at, self._out, self._stack, self._heredocs, self._first_line = outer
        return done

    # --- expressions

    def _expression(self) -> bool:
        """Replace an expression that begins here; tell whether there was one."""
        character = self._text[self._at]
        is_escaped = character == "\\"
        if character not in "\\($":
            return False
        try:
            found = match_expression(self._text, self._at + is_escaped, in_script=True)
        except BadExpression as error:
            self._bad(error)
            return True
        if found is None:
            return False
        if is_escaped:
            self._out.append(found.text)
            self._at = found.end
            return True
        return self._splice(found)

    def _bad(self, error: BadExpression) -> None:
        expected = "a dotted path such as ${{ inputs.name }}"
        self._problem(str(error), expected=expected)
        self._out.append(self._text[self._at : error.end])
        self._at = error.end

    def _splice(self, found: Expression) -> bool:
        try:
            resolved = self._scope.resolve(found.path)
        except UnknownName as error:
            return self._unknown(found, error)
        reason = self._refusal()
        if reason:
            self._problem(
                f"{found.text} stands {reason}, where no value can be put safely",
                expected='the value to be put into a variable first, as in value=((name)), and "$value" here',
                code=_UNSAFE,
            )
            self._out.append(found.text)
        else:
            self._out.append(self._reference(self._name(found, resolved)))
        self._stack[-1].at_command = False
        self._at = found.end
        return True

    def _unknown(self, found: Expression, error: UnknownName) -> bool:
        # A bare ((name)) may be the shell's arithmetic.
        is_warning = error.is_bare and not found.is_braced
        message = f"{found.text}: {error}" + ("; it is left to the shell" if is_warning else "")
        self._problem(message, expected=error.expected, nearest=error.nearest, is_warning=is_warning)
        if is_warning and self._stack[-1].kind is _Kind.COMMANDS:
            return False
        self._out.append(found.text)
        self._at = found.end
        return True

    def _refusal(self) -> str:  # noqa: PLR0911 - one reason after another
        """Say why no expression may stand here; empty when one may."""
        if self._shell not in QUOTING_SHELLS:
            return f"in a script for {self._shell}"
        for frame in self._stack:
            if frame.refuses:
                return frame.refuses
        frame = self._stack[-1]
        if frame.kind is _Kind.ANSI and self._shell not in {"bash", "ksh", "zsh"}:
            return "in $'…', which not every sh has"
        commands = next((f for f in reversed(self._stack) if f.kind is _Kind.COMMANDS), None)
        if commands is not None and commands.command in {"eval", "let"}:
            return f"in the arguments of {commands.command}"
        if commands is not None and self._at < commands.arithmetic_until:
            return "in [[ … ]] that compares as numbers"
        if frame.kind is _Kind.COMMANDS and _SUBSCRIPT.search(self._text[max(0, self._at - 200) : self._at]):
            return "in a subscript"
        return ""

    def _name(self, found: Expression, resolved: Resolved) -> str:
        if found.path not in self._names:
            name = f"WFE_EXPR_{len(self._names) + 1}"
            self._names[found.path] = name
            self.compiled.expressions[name] = setting_of(resolved)
        return self._names[found.path]

    def _reference(self, name: str) -> str:
        frame = self._stack[-1]
        match frame.kind:
            case _Kind.DOUBLE | _Kind.HEREDOC:
                return f"${{{name}}}"
            case _Kind.SINGLE:
                return f"'\"${{{name}}}\"'"
            case _Kind.ANSI:
                return f"'\"${{{name}}}\"$'"
            case _Kind.BRACE if frame.is_quoted:
                return f"${{{name}}}"
            case _:
                return f'"${{{name}}}"'

    def _problem(
        self,
        message: str,
        *,
        expected: str = "",
        nearest: str = "",
        code: str = "definition_invalid",
        is_warning: bool = False,
    ) -> None:
        line = self._first_line + self._text.count("\n", 0, self._at)
        self.compiled.problems.append(ScriptProblem(line, message, expected, nearest, code, is_warning))

    # --- the shell's syntax, one step at a time

    def _step(self, frame: _Frame) -> None:
        match frame.kind:
            case _Kind.COMMANDS:
                self._in_commands(frame)
            case _Kind.DOUBLE | _Kind.HEREDOC:
                self._in_double(frame)
            case _Kind.SINGLE:
                self._in_single(frame)
            case _Kind.ANSI:
                self._in_ansi()
            case _Kind.BACKTICK:
                self._in_backticks()
            case _Kind.BRACE:
                self._in_braces(frame)
            case _Kind.ARITHMETIC:
                self._in_arithmetic(frame)

    def _copy(self, length: int = 1) -> None:
        self._out.append(self._text[self._at : self._at + length])
        self._at += length

    def _push(self, frame: _Frame, length: int) -> None:
        self._copy(length)
        self._stack.append(frame)

    def _pop(self, length: int = 1) -> None:
        self._copy(length)
        if len(self._stack) > 1:
            self._stack.pop()

    def _substitution(self) -> bool:
        """Enter what begins with `$` or a backtick, in unquoted text, double quotes and here-documents alike."""
        rest = self._text[self._at : self._at + 3]
        is_quoted = self._stack[-1].kind in {_Kind.DOUBLE, _Kind.HEREDOC} or self._stack[-1].is_quoted
        if rest == "$((":
            self._push(_Frame(_Kind.ARITHMETIC, refuses="in arithmetic"), 3)
        elif rest.startswith("$("):
            self._push(_Frame(_Kind.COMMANDS), 2)
        elif rest.startswith("${"):
            allowed = _DEFAULT_OPERATOR.match(self._text, self._at)
            why = "" if allowed else "in the operand of ${…}"
            self._push(
                _Frame(_Kind.BRACE, is_quoted=is_quoted, refuses=why), allowed.end() - self._at if allowed else 2
            )
        elif rest.startswith("`"):
            self._push(_Frame(_Kind.BACKTICK, refuses="in backticks"), 1)
        else:
            return False
        return True

    def _in_commands(self, frame: _Frame) -> None:
        character = self._text[self._at]
        if character == "\n":
            self._newline(frame)
        elif character == "\\":
            self._copy(2)
            frame.at_command = False
        elif character == "#" and self._is_word_start():
            end = self._text.find("\n", self._at)
            self._copy((len(self._text) if end < 0 else end) - self._at)
        elif character in "'\"" or self._text.startswith(("$'", '$"'), self._at):
            self._quote(frame)
        elif character in "$`":
            frame.at_command = False
            if not self._substitution():
                self._copy()
        elif character in "();&|":
            self._operator(frame, character)
        elif character == "<":
            self._redirection()
        elif match := _WORD.match(self._text, self._at):
            self._word(frame, match[0])
        else:
            self._copy()

    def _quote(self, frame: _Frame) -> None:
        frame.at_command = False
        if self._text[self._at] == "$":
            kind = _Kind.ANSI if self._text[self._at + 1] == "'" else _Kind.DOUBLE
            self._push(_Frame(kind), 2)
        else:
            self._push(_Frame(_Kind.SINGLE if self._text[self._at] == "'" else _Kind.DOUBLE), 1)

    def _is_word_start(self) -> bool:
        return self._at == 0 or self._text[self._at - 1] in " \t\n;&|()"

    def _operator(self, frame: _Frame, character: str) -> None:
        if self._text.startswith("((", self._at):
            self._push(_Frame(_Kind.ARITHMETIC, refuses="in arithmetic"), 2)
        elif character == "(":
            self._push(_Frame(_Kind.COMMANDS), 1)
        elif character == ")" and frame.cases == 0 and len(self._stack) > 1:
            self._pop()
        else:
            self._copy()
            frame.at_command = True
            frame.command = ""

    def _word(self, frame: _Frame, word: str) -> None:
        if frame.at_command and self._is_word_start():
            self._command_word(frame, word)
        elif word == "esac" and frame.cases:
            frame.cases -= 1
        self._copy(len(word))

    def _command_word(self, frame: _Frame, word: str) -> None:
        frame.at_command = word in _OPENERS or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\+?=.*", word) is not None
        if not frame.at_command:
            frame.command = word
        if word == "case":
            frame.cases += 1
        elif word == "esac":
            frame.cases = max(0, frame.cases - 1)
        elif word == "[[":
            end = self._text.find("]]", self._at)
            end = len(self._text) if end < 0 else end
            if _NUMBER_TESTS.search(self._text, self._at, end):
                frame.arithmetic_until = end

    def _redirection(self) -> None:
        if self._text.startswith("<<<", self._at):
            self._copy(3)
        elif match := _HEREDOC.match(self._text, self._at):
            word = match[2]
            delimiter = re.sub(r"""['"]|\\(.)""", lambda m: m[1] or "", word)
            self._heredocs.append(_Heredoc(delimiter, any(c in word for c in "'\"\\"), bool(match[1])))
            self._copy(len(match[0]))
        else:
            self._copy()

    def _newline(self, frame: _Frame) -> None:
        self._copy()
        frame.at_command = True
        frame.command = ""
        pending, self._heredocs = self._heredocs, []
        for heredoc in pending:
            self._body(heredoc)

    def _body(self, heredoc: _Heredoc) -> None:
        """Read the text of a here-document, up to the line that ends it."""
        start = end = self._at
        while end < len(self._text):
            stop = self._text.find("\n", end)
            stop = len(self._text) if stop < 0 else stop
            line = self._text[end:stop]
            if (line.lstrip("\t") if heredoc.strips_tabs else line) == heredoc.delimiter:
                break
            end = min(stop + 1, len(self._text))
        why = "in a here-document whose delimiter is quoted" if heredoc.is_quoted else ""
        frame = _Frame(_Kind.SINGLE if heredoc.is_quoted else _Kind.HEREDOC, refuses=why)
        line_number = self._first_line + self._text.count("\n", 0, start)
        body = self._text[start:end]
        self._out.append(
            self._verbatim(body, frame, line_number) if heredoc.is_quoted else self.scan(body, frame, line_number)
        )
        self._at = end
        stop = self._text.find("\n", end)
        self._copy((len(self._text) if stop < 0 else stop) - end)

    def _verbatim(self, body: str, frame: _Frame, line: int) -> str:
        # Quotes mean nothing in it, so that only expressions have to be looked for.
        return self.scan(body, _Frame(_Kind.SINGLE, is_quoted=True, refuses=frame.refuses), line)

    def _in_double(self, frame: _Frame) -> None:
        character = self._text[self._at]
        if character == "\\":
            self._copy(2)
        elif character == '"' and frame.kind is _Kind.DOUBLE:
            self._pop()
        elif not self._substitution():
            self._copy()

    def _in_single(self, frame: _Frame) -> None:
        if self._text[self._at] == "'" and not frame.is_quoted:
            self._pop()
        else:
            self._copy()

    def _in_ansi(self) -> None:
        if self._text[self._at] == "\\":
            self._copy(2)
        elif self._text[self._at] == "'":
            self._pop()
        else:
            self._copy()

    def _in_backticks(self) -> None:
        if self._text[self._at] == "\\":
            self._copy(2)
        elif self._text[self._at] == "`":
            self._pop()
        else:
            self._copy()

    def _in_braces(self, frame: _Frame) -> None:
        character = self._text[self._at]
        if character == "}":
            self._pop()
        elif character == "\\":
            self._copy(2)
        elif character == '"':
            # Within double quotes, shells differ in what a further quote means.
            why = "in quotes inside ${…} inside quotes" if frame.is_quoted else ""
            self._push(_Frame(_Kind.DOUBLE, refuses=why), 1)
        elif character == "'" and not frame.is_quoted:
            self._push(_Frame(_Kind.SINGLE), 1)
        elif not self._substitution():
            self._copy()

    def _in_arithmetic(self, frame: _Frame) -> None:
        if self._text.startswith("))", self._at) and frame.depth == 0:
            self._pop(2)
        elif self._text[self._at] == "(":
            frame.depth += 1
            self._copy()
        elif self._text[self._at] == ")":
            frame.depth = max(0, frame.depth - 1)
            self._copy()
        elif not self._substitution():
            self._copy()

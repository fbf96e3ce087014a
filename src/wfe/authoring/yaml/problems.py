"""What is wrong in a file: every problem of it, each with its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from wfe.model.errors import YamlError

__all__ = ["Position", "Problem", "Problems", "nearest_name"]


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """A place in a file; both numbers count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `file:line:column: path: message; expected …; did you mean …?`."""

    file: str
    """Empty for text that came from no file."""
    line: int
    column: int
    path: str
    """Such as `workflow.steps[2].config.run`; empty for the whole file."""
    message: str
    expected: str = ""
    nearest: str = ""
    """The valid name that is most like the one found."""
    code: str = "definition_invalid"
    is_warning: bool = False

    def __str__(self) -> str:
        where = f"{self.file or '<text>'}:{self.line}:{self.column}: "
        path = f"{self.path}: " if self.path else ""
        expected = f"; expected {self.expected}" if self.expected else ""
        nearest = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        return f"{where}{path}{self.message}{expected}{nearest}"


@dataclass
class Problems:
    """Collects the problems of one file while it is read."""

    file: str = ""
    lenient: bool = False
    """Whether unknown keys and names are warnings."""
    found: list[Problem] = field(default_factory=list)

    def add(
        self,
        position: Position,
        path: str,
        message: str,
        *,
        expected: str = "",
        nearest: str = "",
        code: str = "definition_invalid",
        is_warning: bool = False,
    ) -> None:
        """Note one problem."""
        problem = Problem(self.file, position.line, position.column, path, message, expected, nearest, code, is_warning)
        if problem not in self.found:
            self.found.append(problem)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What makes the file unusable, in the order of the file."""
        return tuple(sorted((p for p in self.found if not p.is_warning), key=lambda p: (p.line, p.column)))

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is only doubtful, in the order of the file."""
        return tuple(sorted((p for p in self.found if p.is_warning), key=lambda p: (p.line, p.column)))

    def raise_if_any(self) -> None:
        """Raise all errors found, if there are any.

        Raises:
            YamlError: With every error; nothing was loaded.
        """
        if errors := self.errors:
            raise YamlError(errors)


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Give the known name most like this one, or nothing when none is like it."""
    names = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold()[:100], names, n=1, cutoff=0.6)
    return names[close[0]] if close else ""

"""Reading values out of nodes: a wrong one becomes a problem that says what was expected and found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from wfe.authoring.yaml.durations import parse_duration
from wfe.authoring.yaml.interpolation import (
    BadExpression,
    Scope,
    UnknownName,
    interpolate,
    split_text,
)
from wfe.authoring.yaml.nodes import Entry, ListNode, MapNode, Node, ScalarNode, describe
from wfe.authoring.yaml.problems import Position, Problems, nearest_name
from wfe.authoring.yaml.schema import Form, Key, Table
from wfe.model.templates import as_text

__all__ = ["INVALID", "Checker", "join"]

INVALID: Final = object()
"""Stands for a value with a problem that is already told."""


class Checker:
    """Reads values of a file, with config filled in, and collects what is wrong."""

    def __init__(self, problems: Problems, config: Mapping[str, object]) -> None:
        self.problems = problems
        self.config = config
        self._load_scope = Scope(config)

    def error(
        self,
        position: Position,
        path: str,
        message: str,
        *,
        expected: str = "",
        nearest: str = "",
        code: str = "definition_invalid",
    ) -> None:
        """Note an error."""
        self.problems.add(position, path, message, expected=expected, nearest=nearest, code=code)

    def warn(self, position: Position, path: str, message: str, *, expected: str = "", nearest: str = "") -> None:
        """Note something doubtful."""
        self.problems.add(position, path, message, expected=expected, nearest=nearest, is_warning=True)

    # --- maps

    def entries(self, node: Node, path: str, table: Table) -> dict[str, Entry]:
        """Give the entries of a map that the table knows and whose values have the right form."""
        if not isinstance(node, MapNode):
            self.error(node.position, path, f"{describe(node)} where {table.what} is meant", expected="a map")
            return {}
        found: dict[str, Entry] = {}
        for entry in node.entries:
            key = table.get(entry.key)
            if key is None:
                self._unknown_key(entry, path, table)
            elif self._is_usable(entry, join(path, entry.key), key):
                found[entry.key] = entry
        present = {entry.key for entry in node.entries}
        for key in table.keys:
            if key.is_required and key.name not in present:
                self.error(
                    node.position, path, f"the key {key.name!r} is missing", expected=f"{key.name}: {key.form.value}"
                )
        return found

    def _unknown_key(self, entry: Entry, path: str, table: Table) -> None:
        if entry.key.startswith(("_", "x-")):
            return
        nearest = nearest_name(entry.key, table.names)
        expected = f"one of {', '.join(table.names)}" if not nearest else ""
        self.problems.add(
            entry.position,
            join(path, entry.key),
            f"{table.what} has no key {entry.key!r}",
            expected=expected,
            nearest=nearest,
            code="unknown_key",
            is_warning=self.problems.lenient,
        )

    def _is_usable(self, entry: Entry, path: str, key: Key) -> bool:
        if not key.is_supported:
            self.error(
                entry.position, path, f"the key {key.name!r} is not supported by this version", code="unsupported_key"
            )
            return False
        wanted: dict[Form, type] = {Form.MAP: MapNode, Form.LIST: ListNode, Form.NAMES: ListNode}
        kind = wanted.get(key.form, Node if key.form is Form.ANY else ScalarNode)
        if key.form is not Form.ANY and not isinstance(entry.value, kind):
            self.error(
                entry.value.position, path, f"{describe(entry.value)} is not right here", expected=key.form.value
            )
            return False
        return True

    # --- scalars; config is filled in, values of the run are not allowed

    def constant(self, node: ScalarNode, path: str) -> object:
        """Give a scalar's value with config filled in; `INVALID` after a problem."""
        try:
            names = [part.text for part in split_text(node.text) if not isinstance(part, str)]
            value = interpolate(node.text, self._load_scope) if names else node.value
        except BadExpression as error:
            self.error(node.position, path, str(error), expected="a dotted path such as ${{ var.name }}")
            return INVALID
        except UnknownName as error:
            expected = f"{error.expected}; here only config values (var.<name>) are known"
            self.error(node.position, path, str(error), expected=expected, nearest=error.nearest)
            return INVALID
        if isinstance(value, Mapping) and "$wfe" in value:
            self.error(
                node.position,
                path,
                f"{', '.join(names)} is known only when the step runs",
                expected="config values (var.<name>) here",
            )
            return INVALID
        return value

    def text(self, entry: Entry | None, path: str, default: str = "") -> str:
        """Give a text; numbers and booleans are taken as they are written."""
        if entry is None or not isinstance(entry.value, ScalarNode):
            return default
        node = entry.value
        if node.value is None and not node.text:
            self.error(node.position, path, "the value is missing", expected=Form.TEXT.value)
            return default
        value = self.constant(node, path)
        if value is INVALID:
            return default
        return node.text if value is node.value else as_text(value)

    def integer(self, entry: Entry | None, path: str, default: int = 0, *, least: int = 0) -> int:
        """Give an integer."""
        if entry is None or not isinstance(entry.value, ScalarNode):
            return default
        value = self._number(entry.value, path)
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        if value is not INVALID:
            self._wrong(entry, path, f"an integer of at least {least}")
        return default

    def number(self, entry: Entry | None, path: str, default: float = 0.0, *, most: float = 1.0) -> float:
        """Give a number from 0 to *most*."""
        if entry is None or not isinstance(entry.value, ScalarNode):
            return default
        value = self._number(entry.value, path)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most:
            return float(value)
        if value is not INVALID:
            self._wrong(entry, path, f"a number from 0 to {most:g}")
        return default

    def _number(self, node: ScalarNode, path: str) -> object:
        value = self.constant(node, path)
        if isinstance(value, str) and value != node.text:
            # Config from a command line is text.
            try:
                return int(value)
            except ValueError:
                return value
        return value

    def boolean(self, entry: Entry | None, path: str, *, default: bool = False) -> bool:
        """Give true or false."""
        if entry is None or not isinstance(entry.value, ScalarNode):
            return default
        value = self.constant(entry.value, path)
        if isinstance(value, bool):
            return value
        if value in ("true", "false") and value != entry.value.text:
            return value == "true"
        if value is not INVALID:
            self._wrong(entry, path, Form.BOOLEAN.value)
        return default

    def duration(self, entry: Entry | None, path: str) -> timedelta | None:
        """Give a duration that is not zero."""
        if entry is None or not isinstance(entry.value, ScalarNode):
            return None
        value = self.constant(entry.value, path)
        if value is INVALID:
            return None
        duration = parse_duration(value)
        if not duration:
            self._wrong(entry, path, Form.DURATION.value)
            return None
        if isinstance(entry.value.value, int):
            self.warn(
                entry.value.position,
                path,
                f"{entry.value.text} without a unit means {entry.value.text} milliseconds",
                expected=f"a unit, such as {entry.value.text}ms",
            )
        return duration

    def choice(self, entry: Entry | None, path: str, choices: tuple[str, ...], default: str) -> str:
        """Give one of some words."""
        if entry is None:
            return default
        word = self.text(entry, path, default)
        if word in choices:
            return word
        self.error(
            entry.value.position,
            path,
            f"{word!r} is not one of the choices",
            expected=f"one of {', '.join(choices)}",
            nearest=nearest_name(word, choices),
        )
        return default

    def names(self, entry: Entry | None, path: str) -> list[str]:
        """Give a list of names."""
        if entry is None or not isinstance(entry.value, ListNode):
            return []
        found: list[str] = []
        for number, item in enumerate(entry.value.items):
            if isinstance(item, ScalarNode) and item.value is not None:
                found.append(self.text(Entry("", item.position, item), f"{path}[{number}]"))
            else:
                self.error(item.position, f"{path}[{number}]", f"{describe(item)} is not right here", expected="a name")
        return found

    def _wrong(self, entry: Entry, path: str, expected: str) -> None:
        self.error(entry.value.position, path, f"{describe(entry.value)} is not right here", expected=expected)


def join(path: str, key: str) -> str:
    """Give the path of a key inside a map."""
    return f"{path}.{key}" if path else key

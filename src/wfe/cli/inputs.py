"""What `-i` and `-c` give: `key=value` as values of the right type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wfe.cli.exits import CommandError

if TYPE_CHECKING:
    from wfe.model.definition import WorkflowDefinition

__all__ = ["checked_inputs", "key_values"]


def key_values(given: Iterable[str], option: str) -> dict[str, str]:
    """Read `key=value` or `key=@file` (the file's text; `key=@@x` is the text `@x`). The last one of a key counts.

    Raises:
        CommandError: One has no key or no `=`, or its file cannot be read.
    """
    found: dict[str, str] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not key or not equals:
            raise CommandError(f"{option} {each!r}: expected key=value or key=@file")
        found[key] = _text(value, f"{option} {key}")
    return found


def _text(value: str, what: str) -> str:
    if value.startswith("@@"):
        return value[1:]
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{what}: the file {value[1:]!r} cannot be read: {error}") from None


def checked_inputs(given: dict[str, str], definition: WorkflowDefinition[Any]) -> tuple[dict[str, object], list[str]]:
    """Give the data to start with, and warnings. Types are those declared; of other inputs, the value's form tells.

    The start checks the same again; here it is done before a store is made.

    Raises:
        CommandError: Inputs are missing or not of their type; all of them are named.
    """
    from wfe.model.errors import DataError
    from wfe.model.inputs import complete_inputs

    declared = {item.name: item for item in definition.inputs or ()}
    values = {key: _value(text, declared[key].type if key in declared else "") for key, text in given.items()}
    try:
        data = complete_inputs(tuple(declared.values()), values, workflow=definition.id)
    except DataError as error:
        raise CommandError(f"{error}\nGive inputs with -i NAME=VALUE, or -i NAME=@FILE.") from None
    return data, [] if definition.inputs is None else [
        _undeclared(key, list(declared)) for key in given if key not in declared
    ]


def _value(text: str, type_name: str) -> object:
    """Read a text as its type. One that is not of it stays text, which the check of all inputs refuses."""
    from wfe.model.value_types import typed_value, value_by_form

    try:
        return typed_value(text, type_name) if type_name else value_by_form(text)
    except ValueError:
        return text


def _undeclared(key: str, names: list[str]) -> str:
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"input {key!r} is not declared by the workflow{hint}"

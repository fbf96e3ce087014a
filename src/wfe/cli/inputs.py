"""What `-i` and `-c` give: `key=value` as values of the right type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wfe.cli.exits import CommandError

if TYPE_CHECKING:
    from wfe.authoring.yaml.documents import Declaration

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


def checked_inputs(
    given: dict[str, str], declared: Sequence[Declaration] | None
) -> tuple[dict[str, object], list[str]]:
    """Give the data to start with, and warnings. Types are those declared; of other inputs, the value's form tells.

    Raises:
        CommandError: Inputs are missing or not of their type; all of them are named.
    """
    from wfe.executors.shell.values import typed_value, value_by_form

    data: dict[str, object] = {}
    problems: list[str] = []
    for item in declared or ():
        if item.name in given:
            try:
                text = given[item.name]
                data[item.name] = typed_value(text, item.type) if item.type else value_by_form(text)
            except ValueError as error:
                problems.append(f"input {item.name!r} ({item.type}): {error}")
        elif item.has_default:
            data[item.name] = item.default
        elif item.type.endswith("?"):
            data[item.name] = None
        else:
            problems.append(f"input {item.name!r} ({item.type or 'any'}) is missing; give it with -i {item.name}=…")
    if problems:
        raise CommandError("\n".join(problems))
    names = [item.name for item in declared or ()]
    further = {key: value_by_form(value) for key, value in given.items() if key not in names}
    return data | further, [] if declared is None else [_undeclared(key, names) for key in further]


def _undeclared(key: str, names: list[str]) -> str:
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"input {key!r} is not declared by the workflow{hint}"

"""Declared inputs: what a workflow is given when it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from wfe.model.errors import DataError
from wfe.model.value_types import checked_value

__all__ = ["Input", "complete_inputs"]


class Input(msgspec.Struct, frozen=True, omit_defaults=True):
    """One declared input."""

    name: str
    type: str = ""
    """As in `wfe.model.value_types`; empty takes anything."""
    has_default: bool = False
    default: object = None
    description: str = ""

    @property
    def is_required(self) -> bool:
        """Whether it has to be given: it has no default, and null is not allowed."""
        return not self.has_default and not self.type.endswith("?")


def complete_inputs(declared: Sequence[Input], given: Mapping[str, object], *, workflow: str) -> dict[str, object]:
    """Give the data to start with: what was given, checked, and defaults for the rest. What is not declared is kept.

    Args:
        workflow: Name of the workflow, for the message.

    Raises:
        DataError: Inputs are missing or not of their type; the message names all of them. Nothing was started.
    """
    data: dict[str, object] = {}
    problems: dict[str, str] = {}
    for each in declared:
        label = f"input {each.name!r} ({each.type or 'any'})"
        if each.name in given:
            try:
                data[each.name] = checked_value(given[each.name], each.type)
            except ValueError as error:
                problems[each.name] = f"{label}: {error}"
        elif each.is_required:
            problems[each.name] = f"{label} is missing"
        else:
            data[each.name] = each.default
    if problems:
        what = f"The inputs of {workflow!r} are not valid, so nothing was started:"
        message = what + "".join(f"\n  - {problem}" for problem in problems.values())
        raise DataError(message, path=f"$.{next(iter(problems))}", reason="input")
    return data | {name: value for name, value in given.items() if name not in data}

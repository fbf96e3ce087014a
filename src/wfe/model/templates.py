"""Settings of a step that name values known only at run time, in a plain form that is stored with the plan.

In a step's config, `{"$wfe": {"path": ["data", "order", "id"]}}` stands for the value found there, with its type, and
`{"$wfe": ["Hello ", {"path": …}]}` for text with values in it. Everything else stands for itself. The first segment of
a path names a root: `data` (the workflow's data), `item`, `index`, `workflow`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias, cast

__all__ = [
    "MARK",
    "MISSING",
    "PathSegment",
    "as_text",
    "has_templates",
    "member_of",
    "resolve",
    "text_template",
    "value_template",
]

MARK = "$wfe"
"""The one key of a map that is a template."""

PathSegment: TypeAlias = str | int


def value_template(path: Sequence[PathSegment]) -> dict[str, object]:
    """Make the template of one value, which keeps its type."""
    return {MARK: {"path": list(path)}}


def text_template(parts: Sequence[str | Sequence[PathSegment]]) -> dict[str, object]:
    """Make the template of a text: strings stand for themselves, paths for the text of the value found there."""
    return {MARK: [part if isinstance(part, str) else {"path": list(part)} for part in parts]}


def resolve(setting: object, roots: Mapping[str, object], on_missing: Callable[[str], None]) -> object:
    """Give a setting with every template in it replaced by its value.

    A path that leads nowhere gives null (in text: nothing) and is told to *on_missing*, in dotted form.
    """
    if isinstance(setting, Mapping):
        content = cast("Mapping[str, object]", setting)
        if MARK in content and len(content) == 1:
            return _fill(content[MARK], roots, on_missing)
        return {key: resolve(value, roots, on_missing) for key, value in content.items()}
    if isinstance(setting, list | tuple):
        return [resolve(item, roots, on_missing) for item in cast("Sequence[object]", setting)]
    return setting


def has_templates(setting: object) -> bool:
    """Tell whether a setting names values known only at run time."""
    if isinstance(setting, Mapping):
        content = cast("Mapping[str, object]", setting)
        return MARK in content or any(map(has_templates, content.values()))
    return isinstance(setting, list | tuple) and any(map(has_templates, cast("Sequence[object]", setting)))


def as_text(value: object) -> str:
    """Give a value as text: text as it is, null as nothing, true/false, numbers; lists and maps as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _fill(template: object, roots: Mapping[str, object], on_missing: Callable[[str], None]) -> object:
    if isinstance(template, list):
        parts = cast("list[object]", template)
        return "".join(part if isinstance(part, str) else as_text(_look_up(part, roots, on_missing)) for part in parts)
    return _look_up(template, roots, on_missing)


MISSING: Final = object()
"""Stands for no value at all, which is not null."""


def member_of(value: object, segment: object) -> object:
    """Give what a map has under a key, or a list at a position; `MISSING` where there is nothing."""
    if isinstance(value, Mapping):
        return cast("Mapping[object, object]", value).get(segment, MISSING)
    if isinstance(value, list | tuple) and isinstance(segment, int):
        items = cast("Sequence[object]", value)
        return items[segment] if -len(items) <= segment < len(items) else MISSING
    return MISSING


def _look_up(expression: object, roots: Mapping[str, object], on_missing: Callable[[str], None]) -> object:
    path = cast("Mapping[str, object]", expression).get("path") if isinstance(expression, Mapping) else None
    if not isinstance(path, list):
        on_missing(repr(expression))
        return None
    segments = cast("list[object]", path)
    value: object = roots
    for segment in segments:
        found = member_of(value, segment)
        if found is not MISSING:
            value = found
        else:
            on_missing(".".join(map(str, segments[1:] if segments[0] == "data" else segments)))
            return None
    return value

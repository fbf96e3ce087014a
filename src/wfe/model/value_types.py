"""The types that inputs and outputs are declared with: `string number integer bool any list<T> map<T>`.

Each may end with `?` for "or null". `integer` may be written `int`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import cast

__all__ = ["checked_value", "parse_json", "typed_value", "value_by_form"]

_MAX_INTEGER = 2**63
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})\.[0-9]{1,17}")
_LIST_TYPE = re.compile(r"(list|map)\s*<(.+)>")
_MAX_SHOWN = 60


def value_by_form(text: str) -> object:
    """Give the value that a text looks like: true/false, null, integer, number, JSON object or list, else the text.

    A number is taken as one only where it can be written back to the same text, so the version `1.10` stays text.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and text != "-0" and -_MAX_INTEGER <= (number := int(text)) < _MAX_INTEGER:
        return number
    if _NUMBER.fullmatch(text) and repr(float(text)) == text:
        return float(text)
    if text[:1] in {"{", "["}:
        try:
            return parse_json(text)
        except ValueError:
            return text
    return text


_WORDS: dict[str, object] = {"true": True, "false": False, "null": None}


def typed_value(value: object, type_name: str) -> object:
    """Give an output as its declared type.

    Types are `string number integer bool any list<T> map<T>`, each with `?` for "or null".

    Raises:
        ValueError: It is not of that type; the text says what was expected and found.
    """
    name = type_name.strip()
    if name.endswith("?"):
        return None if value is None or value in ("", "null") else typed_value(value, name[:-1])
    convert = _CONVERSIONS.get(name)
    if convert is not None:
        return convert(value)
    match = _LIST_TYPE.fullmatch(name)
    if match is None:
        raise ValueError(f"unknown type {type_name!r}")
    return _container(value, match[1], match[2])


def checked_value(value: object, type_name: str) -> object:
    """Give a JSON value, provided that it is of a type as it is; a text is not read as anything else.

    A whole number may stand for an integer however it is written (`3.0`). An empty type takes anything.

    Raises:
        ValueError: It is not of that type; the text says what was expected and found.
    """
    name = type_name.strip()
    if name.endswith("?"):
        return None if value is None else checked_value(value, name[:-1])
    if name in {"", "any"}:
        return value
    if name in _PLAIN:
        expected, is_of_type = _PLAIN[name]
        if not is_of_type(value):
            raise _mismatch(expected, value)
        return int(value) if isinstance(value, float) and name != "number" else value
    match = _LIST_TYPE.fullmatch(name)
    if match is None:
        raise ValueError(f"unknown type {type_name!r}")
    return _checked_members(value, match[1], match[2])


def _checked_members(value: object, kind: str, inner: str) -> object:
    if kind == "list" and isinstance(value, list):
        return [checked_value(item, inner) for item in cast("list[object]", value)]
    if kind == "map" and isinstance(value, Mapping):
        return {key: checked_value(item, inner) for key, item in cast("Mapping[str, object]", value).items()}
    raise _mismatch(f"a {kind}", value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return _is_number(value) and (not isinstance(value, float) or value.is_integer())


_PLAIN: dict[str, tuple[str, Callable[[object], bool]]] = {
    "string": ("text", lambda value: isinstance(value, str)),
    "number": ("a number", _is_number),
    "integer": ("an integer", _is_integer),
    "int": ("an integer", _is_integer),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
}


def parse_json(text: str) -> object:
    """Read JSON whose values can be stored.

    Raises:
        ValueError: It is not JSON, or has numbers or characters that a store cannot keep.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_storable)
        # What JSON escapes can make, but UTF-8 cannot hold: half of a surrogate pair.
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    if "\\u0000" in text and _holds_nul(value):
        raise ValueError("a NUL character")
    return value


def _holds_nul(value: object) -> bool:
    return "\0" in json.dumps(value, ensure_ascii=False).replace("\\u0000", "\0")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _storable(text: str) -> int:
    if len(text) > 20 or not -_MAX_INTEGER <= int(text) < _MAX_INTEGER:  # noqa: PLR2004 - digits of 2**63 and the sign
        raise ValueError(f"the integer {text[:40]} has more than 64 bits")
    return int(text)


def _as_string(value: object) -> object:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_number(value: object) -> object:
    if isinstance(value, str):
        try:
            value = parse_json(value.strip())
        except ValueError:
            raise _mismatch("a number", value) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mismatch("a number", value)
    return value


def _as_integer(value: object) -> object:
    number = _as_number(value)
    if isinstance(number, float) and not number.is_integer():
        raise _mismatch("an integer", value)
    return int(number) if isinstance(number, float) else number


def _as_bool(value: object) -> object:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise _mismatch("true or false", value)


def _as_any(value: object) -> object:
    return value_by_form(value) if isinstance(value, str) else value


_CONVERSIONS = {
    "string": _as_string,
    "number": _as_number,
    "integer": _as_integer,
    "int": _as_integer,
    "bool": _as_bool,
    "any": _as_any,
}


def _container(value: object, kind: str, inner: str) -> object:
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError:
            raise _mismatch(f"a JSON {kind}", value) from None
    if kind == "list" and isinstance(value, list):
        items: list[object] = value
        return [typed_value(item, inner) for item in items]
    if kind == "map" and isinstance(value, Mapping):
        pairs: Mapping[str, object] = value
        return {key: typed_value(item, inner) for key, item in pairs.items()}
    raise _mismatch(f"a JSON {kind}", value)


def _mismatch(expected: str, value: object) -> ValueError:
    shown = json.dumps(value) if isinstance(value, bool) or value is None else repr(value)
    return ValueError(f"expected {expected}, got {shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + '…'}")

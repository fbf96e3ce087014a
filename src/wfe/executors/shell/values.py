"""From the text of an output to its value, and the file through which a step may give outputs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from wfe.executors.shell.errors import ShellStepError
from wfe.executors.shell.output import MAX_OUTPUT_BYTES, is_output_name

__all__ = ["RawOutput", "read_output_file", "typed_value", "value_by_form"]

_MAX_INTEGER = 2**63
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})\.[0-9]{1,17}")
_LIST_TYPE = re.compile(r"(list|map)\s*<(.+)>")


@dataclass(frozen=True)
class RawOutput:
    """An output as the step gave it."""

    value: object
    is_text: bool = False
    """Whether it came as bare text, whose form tells its type, and not as JSON."""

    def typed(self, type_name: str | None) -> object:
        """Give its value as the declared type or, without one, by its form.

        Raises:
            ValueError: It is not of that type.
        """
        if type_name is not None:
            return typed_value(self.value, type_name)
        return value_by_form(self.value) if self.is_text and isinstance(self.value, str) else self.value


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
            return _parse_json(text)
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


def read_output_file(data: bytes) -> dict[str, RawOutput]:
    """Read what a step wrote to `$WFE_OUTPUT`: a JSON object, or lines of `name=value` (or a JSON object a line).

    Raises:
        ShellStepError: It is neither, or a name is not valid, or it is larger than 1 MiB (`output_invalid`).
    """
    if len(data) > MAX_OUTPUT_BYTES:
        raise _invalid(f"it has {len(data)} bytes; at most {MAX_OUTPUT_BYTES} are allowed")
    text = data.decode("utf-8", "replace")
    if "\0" in text:
        raise _invalid("it holds a NUL character")
    values = _whole_object(text)
    if values is None:
        values = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                values.update(_read_line(line, number))
    for name in values:
        if not is_output_name(name):
            raise _invalid(
                f"the name {name[:40]!r} is not valid: letters, digits, _ and -, not beginning with a digit or _wfe"
            )
    return values


def _whole_object(text: str) -> dict[str, RawOutput] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = _parse_json(text)
    except ValueError:
        return None
    return _members(value) if isinstance(value, dict) else None


def _members(value: Mapping[str, object]) -> dict[str, RawOutput]:
    return {name: RawOutput(member) for name, member in value.items()}


def _read_line(line: str, number: int) -> dict[str, RawOutput]:
    if line.lstrip().startswith("{"):
        try:
            value = _parse_json(line)
        except ValueError as error:
            raise _invalid(f"line {number} is not JSON: {error}") from None
        if isinstance(value, dict):
            return _members(value)
    name, equals, text = line.partition("=")
    if not equals:
        raise _invalid(f"line {number} is {line[:40]!r}; expected name=value")
    return {name.strip(): RawOutput(text, is_text=True)}


def _invalid(what: str) -> ShellStepError:
    return ShellStepError(f"The step's output file ($WFE_OUTPUT) cannot be used: {what}.", code="output_invalid")


def _parse_json(text: str) -> object:
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
            value = _parse_json(value.strip())
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
            value = _parse_json(value)
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
    shown = repr(value)
    return ValueError(f"expected {expected}, got {shown if len(shown) <= 60 else shown[:60] + '…'}")  # noqa: PLR2004

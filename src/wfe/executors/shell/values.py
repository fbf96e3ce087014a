"""From the text of an output to its value, and the file through which a step may give outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wfe.executors.shell.errors import ShellStepError
from wfe.executors.shell.output import MAX_OUTPUT_BYTES, is_output_name
from wfe.model.value_types import parse_json, typed_value, value_by_form

__all__ = ["RawOutput", "encoded", "read_output_file"]


def encoded(text: str) -> bytes:
    """Give a text as commands get it: UTF-8, whatever the locale of this process has a place for.

    What came from the system as bytes of no known meaning goes back as those bytes.
    """
    return text.encode("utf-8", "surrogateescape")


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
        value = parse_json(text)
    except ValueError:
        return None
    return _members(value) if isinstance(value, dict) else None


def _members(value: Mapping[str, object]) -> dict[str, RawOutput]:
    return {name: RawOutput(member) for name, member in value.items()}


def _read_line(line: str, number: int) -> dict[str, RawOutput]:
    if line.lstrip().startswith("{"):
        try:
            value = parse_json(line)
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

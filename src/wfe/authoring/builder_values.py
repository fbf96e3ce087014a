"""Values of steps: what an author gives as a literal, a field, a condition or a callable, as slots of the plan.

Every function here answers with a `Slot`, or raises `ValueError` with the problem in words.
"""

# ruff: noqa: TRY004 - whatever is wrong with a value, the contract is ValueError

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, cast

from wfe.authoring.builder_blocks import positional_parameters
from wfe.model.conditions import Condition, FieldPath, FieldRef, parse_field_path
from wfe.model.definition import Code, ConditionTree, Field, Literal, Value
from wfe.model.document import decode_plain, encode_value
from wfe.model.durations import to_timedelta
from wfe.model.errors import DataError
from wfe.model.step_body import WithContext

__all__ = [
    "Slot",
    "as_of_slot",
    "child_inputs_slot",
    "child_outputs_slot",
    "code_label",
    "collection_slot",
    "condition_slot",
    "duration_slot",
    "plain_json",
    "positive_duration",
    "source_slot",
    "text_slot",
    "value_slot",
]


class Slot(NamedTuple):
    """A value of the plan and, for `Code`, the callable beside it."""

    value: Value
    code: Callable[..., object] | None = None


def value_slot(value: object) -> Slot:
    """Take a literal, a field of the data (`ref(…)`), a condition, or a callable of the data or of (data, context)."""
    if isinstance(value, FieldRef):
        return Slot(_field(value.path))
    if isinstance(value, Condition):
        return Slot(ConditionTree(value.to_plain()))
    if callable(value):
        return _code(value)
    return Slot(Literal(plain_json(value)))


def condition_slot(value: object) -> Slot:
    """Take a condition or a callable of the data or of (data, context)."""
    if isinstance(value, Condition):
        return Slot(ConditionTree(value.to_plain()))
    if isinstance(value, FieldRef):
        raise ValueError(f"{value!r} is a field, not a condition; compare it, for example {value!r} == True")
    if callable(value):
        return _code(value)
    raise ValueError(f"expected a function of the data, or a condition as ref('.amount') > 100, got {_short(value)}")


def collection_slot(value: object) -> Slot:
    """Take the name or path of a field, a literal list, or a callable that gives the items."""
    if isinstance(value, str):
        return Slot(_field(parse_field_path(value)))
    if isinstance(value, FieldRef) or callable(value):
        return value_slot(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return Slot(Literal(plain_json(list(cast("Sequence[object]", value)))))
    raise ValueError(f"expected a list, the name of a data field or a function of the data, got {_short(value)}")


def duration_slot(value: object) -> Slot:
    """Take a duration, an aware datetime, or a callable that gives one of these."""
    if isinstance(value, FieldRef) or callable(value):
        return value_slot(value)
    if isinstance(value, datetime):
        return Slot(Literal(_moment(value)))
    seconds = to_timedelta(value).total_seconds()  # type: ignore[arg-type]  # it refuses anything else
    if seconds < 0:
        raise ValueError(f"a delay must not be negative, got {value!r}")
    return Slot(Literal(int(seconds) if seconds.is_integer() else seconds))


def text_slot(value: object) -> Slot:
    """Take text (or a number, as text) or a callable that gives it."""
    if isinstance(value, FieldRef) or callable(value):
        return value_slot(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"expected text or a function of the data, got {_short(value)}")
    text = str(value)
    if not text:
        raise ValueError("expected text, got an empty one")
    return Slot(Literal(plain_json(text)))


def as_of_slot(value: object) -> Slot:
    """Take an aware datetime, the word `any`, or a callable that gives one of these."""
    if isinstance(value, FieldRef) or callable(value):
        return value_slot(value)
    if isinstance(value, datetime):
        return Slot(Literal(_moment(value)))
    if value == "any":
        return Slot(Literal("any"))
    raise ValueError(f'expected an aware datetime, "any" or a function of the data, got {_short(value)}')


def source_slot(value: object) -> Slot:
    """Take the name of an attribute of the body, or a callable of the body."""
    if isinstance(value, str):
        if not value.isidentifier():
            raise ValueError(f"{value!r} is not the name of an attribute")
        return Slot(Field(value))
    if callable(value):
        slot = _code(value)
        if isinstance(slot.code, WithContext):
            raise ValueError("the source of an output takes the body alone, got a function of two arguments")
        return slot
    raise ValueError(f"expected the name of an attribute of the body, or a function of the body, got {_short(value)}")


def child_inputs_slot(value: object) -> Slot:
    """Take a mapping whose values are literals, fields or callables; or one callable that gives the child's data."""
    if isinstance(value, Mapping):
        entries = {_key(name): value_slot(item) for name, item in cast("Mapping[object, object]", value).items()}
        if all(isinstance(slot.value, Literal) for slot in entries.values()):
            plain = {name: slot.value.value for name, slot in entries.items() if isinstance(slot.value, Literal)}
            return Slot(Literal(plain))
        _refuse_conditions(entries)
        return Slot(Code(f"{{{', '.join(entries)}}}"), WithContext(ChildInputs(entries)))
    if isinstance(value, FieldRef) or callable(value):
        return value_slot(value)
    raise ValueError(f"expected a mapping or a function of the data, got {_short(value)}")


def child_outputs_slot(value: object) -> Slot:
    """Take data field → field of the child's data, or callable of it; or one callable of the child's data."""
    if isinstance(value, Mapping):
        entries = {_key(name): _child_source(item) for name, item in cast("Mapping[object, object]", value).items()}
        return Slot(Code(f"{{{', '.join(entries)}}}"), ChildOutputs(entries))
    if callable(value):
        slot = _code(value)
        if isinstance(slot.code, WithContext):
            raise ValueError("outputs are a function of the child's data alone, got a function of two arguments")
        return slot
    raise ValueError(f"expected a mapping or a function of the child's data, got {_short(value)}")


@dataclass(frozen=True)
class ChildInputs:
    """The data for a child, put together from the parent's, field by field."""

    entries: Mapping[str, Slot]

    def __call__(self, data: object, context: object) -> dict[str, object]:
        """Evaluate every entry."""
        return {name: self._value(slot, data, context) for name, slot in self.entries.items()}

    @staticmethod
    def _value(slot: Slot, data: object, context: object) -> object:
        if isinstance(slot.code, WithContext):
            return slot.code(data, context)
        if slot.code is not None:
            return slot.code(data)
        if isinstance(slot.value, Field):
            return _read(data, parse_field_path(slot.value.path))
        return slot.value.value if isinstance(slot.value, Literal) else None


@dataclass(frozen=True)
class ChildOutputs:
    """What a child's end brings into the parent's data, field by field."""

    entries: Mapping[str, FieldPath | Callable[..., object]]

    def __call__(self, child: object) -> dict[str, object]:
        """Read every entry from the child's data."""
        return {
            name: source(child) if callable(source) else _read(child, source) for name, source in self.entries.items()
        }


def plain_json(value: object) -> object:
    """Give a copy as plain JSON values (tuples become lists).

    Raises:
        ValueError: Something in it is no JSON value; the text names its path.
    """
    try:
        return decode_plain(encode_value(value))
    except DataError as error:
        raise ValueError(f"{error} A function may give such a value when the step is reached.") from error
    except RecursionError:
        raise ValueError("the value contains itself or is nested too deeply") from None


def positive_duration(value: object) -> timedelta:
    """Give a time limit."""
    duration = to_timedelta(value)  # type: ignore[arg-type]  # it refuses anything else
    if duration <= timedelta(0):
        raise ValueError(f"a time limit must be above zero, got {value!r}")
    return duration


def code_label(function: object) -> str:
    """Name a callable for people."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(named, '__module__', '')}:{getattr(named, '__qualname__', '')}"


def _code(function: Callable[..., object]) -> Slot:
    parameters = positional_parameters(function)
    if parameters is None or len(parameters) == 1:
        return Slot(Code(code_label(function)), function)
    if len(parameters) == 2:  # noqa: PLR2004 - (data, context)
        return Slot(Code(code_label(function)), WithContext(function))
    count = len(parameters)
    raise ValueError(f"a function of the data takes (data) or (data, context); {code_label(function)} takes {count}")


def _field(path: FieldPath) -> Field:
    for segment in path:
        if (isinstance(segment, str) and "." in segment) or (isinstance(segment, int) and segment < 0):
            raise ValueError(f"the path segment {segment!r} cannot stand here; give a function of the data instead")
    return Field(".".join(map(str, path)))


def _moment(when: datetime) -> dict[str, object]:
    if when.tzinfo is None:
        raise ValueError(f"expected an aware datetime, got {when!r}; add a time zone")
    return {"at": when.astimezone(UTC).isoformat()}


def _child_source(value: object) -> FieldPath | Callable[..., object]:
    if isinstance(value, FieldRef):
        return value.path
    if isinstance(value, str):
        return parse_field_path(value)
    if callable(value):
        return value
    raise ValueError(f"expected the name of a field of the child's data, or a function of it, got {_short(value)}")


def _refuse_conditions(entries: Mapping[str, Slot]) -> None:
    for name, slot in entries.items():
        if isinstance(slot.value, ConditionTree):
            raise ValueError(f"{name!r} is a condition; give a function of the data instead")


def _key(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ValueError(f"names of fields are text, got {name!r}")
    if name.startswith("_wfe"):
        raise ValueError(f"names that start with _wfe are reserved, got {name!r}")
    return name


def _read(data: object, path: FieldPath) -> object:
    for segment in path:
        if isinstance(data, Mapping):
            data = cast("Mapping[object, object]", data)[segment]
        elif isinstance(data, Sequence):
            data = cast("Sequence[object]", data)[int(segment)]
        else:
            data = cast("object", getattr(data, str(segment)))
    return data


def _short(value: object) -> str:
    return f"{value!r:.80}"

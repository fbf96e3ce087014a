"""Conditions as plain data: what a builder or a pipeline file says about the workflow's data, stored with the plan.

`ref(".amount") > 100` makes a comparison; `&`, `|`, `~` and `all_of`, `any_of`, `none_of`, `one_of` join them.
Evaluation is total: it never raises. A field that is missing makes its comparison false (`is_null` and `exists(False)`
are true then), values of unlike kinds are unequal and unordered, numbers compare by value, and true is not 1.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Final, NoReturn, TypeAlias, cast

from wfe.model.patterns import compile_pattern

__all__ = [
    "OPERATORS",
    "AllOf",
    "AnyOf",
    "Compare",
    "Condition",
    "FieldPath",
    "FieldRef",
    "NoneOf",
    "Not",
    "OneOf",
    "all_of",
    "any_of",
    "condition_from_plain",
    "format_field_path",
    "none_of",
    "one_of",
    "parse_field_path",
    "ref",
]

FieldPath: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of the data down."""

_MAX_DEPTH = 64
_MISSING: Final = object()
_NO_BOOL = (
    "a condition has no truth value of its own, as there is no data yet; join conditions with & | ~ (in parentheses) "
    "or all_of/any_of/none_of/one_of, not with and/or/not, and do not chain comparisons"
)


class Condition(ABC):
    """A question about the workflow's data, answered when a step is reached. Immutable, equal by value."""

    @abstractmethod
    def evaluate(self, data: Mapping[str, object]) -> bool:
        """Answer for this data. Never raises."""

    @abstractmethod
    def to_plain(self) -> dict[str, object]:
        """Give the JSON form, which is the form of `when:` in pipeline files; `condition_from_plain` reads it."""

    def __and__(self, other: Condition) -> Condition:
        return AllOf((*_parts(AllOf, self), *_parts(AllOf, other)))

    def __or__(self, other: Condition) -> Condition:
        return AnyOf((*_parts(AnyOf, self), *_parts(AnyOf, other)))

    def __invert__(self) -> Condition:
        return Not(self)

    def __bool__(self) -> NoReturn:
        raise TypeError(_NO_BOOL)


@dataclass(frozen=True)
class Compare(Condition):
    """One field held against one value by one of `OPERATORS`."""

    path: FieldPath
    operator: str
    operand: object

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise ValueError(f"{self.operator!r} is no operator; expected one of {', '.join(OPERATORS)}")
        _check_operand(self.operator, self.operand)

    def evaluate(self, data: Mapping[str, object]) -> bool:
        value = _find(data, self.path)
        return OPERATORS[self.operator](value, self.operand)

    def to_plain(self) -> dict[str, object]:
        return {"field": format_field_path(self.path), self.operator: self.operand}

    def __hash__(self) -> int:
        # The operand may be a list or a map.
        return hash((self.path, self.operator))


@dataclass(frozen=True)
class _Joined(Condition):
    conditions: tuple[Condition, ...]

    def _plain(self, word: str) -> dict[str, object]:
        return {word: [condition.to_plain() for condition in self.conditions]}


@dataclass(frozen=True)
class AllOf(_Joined):
    """True when every condition is true; of none: true."""

    def evaluate(self, data: Mapping[str, object]) -> bool:
        return all(condition.evaluate(data) for condition in self.conditions)

    def to_plain(self) -> dict[str, object]:
        return self._plain("all")


@dataclass(frozen=True)
class AnyOf(_Joined):
    """True when at least one condition is true; of none: false."""

    def evaluate(self, data: Mapping[str, object]) -> bool:
        return any(condition.evaluate(data) for condition in self.conditions)

    def to_plain(self) -> dict[str, object]:
        return self._plain("any")


@dataclass(frozen=True)
class NoneOf(_Joined):
    """True when no condition is true."""

    def evaluate(self, data: Mapping[str, object]) -> bool:
        return not any(condition.evaluate(data) for condition in self.conditions)

    def to_plain(self) -> dict[str, object]:
        return self._plain("none")


@dataclass(frozen=True)
class OneOf(_Joined):
    """True when exactly one condition is true."""

    def evaluate(self, data: Mapping[str, object]) -> bool:
        return sum(condition.evaluate(data) for condition in self.conditions) == 1

    def to_plain(self) -> dict[str, object]:
        return self._plain("one_of")


@dataclass(frozen=True)
class Not(Condition):
    """True when the condition is false."""

    condition: Condition

    def evaluate(self, data: Mapping[str, object]) -> bool:
        return not self.condition.evaluate(data)

    def to_plain(self) -> dict[str, object]:
        return {"not": self.condition.to_plain()}


def all_of(*conditions: Condition) -> Condition:
    """Give a condition that is true when all of these are."""
    return AllOf(_checked(conditions))


def any_of(*conditions: Condition) -> Condition:
    """Give a condition that is true when at least one of these is."""
    return AnyOf(_checked(conditions))


def none_of(*conditions: Condition) -> Condition:
    """Give a condition that is true when none of these is."""
    return NoneOf(_checked(conditions))


def one_of(*conditions: Condition) -> Condition:
    """Give a condition that is true when exactly one of these is."""
    return OneOf(_checked(conditions))


class FieldRef:
    """A field of the workflow's data, to be compared: `ref(".amount") > 100`, `ref("tags").contains("urgent")`."""

    __slots__ = ("path",)

    def __init__(self, path: FieldPath) -> None:
        self.path = path

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]  # makes a condition, as documented
        return Compare(self.path, "equals", value)

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]  # as above
        return Compare(self.path, "not_equals", value)

    def __gt__(self, value: object) -> Condition:
        return Compare(self.path, "gt", value)

    def __ge__(self, value: object) -> Condition:
        return Compare(self.path, "gte", value)

    def __lt__(self, value: object) -> Condition:
        return Compare(self.path, "lt", value)

    def __le__(self, value: object) -> Condition:
        return Compare(self.path, "lte", value)

    __hash__ = None  # type: ignore[assignment]  # == does not answer, so it cannot be a key

    def contains(self, value: object) -> Condition:
        """Hold when the text has this part, the list this element, or the map this key."""
        return Compare(self.path, "contains", value)

    def is_null(self) -> Condition:
        """Hold when the field is null or missing."""
        return Compare(self.path, "is_null", operand=True)

    def is_not_null(self) -> Condition:
        """Hold when the field is there and not null."""
        return Compare(self.path, "is_not_null", operand=True)

    def exists(self, expected: bool = True) -> Condition:  # noqa: FBT001, FBT002 - reads as `exists(False)`
        """Hold when the field is there, null or not (or, with False, when it is missing)."""
        return Compare(self.path, "exists", expected)

    def matches(self, pattern: str) -> Condition:
        """Hold when the text has a match of this pattern (see `wfe.model.patterns`).

        Raises:
            ValueError: The pattern is not of the supported subset.
        """
        return Compare(self.path, "matches", pattern)

    def __bool__(self) -> NoReturn:
        raise TypeError(f"compare the field, for example ref({format_field_path(self.path)!r}) == True; {_NO_BOOL}")

    def __repr__(self) -> str:
        return f"ref({format_field_path(self.path)!r})"


def ref(path: str) -> FieldRef:
    """Name a field of the data: `.order.lines[0].price`.

    The leading dot may be left out; names that hold dots, brackets or spaces are quoted (`."a b"`).

    Raises:
        ValueError: The path is not of this form.
    """
    return FieldRef(parse_field_path(path))


_SEGMENT = re.compile(r'\.?([^\s."\[\]]+)|\.?("(?:[^"\\]|\\.)*")|\[(-?\d{1,9})\]|\[("(?:[^"\\]|\\.)*")\]')


def parse_field_path(text: str) -> FieldPath:
    """Read `a.b[0]."odd name"`, with or without a leading dot.

    Raises:
        ValueError: The text is not a path.
    """
    path: list[str | int] = []
    at = 0
    while at < len(text):
        match = _SEGMENT.match(text, at)
        if match is None or (at > 0 and text[at] not in ".["):
            break
        name, quoted, index, bracketed = match.groups()
        path.append(int(index) if index is not None else name if name is not None else _unquoted(quoted or bracketed))
        at = match.end()
    if at < len(text) or not path or len(path) > _MAX_DEPTH:
        raise ValueError(f"{text!r} is not the path of a field; expected names joined by dots, such as .order.amount")
    return tuple(path)


def format_field_path(path: FieldPath) -> str:
    """Write a path so that `parse_field_path` gives it back."""
    return "".join(
        f"[{segment}]"
        if isinstance(segment, int)
        else f".{segment}"
        if _is_plain(segment)
        else f".{json.dumps(segment)}"
        for segment in path
    )


def condition_from_plain(plain: object) -> Condition:
    """Read the JSON form of a condition.

    Raises:
        ValueError: It is not a condition; the text names the place inside it.
    """
    return _from_plain(plain, "", 0)


_JOINS: dict[str, type[_Joined]] = {"all": AllOf, "any": AnyOf, "none": NoneOf, "one_of": OneOf}


def _from_plain(plain: object, where: str, depth: int) -> Condition:
    if depth > _MAX_DEPTH:
        raise ValueError(f"the condition is nested deeper than {_MAX_DEPTH}")
    if not isinstance(plain, Mapping) or not all(isinstance(key, str) for key in plain):
        raise ValueError(f"{where or 'the condition'} must be a map with 'field' and an operator, got {plain!r:.80}")
    content: dict[str, object] = {str(key): value for key, value in plain.items()}
    if "field" in content:
        return _comparison_from_plain(content, where)
    if len(content) != 1:
        raise ValueError(f"{where or 'the condition'} must have 'field' and one operator, or one of {_JOIN_WORDS}")
    ((word, value),) = content.items()
    inside = f"{where}.{word}" if where else word
    if word == "not":
        return Not(_from_plain(value, inside, depth + 1))
    join = _JOINS.get(word)
    if join is None or not isinstance(value, list | tuple):
        raise ValueError(f"{inside}: expected one of {_JOIN_WORDS} with a list of conditions")
    items: Sequence[object] = value
    return join(tuple(_from_plain(item, f"{inside}[{number}]", depth + 1) for number, item in enumerate(items)))


_JOIN_WORDS = "all, any, none, one_of, not"


def _comparison_from_plain(content: Mapping[str, object], where: str) -> Condition:
    operators = [key for key in content if key != "field"]
    field = content["field"]
    if len(operators) != 1 or not isinstance(field, str):
        raise ValueError(f"{where or 'the condition'} needs a field and exactly one operator, got {', '.join(content)}")
    return Compare(parse_field_path(field), operators[0], content[operators[0]])


# --- values


def _find(data: object, path: FieldPath) -> object:
    value = data
    for segment in path:
        if (content := _as_map(value)) is not None:
            found = content.get(segment, _MISSING)
            value = content.get(str(segment), _MISSING) if found is _MISSING else found
        elif (items := _as_list(value)) is not None:
            value = _element(items, segment)
        else:
            return _MISSING
        if value is _MISSING:
            return _MISSING
    return value


def _as_map(value: object) -> Mapping[object, object] | None:
    return cast("Mapping[object, object]", value) if isinstance(value, Mapping) else None


def _as_list(value: object) -> Sequence[object] | None:
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else None


def _element(items: Sequence[object], segment: str | int) -> object:
    if isinstance(segment, str):
        if not re.fullmatch(r"-?[0-9]{1,9}", segment):
            return _MISSING
        segment = int(segment)
    return items[segment] if -len(items) <= segment < len(items) else _MISSING


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _equal(left: object, right: object) -> bool:
    """Equality of JSON values: numbers by value, true unequal to 1, lists and maps member by member."""
    # A stack instead of recursion: data may nest deeper than Python calls may.
    pending = [(left, right)]
    while pending:
        a, b = pending.pop()
        if _is_number(a) or _is_number(b):
            if not (_is_number(a) and _is_number(b) and a == b):
                return False
            continue
        members = _paired(a, b)
        if members is None:
            return False
        pending += members
    return True


def _paired(left: object, right: object) -> list[tuple[object, object]] | None:
    """Give the members to compare with each other, or None where the two differ already."""
    left_map, right_map = _as_map(left), _as_map(right)
    if left_map is not None and right_map is not None:
        same = left_map.keys() == right_map.keys()
        return [(value, right_map[key]) for key, value in left_map.items()] if same else None
    left_list, right_list = _as_list(left), _as_list(right)
    if left_list is not None and right_list is not None:
        return list(zip(left_list, right_list, strict=True)) if len(left_list) == len(right_list) else None
    return [] if isinstance(left, bool) == isinstance(right, bool) and left == right else None


def _order(left: object, right: object) -> int | None:
    """Give -1, 0 or 1, or None where the two have no order."""
    ordered = (
        (_is_number(left) and _is_number(right))
        or (isinstance(left, str) and isinstance(right, str))
        or (type(left) is type(right) and isinstance(left, date | datetime | time))
    )
    if not ordered:
        return None
    try:
        # Both are of one ordered kind, as checked above.
        below, above = left < right, left > right  # type: ignore[operator]  # as said
    except (TypeError, ArithmeticError):  # aware and naive times; Decimal("sNaN")
        return None
    return -1 if below else 1 if above else 0 if left == right else None


def _ordered(accept: Callable[[int], bool]) -> Callable[[object, object], bool]:
    def test(value: object, operand: object) -> bool:
        order = _order(value, operand)
        return order is not None and accept(order)

    return test


def _contains(value: object, operand: object) -> bool:
    if isinstance(value, str):
        return isinstance(operand, str) and operand in value
    if (content := _as_map(value)) is not None:
        return isinstance(operand, str) and operand in content
    return any(_equal(item, operand) for item in _as_list(value) or ())


def _matches(value: object, operand: object) -> bool:
    return isinstance(value, str) and isinstance(operand, str) and compile_pattern(operand).search(value)


OPERATORS: Final[Mapping[str, Callable[[object, object], bool]]] = {
    "equals": lambda value, operand: value is not _MISSING and _equal(value, operand),
    "not_equals": lambda value, operand: value is not _MISSING and not _equal(value, operand),
    "gt": _ordered(lambda order: order > 0),
    "gte": _ordered(lambda order: order >= 0),
    "lt": _ordered(lambda order: order < 0),
    "lte": _ordered(lambda order: order <= 0),
    "contains": _contains,
    "is_null": lambda value, operand: (value is _MISSING or value is None) == operand,
    "is_not_null": lambda value, operand: (value is not _MISSING and value is not None) == operand,
    "exists": lambda value, operand: (value is not _MISSING) == operand,
    "matches": _matches,
}
"""Operator name → test of (value found, operand). A missing field comes as a marker that only the null tests accept."""

_FLAG_OPERATORS = ("is_null", "is_not_null", "exists")


def _check_operand(operator: str, operand: object) -> None:
    if operator in _FLAG_OPERATORS:
        if not isinstance(operand, bool):
            raise ValueError(f"{operator} takes true or false, got {operand!r:.80}")
    elif operator == "matches":
        if not isinstance(operand, str):
            raise ValueError(f"matches takes a pattern as text, got {operand!r:.80}")
        compile_pattern(operand)
    elif operator in {"gt", "gte", "lt", "lte"} and not (isinstance(operand, str) or _is_number(operand)):
        raise ValueError(f"{operator} takes a number or text, got {operand!r:.80}")
    else:
        _check_plain(operand, 0)


def _check_plain(value: object, depth: int) -> None:
    """Refuse what could not be stored with the plan."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"the value of a condition is nested deeper than {_MAX_DEPTH}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a condition cannot hold {value!r}")
    if value is None or isinstance(value, str | int | float):
        return
    content, items = _as_map(value), _as_list(value)
    if content is not None and all(isinstance(key, str) for key in content):
        items = list(content.values())
    if items is None:
        raise ValueError(
            f"a condition is stored as JSON and cannot hold a {type(value).__name__}; "
            "expected text, number, boolean, null, list or map"
        )
    for item in items:
        _check_plain(item, depth + 1)


def _parts(kind: type[_Joined], condition: Condition) -> tuple[Condition, ...]:
    _checked((condition,))
    return condition.conditions if isinstance(condition, _Joined) and type(condition) is kind else (condition,)


def _checked(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    for condition in conditions:
        if not isinstance(condition, Condition):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise TypeError(f'expected conditions such as ref(".amount") > 100, got {condition!r:.80}')
    return conditions


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        raise ValueError(f"{text} is not a quoted name") from None


def _is_plain(name: str) -> bool:
    return re.fullmatch(r'[^\s."\[\]\\]+', name) is not None

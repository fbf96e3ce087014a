"""`when:` trees as conditions on the workflow's data."""

from __future__ import annotations

from wfe.authoring.yaml.checks import INVALID, Checker, join
from wfe.authoring.yaml.interpolation import Constant, RuntimePath, Scope, UnknownName
from wfe.authoring.yaml.nodes import Entry, ListNode, MapNode, Node, ScalarNode, describe
from wfe.authoring.yaml.schema import CONDITION
from wfe.model.conditions import (
    OPERATORS,
    AllOf,
    AnyOf,
    Compare,
    Condition,
    NoneOf,
    Not,
    OneOf,
    parse_field_path,
)

__all__ = ["read_condition"]

_JOINS: dict[str, type[AllOf | AnyOf | NoneOf | OneOf]] = {"all": AllOf, "any": AnyOf, "none": NoneOf, "one_of": OneOf}
_ALWAYS = AllOf(())
_NEVER = AnyOf(())


def read_condition(node: Node, path: str, check: Checker, scope: Scope) -> Condition:
    """Give the condition of a `when:`; one with problems comes out as always true."""
    if not isinstance(node, MapNode):
        what = (
            "conditions as text are not supported by this version"
            if _is_text(node)
            else f"{describe(node)} is no condition"
        )
        check.error(
            node.position,
            path,
            what,
            expected="a map with 'field' and one operator, or one of all, any, none, one_of, not",
        )
        return _ALWAYS
    entries = check.entries(node, path, CONDITION)
    words = [key for key in entries if key != "field"]
    is_comparison = "field" in entries
    allowed = [word for word in words if (word in OPERATORS) == is_comparison]
    if len(entries) != len([e for e in node.entries if not e.key.startswith(("_", "x-"))]):
        return _ALWAYS  # a key is wrong, and already told
    if len(words) != 1 or allowed != words:
        expected = (
            f"'field' and exactly one of {', '.join(OPERATORS)}"
            if is_comparison
            else "'field' and an operator, or one of all, any, none, one_of, not"
        )
        check.error(node.position, path, f"the condition has {', '.join(entries) or 'no keys'}", expected=expected)
        return _ALWAYS
    word = words[0]
    if is_comparison:
        return _comparison(entries["field"], entries[word], path, check, scope)
    return _joined(word, entries[word], join(path, word), check, scope)


def _is_text(node: Node) -> bool:
    return isinstance(node, ScalarNode) and isinstance(node.value, str)


def _joined(word: str, entry: Entry, path: str, check: Checker, scope: Scope) -> Condition:
    if word == "not":
        return Not(read_condition(entry.value, path, check, scope))
    items = entry.value.items if isinstance(entry.value, ListNode) else ()
    if not items:
        check.error(entry.value.position, path, "the list is empty", expected="at least one condition")
    return _JOINS[word](
        tuple(read_condition(item, f"{path}[{number}]", check, scope) for number, item in enumerate(items))
    )


def _comparison(field: Entry, operator: Entry, path: str, check: Checker, scope: Scope) -> Condition:
    operand = _operand(operator.value, join(path, operator.key), check)
    where = _field(field, join(path, "field"), check, scope)
    if where is None:
        return _ALWAYS
    try:
        if isinstance(where, Constant):
            is_true = Compare(("value",), operator.key, operand).evaluate({"value": where.value})
            return _ALWAYS if is_true else _NEVER
        return Compare(where.path[1:], operator.key, operand)
    except ValueError as error:
        check.error(operator.value.position, join(path, operator.key), str(error))
        return _ALWAYS


def _operand(node: Node, path: str, check: Checker) -> object:
    match node:
        case ScalarNode():
            value = check.constant(node, path)
            return None if value is INVALID else value
        case ListNode():
            return [_operand(item, f"{path}[{number}]", check) for number, item in enumerate(node.items)]
        case MapNode():
            return {entry.key: _operand(entry.value, join(path, entry.key), check) for entry in node.entries}


def _field(entry: Entry, path: str, check: Checker, scope: Scope) -> Constant | RuntimePath | None:
    text = check.text(entry, path)
    try:
        segments = parse_field_path(text)
    except ValueError as error:
        check.error(entry.value.position, path, str(error))
        return None
    try:
        resolved = scope.resolve(segments)
    except UnknownName as error:
        if error.is_bare or text.startswith("."):
            # Data may have more fields than are declared; then the comparison is simply false.
            check.warn(entry.value.position, path, str(error), expected=error.expected, nearest=error.nearest)
            return RuntimePath(("data", *segments))
        check.error(entry.value.position, path, str(error), expected=error.expected, nearest=error.nearest)
        return None
    if isinstance(resolved, Constant) or (isinstance(resolved, RuntimePath) and resolved.path[0] == "data"):
        return resolved
    check.error(
        entry.value.position,
        path,
        f"{text!r} cannot be asked in a condition",
        expected="inputs, outputs, steps.<name> or var",
    )
    return None

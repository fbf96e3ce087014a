from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfe.model.templates import as_text
from wfe.model.value_types import checked_value, typed_value, value_by_form


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("null", None),
        ("12", 12),
        ("-3", -3),
        ("1.5", 1.5),
        ("1.10", "1.10"),
        ("007", "007"),
        ("1e5", "1e5"),
        ("-0", "-0"),
        ("99999999999999999999", "99999999999999999999"),
        ("NaN", "NaN"),
        ('{"a": [1]}', {"a": [1]}),
        ("[1, 2]", [1, 2]),
        ("[x]", "[x]"),
        ("[NaN]", "[NaN]"),
        ('["\\ud800"]', '["\\ud800"]'),
        ("[1e999]", "[1e999]"),
        ("True", "True"),
        ("", ""),
        (" 1", " 1"),
    ],
)
def test_values_by_form(text: str, value: object) -> None:
    """Without a declared type, a text is what it can be written back from; all else stays text."""
    assert value_by_form(text) == value
    assert type(value_by_form(text)) is type(value)


@given(st.from_regex(r"-?[0-9.]{1,25}", fullmatch=True))
def test_numbers_by_form_lose_nothing(text: str) -> None:
    """What is taken as a number is written back as the same text."""
    assert as_text(value_by_form(text)) == text


@pytest.mark.parametrize(
    ("text", "type_name", "value"),
    [
        ("1.10", "string", "1.10"),
        ("true", "string", "true"),
        ("1.10", "number", 1.1),
        ("2.0", "integer", 2),
        ("5", "int", 5),
        ("true", "bool", True),
        ("[1,2]", "list<int>", [1, 2]),
        ('["1"]', "list<number>", [1]),
        ('{"a": null}', "map<int?>", {"a": None}),
        ("", "int?", None),
        ("null", "string?", None),
        ("7", "any", 7),
        ('[["a"]]', "list<list<string>>", [["a"]]),
    ],
)
def test_declared_types(text: str, type_name: str, value: object) -> None:
    """A declared type decides what a text means."""
    found = typed_value(text, type_name)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "type_name"),
    [
        ("x", "number"),
        ("1.5", "integer"),
        ("1", "bool"),
        ("x", "list<int>"),
        ("[true]", "list<int>"),
        ("{}", "list<int>"),
        ("1", "date"),
    ],
)
def test_values_of_another_type_are_refused(text: str, type_name: str) -> None:
    """What is not of its declared type says what was expected."""
    with pytest.raises(ValueError, match=r"expected|unknown type"):
        typed_value(text, type_name)


@pytest.mark.parametrize(
    ("value", "type_name", "expected"),
    [
        ("5", "string", "5"),
        (5, "number", 5),
        (5.0, "integer", 5),
        (True, "bool", True),
        (None, "string?", None),
        ("5", "any", "5"),
        ("5", "", "5"),
        ([1, 2.0], "list<int>", [1, 2]),
        ({"a": None}, "map<int?>", {"a": None}),
    ],
)
def test_values_of_their_type_are_taken_as_they_are(value: object, type_name: str, expected: object) -> None:
    """A value that is of its type stays what it is; text is not read as something else."""
    found = checked_value(value, type_name)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "type_name", "message"),
    [
        ("5", "integer", "expected an integer, got '5'"),
        (1.5, "int", "expected an integer, got 1.5"),
        (True, "number", "expected a number, got true"),
        (1, "string", "expected text, got 1"),
        (None, "bool", "expected true or false, got null"),
        ("[1]", "list<int>", r"expected a list, got '\[1\]'"),
        ([1], "map<int>", "expected a map"),
        ([1, "x"], "list<int>", "expected an integer, got 'x'"),
        (1, "date", "unknown type"),
    ],
)
def test_values_that_are_not_of_their_type_as_they_are_are_refused(value: object, type_name: str, message: str) -> None:
    """Whoever hands over values, and not texts, has to hand over the right ones."""
    with pytest.raises(ValueError, match=message):
        checked_value(value, type_name)

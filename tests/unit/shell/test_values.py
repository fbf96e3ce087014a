from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfe.executors.shell import ShellStepError
from wfe.executors.shell.values import RawOutput, read_output_file, typed_value, value_by_form
from wfe.model.templates import as_text


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
    found = RawOutput(text, is_text=True).typed(type_name)

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
    ("text", "values"),
    [
        ("", {}),
        ("a=1\nb=x=y\n\n", {"a": 1, "b": "x=y"}),
        ('{"a": "1", "b": [2]}', {"a": "1", "b": [2]}),
        ('{"a": 1}\n{"a": 2}\nb=3\n', {"a": 2, "b": 3}),
        ("a=1\r\nb=2", {"a": 1, "b": 2}),
        ('{\n  "a": 1\n}\n', {"a": 1}),
    ],
)
def test_output_file(text: str, values: dict[str, object]) -> None:
    """The file holds a JSON object, or lines; a later value replaces an earlier one."""
    found = read_output_file(text.encode())

    assert {name: output.typed(None) for name, output in found.items()} == values


@pytest.mark.parametrize("text", ["x", "1a=1", '{"a": ', '{"1a": 1}', '{"a": NaN}', "a=\0", "_wfe=1", '{"steps.a": 1}'])
def test_bad_output_files(text: str) -> None:
    """A file that cannot be used fails the step."""
    with pytest.raises(ShellStepError) as caught:
        read_output_file(text.encode())

    assert caught.value.code == "output_invalid"

"""What `-i` and `-c` mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from wfe.cli.exits import CommandError
from wfe.cli.inputs import checked_inputs, key_values
from wfe.model.definition import Block, WorkflowDefinition
from wfe.model.inputs import Input


def declared(name: str, type_name: str, **further: object) -> Input:
    return Input(name, type_name, has_default="default" in further, default=further.get("default"))


def takes(*inputs: Input) -> WorkflowDefinition[dict[str, object]]:
    return WorkflowDefinition("w", 1, Block(), inputs=inputs)


def test_values_are_split_at_the_first_equals_sign() -> None:
    """Everything after the first `=` is the value, and the last one of a key counts."""
    found = key_values(["a=1", "b=x=y", "c=", "a=2"], "-i")

    assert found == {"a": "2", "b": "x=y", "c": ""}


def test_a_value_may_come_from_a_file(tmp_path: Path) -> None:
    """`key=@file` is the file's text; `@@` stands for a value that begins with `@`."""
    (tmp_path / "text").write_text("zwölf\n", encoding="utf-8")

    found = key_values([f"a=@{tmp_path / 'text'}", "b=@@home"], "-i")

    assert found == {"a": "zwölf\n", "b": "@home"}


@pytest.mark.parametrize("given", ["no-sign", "=x"])
def test_what_is_no_pair_is_refused(given: str) -> None:
    """Without a key or `=` there is nothing to set; the message names the option and what was given."""
    with pytest.raises(CommandError, match="-i"):
        key_values([given], "-i")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing file is an error of the command line that names it."""
    with pytest.raises(CommandError, match=r"-c key: the file '.*none' cannot be read"):
        key_values([f"key=@{tmp_path / 'none'}"], "-c")


def test_values_get_their_declared_types() -> None:
    """A declared type decides, so that text made of digits stays text where text is declared."""
    types = takes(
        declared("t", "string"),
        declared("n", "integer"),
        declared("b", "bool"),
        declared("l", "list<string>"),
        declared("o", "int?"),
    )

    data, warnings = checked_inputs({"t": "12", "n": "12", "b": "true", "l": '["a"]', "o": ""}, types)

    assert data == {"t": "12", "n": 12, "b": True, "l": ["a"], "o": None}
    assert warnings == []


def test_without_declarations_the_form_tells_the_type() -> None:
    """A workflow without declared inputs takes any, as what they look like; a version stays text."""
    data, warnings = checked_inputs(
        {"n": "3", "v": "1.10", "o": '{"a": 1}', "t": "text"}, WorkflowDefinition("w", 1, Block())
    )

    assert data == {"n": 3, "v": "1.10", "o": {"a": 1}, "t": "text"}
    assert warnings == []


def test_defaults_and_nulls_fill_what_is_not_given() -> None:
    """A declared default is used, and an optional input without one is null."""
    data, _ = checked_inputs({}, takes(declared("a", "string", default="x"), declared("b", "integer?")))

    assert data == {"a": "x", "b": None}


def test_all_wrong_inputs_are_named_at_once() -> None:
    """Missing ones and ones of a wrong type stand in one message."""
    types = takes(declared("a", "string"), declared("n", "integer"))

    with pytest.raises(CommandError) as raised:
        checked_inputs({"n": "many"}, types)

    assert "'a' (string) is missing" in str(raised.value)
    assert "'n' (integer): expected an integer, got 'many'" in str(raised.value)
    assert "-i NAME=VALUE" in str(raised.value)


def test_an_undeclared_input_is_kept_and_warned_of() -> None:
    """It may be a slip of the finger: the nearest declared name is suggested."""
    data, warnings = checked_inputs({"nmae": "x"}, takes(declared("name", "string", default="y")))

    assert data == {"name": "y", "nmae": "x"}
    assert warnings == ["input 'nmae' is not declared by the workflow; did you mean 'name'?"]

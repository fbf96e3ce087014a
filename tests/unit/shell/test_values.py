from __future__ import annotations

import pytest

from wfe.executors.shell import ShellStepError
from wfe.executors.shell.values import read_output_file


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

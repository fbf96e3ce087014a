"""The page of the YAML language has every key that is carried out, in the order of the code; others are told apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wfe.authoring.yaml import schema

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "yaml.md").read_text("utf-8")

TABLES = {
    ("A file", "key"): schema.FILE,
    ("A workflow", "key"): schema.WORKFLOW,
    ("A workflow", "key of an input"): schema.DECLARED_WORKFLOW_INPUT,
    ("A workflow", "key of an output"): schema.DECLARED_WORKFLOW_OUTPUT,
    ("A step", "key"): schema.STEP,
    ("A step", "key of an output of a step"): schema.DECLARED_OUTPUT,
    ("A shell step", "key of `config`"): schema.SHELL_CONFIG,
    ("Conditions", "key"): schema.CONDITION,
    ("When a step fails", "key of `retry`"): schema.RETRY,
    ("When a step fails", "key of `error_behavior`"): schema.ERROR_BEHAVIOR,
}
LATER = {
    "a file": schema.FILE,
    "a workflow": schema.WORKFLOW,
    "a step": schema.STEP,
    "an output of a step": schema.DECLARED_OUTPUT,
    "`config` of a shell step": schema.SHELL_CONFIG,
}


def rows(heading: str, head: str) -> list[list[str]]:
    """Give the cells of the table below a heading whose first column has this head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = section.partition(f"\n| {head} |")[2].partition("\n\n")[0]
    assert table, f"{heading} has no table of {head}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@pytest.mark.parametrize(("heading", "head"), TABLES)
def test_every_key_is_documented(heading: str, head: str) -> None:
    """The tables have the keys that are carried out, in order, and no other; a required one says so."""
    table = TABLES[heading, head]

    documented = [(row[0].strip("`"), "required" in row[1]) for row in rows(heading, head)]

    assert documented == [(key.name, key.is_required) for key in table.keys if key.is_supported]


def test_keys_that_are_not_carried_out_are_told() -> None:
    """The last section has the keys that are refused, and no other."""
    documented = {row[0]: re.findall(r"`(\w+)`", row[1]) for row in rows("Not there yet", "where")}

    assert documented == {
        what: [key.name for key in table.keys if not key.is_supported] for what, table in LATER.items()
    }
    told = {id(table) for table in LATER.values()}
    assert all(key.is_supported for table in TABLES.values() if id(table) not in told for key in table.keys)


def test_types_without_executor_are_told() -> None:
    """Each type that the language names and nothing here runs stands in the last section."""
    last = PAGE.partition("\n## Not there yet\n")[2]

    assert [
        name for name in schema.KNOWN_TYPES if name not in schema.CARRIED_OUT_TYPES and f"`{name}`" not in last
    ] == []

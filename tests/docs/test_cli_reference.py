"""The page of the command line names every command, option and exit code."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from wfe.cli.exits import Exit
from wfe.cli.main import cli
from wfe.cli.place import DEFAULT_URL

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_is_documented_with_its_options(name: str) -> None:
    """Each command has its place, and each of its options is named on the page."""
    options = [text for each in cli.commands[name].params if isinstance(each, click.Option) for text in each.opts]

    assert re.search(rf"(?:^## |`)wfe {name}\b", PAGE, re.MULTILINE)
    assert [option for option in options if not re.search(rf"`{option}\b", PAGE)] == []


def test_no_command_is_invented() -> None:
    """Every command that the page speaks of exists."""
    named = set(re.findall(r"(?:^## |`)wfe ([a-z]+)", PAGE, re.MULTILINE))

    assert named <= set(cli.commands)


def test_exit_codes_are_documented() -> None:
    """The table has exactly the codes that commands end with."""
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}

    assert documented == {int(code) for code in Exit}


def test_the_default_store_is_documented() -> None:
    """The page names the store that is used without --db."""
    assert f"`{DEFAULT_URL}`" in PAGE

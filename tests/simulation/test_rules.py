"""The table of rules says what is checked, and where."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

import wfe.testing.simulation as package
from wfe.testing.simulation.rules import NOT_HERE, RULES

SOURCE = "\n".join(path.read_text() for path in sorted(Path(package.__path__[0]).glob("*.py")))
NAMED = re.compile(r"""(?:broken\(\s*|yield )f?"([A-Z]\d+)"|f"([A-Z]\d+|log|crash): |\brule = "([A-Z]\d)" if """)


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_has_its_checkers(name: str) -> None:
    """Every rule names functions that exist."""
    for path in RULES[name].paths():
        module, _, attributes = path.removeprefix("wfe.testing.simulation.").partition(".")

        checker = reduce(getattr, attributes.split("."), import_module(f"wfe.testing.simulation.{module}"))

        assert callable(checker)


def test_every_rule_can_be_broken() -> None:
    """The names that checkers use are those of the table, and none of the table is used by nobody."""
    used = {name for found in NAMED.findall(SOURCE) for name in found if name}

    assert used - set(RULES) == set()
    assert set(RULES) - used == set()


def test_what_is_no_rule_has_its_reason() -> None:
    """What no rule says is listed with the reason, and is no rule."""
    assert not set(RULES) & set(NOT_HERE)
    assert all(NOT_HERE.values())

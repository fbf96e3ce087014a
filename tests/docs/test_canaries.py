"""The page of canaries shows the table that the tests use, and its rules are promises."""

from __future__ import annotations

import re
from pathlib import Path

from tests.canaries.table import CANARIES, as_markdown

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_shows_the_table() -> None:
    """`python -m tests.canaries` gives what stands there."""
    assert as_markdown() in (DOCS / "canaries.md").read_text("utf-8")


def test_every_rule_is_a_promise() -> None:
    """What a canary breaks is promised by a sentence of its own."""
    promised = set(re.findall(r"^\*\*([A-Z]\d+)\*\*", (DOCS / "guarantees.md").read_text("utf-8"), re.MULTILINE))

    assert {canary.rule for canary in CANARIES}.difference(promised) == set()

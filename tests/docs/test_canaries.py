"""The page of canaries shows the table that the tests use."""

from __future__ import annotations

from pathlib import Path

from tests.canaries.table import as_markdown

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_shows_the_table() -> None:
    """`python -m tests.canaries` gives what stands there."""
    assert as_markdown() in (DOCS / "canaries.md").read_text("utf-8")

"""Every test that runs workflows ends with a check of the stores that it leaves behind."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from wfe.ports.provider import Provider
from wfe.testing import fsck

__all__ = ["check", "left_behind", "unsound_because"]


def unsound_because(request: pytest.FixtureRequest) -> str | None:
    """Give the reason for which a test may leave damage behind (its marker `unsound`); None: it may not."""
    marker = request.node.get_closest_marker("unsound")
    if marker is None:
        return None
    reason = marker.kwargs.get("reason")
    assert reason, "the marker `unsound` needs a reason"
    return str(reason)


def left_behind(folder: Path) -> Iterator[str]:
    """Give the URLs of the SQLite stores below a folder."""
    for path in sorted(folder.rglob("*.db")):
        if _is_store(path):
            yield f"sqlite:///{path}"


def _is_store(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'batch'").fetchone())
    except sqlite3.Error:
        return False


def check(places: Iterable[str | Provider]) -> None:
    """Fail if a rule of the engine is broken in any of these stores."""
    findings = [f"{finding}  [{finding.see}]" for place in places for finding in asyncio.run(fsck(place))]
    assert not findings, "the check of the store finds:\n" + "\n".join(findings)

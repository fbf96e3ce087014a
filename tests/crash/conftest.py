"""Every test ends with a check of the stores that it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soundness import check, left_behind, unsound_because


@pytest.fixture(autouse=True)
def sound_stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Check every SQLite store below the test's folder when all is over; benches check theirs after each crash."""
    yield
    if unsound_because(request) is None:
        check(left_behind(tmp_path))

"""Every test that runs workflows ends with a check of the stores that it leaves behind.

Left out are the suites of the ports (`tests/providers`, `wfe.testing.conformance`): they write rows that no engine has
made, with states that say nothing, so that the rules over states have nothing to say of them.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Generator, Iterable
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from wfe.ports.provider import Provider
from wfe.providers.memory import MemoryProvider
from wfe.providers.sqlite.schema import APPLICATION_ID
from wfe.testing import fsck

__all__ = ["check", "kept_in_memory", "left_behind", "unsound_because"]


def unsound_because(request: pytest.FixtureRequest) -> str | None:
    """Give the reason for which a test may leave damage behind (its marker `unsound`); None: it may not."""
    marker = request.node.get_closest_marker("unsound")
    if marker is None:
        return None
    reason = marker.kwargs.get("reason")
    assert reason, "the marker `unsound` needs a reason"
    return str(reason)


def left_behind(folder: Path) -> list[str]:
    """Give the URLs of the SQLite stores below a folder.

    Raises:
        sqlite3.Error: What a file is cannot be read: who damages one on purpose marks the test `unsound`.
    """
    return [f"sqlite:///{path}" for path in sorted(folder.rglob("*.db")) if _is_store(path)]


def _is_store(path: Path) -> bool:
    """Tell whether wfe has made a file. One that nothing was written to yet is no store, nor is another program's."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
    return bool(application == APPLICATION_ID)


@contextmanager
def kept_in_memory() -> Generator[list[MemoryProvider]]:
    """Gather the memory stores that are made meanwhile, also those of the URL `memory:` that nobody else can reach."""
    made: list[MemoryProvider] = []
    make = MemoryProvider.__init__

    def noted(self: MemoryProvider, *arguments: object, **settings: object) -> None:
        make(self, *arguments, **settings)  # type: ignore[arg-type]  # passed on as they come
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryProvider, "__init__", noted)
        yield made


def check(places: Iterable[str | Provider]) -> None:
    """Fail if a rule of the engine is broken in any of these stores."""
    findings = [f"{finding}  [{finding.see}]" for place in places for finding in asyncio.run(fsck(place))]
    assert not findings, "the check of the store finds:\n" + "\n".join(findings)

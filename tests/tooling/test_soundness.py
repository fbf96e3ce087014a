"""The check with which tests end sees what it has to see."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.soundness import check, kept_in_memory, left_behind
from wfe import MemoryProvider, WorkflowBuilder, WorkflowHost, run_workflow_sync

ROOT = Path(__file__).parents[2]

CONFTEST = "from tests.scenarios.conftest import place, sound_stores\n"
SCENARIOS = """
import pytest
from tests.tooling.test_soundness import damage, destroy_the_header, use
from wfe import MemoryProvider


def test_sound(place):
    use(place())


def test_damaged(place, tmp_path):
    use(place())
    damage(place(), tmp_path)


@pytest.mark.unsound(reason="it is damaged on purpose")
def test_damaged_on_purpose(place, tmp_path):
    use(place())
    damage(place(), tmp_path)


def test_without_header(tmp_path):
    use(f"sqlite:///{tmp_path / 'other.db'}")
    destroy_the_header(tmp_path / "other.db")


def test_removed(place, tmp_path):
    use(place())
    for path in tmp_path.glob("wfe.db*"):
        path.unlink()


def test_damaged_in_memory(tmp_path):
    provider = MemoryProvider()
    use(provider)
    damage(provider, tmp_path)
"""


def use(place: str | MemoryProvider) -> None:
    """Run a workflow on a store."""
    run_workflow_sync(WorkflowHost(place), WorkflowBuilder().delay(0).build("w"), timeout=20)


def damage(place: str | MemoryProvider, folder: Path) -> None:
    """Forget the history of what has run: rule S3 is broken."""
    if isinstance(place, MemoryProvider):
        place._tables.log.clear()  # pyright: ignore[reportPrivateUsage] - what nobody should do
        return
    with closing(sqlite3.connect(folder / "wfe.db")) as connection, connection:
        connection.execute("DELETE FROM log")


def destroy_the_header(path: Path) -> None:
    """Leave a file of which nobody can tell what it was."""
    for beside in path.parent.glob(f"{path.name}-*"):
        beside.unlink()
    content = path.read_bytes()
    path.write_bytes(b"x" * 100 + content[100:])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The file of a store that a workflow has run on."""
    path = tmp_path / "wfe.db"
    use(f"sqlite:///{path}")
    return path


def test_a_sound_store_passes(store: Path) -> None:
    """What a host leaves behind is found, and nothing is found in it."""
    stores = left_behind(store.parent)

    assert stores == [f"sqlite:///{store}"]
    check(stores)


def test_a_broken_rule_fails(store: Path) -> None:
    """Damage in the rows is told with the name of the rule."""
    damage(str(store), store.parent)

    with pytest.raises(AssertionError, match="S3"):
        check(left_behind(store.parent))


def test_a_store_without_its_header_is_not_passed_over(store: Path) -> None:
    """A file that nobody can read any more is no file of another program."""
    destroy_the_header(store)

    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        left_behind(store.parent)


def test_a_store_is_known_by_no_table(store: Path) -> None:
    """Tables may get other names: the file is a store nevertheless, and the check says what is missing."""
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("ALTER TABLE batch RENAME TO batches")

    assert left_behind(store.parent) == [f"sqlite:///{store}"]


def test_what_is_no_store_is_left_alone(tmp_path: Path) -> None:
    """A file without content, and one of another program."""
    (tmp_path / "empty.db").touch()
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection, connection:
        connection.execute("CREATE TABLE batch (n)")

    assert left_behind(tmp_path) == []


def test_memory_stores_are_gathered() -> None:
    """Those of a URL as well, which nobody else can reach, with all their views."""
    with kept_in_memory() as made:
        use("memory:")
    provider = MemoryProvider()

    assert len(made) == 1
    assert provider not in made
    check(made)
    damage(made[0], Path())
    with pytest.raises(AssertionError, match="S3"):
        check(made)


def test_scenarios_end_with_the_check(tmp_path: Path) -> None:
    """The fixture that all scenarios have fails those that leave damage behind, or nothing that could be checked."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_planted.py").write_text(SCENARIOS)
    (tmp_path / "own.ini").write_text("[pytest]\nmarkers =\n    postgres: not here\n    unsound: damaged on purpose\n")
    settings = ["-c", str(tmp_path / "own.ini"), "--rootdir", str(tmp_path), "--basetemp", str(tmp_path / "base")]
    options = ["-q", "-rA", "-p", "no:cacheprovider", "--import-mode=importlib", "-k", "not postgres"]
    command = [sys.executable, "-m", "pytest", *settings, *options, str(tmp_path / "test_planted.py")]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    failed = re.findall(r"^ERROR .*::(\S+)", done.stdout, re.MULTILINE)
    assert sorted(failed) == [
        "test_damaged[memory]",
        "test_damaged[sqlite]",
        "test_damaged_in_memory",
        "test_removed[sqlite]",
        "test_without_header",
    ], done.stdout
    assert "10 passed" in done.stdout  # before the check

"""A file system of 4 MiB, or a file that may not grow beyond that, gets full under a working host on SQLite."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.crash

_ROOT = Path(__file__).parents[2]
_LEVELS = tuple(range(0, 1025, 64))
_SHORT = (0, 200)
_AT_ONCE = 6
_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


def _may_mount() -> bool:
    return shutil.which("unshare") is not None and not subprocess.run([*_UNSHARE, "true"], check=False).returncode


@pytest.mark.parametrize("manner", ["mount", "limit"])
def test_disk_fills_and_is_freed(tmp_path: Path, manner: str, pytestconfig: pytest.Config) -> None:
    """Whatever room was left: all that was acknowledged is there, and ends by itself once there is room again.

    What was refused is not there, no body begins twice, reads go on, and the file is in order.
    """
    if manner == "mount" and not _may_mount():
        pytest.skip("this system lets nobody mount a small file system (unshare --user --mount)")
    levels = _LEVELS if pytestconfig.getoption("--full") else _SHORT

    for first in range(0, len(levels), _AT_ONCE):
        _check(tmp_path / str(first), manner, levels[first : first + _AT_ONCE])


def _check(folder: Path, manner: str, levels: tuple[int, ...]) -> None:
    folder.mkdir()
    program = [sys.executable, "-m", "tests.crash.filling_disk", manner, str(folder), *map(str, levels)]
    command = [*_UNSHARE, *program] if manner == "mount" else program
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(_ROOT)]))

    done = subprocess.run(
        command,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    for level, told in zip(levels, json.loads(done.stdout), strict=True):
        count = told["acknowledged"]
        assert told == {
            "acknowledged": count,
            "readable": count,
            "complete": count,
            "begun twice": 0,
            "after": "complete",
            "integrity": "ok",
            "fsck": [],
            "rows": count + 1,  # and the one started afterwards
            "errors": [],
        }, f"with {level} KiB left"

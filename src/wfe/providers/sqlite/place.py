"""Where a database lies: its file, what lies beside it, and whether that place is possible."""

from __future__ import annotations

import os
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path

from wfe.model.errors import ConfigurationError
from wfe.ports.provider import StoreMode, no_store

__all__ = ["MEMORY", "Place", "found"]

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
        given = os.fspath(path)
        text = given.removeprefix(_PREFIX)
        if text != given and "?" in text:
            raise ConfigurationError(
                f"A SQLite URL has no options, and {given!r} has {text.partition('?')[2]!r}. Leave that out; a file "
                "whose name has a question mark is given to SQLiteProvider as a path."
            )
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

    def check(self, mode: StoreMode = "create") -> None:
        """Make sure that a database can be here, or is here if it is not to be made.

        An existing file is not opened for this: closing it again would drop the locks that SQLite holds on it in this
        process, and another process could then take the file to be unused.

        Raises:
            ConfigurationError: It cannot; the message says why.
        """
        _refuse_old_sqlite()
        if self.path is None:
            if mode != "create":
                raise no_store(self.url, "what is in memory ends with its process")
            return
        there = found(self.path)
        if there is None:
            if mode != "create":
                raise no_store(self.url, "there is no such file")
            folder = self.path.parent
            if not folder.is_dir():
                raise ConfigurationError(
                    f"The folder {folder} of the SQLite file {self.path} does not exist. Make it first."
                )
        _refuse_network(self.path)
        if there is not None:
            _refuse_useless(self.path, there, mode)


def found(path: Path) -> os.stat_result | None:
    """Give what the system says of a file; None if there is none.

    Raises:
        ConfigurationError: This user may not look there.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigurationError(
            f"The SQLite file {path} cannot be reached: {why}. Give this user the right to read its folder and those "
            "above, or name another file."
        ) from error


def _refuse_useless(path: Path, there: os.stat_result, mode: StoreMode) -> None:
    if not stat.S_ISREG(there.st_mode):
        what = "a folder" if stat.S_ISDIR(there.st_mode) else "no file that can keep anything"
        raise ConfigurationError(f"{path} is {what}, where a SQLite file has to be. Name the file.")
    if not os.access(path, os.R_OK if mode == "read" else os.R_OK | os.W_OK):
        right = "read" if mode == "read" else "read and write"
        raise ConfigurationError(
            f"The SQLite file {path} is not a file that this user may {right}. "
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

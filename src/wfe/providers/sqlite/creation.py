"""A new database file, made whole before anybody can see it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

from wfe.model.errors import ConfigurationError
from wfe.providers.sqlite.place import MEMORY, Place, found
from wfe.providers.sqlite.schema import migrate

__all__ = ["create", "draft_path"]

_WAL_VERSIONS = slice(18, 20)
"""Where the header of a database file says that it is written with a write-ahead log."""


def create(place: Place) -> None:
    """Make the database with its whole schema, for its owner alone, unless there is a file.

    SQLite itself would wait for the disk seven times on the way to a new file with a schema; this does twice. And
    nobody meets a file that is not finished, whatever happens in between.

    Raises:
        ConfigurationError: The file cannot be made; the message says why.
    """
    if place.path is None or found(place.path) is not None:
        return
    draft = draft_path(place, uuid4().hex)
    try:
        _write(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), _image(place))
        with suppress(FileExistsError):
            # Another process may have been first; then its file is as good.
            os.link(draft, place.path)
        _sync_folder(place)
    except OSError as error:
        raise ConfigurationError(
            f"The SQLite file {place.path} cannot be made: {error.strerror or error}. "
            "Give this user the right to write its folder, or name another file."
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def draft_path(place: Place, name: str) -> Path:
    """Give the path of a file that is being made."""
    return place.beside(f"-new-{name}")


def _image(place: Place) -> bytes:
    with closing(sqlite3.connect(MEMORY, isolation_level=None)) as connection:
        migrate(connection, place)
        image = bytearray(connection.serialize())
    image[_WAL_VERSIONS] = b"\x02\x02"
    return bytes(image)


def _write(file: int, content: bytes) -> None:
    with open(file, "wb") as draft:
        draft.write(content)
        draft.flush()
        os.fsync(draft.fileno())


def _sync_folder(place: Place) -> None:
    folder = os.open(place.beside("").parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

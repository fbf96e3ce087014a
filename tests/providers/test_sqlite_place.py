"""Where a SQLite database may lie, and what is refused there."""

from __future__ import annotations

import errno
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from wfe.model.errors import ConfigurationError
from wfe.ports.provider import StoreMode
from wfe.providers.sqlite import SQLiteProvider, place
from wfe.providers.sqlite.place import Place, file_system_of
from wfe.providers.sqlite.schema import VERSION

if TYPE_CHECKING:
    import os


async def open_and_close(path: Path) -> None:
    provider = SQLiteProvider(path)
    await provider.store.open()
    await provider.store.close()


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////data/wfe.db", "/data/wfe.db"),
        ("/data/wfe.db", "/data/wfe.db"),
        ("sqlite:////data/a%20b#d.db", "/data/a%20b#d.db"),
    ],
)
def test_absolute_url(url: str, path: str) -> None:
    """Four slashes lead to an absolute path, and nothing in it is read as anything else."""
    assert str(Place.of(url).path) == path


def test_relative_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes lead to a path relative to the working directory of that moment."""
    monkeypatch.chdir(tmp_path)

    found = Place.of("sqlite:///wfe.db")

    assert found.path == tmp_path / "wfe.db"
    assert found.url == f"sqlite:///{tmp_path}/wfe.db"


def test_memory_url() -> None:
    """`:memory:` names no file."""
    assert Place.of("sqlite:///:memory:").path is None


def test_url_without_file() -> None:
    """A URL that names no file is refused, and the message shows the forms."""
    with pytest.raises(ConfigurationError, match=r"names no file.*:memory:"):
        SQLiteProvider("sqlite:///")


def test_unknown_durability(tmp_path: Path) -> None:
    """A durability that does not exist is refused with those that do."""
    with pytest.raises(ConfigurationError, match='"power" or "process", got \'none\''):
        SQLiteProvider(tmp_path / "wfe.db", durability="none")  # type: ignore[arg-type]


async def test_file_is_private(tmp_path: Path) -> None:
    """The database and what lies beside it can be read by their owner alone."""
    provider = SQLiteProvider(tmp_path / "wfe.db")
    await provider.store.open()

    modes = modes_in(tmp_path)
    await provider.store.close()

    assert modes == {"wfe.db": 0o600, "wfe.db-wal": 0o600, "wfe.db-shm": 0o600}


async def test_odd_name(tmp_path: Path) -> None:
    """A file name may have characters that mean something in URIs."""
    await open_and_close(tmp_path / "a b?mode=memory#%41.db")

    assert list(modes_in(tmp_path)) == ["a b?mode=memory#%41.db"]


async def test_missing_folder(tmp_path: Path) -> None:
    """The folder is not made silently."""
    with pytest.raises(ConfigurationError, match=r"does not exist\. Make it first"):
        await open_and_close(tmp_path / "missing" / "wfe.db")


async def test_folder_instead_of_file(tmp_path: Path) -> None:
    """A folder is no database."""
    with pytest.raises(ConfigurationError, match="is a folder"):
        await open_and_close(tmp_path)


async def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A schema newer than the program is refused with what to do, and left as it is."""
    path = tmp_path / "wfe.db"
    await open_and_close(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()

    with pytest.raises(ConfigurationError, match=r"made by a newer wfe.*Install the newer wfe"):
        await open_and_close(path)

    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
    connection.close()


async def test_file_of_another_program_is_refused(tmp_path: Path) -> None:
    """Another program's tables are not mixed with ours."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()

    with pytest.raises(ConfigurationError, match="belongs to another program"):
        await open_and_close(path)


async def test_text_file_is_refused(tmp_path: Path) -> None:
    """What is no database is refused, and left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but rather long " * 100, encoding="utf-8")

    with pytest.raises(ConfigurationError, match="not a SQLite database"):
        await open_and_close(path)

    assert path.read_text(encoding="utf-8").startswith("not a database")


async def test_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite without what we need is refused when the store is opened."""
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 37, 2))

    with pytest.raises(ConfigurationError, match=r"3\.38 or newer"):
        await open_and_close(tmp_path / "wfe.db")


MOUNTS = """\
22 1 0:20 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /data rw,relatime shared:1 - nfs4 server:/export rw
24 23 0:22 / /data/local rw,relatime - xfs /dev/vdb rw
25 22 0:23 / /with\\040space rw,relatime - cifs //server/share rw
26 22 0:24 / /hidden rw - nfs4 server:/old rw
27 26 0:25 / /hidden rw - ext4 /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/wfe.db", "ext4"),
        ("/data/wfe.db", "nfs4"),
        ("/data2/wfe.db", "ext4"),
        ("/data/local/wfe.db", "xfs"),
        ("/with space/wfe.db", "cifs"),
        ("/hidden/wfe.db", "ext4"),
    ],
)
def test_file_system_is_found(tmp_path: Path, file: str, kind: str) -> None:
    """The file system of a path is that of the innermost mount, of several there the last."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="utf-8")

    assert file_system_of(tmp_path.__class__(file), mounts) == kind


async def test_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network mount is refused before any file is made."""
    monkeypatch.setattr(place, "file_system_of", lambda _: "nfs4")

    with pytest.raises(ConfigurationError, match=r"network file system \(nfs4\)"):
        await open_and_close(tmp_path / "wfe.db")

    assert modes_in(tmp_path) == {}


def test_a_url_has_no_options() -> None:
    """What stands behind a question mark is refused, not ignored; a path may have one."""
    with pytest.raises(ConfigurationError, match="has no options"):
        SQLiteProvider("sqlite:///a.db?mode=ro")

    assert SQLiteProvider("/data/a?b.db").url == "sqlite:////data/a?b.db"


async def test_a_place_that_may_not_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without the right to search it is a matter of configuration, whatever the store is to do there."""
    stat_of = Path.stat

    def refuse(path: Path) -> os.stat_result:
        if path.name == "wfe.db":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat_of(path)

    monkeypatch.setattr(Path, "stat", refuse)

    for mode in get_args(StoreMode):
        with pytest.raises(ConfigurationError, match="cannot be reached: Permission denied"):
            await SQLiteProvider(tmp_path / "wfe.db", mode=mode).store.open()


def test_a_mode_is_one_of_three() -> None:
    """Another word is refused with those that there are."""
    with pytest.raises(ConfigurationError, match="'create' or 'write' or 'read'"):
        SQLiteProvider("a.db", mode="ro")  # type: ignore[arg-type]

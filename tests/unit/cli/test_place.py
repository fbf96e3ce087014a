"""Where stores are, and how a run is resumed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from wfe.cli.exits import CommandError
from wfe.cli.place import DEFAULT_URL, make_ready, reading, resume_command, shown_url
from wfe.model.errors import ConfigurationError


def test_the_default_store_gets_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.wfe` is made where it is missing, and git is told to leave it alone."""
    monkeypatch.chdir(tmp_path)

    make_ready(DEFAULT_URL)
    make_ready(DEFAULT_URL)

    assert (tmp_path / ".wfe" / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this user may not write, or something is in the way: which folder, why, and what else there is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".wfe").touch()

    with pytest.raises(CommandError) as caught:
        make_ready(DEFAULT_URL)

    assert str(tmp_path / ".wfe") in str(caught.value)
    assert "File exists" in str(caught.value)
    assert "--db" in str(caught.value)


@pytest.mark.parametrize("url", [DEFAULT_URL, "memory:", "sqlite:///:memory:"])
def test_looking_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A command that only looks refuses a place where nothing is, and leaves nothing there."""
    monkeypatch.chdir(tmp_path)

    async def look() -> None:
        async with reading(url):
            pass

    with pytest.raises(ConfigurationError, match="There is no wfe store at"):
        asyncio.run(look())

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql://me:se@cr:et@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:secret@host/db", "postgresql://:***@host/db"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    """Only the password is hidden, whatever characters it has."""
    assert shown_url(url) == shown


def test_the_command_to_resume_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the store unless that would be found anyway, and is quoted for the shell."""
    monkeypatch.delenv("WFE_DB", raising=False)
    without = [resume_command("otter", DEFAULT_URL), resume_command("my run", "sqlite:///my store.db")]
    monkeypatch.setenv("WFE_DB", "postgresql://host/db")
    with_variable = [resume_command("otter", DEFAULT_URL), resume_command("otter", "postgresql://host/db")]

    assert without == ["wfe run --resume otter", "wfe run --resume 'my run' --db 'sqlite:///my store.db'"]
    assert with_variable == [f"wfe run --resume otter --db {DEFAULT_URL}", "wfe run --resume otter"]

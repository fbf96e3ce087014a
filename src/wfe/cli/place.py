"""Where the store of a command is."""

from __future__ import annotations

from pathlib import Path

from wfe.cli.exits import CommandError

__all__ = ["DEFAULT_URL", "ready_place", "resume_command"]

DEFAULT_URL = "sqlite:///.wfe/wfe.db"
_DEFAULT_FOLDER = Path(".wfe")


def ready_place(url: str, *, create: bool) -> str:
    """Give the URL of the store, with the folder of the default store made if `create`.

    Raises:
        CommandError: There is no such SQLite file, and it is not to be created.
    """
    file = _file_of(url)
    if file is None:
        return url
    if create:
        if url == DEFAULT_URL:
            _make_default_folder()
        return url
    if not file.is_file():
        raise CommandError(f"There is no store at {url}; name another with --db, or begin one with: wfe run FILE")
    return url


def resume_command(name: str, url: str) -> str:
    """Give the command that continues an instance."""
    return f"wfe run --resume {name}" + ("" if url == DEFAULT_URL else f" --db {url}")


def _file_of(url: str) -> Path | None:
    """Give the file of a SQLite URL; None for other stores."""
    if not url.startswith("sqlite:///") or url.startswith("sqlite:///:memory:"):
        return None
    return Path(url.removeprefix("sqlite:///").partition("?")[0])


def _make_default_folder() -> None:
    """Make the folder, with a note for git that nothing in it is to be committed."""
    _DEFAULT_FOLDER.mkdir(exist_ok=True)
    ignore = _DEFAULT_FOLDER / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")

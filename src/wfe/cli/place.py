"""Where the store of a command is."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from wfe.cli.exits import CommandError

__all__ = ["DEFAULT_URL", "URL_VARIABLE", "command_for", "no_run", "ready_place", "resume_command", "shown_url"]

DEFAULT_URL = "sqlite:///.wfe/wfe.db"
URL_VARIABLE = "WFE_DB"
_DEFAULT_FOLDER = Path(".wfe")
_PASSWORD = re.compile(r"(://[^:/@]*):[^/]*@")


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
        raise CommandError(
            f"There is no store at {shown_url(url)}; name another with --db, or begin one with: wfe run FILE"
        )
    return url


def resume_command(name: str, url: str) -> str:
    """Give the command that continues an instance, given in the same surroundings."""
    return command_for(f"run --resume {shlex.quote(name)}", url)


def command_for(arguments: str, url: str) -> str:
    """Give a command of wfe for the same store, given in the same surroundings."""
    is_known = url == (os.environ.get(URL_VARIABLE) or DEFAULT_URL)
    return f"wfe {arguments}" + ("" if is_known else f" --db {shlex.quote(shown_url(url))}")


def no_run(name: str, url: str) -> CommandError:
    """Give the error for a run that is not in a store."""
    return CommandError(
        f"There is no run {name!r} in {shown_url(url)}; {command_for('list', url)} shows those that there are"
    )


def shown_url(url: str) -> str:
    """Give a URL without its password."""
    return _PASSWORD.sub(r"\1:***@", url)


def _file_of(url: str) -> Path | None:
    """Give the file of a SQLite URL; None for other stores."""
    if not url.startswith("sqlite:///") or url.startswith("sqlite:///:memory:"):
        return None
    return Path(url.removeprefix("sqlite:///").partition("?")[0])


def _make_default_folder() -> None:
    """Make the folder, with a note for git that nothing in it is to be committed.

    Raises:
        CommandError: This user may not make it.
    """
    try:
        _DEFAULT_FOLDER.mkdir(exist_ok=True)
        ignore = _DEFAULT_FOLDER / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"The folder {_DEFAULT_FOLDER.absolute()} for the store cannot be made: {error.strerror}. Go to a folder "
            f"that you may write, or name a store elsewhere with --db or {URL_VARIABLE}."
        ) from None

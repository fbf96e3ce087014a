"""Where the store of a command is."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wfe.cli.exits import CommandError

if TYPE_CHECKING:
    from wfe.ports.provider import Provider
    from wfe.ports.store import InstanceRow, LogRow, Store

__all__ = [
    "DEFAULT_URL",
    "URL_VARIABLE",
    "command_for",
    "log_of",
    "make_ready",
    "no_run",
    "reading",
    "resume_command",
    "row_of",
    "shown_url",
]

DEFAULT_URL = "sqlite:///.wfe/wfe.db"
URL_VARIABLE = "WFE_DB"
_DEFAULT_FOLDER = Path(".wfe")
_PASSWORD = re.compile(r"(://[^:/@]*):[^/]*@")


def make_ready(url: str) -> None:
    """Make the folder of the default store, if that is where a store is to be made.

    Raises:
        CommandError: It cannot be made.
    """
    if url == DEFAULT_URL:
        _make_default_folder()


@asynccontextmanager
async def reading(url: str) -> AsyncGenerator[Provider]:
    """Open a store to look at it. Nothing is made or changed.

    Raises:
        ConfigurationError: There is no store.
        ProviderUnavailable: It does not answer.
    """
    from wfe.host.connect import connect

    provider = connect(url, mode="read")
    await provider.store.open()
    try:
        yield provider
    finally:
        await provider.store.close()


async def row_of(store: Store, id_or_name: str, url: str) -> InstanceRow:
    """Read a run, by id or else by name.

    Raises:
        CommandError: There is none.
    """
    row = await store.get(id_or_name)
    if row is None:
        raise no_run(id_or_name, url)
    return row


async def log_of(store: Store, instance_id: str) -> list[LogRow]:
    """Read all that happened to an instance."""
    rows: list[LogRow] = []
    after = 0
    while page := await store.history(instance_id, after):
        rows.extend(page)
        after = page[-1].first_sequence + page[-1].count - 1
    return rows


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

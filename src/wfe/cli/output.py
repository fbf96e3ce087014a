"""Where lines go: standard output, which may be closed or full at any time, and cannot show every character."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable

from wfe.cli.exits import CommandError, Exit

__all__ = ["Lines", "can_show", "escape_what_cannot_be_shown", "one_line", "say"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def escape_what_cannot_be_shown() -> None:
    """Have characters that the terminal or file has no place for written as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def can_show(characters: str) -> bool:
    """Tell whether standard output can show some characters as they are."""
    try:
        characters.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def one_line(text: str) -> str:
    """Give a text with its control characters as escapes, so that it stays in its line and column."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def say(text: str) -> None:
    """Write one line, for a command whose verdict does not depend on who reads it.

    When nobody reads any more (`| head`), nothing more is written.

    Raises:
        CommandError: It cannot be written.
    """
    try:
        _write(text)
    except BrokenPipeError:
        _give_up()
    except OSError as error:
        _give_up()
        raise CommandError(f"The output cannot be written: {error.strerror or error}", Exit.BROKEN) from error


class Lines:
    """Writes lines of a run to standard output. When they cannot be written it says so once, and never raises."""

    def __init__(self, broken: Callable[[], None]) -> None:
        self._broken = broken
        self.lost = ""
        """Why no more lines are written."""

    def write(self, text: str) -> None:
        """Write one line at once."""
        if self.lost:
            return
        try:
            _write(text)
        except OSError as error:
            self.lost = error.strerror or str(error)
            _give_up()
            self._broken()


def _write(text: str) -> None:
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison] - closed by who called
        return
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _give_up() -> None:
    # Python flushes once more at its end, which would fail again with a traceback.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

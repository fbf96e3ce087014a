"""What the library logs, for people at a terminal."""

from __future__ import annotations

import logging
import sys

__all__ = ["show_warnings"]


class _Once(logging.Handler):
    """Shows each message once: a store that is away says so with every try. Which try it is does not count."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._shown: set[object] = set()

    def emit(self, record: logging.LogRecord) -> None:
        given = record.args if isinstance(record.args, tuple) else ()
        what = (record.msg, *(str(each) for each in given if not isinstance(each, int)))
        if what not in self._shown:
            self._shown.add(what)
            sys.stderr.write(record.getMessage() + "\n")


def show_warnings() -> None:
    """Show warnings of the library on standard error, in place of Python's own way, until the process ends."""
    logger = logging.getLogger("wfe")
    for handler in [each for each in logger.handlers if isinstance(each, _Once)]:
        logger.removeHandler(handler)
    logger.addHandler(_Once())

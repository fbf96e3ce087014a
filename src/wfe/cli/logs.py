"""What the library logs, for people at a terminal."""

from __future__ import annotations

import logging
import sys

__all__ = ["show_warnings"]


class _Once(logging.Handler):
    """Shows each message once: a store that is away says so with every try."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self._shown:
            self._shown.add(text)
            sys.stderr.write(text + "\n")


def show_warnings() -> None:
    """Show warnings of the library on standard error, in place of Python's own way, until the process ends."""
    logger = logging.getLogger("wfe")
    for handler in [each for each in logger.handlers if isinstance(each, _Once)]:
        logger.removeHandler(handler)
    logger.addHandler(_Once())

"""Where lines go: standard output that may be closed at any time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

__all__ = ["Lines"]


class Lines:
    """Writes lines to standard output. When nobody reads them any more it says so once, and never raises."""

    def __init__(self, broken: Callable[[], None]) -> None:
        self._broken = broken
        self._is_broken = False

    def write(self, text: str) -> None:
        """Write one line at once."""
        if self._is_broken:
            return
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding or "ascii"
            self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError:
            self._is_broken = True
            # Python flushes once more at its end, which would fail again with a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._broken()

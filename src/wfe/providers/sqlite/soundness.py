"""A look at the whole file after somebody who used it has not ended in good order."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from wfe.model.durations import format_duration
from wfe.model.errors import ConfigurationError, WfeError
from wfe.providers.sqlite.connection import close, connect
from wfe.providers.sqlite.faults import DAMAGE_ADVICE, is_damage
from wfe.providers.sqlite.place import Place

__all__ = ["SoundnessCheck"]

_log = logging.getLogger(__name__)

_AT_START = timedelta(seconds=2)
"""How long a start waits for it: enough for a file of some 500 MB."""
_AT_MOST = timedelta(minutes=10)
_CHECK = "PRAGMA quick_check(3)"
_TOLD_AGAIN = 0.02
"""Seconds after which a check that is to end is told again."""
"""Names so many problems at most."""


class SoundnessCheck:
    """Runs SQLite's quick check on a thread and a connection of its own: it reads every page once.

    A start waits for it for a moment only; a large file is read on while work goes on.
    """

    def __init__(self, place: Place, damaged: Callable[[str], None]) -> None:
        """`damaged` is called, from another thread, with what is wrong, if that is found after the start."""
        self._place = place
        self._damaged = damaged
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._over = threading.Event()
        self._is_waited_for = True
        self._deciding = threading.Lock()
        self._problem = ""

    async def begin(self) -> None:
        """Begin, and wait for the end for a moment.

        Raises:
            ConfigurationError: The file is damaged. It was not changed.
        """
        self._thread = threading.Thread(target=self._run, name="wfe-sqlite-check", daemon=True)
        self._thread.start()
        seconds = _AT_START.total_seconds()
        if await asyncio.get_running_loop().run_in_executor(None, self._over.wait, seconds):
            self._thread.join()
        with self._deciding:
            self._is_waited_for = False
        if self._problem:
            raise ConfigurationError(self._problem)

    def stop(self) -> None:
        """Read no further."""
        # An interrupt counts only for a statement that runs: it is told again until it has been heard.
        while self._thread is not None and self._thread.is_alive():
            with self._deciding:
                if self._connection is not None:
                    self._connection.interrupt()
            self._thread.join(_TOLD_AGAIN)

    def _run(self) -> None:
        began = time.monotonic()
        timer = threading.Timer(_AT_MOST.total_seconds(), self._give_up)
        timer.daemon = True
        timer.start()
        try:
            problems = self._problems()
        except (sqlite3.Error, WfeError) as error:
            # Interrupted, or not readable just now; who uses the file is told of that, too.
            _log.warning("The SQLite file %s could not be checked to its end: %s", self._place.path, error)
        else:
            took = format_duration(timedelta(seconds=round(time.monotonic() - began, 1)))
            self._tell(problems, took)
        finally:
            timer.cancel()
            with self._deciding:
                if self._connection is not None:
                    close(self._connection)
                    self._connection = None
            self._over.set()

    def _problems(self) -> list[str]:
        try:
            with self._deciding:
                self._connection = connect(self._place, "process", writes=False)
            rows = self._connection.execute(_CHECK).fetchall()
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                return [str(error)]
            raise
        except UnicodeDecodeError:
            return ["its schema cannot be read"]
        return [text for (text,) in rows if text != "ok"]

    def _tell(self, problems: list[str], took: str) -> None:
        if not problems:
            _log.info(
                "The SQLite file %s, whose last user did not end in good order, is sound (%s).", self._place.path, took
            )
            return
        found = "; ".join(" ".join(problem.split()) for problem in problems)
        self._problem = f"The SQLite file {self._place.path} is damaged ({found}): {DAMAGE_ADVICE}."
        with self._deciding:
            is_late = not self._is_waited_for
        if is_late:
            _log.error("%s", self._problem)
            self._damaged(self._problem)

    def _give_up(self) -> None:
        with self._deciding:
            if self._connection is not None:
                self._connection.interrupt()

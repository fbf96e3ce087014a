"""Ctrl-C and SIGTERM while a run goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Generator

from wfe.cli.exits import Exit

__all__ = ["Interruption"]


class Interruption:
    """Set by the first signal; the second one ends the process at once, whatever it is doing."""

    def __init__(self) -> None:
        self._came = asyncio.Event()

    @contextlib.contextmanager
    def watched(self) -> Generator[None]:
        """Take signals inside this block."""
        loop = asyncio.get_running_loop()
        taken = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            taken.append(signal.SIGHUP)  # else someone said nohup
        for each in taken:
            loop.add_signal_handler(each, self._signalled)
        try:
            yield
        finally:
            for each in taken:
                loop.remove_signal_handler(each)

    def set(self) -> None:
        """Interrupt the run from within: nobody reads its output any more."""
        self._came.set()

    def is_set(self) -> bool:
        """Whether the run is interrupted."""
        return self._came.is_set()

    async def wait(self) -> None:
        """Return once the run is interrupted."""
        await self._came.wait()

    def _signalled(self) -> None:
        if not self._came.is_set():
            self._came.set()
            return
        # Steps end by themselves: they watch this process. Their state is that of the last commit.
        sys.stderr.write("\n\x1b[?25h" if sys.stderr.isatty() else "\n")
        sys.stderr.write("Forced to end; what runs is ended and will be repeated.\n")
        sys.stderr.flush()
        os._exit(Exit.INTERRUPTED)

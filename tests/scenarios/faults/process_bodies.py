"""Bodies that run in a process of their own; they have to be importable there."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any, NoReturn

from wfe import StepExecutionContext, step

__all__ = ["exits", "fine", "gives_an_object", "hangs", "is_killed", "raises"]

Context = StepExecutionContext[dict[str, Any]]


class _Unsendable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("cannot be unpacked on the other side")


@step(executor="process")
def fine(context: Context) -> None:
    """Note that it ran."""
    context.data["fine"] = True


@step(executor="process")
def exits(context: Context) -> NoReturn:
    """End the process at once."""
    os._exit(3)


@step(executor="process")
def is_killed(context: Context) -> None:
    """Die as by the memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)


@step(executor="process")
def raises(context: Context) -> NoReturn:
    """Raise what cannot be sent."""
    raise _Unsendable(1, 2)


@step(executor="process")
def gives_an_object(context: Context) -> Any:
    """Answer what cannot be sent."""
    return sys.stdout


@step(executor="process")
def hangs(context: Context) -> None:
    """Run for longer than anybody waits."""
    time.sleep(30)

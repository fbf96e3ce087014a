"""Bodies that run in a process of their own; they have to be importable there."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from wfe import StepExecutionContext, step

__all__ = ["exits", "fine", "gives_an_object", "hangs", "holds", "is_killed", "raises", "talks"]

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


@step(executor="process")
def holds(context: Context) -> None:
    """Run until a file is there."""
    Path(context.step.config["begun"]).touch()
    while not Path(context.step.config["go"]).exists():
        time.sleep(0.01)


@step(executor="process")
def talks(context: Context) -> None:
    """Log, say that it is alive, and raise if it is told to."""
    context.log("hello")
    context.log("oops", stream="stderr")
    context.heartbeat({"done": 1})
    if context.step.config.get("fails"):
        raise ValueError("broken")

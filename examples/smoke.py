"""A first workflow with the package as it is installed: it outlives the host that began it, and ends on another one.

Usage: python -I examples/smoke.py smoke.db. With --anywhere the package may also be an editable one.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import wfe
from wfe import StepExecutionContext, WorkflowBuilder, WorkflowHost


@dataclass
class Greeting:
    name: str
    text: str = ""


def greet(context: StepExecutionContext[Greeting]) -> None:
    context.data.text = f"Hello, {context.data.name}"


def shout(context: StepExecutionContext[Greeting]) -> None:
    context.data.text += "!"


definition = (
    WorkflowBuilder(Greeting)
    .start_with(greet)
    .delay(timedelta(milliseconds=100))
    .then(shout)
    .build("greeting", version=1)
)


async def main(database: str) -> None:
    began = time.monotonic()
    async with WorkflowHost(f"sqlite:///{database}") as host:
        instance_id = await host.start_workflow(definition, Greeting("wfe"))
    async with WorkflowHost(f"sqlite:///{database}") as other:
        other.register(definition)
        result = (await other.wait(instance_id, timeout=30, of=definition)).raise_for_status()
    print(f"{result.data.text} (begun on one host, ended on another)")
    print(f"##wfe[output greeting={result.data.text}]")
    print(f"##wfe[output smoke_ms={round((time.monotonic() - began) * 1000)}]")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anywhere", action="store_true")
    parser.add_argument("database")
    arguments = parser.parse_args()
    if not arguments.anywhere and not Path(wfe.__file__).is_relative_to(sys.prefix):
        sys.exit(f"wfe comes from {wfe.__file__}, not from the environment in {sys.prefix}")
    asyncio.run(main(arguments.database))

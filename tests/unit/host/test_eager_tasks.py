"""Hosts on loops whose tasks begin at once, where they are made."""

from __future__ import annotations

import asyncio
import sys

import pytest

from wfe import StepExecutionContext, WorkflowBuilder, WorkflowHost, WorkflowStatus

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


async def test_bodies_end_in_tasks_that_begin_at_once() -> None:
    """A body that ends before its task was handed to the host frees its place, and its instance goes on."""

    async def quick(context: StepExecutionContext[dict[str, int]]) -> None:
        context.data["n"] = 1

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    async with WorkflowHost("memory:", max_concurrency=1) as host:
        definition = WorkflowBuilder().start_with(quick).then(quick).build("w")
        result = await host.run(definition, timeout=20)

    assert (result.status, result.data) == (WorkflowStatus.COMPLETE, {"n": 1})

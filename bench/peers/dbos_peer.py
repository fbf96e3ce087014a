"""DBOS Transact as its users get it: its own settings for either database, nothing tuned, nothing held back.

On SQLite it keeps the file's default journal (DELETE) and synchronous=FULL; on PostgreSQL a pool of connections.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from bench.workloads import Order, read_order, run_and_leave

_import_begun = time.perf_counter()

from dbos import DBOS, DBOSConfig, SetWorkflowID, WorkflowHandleAsync  # noqa: E402

IMPORT_SECONDS = time.perf_counter() - _import_begun

WAIT_LIMIT = 3600.0  # seconds; longer than any run


@DBOS.step()
async def plus_one(x: int) -> int:
    return x + 1


@DBOS.workflow()
async def chain(steps: int, x: int) -> int:
    for _ in range(steps):
        x = await plus_one(x)
    return x


@DBOS.workflow()
async def fan(width: int) -> int:
    return len(await asyncio.gather(*[plus_one(item) for item in range(width)]))


@DBOS.workflow()
async def waiter() -> Any:  # noqa: ANN401
    return await DBOS.recv_async(timeout_seconds=WAIT_LIMIT)


@DBOS.workflow()
async def sleeper() -> int:
    await DBOS.sleep_async(1.0)
    return 1


Handle = WorkflowHandleAsync[Any]


class DBOSPeer:
    """DBOS as a benchmark peer."""

    def __init__(self, order: Order) -> None:
        self._url = order.url

    async def open(self) -> None:
        config: DBOSConfig = {
            "name": "bench",
            "system_database_url": self._url,
            "log_level": "ERROR",
            "application_version": "bench",
            "executor_id": "bench",
        }
        DBOS(config=config)
        DBOS.launch()

    async def close(self) -> None:
        """Its orderly end takes seconds and is not measured."""

    def start_chain(self, steps: int, x: int) -> Awaitable[Handle]:
        return DBOS.start_workflow_async(chain, steps, x)

    async def start_waiter(self, key: str) -> Handle:
        with SetWorkflowID(key):
            return await DBOS.start_workflow_async(waiter)

    def start_sleeper(self) -> Awaitable[Handle]:
        return DBOS.start_workflow_async(sleeper)

    def signal(self, key: str, payload: int) -> Awaitable[object]:
        return DBOS.send_async(key, payload)

    def result(self, handle: Handle) -> Awaitable[object]:
        return handle.get_result()

    def find(self, key: str) -> Awaitable[Handle]:
        return DBOS.retrieve_workflow_async(key)

    async def run_fan(self, width: int) -> int:
        handle = await DBOS.start_workflow_async(fan, width)
        done: int = await handle.get_result()
        return done

    async def finished(self) -> int:
        return len(await DBOS.list_workflows_async(status="SUCCESS", load_input=False, load_output=False))


if __name__ == "__main__":
    ORDER = read_order()
    run_and_leave(DBOSPeer(ORDER), ORDER, import_s=IMPORT_SECONDS)

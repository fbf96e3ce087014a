"""A host without a loop of the program's own: `host.sync` and `run_workflow_sync`."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import get_overloads

import pytest

from tests.scenarios.stage import SECONDS, Place, StartHost, ThreadGate, put
from wfe import (
    ConfigurationError,
    ShuttingDown,
    WorkflowBuilder,
    WorkflowHost,
    WorkflowStatus,
    run_workflow_sync,
)
from wfe.host.blocking import BlockingHost


def test_run_workflow_sync(place: Place) -> None:
    """For scripts: starts the host, runs, stops it."""
    definition = WorkflowBuilder().then(put("a", done=True)).build("w")
    target = place()
    host = WorkflowHost(target)

    result = run_workflow_sync(host, definition, {"x": 1}, timeout=SECONDS)

    assert result.data == {"x": 1, "done": True}
    assert not host.is_running


def test_run_workflow_sync_with_a_url() -> None:
    """A URL is enough."""
    result = run_workflow_sync("memory:", WorkflowBuilder().then(put("a", done=True)).build("w"), timeout=SECONDS)

    assert result.data == {"done": True}


def test_host_sync(place: Place) -> None:
    """A blocking view: it owns a loop in a thread of its own."""
    thread = ThreadGate(done=True)
    host = WorkflowHost(place())
    host.register(WorkflowBuilder().start_with(thread.body).build("w"))

    with host.sync as blocking:
        instance_id = blocking.start_workflow("w")
        assert thread._entered.wait(SECONDS)
        assert blocking.get_workflow(instance_id).status is WorkflowStatus.RUNNABLE
        thread.open()
        result = blocking.wait(instance_id, timeout=SECONDS)

    assert result.data == {"done": True}


async def test_blocking_calls_are_refused_inside_a_loop(host: WorkflowHost) -> None:
    """With the form to await."""
    with pytest.raises(ConfigurationError, match="await"):
        host.sync.get_workflow("x")
    with pytest.raises(ConfigurationError, match="await"):
        run_workflow_sync("memory:", WorkflowBuilder().build("w"))


async def test_a_host_of_another_loop_is_refused_clearly(start_host: StartHost) -> None:
    """Blocking calls on a host that runs in a loop of the program say which calls to use; the host is not disturbed."""
    definition = WorkflowBuilder().then(put("a", done=True)).build("w")
    host = await start_host(definition)

    for call in (lambda: run_workflow_sync(host, definition), lambda: host.sync.run("w"), host.sync.start):
        with pytest.raises(ConfigurationError, match="run_coroutine_threadsafe"):
            await asyncio.to_thread(call)

    assert host.is_running
    assert (await host.run("w", timeout=SECONDS)).data == {"done": True}


def test_awaiting_in_another_loop_is_refused_clearly() -> None:
    """So do the forms to await, on a host that another loop runs."""
    host = WorkflowHost("memory:")
    definition = WorkflowBuilder().then(put("a", done=True)).build("w")

    async def use() -> None:
        for verb in (host.run(definition), host.get_workflow("x"), host.stop()):
            with pytest.raises(ConfigurationError, match=r"another event loop.*host\.sync\.run"):
                await verb

    with host.sync as blocking:
        asyncio.run(use())

        assert blocking.is_running
        assert blocking.run(definition, timeout=SECONDS).data == {"done": True}


def test_the_blocking_host_has_every_verb() -> None:
    """Each public method of a host is one of its blocking view, with the same parameters."""
    left_out = {"events", "registry", "sync", "use"}
    verbs = {name for name in dir(WorkflowHost) if not name.startswith("_")} - left_out

    assert verbs <= set(dir(BlockingHost))
    for name in ("start_workflow", "wait", "run"):
        signatures = [
            [inspect.signature(overloaded) for overloaded in get_overloads(getattr(owner, name))]
            for owner in (WorkflowHost, BlockingHost)
        ]
        assert signatures[0], name
        assert signatures[0] == signatures[1]


def test_a_blocking_subscription(place: Place) -> None:
    """`host.sync.subscribe` is a plain iterator; the host's stop ends it."""
    ended: list[type[BaseException]] = []
    host = WorkflowHost(place())

    with host.sync as blocking:
        result = blocking.run(WorkflowBuilder().then(put("a", n=1)).build("w"), timeout=SECONDS)
        events = blocking.subscribe(since="start")
        history = blocking.history(result.id)
        assert [next(events).sequence for _ in history] == [event.sequence for event in history]

        def wait_for_more() -> None:
            try:
                next(events)
            except ShuttingDown as error:
                ended.append(type(error))

        thread = threading.Thread(target=wait_for_more)
        thread.start()
    thread.join(SECONDS)

    assert ended == [ShuttingDown]

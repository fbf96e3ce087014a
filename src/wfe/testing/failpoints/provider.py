"""A provider whose every call goes through a gate."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from wfe.ports.hints import Hints
from wfe.ports.lease import Lease, Renewer
from wfe.ports.lifecycle import LifecyclePublisher
from wfe.ports.store import Store
from wfe.testing.failpoints.points import NEXT_EVENT, methods_of

if TYPE_CHECKING:
    from datetime import timedelta

    from wfe.model.lifecycle import LifecycleEvent
    from wfe.ports.provider import Provider
    from wfe.testing.failpoints.gate import Gate, Victim

__all__ = ["FailpointProvider"]

_P = TypeVar("_P")


class FailpointProvider:
    """One process's way to a provider.

    The ports are made from their protocols, method by method, so a method that is added to a port is a failpoint
    without a word here.
    """

    def __init__(self, inner: Provider, gate: Gate, victim: Victim, *, url: str = "") -> None:
        """Make the way.

        Args:
            url: What the provider calls itself; the inner one's by default. A host reads off it how many batches
                may be under way.
        """
        self.url = url or inner.url
        self.store: Store = _guarded(Store, inner.store, "store", gate, victim)
        self.lease: Lease = _FailpointLease(inner.lease, gate, victim).port
        self.hints: Hints = _guarded(Hints, inner.hints, "hints", gate, victim)
        self.lifecycle: LifecyclePublisher = _FailpointLifecycle(inner.lifecycle, gate, victim).port


class _FailpointLease:
    """Leases, and the renewers that they make."""

    def __init__(self, inner: Lease, gate: Gate, victim: Victim) -> None:
        self.port = _guarded(Lease, inner, "lease", gate, victim)
        make = self.port.renewer

        def renewer(session: str, ttl: timedelta) -> Renewer:
            return _guarded(Renewer, make(session, ttl), "renewer", gate, victim)

        cast("Any", self.port).renewer = renewer


class _FailpointLifecycle:
    """Subscriptions, and what they give."""

    def __init__(self, inner: LifecyclePublisher, gate: Gate, victim: Victim) -> None:
        self.port = _guarded(LifecyclePublisher, inner, "lifecycle", gate, victim)
        begin = self.port.subscribe

        async def follow(
            events: AsyncIterator[tuple[str, LifecycleEvent]],
        ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
            while True:
                try:
                    event = await gate.call(victim, NEXT_EVENT, events.__anext__)
                except StopAsyncIteration:
                    return
                yield event

        def subscribe(
            *, workflow_id: str | None = None, since: str | None = None
        ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
            return follow(begin(workflow_id=workflow_id, since=since))

        cast("Any", self.port).subscribe = subscribe


def _guarded(port: type, inner: _P, prefix: str, gate: Gate, victim: Victim) -> _P:
    """Make a port whose methods go through the gate."""
    methods = {
        name: _method(gate, victim, f"{prefix}.{name}", getattr(port, name), getattr(inner, name))
        for name in methods_of(port)
    }
    return cast("_P", SimpleNamespace(**methods))


def _method(gate: Gate, victim: Victim, point: str, contract: object, call: Callable[..., Any]) -> Callable[..., Any]:

    async def waiting(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the port's method takes and gives
        return await gate.call(victim, point, lambda: call(*args, **kwargs))

    def at_once(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
        return gate.call_now(victim, point, lambda: call(*args, **kwargs))

    return waiting if inspect.iscoroutinefunction(contract) else at_once

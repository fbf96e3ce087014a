"""The checker of requests goes by the order in which a store executes a batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from wfe.ports.store import TransitionOutcome
from wfe.testing.simulation.requests import Requests


def _batch(*, consumed: tuple[int, ...] = (), request: str = "") -> Any:
    write = SimpleNamespace(instance_id="i0", changes=SimpleNamespace(consumed=consumed))
    insert = SimpleNamespace(instance_id="i0", id=request)
    return SimpleNamespace(transitions=[write] if consumed else [], inbox=[insert] if request else [])


def _reply(batch: Any) -> Any:
    return SimpleNamespace(
        transitions=[TransitionOutcome.ACCEPTED for _ in batch.transitions], inbox=[True for _ in batch.inbox]
    )


def _watch(instance: Any) -> tuple[Requests, list[str]]:
    broken: list[str] = []
    tables = cast("Any", SimpleNamespace(instances={"i0": instance}))
    return Requests(tables, lambda rule, text: broken.append(f"{rule}: {text}")), broken


def test_a_request_that_comes_with_the_end_of_another_is_fine() -> None:
    """One batch may apply a request and bring the next one to the same instance: none is lost."""
    instance = SimpleNamespace(requests={1: "first"}, inbox={1: b""}, has_ended=False)
    requests, broken = _watch(instance)
    requests.after_commit(_batch(request="first"), _reply(_batch(request="first")))
    instance.requests[2] = "second"
    instance.inbox = {2: b""}
    both = _batch(consumed=(1,), request="second")

    requests.after_commit(both, _reply(both))

    assert broken == []


def test_a_request_that_is_gone_unapplied_is_lost() -> None:
    """A request that no transition has applied and that is not in the inbox any more breaks A5."""
    instance = SimpleNamespace(requests={1: "first", 2: "second"}, inbox={1: b""}, has_ended=False)
    requests, broken = _watch(instance)
    requests.after_commit(_batch(request="first"), _reply(_batch(request="first")))
    instance.inbox = {2: b""}

    requests.after_commit(_batch(request="second"), _reply(_batch(request="second")))

    assert broken == ["A5: i0 has lost the requests ['first'], which nothing has applied"]

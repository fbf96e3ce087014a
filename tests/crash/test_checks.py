"""The checks of the crash tests find what they are there for: each violation, planted into a good record, is named."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.checks import Record, repeated_bodies, violations
from tests.crash.client import carry_out
from tests.crash.flows import Planned, definitions, use_ledger
from tests.crash.ledger import Entry, Ledger, read_ledger
from tests.crash.snapshot import Snapshot, Stored, take_snapshot
from wfe import WorkflowHost, WorkflowStatus
from wfe.model.status import LifecycleKind

_PLAN = [Planned("retry", "r"), Planned("endless", "e", "terminate")]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The record of a run without any crash; its end also serves as the snapshot after one."""
    folder = tmp_path_factory.mktemp("good")
    url, path = f"sqlite:///{folder}/wfe.db", folder / "ledger"
    asyncio.run(_run(url, path))
    final = asyncio.run(take_snapshot(url, path))
    return Record(_PLAN, read_ledger(path), [final], final)


async def _run(url: str, path: Path) -> None:
    ledger = Ledger(path, "life")
    use_ledger(ledger)
    host = WorkflowHost(url)
    host.register(*definitions())
    async with host:
        await carry_out(host, _PLAN, ledger, at_once=True, limit=20)
    ledger.close()


def test_nothing_is_found_in_a_good_record(good: Record) -> None:
    """A run without faults has no violation, and no body was repeated."""
    assert violations(good) == []
    assert repeated_bodies(good.ledger) == 0


def _with(record: Record, instance_id: str, change: Callable[[Stored], Stored]) -> Record:
    stored = change(record.final.instances[instance_id])
    final = Snapshot({**record.final.instances, instance_id: stored}, record.final.ledger_lines)
    return dataclasses.replace(record, final=final)


def _without(record: Record, instance_id: str) -> Record:
    left = {name: stored for name, stored in record.final.instances.items() if name != instance_id}
    return dataclasses.replace(record, final=Snapshot(left, record.final.ledger_lines))


def _begin(record: Record, **changes: object) -> Record:
    entry = next(entry for entry in record.ledger if entry.what == "begin" and entry.step == "after")
    return dataclasses.replace(record, ledger=[*record.ledger, dataclasses.replace(entry, **changes)])  # type: ignore[arg-type]


def _only(record: Record, keep: Callable[[Entry], bool]) -> Record:
    return dataclasses.replace(record, ledger=[entry for entry in record.ledger if keep(entry)])


def _without_success(stored: Stored) -> Stored:
    kept = [event for event in stored.history if event.kind is not LifecycleKind.STEP_SUCCEEDED]
    return dataclasses.replace(stored, history=tuple(kept))


def _doubled_end(stored: Stored) -> Stored:
    return dataclasses.replace(stored, history=(*stored.history, stored.history[-1]))


_PLANTED: dict[str, tuple[str, Callable[[Record], Record]]] = {
    "a lost start": ("lost:", lambda record: _without(record, "r")),
    "an instance that did not end": (
        "wrong end",
        lambda record: _with(record, "r", lambda old: dataclasses.replace(old, status=WorkflowStatus.RUNNABLE)),
    ),
    "other data": (
        "wrong data",
        lambda record: _with(record, "r", lambda old: dataclasses.replace(old, data={"attempt": 3, "count": 2})),
    ),
    "a lost error": (
        "wrong errors",
        lambda record: _with(record, "r", lambda old: dataclasses.replace(old, errors=old.errors[:1])),
    ),
    "a lost success": ("wrong successes", lambda record: _with(record, "r", _without_success)),
    "two ends": ("wrong ending", lambda record: _with(record, "r", _doubled_end)),
    "a changed result": (
        "changed",
        lambda record: _with(record, "e", lambda old: dataclasses.replace(old, data={"count": 7})),
    ),
    "a shortened history": (
        "rewritten",
        lambda record: _with(record, "r", lambda old: dataclasses.replace(old, history=old.history[:-1])),
    ),
    "a body begun after its success": ("begun after", lambda record: _begin(record, life="next")),
    "a body begun twice": ("times without a crash", _begin),
    "a success without a body": (
        "no body of it ended",
        lambda record: _only(record, lambda entry: entry.what != "end"),
    ),
    "another key": ("idempotency key changed", lambda record: _begin(record, life="next", key="another")),
    "a shared key": ("share one", lambda record: _begin(record, pointer="99")),
    "a gap": (
        "gaps",
        lambda record: _with(record, "r", lambda old: dataclasses.replace(old, history=old.history[1:])),
    ),
    "another answer": (
        "a client was told",
        lambda record: _with(record, "r", lambda old: dataclasses.replace(old, data={})),
    ),
    "a termination that was none": (
        "terminating",
        lambda record: _with(record, "e", lambda old: dataclasses.replace(old, status=WorkflowStatus.CANCELLED)),
    ),
}


@pytest.mark.parametrize("what", _PLANTED)
def test_planted_violation_is_found(good: Record, what: str) -> None:
    """Each planted violation is named."""
    name, plant = _PLANTED[what]

    found = violations(plant(good))

    assert any(name in text for text in found), found


def test_repeats_are_counted(good: Record) -> None:
    """A body that was begun in two lives counts as one repeat."""
    assert repeated_bodies(_begin(good, life="next").ledger) == 1

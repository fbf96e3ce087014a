"""What a run left in the store, in a form that is the same whenever the same has happened."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wfe import HostDied
from wfe.host.views import errors_from, events_from
from wfe.model.status import LifecycleKind, WorkflowStatus
from wfe.ports.store import ListFilter
from wfe.testing import fsck

if TYPE_CHECKING:
    from tests.crashpoints.world import World
    from wfe import LifecycleEvent, StepError
    from wfe.ports.provider import Provider
    from wfe.ports.store import InstanceRow

__all__ = ["Outcome", "differences", "look"]


_DIED = "its host died"
"""What the failure says of an attempt that was cut off, of a step that counts crashes."""


@dataclass(frozen=True)
class _Instance:
    """One instance. Nothing here depends on the numbers that pointers got, or on how branches interleaved."""

    definition: str
    status: str
    data: str
    blocked: str | None
    whole: tuple[str, ...]
    """What was announced of the instance as such, in order."""
    steps: Counter[tuple[str, ...]]
    """For each pointer, what was announced of it, in order; attempts that a crash cut off, and that count, left out."""
    errors: Counter[tuple[str, int, str, str]]
    inbox: int
    children: tuple[_Instance, ...]

    @property
    def sort_key(self) -> str:
        return f"{self.definition} {self.status} {self.data}"


@dataclass(frozen=True)
class Outcome:
    """What a run left."""

    instances: dict[str, _Instance]
    notes: dict[str, Any]
    bodies: Counter[tuple[str, str]]
    """For each step of each instance (a child counts as its definition), for how many pointers its body began."""
    statuses: dict[str, str] = field(compare=False)
    problems: tuple[str, ...]
    """What must never be, whatever happened."""


async def look(world: World) -> Outcome:
    """Read what a run left."""
    admin = world.admin
    rows = [each async for each in _rows(admin)]
    children: dict[str, list[InstanceRow]] = {}
    for row in rows:
        if row.parent_id is not None:
            children.setdefault(row.parent_id, []).append(row)
    instances = {row.id: await _read(admin, row, children) for row in rows if row.parent_id is None}
    names = {row.id: row.id if row.parent_id is None else row.definition.id for row in rows}
    keys = {(begin.instance, begin.step, begin.key) for begin in world.begun}
    bodies = Counter((names.get(instance, "?"), step) for instance, step, _ in keys)
    statuses = {row.id: row.status for row in rows if row.parent_id is None}
    # A host that died in its stop lets go of what it had when its session expires; who comes next sees to that.
    dead = tuple(f"{life.name}-" for life in world.died)
    living = {session for session in await admin.lease.alive() if not session.startswith(dead)}
    broken = [f"fsck: {finding}" for finding in await fsck(admin.store)]
    return Outcome(instances, world.notes, bodies, statuses, tuple(_problems(rows, living) + broken))


def _problems(rows: list[InstanceRow], living: set[str]) -> list[str]:
    found: list[str] = []
    for row in rows:
        if not WorkflowStatus(row.status).is_terminal:
            found.append(f"{row.id} has not ended: {row.status}, wake {row.wake_at}, {row.blocked_reason}")
        elif row.owner in living:
            found.append(f"{row.id} has ended, and {row.owner} holds it")
    return found


async def _rows(admin: Provider) -> Any:
    cursor: str | None = None
    while True:
        page, cursor = await admin.store.list_instances(ListFilter(), 200, cursor)
        for row in page:
            yield row
        if cursor is None:
            return


async def _read(admin: Provider, row: InstanceRow, children: dict[str, list[InstanceRow]]) -> _Instance:
    history = events_from(await admin.store.history(row.id))
    errors = errors_from(await admin.store.errors(row.id))
    own = [await _read(admin, child, children) for child in children.get(row.id, ())]
    inbox = await admin.store.inbox([row.id])
    return _Instance(
        row.definition.id,
        row.status,
        json.dumps(json.loads(row.data), sort_keys=True),
        row.blocked_reason,
        tuple(_said(event) for event in history if event.pointer_id is None),
        _by_pointer(history),
        _errors(errors),
        len(inbox),
        tuple(sorted(own, key=lambda child: child.sort_key)),
    )


def _said(event: LifecycleEvent, died: int = 0) -> str:
    return " ".join(filter(None, [event.kind, event.step, str((event.attempt or died) - died or ""), event.error]))


def _by_pointer(history: list[LifecycleEvent]) -> Counter[tuple[str, ...]]:
    said: dict[str, list[str]] = {}
    died: Counter[str] = Counter()
    restarted: set[str] = set()
    for event in history:
        number = event.pointer_id
        if number is None or event.kind is LifecycleKind.DATA_OVERWRITTEN:
            continue
        if event.kind is LifecycleKind.STEP_RETRYING and _DIED in (event.error or ""):
            died[number] += 1
            restarted.add(number)
        elif event.kind is LifecycleKind.STEP_STARTED and number in restarted:
            restarted.discard(number)
        else:
            said.setdefault(number, []).append(_said(event, died[number]))
    return Counter(tuple(each) for each in said.values())


def _errors(errors: list[StepError]) -> Counter[tuple[str, int, str, str]]:
    found: Counter[tuple[str, int, str, str]] = Counter()
    died: Counter[str] = Counter()
    for error in errors:
        if error.code == HostDied.code:
            died[error.pointer_id] += 1
        else:
            found[error.step, error.attempt - died[error.pointer_id], error.code, error.message] += 1
    return found


def differences(got: Outcome, wanted: Outcome) -> list[str]:
    """Say in what an outcome differs from the one without faults."""
    found: list[str] = []
    for name in sorted(got.instances.keys() | wanted.instances.keys()):
        found += _instance_differences(name, got.instances.get(name), wanted.instances.get(name))
    if got.notes != wanted.notes:
        found.append(f"notes are {got.notes}, not {wanted.notes}")
    if got.bodies != wanted.bodies:
        more, less = got.bodies - wanted.bodies, wanted.bodies - got.bodies
        found.append(f"bodies began for pointers too many: {dict(more)}, too few: {dict(less)}")
    return [*found, *got.problems]


def _instance_differences(name: str, got: _Instance | None, wanted: _Instance | None) -> list[str]:
    if got is None or wanted is None:
        return [f"{name} is {'missing' if got is None else 'there, and nobody has started it'}"]
    return [
        f"{name}: {what} is {getattr(got, what)}, not {getattr(wanted, what)}"
        for what in ("definition", "status", "data", "blocked", "whole", "steps", "errors", "inbox", "children")
        if getattr(got, what) != getattr(wanted, what)
    ]

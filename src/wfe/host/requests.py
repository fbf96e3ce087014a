"""Control requests: how suspend, resume, cancel and terminate reach an instance, wherever it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wfe.engine.inbox import pack
from wfe.model.errors import InvalidStateTransition, ProviderUnavailable, WorkflowNotFound
from wfe.model.message import Control, ControlVerb
from wfe.model.status import WorkflowStatus
from wfe.ports.hints import Hint, HintKind
from wfe.ports.store import InboxInsert

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.ports.store import InstanceRow

__all__ = ["request"]

APPLIED_WITHIN = 30.0
"""Seconds to wait until the holder has applied a request."""

_GOAL = {
    ControlVerb.SUSPEND: WorkflowStatus.SUSPENDED,
    ControlVerb.CANCEL: WorkflowStatus.CANCELLED,
    ControlVerb.TERMINATE: WorkflowStatus.TERMINATED,
}


async def request(core: HostCore, instance_id: str, verb: ControlVerb, reason: str, *, grace: float) -> bool:
    """Ask for something and return once it is applied. False: it was already so, or the instance is over.

    Raises:
        WorkflowNotFound: There is no such instance.
        ProviderUnavailable: The holder did not answer in 30 s. The request stays queued.
        InvalidStateTransition: The instance cannot go on at all, not even to this request. It stays queued.
    """
    before = await core.store.get(instance_id)
    if before is None or before.id != instance_id:
        # The latest of a name may not be the one that is meant, and a request is not taken back.
        raise WorkflowNotFound(instance_id, named="" if before is None else before.id)
    if not _is_needed(before, verb):
        return False
    request_id = core.entropy.new_id()
    insert = InboxInsert(instance_id, pack(Control(verb, reason)), request_id)
    future = core.committer.inbox(insert)
    core.pump()
    if not await future:
        return False  # it ended in between
    await _applied(core, instance_id, request_id)
    goal = _GOAL.get(verb)
    if verb is ControlVerb.CANCEL:
        row = await _ended(core, instance_id, grace)
        return row is None or row == goal
    if verb is ControlVerb.TERMINATE:
        after = await core.store.get(instance_id)
        return after is None or after.status == goal
    return True


def _is_needed(row: InstanceRow, verb: ControlVerb) -> bool:
    if row.ended_at is not None:
        return False
    if verb is ControlVerb.SUSPEND:
        return row.status != WorkflowStatus.SUSPENDED
    if verb is ControlVerb.RESUME:
        return row.status == WorkflowStatus.SUSPENDED
    return True


async def _applied(core: HostCore, instance_id: str, request_id: str) -> None:
    """Wait until the request's row is consumed; see to it where nobody else does."""
    deadline = core.monotonic() + APPLIED_WITHIN
    pause = 0.02
    was_tried = False
    while True:
        core.on_consumed.clear()
        if not await core.store.pending_control([request_id]):
            return
        if core.monotonic() > deadline:
            msg = (
                f"The host that runs instance {instance_id!r} did not apply the request within {APPLIED_WITHIN:.0f} "
                "s. The request "
                "stays queued and is applied when that host answers or its lease expires."
            )
            raise ProviderUnavailable(msg)
        if instance_id not in core.runners:
            await _take_without_code(core, instance_id)
        if instance_id in core.parked:
            if was_tried:
                reason = core.parked.reason(instance_id)
                msg = f"Instance {instance_id!r} cannot apply the request, which stays queued: {reason}"
                raise InvalidStateTransition(msg)
            was_tried = True
            await core.parked.try_now(instance_id)
            continue
        try:
            async with asyncio.timeout(pause):
                await core.on_consumed.wait()
        except TimeoutError:
            pause = min(pause * 2, 0.5)


async def _take_without_code(core: HostCore, instance_id: str) -> None:
    """Nobody holds it, or somebody else does. If nobody: apply the request here, even without the code."""
    reply = await core.taking.take(1, ids=[instance_id], any_definition=True)
    if reply.instances:
        core.activate(reply.instances[0])
        return
    row = await core.store.get(instance_id)
    if row is not None and row.owner is not None and row.owner != core.session_id:
        await core.hints.send(row.owner, [Hint(HintKind.WORK, (instance_id,))])


async def _ended(core: HostCore, instance_id: str, grace: float) -> str | None:
    """Wait until a cancelled instance has ended: its bodies have a time of grace to stop."""
    deadline = core.monotonic() + grace + 5
    pause = 0.01
    while core.monotonic() < deadline:
        cached = core.waiters.result(instance_id)
        if cached is not None:
            return cached.status
        row = await core.store.get(instance_id)
        if row is None or row.ended_at is not None:
            return None if row is None else row.status
        core.on_consumed.clear()
        try:
            async with asyncio.timeout(pause):
                await core.on_consumed.wait()
        except TimeoutError:
            pause = min(pause * 2, 0.2)
    return None

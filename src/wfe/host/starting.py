"""Makes starts: checks the input, decides the first advance, and packs both into what the store inserts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from wfe.engine.advance import advance
from wfe.engine.state import InstanceState, encode_head
from wfe.host.asker import RunnerAsker
from wfe.host.committer import PendingStart
from wfe.host.waiting import ended_row
from wfe.model.document import EMPTY_DOCUMENT, check_size
from wfe.model.instance import Head
from wfe.model.message import Message, Started
from wfe.ports.store import Changes, CommitReply, ParentLink, Start, StartOutcome

if TYPE_CHECKING:
    from wfe.engine.asking import ChildRequest
    from wfe.engine.transition import Transition
    from wfe.host.core import HostCore
    from wfe.host.registry import Registration
    from wfe.model.moment import Moment

__all__ = ["digest_of", "make_child", "make_start", "submit_start"]

_STARTED: tuple[Message, ...] = (Started(),)


def digest_of(definition_id: str, document: bytes) -> bytes:
    """Give the fingerprint by which a repeated start is recognised."""
    return hashlib.sha256(definition_id.encode() + b"\x00" + document).digest()[:16]


def make_start(
    core: HostCore,
    registration: Registration,
    document: bytes,
    *,
    instance_id: str,
    name: str | None = None,
    reference: str | None = None,
    start_at: Moment | None = None,
    parent: ParentLink | None = None,
    hold: bool = True,
) -> tuple[Start, InstanceState, Transition | None]:
    """Make the start of an instance.

    The first advance is part of it, so that a leading wait, delay or condition costs nothing more. A start that is put
    off, that
    belongs to a child, or whose code is not complete leaves the first advance to whoever takes the instance.

    Raises:
        DataError: The data is too large.
    """
    check_size(document, core.limits.max_data_bytes, f"The data of {instance_id!r}")
    now = core.now()
    state = InstanceState(
        instance_id,
        registration.key,
        data=document,
        created_at=now,
        name=name,
        reference=reference,
        parent=parent,
    )
    later = start_at is not None and start_at > now
    if later:
        state.head = Head(start_at=start_at or 0)
    if later or not hold or registration.missing:
        changes = Changes(
            status=state.head.status,
            head=encode_head(state.head),
            wake_at=start_at if later else 0,
            hold=False,
            data=document,
            values=EMPTY_DOCUMENT,
            first_sequence=1,
        )
        transition = None
    else:
        asker = RunnerAsker(registration, state, lambda parent_state, request: make_child(core, parent_state, request))
        transition = advance(
            registration.definition,
            state,
            _STARTED,
            now=now,
            asker=asker,
            random=core.entropy.random,
            limits=core.limits,
        )
        changes = core.residents.changes(transition, state)
        if changes.data is None or changes.values is None:
            changes = msgspec.structs.replace(
                changes, data=changes.data or document, values=changes.values or EMPTY_DOCUMENT
            )
        if changes.hold and core.room == 0:
            core.residents.give_back_all()
            changes = msgspec.structs.replace(changes, hold=False)
    start = Start(
        id=instance_id,
        definition=registration.key,
        digest=digest_of(registration.definition.id, document),
        changes=changes,
        name=name,
        reference=reference,
        parent=parent,
    )
    return start, state, transition


def submit_start(
    core: HostCore,
    registration: Registration,
    document: bytes,
    *,
    given_id: str | None,
    name: str | None,
    reference: str | None,
    start_at: Moment | None,
) -> tuple[asyncio.Future[StartOutcome], str]:
    """Hand a start to the committer. Gives the future of its outcome, and the id of the instance."""
    instance_id = core.entropy.new_id() if given_id is None else given_id
    start, state, transition = make_start(
        core, registration, document, instance_id=instance_id, name=name, reference=reference, start_at=start_at
    )
    future: asyncio.Future[StartOutcome] = core.loop.create_future()

    def accepted(reply: CommitReply) -> None:
        _begin(core, registration, start, state, transition, reply)

    core.committer.start(PendingStart(core, start, future, accepted))
    core.pump()
    return future, instance_id


def _begin(  # noqa: PLR0917 - all that is known of one start
    core: HostCore,
    registration: Registration,
    start: Start,
    state: InstanceState,
    transition: Transition | None,
    reply: CommitReply,
) -> None:
    """A start was accepted: take over its state and run what it made ready."""
    wake = start.changes.wake_at
    if transition is None:
        if wake:
            core.wake_at(start.id, wake)
        elif not registration.missing:
            core.taking.want(start.id)
        return
    state.created_at = reply.now
    state.apply(transition)
    if transition.changes.ended:
        core.waiters.ended(ended_row(state))
    elif start.changes.hold:
        core.started(registration, state, transition)
        if start.id in reply.unread:
            core.incoming.read(start.id)
    elif transition.changes.hold or start.id in reply.unread:
        core.taking.want(start.id)  # there was no room (whoever has some takes it), or its event is already here
    elif wake is not None:
        core.wake_at(start.id, wake)


def make_child(core: HostCore, parent: InstanceState, request: ChildRequest) -> Start:
    """Make the start of a child instance. It begins free: any host may take it.

    Raises:
        DefinitionNotFound: The child's definition is not registered here.
        DataError: The inputs do not fit it.
    """
    registration = core.registry.find_child(request.definition_id, request.version)
    data: Any = request.data
    if data is None:  # the parent's data is the child's: all of it for dict data, the fields that it has for a class
        data = registration.codec.decode(request.parent_data)
    document = registration.initial(dict(data) if isinstance(data, Mapping) else data)
    link = ParentLink(parent.id, request.pointer, request.on_parent_end)
    start, _, _ = make_start(core, registration, document, instance_id=request.id, parent=link, hold=False)
    return start

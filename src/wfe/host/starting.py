"""Makes starts: checks the input, decides the first advance, and packs both into what the store inserts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from wfe.engine.advance import advance
from wfe.engine.state import InstanceState, encode_head
from wfe.host.asker import RunnerAsker
from wfe.model.document import EMPTY_DOCUMENT, check_size
from wfe.model.message import Message, Started
from wfe.ports.store import Changes, ParentLink, Start

if TYPE_CHECKING:
    from wfe.engine.asking import ChildRequest
    from wfe.engine.transition import Transition
    from wfe.host.core import HostCore
    from wfe.host.registry import Registration
    from wfe.model.moment import Moment

__all__ = ["digest_of", "make_child", "make_start"]

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

    The first advance is part of it, so that a leading wait, delay or condition costs nothing more. A start that is put off, that
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
            registration.definition, state, _STARTED, now=now, asker=asker, random=core.entropy.random, limits=core.limits
        )
        changes = transition.changes
        if changes.data is None or changes.values is None:
            changes = msgspec.structs.replace(
                changes, data=changes.data or document, values=changes.values or EMPTY_DOCUMENT
            )
        if changes.hold and core.room == 0:
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


def make_child(core: HostCore, parent: InstanceState, request: ChildRequest) -> Start:
    """Make the start of a child instance. It begins free: any host may take it.

    Raises:
        DefinitionNotFound: The child's definition is not registered here.
        DataError: The inputs do not fit it.
    """
    registration = core.registry.find(request.definition_id, request.version)
    data: Any = request.data
    if data is None:
        document = _copy_for(registration, request.parent_data)
    else:
        document = registration.codec.initial(dict(data) if isinstance(data, Mapping) else data)
    link = ParentLink(parent.id, request.pointer, request.on_parent_end)
    start, _, _ = make_start(core, registration, document, instance_id=request.id, parent=link, hold=False)
    return start


def _copy_for(registration: Registration, document: bytes) -> bytes:
    """Give the parent's data as the child's: all of it for dict data, the fields that it has for a class."""
    codec = registration.codec
    return codec.encode(codec.decode(document))

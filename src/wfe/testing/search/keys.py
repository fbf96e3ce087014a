"""What tells one state of a world from another: field by field, and for each field that is left out the reason.

States with one key are one state to the search, which looks at what follows from one of them alone. So everything has
to be told that anything to come depends on, be it a move, a rule or a line of the real runner. The tables below name
every field of what a world consists of: `tests/search/test_keys.py` asks for each, and compares what follows from
states that were taken for one.

Hosts are interchangeable, and how often something was counted up says nothing: only whether a fence or a revision is
the present one does, or by how much it is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, cast

import msgspec

from wfe.engine.state import InstanceState, encode_head, encode_pointer
from wfe.host.runner import Runner
from wfe.model.message import Answered, Message, TimePassed
from wfe.ports.store import Batch
from wfe.providers.memory.tables import Instance, Tables

if TYPE_CHECKING:
    from wfe.testing.search.world import Body, Host, Sent, World

__all__ = ["HOST", "INSTANCE", "NOT_TOLD", "RUNNER", "STATE", "TABLES", "TRANSITION", "WORLD", "key_of"]

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def key_of(world: World) -> bytes:
    """Give the same bytes for worlds that nothing to come can tell apart."""
    return hashlib.blake2b(_encode([tell(world) for tell in WORLD.values()]), digest_size=16).digest()


# Single things


def _document(document: bytes) -> bytes:
    return _encode_sorted(msgspec.json.decode(document))


def _relative(world: World, instance_id: str, revision: int, fence: int) -> tuple[int, int] | None:
    """Compare a revision and a fence with the present ones. None: the instance was purged."""
    instance = world.tables.instances.get(instance_id)
    return None if instance is None else (revision - instance.revision, fence - instance.fence)


def _messages(messages: Iterable[Message], revision: int) -> list[object]:
    """Tell messages as they are decided on: that time has passed comes last, and once is as good as twice."""
    told: list[object] = []
    has_time_passed = False
    for message in messages:
        if type(message) is TimePassed:
            has_time_passed = True
        elif type(message) is Answered:
            told.append(("Answered", msgspec.structs.replace(message, base=message.base - revision)))
        else:
            told.append((type(message).__name__, message))
    return [*told, "TimePassed"] if has_time_passed else told


def _batch(world: World, batch: Batch) -> object:
    """Tell a request, and what the store would answer if it came again."""
    reply = world.tables.replies.get(batch.id)
    return (
        [
            (write.instance_id, _relative(world, write.instance_id, write.revision, write.fence), write.changes)
            for write in batch.transitions
        ],
        reply and (reply.transitions, reply.unread),
    )


def _sent(world: World, sent: Sent) -> object:
    return _batch(world, sent.batch), sent.reply and (sent.reply.transitions, sent.reply.unread)


# What is stored


def _activations(it: Instance) -> int:
    """Tell whether who takes it next will pause first, also after who holds it has given it back, which takes one off.

    More than that makes no difference.
    """
    return min(it.activations, 1 if it.owner is None else 2)


INSTANCE: Mapping[str, Callable[[Instance], object]] = {
    "id": lambda it: it.id,
    "created_at": lambda it: it.created_at,
    "status": lambda it: it.status,
    "run": lambda it: it.run,
    "owner": lambda it: it.owner is None,
    "wake_at": lambda it: it.wake_at,
    "blocked_reason": lambda it: it.blocked_reason,
    "activations": _activations,
    "ended_at": lambda it: it.ended_at,
    "head": lambda it: it.head,
    "data": lambda it: _document(it.data),
    "values": lambda it: _document(it.values),
    "pointers": lambda it: sorted(it.pointers.items()),
    "items": lambda it: sorted(it.items.items()),
    "errors": lambda it: sorted(it.errors.items()),
    "inbox": lambda it: [row for _, row in sorted(it.inbox.items())],
    "waits": lambda it: [wait for _, wait in sorted(it.waits.items())],
    "positions": lambda it: sorted(it.positions.items()),
}
"""How the fields of a stored instance are told. Which session owns it is told with the hosts."""

TABLES: Mapping[str, Callable[[Tables], object]] = {
    "clock": lambda it: it.clock.now(),
    "instances": lambda it: [[tell(each) for tell in INSTANCE.values()] for each in it.instances.values()],
    "waiting": lambda it: sorted((topic, list(waits)) for topic, waits in it.waiting.items()),
    "events": lambda it: list(it.events.values()),
    "future": lambda it: list(it.future.values()),
}
"""How the tables are told. Waits of one topic keep their order, in which an event reaches them."""

# What a host knows

STATE: Mapping[str, Callable[[InstanceState], object]] = {
    "head": lambda it: encode_head(it.head),
    "data": lambda it: _document(it.data),
    "values": lambda it: _document(it.values),
    "pointers": lambda it: sorted((pointer.slot, encode_pointer(pointer)) for pointer in it.pointers.values()),
    "items": lambda it: sorted(it.items.items()),
}
"""How the part of a held state is told that is stored, if it is not as the stored one: see T10 in `rules`."""


def _state(world: World, runner: Runner) -> object:
    """Tell a held state: how far it is behind, what it is if it is, and what is nowhere else."""
    state = runner.state
    relative = _relative(world, runner.id, state.revision, runner.fence)
    return (
        relative,
        None if relative == (0, 0) else [tell(state) for tell in STATE.values()],
        sorted(state.begun_again.items()),
    )


def _bodies(_world: World, runner: Runner) -> object:
    bodies = cast("dict[int, Body]", runner.bodies)  # a search puts its own in place of real ones
    revision = runner.state.revision
    return [each._replace(base=each.base - revision) for _, each in sorted(bodies.items())]


def _known_rows(world: World, runner: Runner) -> object:
    instance = world.tables.instances.get(runner.id)
    return [] if instance is None else sorted(runner.known_rows.intersection(instance.inbox))


def _inflight(_world: World, runner: Runner) -> object:
    messages, rows = runner.inflight
    return _messages(messages, runner.state.revision), list(rows)


TRANSITION = "run", "stop", "again", "waits"
"""Slots of a transition that are told: what will be done once it is written."""


def _transition(_world: World, runner: Runner) -> object:
    return runner.transition and [getattr(runner.transition, name) for name in TRANSITION]


RUNNER: Mapping[str, Callable[[World, Runner], object]] = {
    "id": lambda _, it: it.id,
    "state": _state,
    "committing": lambda _, it: it.committing,
    "is_in_doubt": lambda _, it: it.is_in_doubt,
    "must_write": lambda _, it: it.must_write,
    "gives_up": lambda _, it: it.gives_up,
    "held": lambda _, it: it.held,
    "mailbox": lambda _, it: _messages(it.mailbox, it.state.revision),
    "rows": lambda _, it: it.rows,
    "known_rows": _known_rows,
    "inflight": _inflight,
    "transition": _transition,
    "bodies": _bodies,
    "awaited": lambda _, it: sorted(it.awaited),
    "beginning": lambda _, it: sorted(it.beginning),
}
"""How the slots of a runner are told."""


HOST: Mapping[str, Callable[[World, Host], object]] = {
    "is_up": lambda _, it: it.is_up,
    "taken_unknown": lambda _, it: it.taken_unknown,
    "resting": lambda _, it: sorted(it.resting.items()),
    "releases": lambda world, it: [(number, _relative(world, number, 0, fence)) for number, fence in it.releases],
    "runners": lambda world, it: [
        [tell(world, it.runners[number]) for tell in RUNNER.values()] for number in sorted(it.runners)
    ],
    "sent": lambda world, it: [(number, _sent(world, sent)) for number, sent in sorted(it.sent.items())],
    "session": lambda world, it: (
        world.is_alive(it),
        [each.id for each in world.tables.instances.values() if each.owner == it.session],
        [number for number, account in world.accounts.items() if account.taker == it.session],
    ),
}
"""How the fields of a host are told. A session: whether it lives, what it owns, and what it took last."""

# The whole

WORLD: Mapping[str, Callable[[World], object]] = {
    "tables": lambda it: [tell(it.tables) for tell in TABLES.values()],
    "hosts": lambda it: sorted(_encode([tell(it, host) for tell in HOST.values()]) for host in it.hosts),
    "adrift": lambda it: sorted(_encode(_batch(it, batch)) for batch in it.adrift),
    "budget": lambda it: sorted(it.budget.items()),
    "accounts": lambda it: [(number, account.history()) for number, account in sorted(it.accounts.items())],
}
"""How the parts of a world are told."""

_SAME = "the same in every state of a search"
_UNUSED = "no model has any"
_DERIVED = "follows from the rows of the instances"

NOT_TOLD: Mapping[str, Mapping[str, str]] = {
    "World": {
        "registration": _SAME,
        "store": "the tables once more",
        "made": "makes names that are new",
        "broken": "where a rule is broken the search ends",
    },
    "Instance": {
        "definition": _SAME,
        "digest": _SAME,
        "name": _UNUSED,
        "reference": _UNUSED,
        "parent": _UNUSED,
        "number": "the place among the instances, which are told in their order",
        "revision": "only what is behind it counts, and each revision that somebody has is told relative to it",
        "fence": "only whether a fence is the present one counts, and each that somebody has is told relative to it",
        "requests": "names of requests, for callers who ask what became of them; none does",
    },
    "Tables": {
        "lock": "no thread",
        "latest": "the clock never goes back, so that it is what the clock shows",
        "live": _DERIVED,
        "stirring": _DERIVED,
        "names": _UNUSED,
        "children": _UNUSED,
        "topics": "the events once more",
        "log": "empty between moves: the rules have read it",
        "definitions": _UNUSED,
        "sessions": "told with the hosts; one of no host is over",
        "replies": "told with the request that would get it again",
        "listeners": _UNUSED,
        "last_event": "events are never deleted, so that it is their number",
        "last_inbox": "makes a name that is new; rows are compared with each other alone",
        "last_log": "makes a name that is new",
        "last_instance": "instances begin in one order",
    },
    "Runner": {
        "core": "there during a move only",
        "asker": _SAME,
        "registration": _SAME,
        "fence": "told with the state, relative to the present one",
        "scheduled": "whoever has messages may decide at any time",
        "noted_wake": "whoever is due may be told at any time",
        "since": "the steady clock of the search stands still",
    },
    "InstanceState": {
        "id": "the runner's",
        "definition_key": _SAME,
        "name": _UNUSED,
        "reference": _UNUSED,
        "parent": _UNUSED,
        "created_at": "the stored one, which nothing changes",
        "revision": "told relative to the present one",
        "begun_again": "told whether or not the rest is as the stored state",
        "writers": "each body sets a field of its own, once: nobody else's is there to clash with",
        "running": "follows from the pointers: see T10 in `rules`",
        "pending": "follows from the pointers: see T10 in `rules`",
        "timers": "follow from the pointers: see T10 in `rules`",
        "_split": "the items once more",
    },
    "Account": {
        "taker": "told with the hosts; otherwise a host that is gone",
        "fence": "the stored one: see L1 in `rules`",
        "revision": "the stored one: see T3 in `rules`",
        "sequence": "the one of the stored head: see H1 in `steps`",
    },
    "Transition": dict.fromkeys(
        ("changed", "changes", "data", "gone", "head", "items", "notes", "values", "writers"),
        "what is written, told with the request",
    ),
    "Batch": {
        "id": "a name; whether it has its answer is told",
        "session": "the one that took the instance under the fence of the transition",
        **dict.fromkeys(
            ("starts", "publishes", "inbox", "promote", "room", "runnable"), "such batches reach the store at once"
        ),
    },
}
"""Fields that are not told, by the class that they are of, with the reason."""

"""How decisions reach the store and its answers the hosts. Each request, its arrival and its answer are moves."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from wfe.engine.advance import advance
from wfe.engine.state import InstanceState
from wfe.host.runner import Runner
from wfe.model.message import Started
from wfe.ports.store import Batch, CommitReply, Start
from wfe.testing.search.stand_in import ASKER, StandIn, meeting
from wfe.testing.search.steps import CommitRules
from wfe.testing.search.world import Host, Sent, World, now_of
from wfe.testing.simulation.stored import loaded

__all__ = ["arriving", "arriving_late", "asking_again", "commit", "decide", "learning", "sending_again", "start"]


def decide(world: World, host: Host, runner: Runner) -> None:
    """A runner decides; what it has decided is on its way."""
    write = runner.decide()
    if write is None:
        return
    _decide_anew(world, runner)
    host.sent[runner.id] = Sent(Batch(id=world.new_name("batch"), session=host.session, transitions=[write]))


def _decide_anew(world: World, runner: Runner) -> None:
    """The stored state leads to the same decision as the one in memory.

    Two things only who holds it knows: who has written a field since it was taken, and when bodies were begun again.
    """
    instance = world.tables.instances.get(runner.id)
    if instance is None or (runner.fence, runner.state.revision) != (instance.fence, instance.revision):
        return
    state = loaded(instance)
    state.writers.update(runner.state.writers)
    state.begun_again.update(runner.state.begun_again)
    messages, rows = runner.inflight
    again = advance(
        world.registration.definition, state, messages, now=world.now, asker=ASKER, consumed=rows, limits=StandIn.limits
    )
    assert runner.transition is not None
    changes = runner.core.residents.changes(again, state)
    if changes != runner.transition.changes:
        world.breaks("T10", f"{runner.id}: the stored state leads to {changes}")


def commit(world: World, batch: Batch) -> CommitReply:
    """Let a batch reach the store. One that it has written before gets the answer of then."""
    if batch.id in world.tables.replies:
        return now_of(world.store.commit(batch))
    rules = CommitRules(world, batch)
    reply = now_of(world.store.commit(batch))
    rules.check(reply)
    world.tables.log.clear()  # the rules have read it
    return reply


def arriving(session: str, instance_id: str) -> Callable[[World], None]:
    """A transition reaches the store."""

    def make(world: World) -> None:
        host = world.host(session)
        batch = host.sent[instance_id].batch
        host.sent[instance_id] = Sent(batch, commit(world, batch))

    return make


def learning(session: str, instance_id: str) -> Callable[[World], None]:
    """A host learns what became of a transition."""

    def make(world: World) -> None:
        host = world.host(session)
        sent = host.sent.pop(instance_id)
        assert sent.reply is not None
        world.tables.replies.pop(sent.batch.id, None)
        runner = host.runners.get(instance_id)
        if runner is None:
            return
        with meeting(world, host, runner):
            runner.committed(sent.reply.transitions[0], unread=instance_id in sent.reply.unread)

    return make


def asking_again(session: str, instance_id: str) -> Callable[[World], None]:
    """The store resolves it: the same batch is committed again."""

    def make(world: World) -> None:
        world.spend("lost reply")
        host = world.host(session)
        host.sent[instance_id] = Sent(host.sent[instance_id].batch)

    return make


def sending_again(session: str, instance_id: str) -> Callable[[World], None]:
    """The store could not find out: the host sends the same transition anew, and the first may still arrive."""

    def make(world: World) -> None:
        world.spend("lost reply")
        host = world.host(session)
        sent = host.sent[instance_id]
        if sent.reply is None:
            world.adrift += (sent.batch,)
        again = Batch(id=world.new_name("batch"), session=session, transitions=sent.batch.transitions)
        host.sent[instance_id] = Sent(again)
        if instance_id in host.runners:
            host.runners[instance_id].is_in_doubt = True

    return make


def arriving_late(number: int) -> Callable[[World], None]:
    """A request that nobody awaits any more reaches the store."""

    def make(world: World) -> None:
        batch = world.adrift[number]
        world.adrift = world.adrift[:number] + world.adrift[number + 1 :]
        commit(world, batch)
        world.tables.replies.pop(batch.id, None)

    return make


def start(world: World, session: str, instance_id: str) -> None:
    """Start an instance, its first advance included. It begins free: whoever wants may take it."""
    definition = world.registration.definition
    state = InstanceState(instance_id, definition.key, created_at=world.now)
    transition = advance(definition, state, [Started()], now=world.now, asker=ASKER)
    changes = msgspec.structs.replace(transition.changes, hold=False, data=transition.data, values=transition.values)
    begins = Start(id=instance_id, definition=definition.key, digest=b"", changes=changes)
    commit(world, Batch(id=world.new_name("batch"), session=session, starts=[begins]))

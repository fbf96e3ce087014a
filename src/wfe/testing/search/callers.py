"""What callers do: start, publish, ask for a change, purge. Their requests reach the store at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wfe.engine.inbox import pack
from wfe.model.message import Control, ControlVerb
from wfe.model.moment import Moment
from wfe.ports.store import Batch, InboxInsert, Publish
from wfe.testing.search.explore import Kind, Move
from wfe.testing.search.hosts import activate
from wfe.testing.search.world import SECOND, World, now_of
from wfe.testing.search.writing import commit, start

__all__ = ["asks", "promotions", "publishes", "purges", "starts"]

_CALLER = "caller"


def starts(world: World) -> Iterator[Move[World]]:
    """Callers start the instances that the budget names."""
    for instance_id in ("A", "B"):
        if world.may(f"start {instance_id}"):
            yield Move(f"a caller starts {instance_id}", Kind.PROGRESS, _starting(instance_id))
            return  # in this order, since they are alike


def _starting(instance_id: str) -> Callable[[World], None]:
    def make(world: World) -> None:
        world.spend(f"start {instance_id}")
        start(world, _CALLER, instance_id)

    return make


def asks(world: World, instance_id: str, *verbs: ControlVerb) -> Iterator[Move[World]]:
    """Callers ask an instance for something."""
    if not world.may("request") or instance_id not in world.tables.live:
        return
    for verb in verbs:
        yield Move(f"a caller asks {instance_id} to {verb}", Kind.CLIENT, _asking(instance_id, verb))


def _asking(instance_id: str, verb: ControlVerb) -> Callable[[World], None]:
    def make(world: World) -> None:
        world.spend("request")
        message = pack(Control(verb, "asked"))
        insert = InboxInsert(instance_id, message, id=world.new_name("request"))
        commit(world, Batch(id=world.new_name("batch"), session=_CALLER, inbox=[insert]))

    return make


def publishes(world: World) -> Iterator[Move[World]]:
    """Callers publish the events that the budget names, through a host, which takes whom they reach, or otherwise.

    An event of which they do not know whether it was published is published again.
    """
    for event_id in ("e1", "e2"):
        if world.may(event_id):
            label = f"publishes {event_id}"
            yield Move(f"a caller {label}", Kind.CLIENT, _publishing(_CALLER, event_id, event_id))
            for host in world.hosts:
                if host.is_up and world.is_alive(host):
                    yield Move(f"{host.session} {label}", Kind.CLIENT, _publishing(host.session, event_id, event_id))
        elif event_id in world.tables.events and world.may("repeat"):
            yield Move(f"a caller publishes {event_id} again", Kind.FAULT, _publishing(_CALLER, event_id, "repeat"))
    if world.may("later"):
        yield Move("a caller publishes e3 for 5 s later", Kind.CLIENT, _publish_for_later)


def _publishing(session: str, event_id: str, costs: str) -> Callable[[World], None]:
    def make(world: World) -> None:
        world.spend(costs)
        _write(world, session, Batch(id=world.new_name("batch"), session=session, publishes=[_event(event_id)]))

    return make


def _publish_for_later(world: World) -> None:
    world.spend("later")
    event = _event("e3", world.now + 5 * SECOND)
    commit(world, Batch(id=world.new_name("batch"), session=_CALLER, publishes=[event]))


def _event(event_id: str, effective_at: Moment | None = None) -> Publish:
    return Publish(event_id, "news", "k", f'"{event_id}"'.encode(), effective_at)


def _write(world: World, session: str, batch: Batch) -> None:
    """Write a batch; a host takes the instances that it reaches."""
    if session == _CALLER:
        commit(world, batch)
        return
    whole = Batch(
        id=batch.id,
        session=session,
        publishes=batch.publishes,
        promote=batch.promote,
        room=1,
        runnable=(world.registration.key,),
    )
    for each in commit(world, whole).taken:
        activate(world, world.host(session), each)


def promotions(world: World) -> Iterator[Move[World]]:
    """Hosts publish future events that are due."""
    times = [each.effective_at for each in world.tables.future.values() if each.effective_at is not None]
    if not any(time <= world.now for time in times):
        return
    for host in world.hosts:
        if host.is_up and world.is_alive(host):
            yield Move(f"{host.session} publishes what is due", Kind.PROGRESS, _promoting(host.session))


def _promoting(session: str) -> Callable[[World], None]:
    def make(world: World) -> None:
        _write(world, session, Batch(id=world.new_name("batch"), session=session, promote=10))

    return make


def purges(world: World) -> Iterator[Move[World]]:
    """An operator deletes what has ended."""
    for instance in world.tables.instances.values():
        if instance.has_ended and world.may("purge"):
            yield Move(f"an operator purges {instance.id}", Kind.CLIENT, _purging(instance.id))


def _purging(instance_id: str) -> Callable[[World], None]:
    def make(world: World) -> None:
        world.spend("purge")
        now_of(world.store.purge(ids=[instance_id]))

    return make

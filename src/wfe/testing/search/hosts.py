"""What hosts do: take, read, decide, write, learn, run bodies, give back; and what may go wrong with them.

A host decides with the real runner; around it is a stand-in for the rest of the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

from wfe.engine.state import InstanceState
from wfe.host.runner import Runner
from wfe.model.document import Patch
from wfe.model.message import Answered, Failed, TimePassed
from wfe.model.pointer import ErrorRecord
from wfe.model.result import NEXT
from wfe.testing.search.explore import Kind, Move
from wfe.testing.search.stand_in import ASKER, StandIn, meeting, set_body, with_runner
from wfe.testing.search.steps import begun, released, taken
from wfe.testing.search.world import Body, Host, Sent, World, now_of
from wfe.testing.search.writing import arriving, arriving_late, asking_again, decide, learning, sending_again

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.ports.store import LoadedInstance

__all__ = ["activate", "host_moves", "time_moves"]

_FAILED = ErrorRecord("step_failed", "no", type="builtins.ValueError")
_CLASSES = ("builtins.ValueError", "builtins.Exception", "builtins.BaseException")


# What may happen


def host_moves(world: World) -> Iterator[Move[World]]:
    """List what hosts may do, and what may happen to them."""
    for host in world.hosts:
        if not host.is_up:
            yield _expire(host, Kind.PROGRESS)
            continue
        if not world.is_alive(host):
            yield Move(f"{host.session} notices that its session is over", Kind.PROGRESS, _noticing(host.session))
        else:
            yield from _claims(world, host)
            if world.may("expiry"):
                yield _expire(host, Kind.FAULT)
        for instance_id in host.runners:
            yield from _runner_moves(world, host, instance_id)
        for instance_id, sent in host.sent.items():
            yield from _sent_moves(world, host.session, instance_id, sent)
        if host.releases:
            yield Move(f"{host.session} gives back {host.releases[0][0]}", Kind.PROGRESS, _releasing(host.session))
        if host.taken_unknown:
            yield Move(f"{host.session} looks for what it holds unknowingly", Kind.PROGRESS, _looking(host.session))
        if world.may("crash"):
            yield Move(f"{host.session} crashes", Kind.FAULT, _crashing(host.session))
    for number, batch in enumerate(world.adrift):
        yield Move(f"a late request of {batch.session} reaches the store", Kind.FAULT, arriving_late(number))


def time_moves(world: World) -> Iterator[Move[World]]:
    """Let it become the time of the next timer or future event."""
    times = [each.wake_at for each in world.tables.live.values() if each.wake_at is not None]
    times += [
        wake
        for host in world.hosts
        for runner in host.runners.values()
        if (wake := runner.state.timers.earliest()) is not None
    ]
    times += [each.effective_at for each in world.tables.future.values() if each.effective_at is not None]
    later = [time for time in times if time > world.now]
    if later:
        until = min(later)
        seconds = (until - world.now) / 1_000_000
        yield Move(f"{seconds:g} s pass", Kind.PROGRESS, lambda world: world.pass_time(until))


def _claims(world: World, host: Host) -> Iterator[Move[World]]:
    """A hint may name any instance, also one that another host holds, or that has nothing to do."""
    for instance in world.tables.live.values():
        if instance.id not in host.runners or instance.owner is None:
            label = f"{host.session} takes {instance.id}"
            yield Move(label, Kind.PROGRESS, _claiming(host.session, instance.id))
            is_free = world.tables.holder(instance) is None and instance.is_due(world.now)
            if is_free and world.may("lost reply"):
                yield Move(f"{label}; the reply is lost", Kind.FAULT, _claiming(host.session, instance.id, lost=True))


def _runner_moves(world: World, host: Host, instance_id: str) -> Iterator[Move[World]]:
    session, runner = host.session, host.runners[instance_id]
    if instance_id in host.resting:
        yield Move(f"{session} activates {instance_id}", Kind.PROGRESS, with_runner(session, instance_id, _activate))
    instance = world.tables.instances.get(instance_id)
    if (runner.mailbox or runner.rows) and not runner.committing:
        yield Move(f"{session} decides on {instance_id}", Kind.PROGRESS, with_runner(session, instance_id, decide))
    if instance is not None and not runner.known_rows.issuperset(instance.inbox):
        label = f"{session} reads the inbox of {instance_id}"
        yield Move(label, Kind.PROGRESS, with_runner(session, instance_id, _read))
    wake = runner.state.timers.earliest()
    if wake is not None and wake <= world.now and not any(type(each) is TimePassed for each in runner.mailbox):
        yield Move(f"{session} sees that {instance_id} is due", Kind.PROGRESS, with_runner(session, instance_id, _ring))
    if world.may("keep") and runner.is_idle and instance_id not in host.resting:
        yield Move(
            f"{session} keeps {instance_id} no longer", Kind.PROGRESS, with_runner(session, instance_id, _leaves)
        )
    if world.is_alive(host):
        for number in sorted(runner.awaited):
            begins = with_runner(session, instance_id, _begins(number))
            yield Move(f"{session} begins pointer {number}", Kind.PROGRESS, begins)
    for run in runner.bodies.values():
        yield from _body_moves(world, session, instance_id, cast("Body", run))


def _body_moves(world: World, session: str, instance_id: str, body: Body) -> Iterator[Move[World]]:
    name = f"pointer {body.pointer} on {session}"
    yield Move(f"{name} answers", Kind.PROGRESS, with_runner(session, instance_id, _answers(body)))
    if world.may("failure"):
        yield Move(f"{name} fails", Kind.CLIENT, with_runner(session, instance_id, _fails(body)))
    if body.is_told_to_stop:
        yield Move(f"{name} stops", Kind.PROGRESS, with_runner(session, instance_id, _stops(body)))


def _sent_moves(world: World, session: str, instance_id: str, sent: Sent) -> Iterator[Move[World]]:
    of = f"the transition of {instance_id} by {session}"
    if sent.reply is None:
        yield Move(f"{of} reaches the store", Kind.PROGRESS, arriving(session, instance_id))
    else:
        yield Move(f"{session} learns what became of {instance_id}", Kind.PROGRESS, learning(session, instance_id))
    if world.may("lost reply"):
        label = f"{session} gets no answer about {instance_id}"
        if sent.reply is not None:
            yield Move(f"{label}, and asks again", Kind.FAULT, asking_again(session, instance_id))
        yield Move(f"{label}, and sends it anew", Kind.FAULT, sending_again(session, instance_id))


# Taking and giving back


def _expire(host: Host, kind: Kind) -> Move[World]:
    session, costs = host.session, kind is Kind.FAULT

    def make(world: World) -> None:
        world.expire(session)
        if costs:
            world.spend("expiry")
        else:
            world.hosts.remove(world.host(session))

    return Move(f"the session of {session} expires", kind, make)


def _noticing(session: str) -> Callable[[World], None]:
    def make(world: World) -> None:
        world.adrift += tuple(sent.batch for sent in world.host(session).sent.values() if sent.reply is None)
        world.hosts.remove(world.host(session))
        world.new_host()

    return make


def _crashing(session: str) -> Callable[[World], None]:
    def make(world: World) -> None:
        world.spend("crash")
        host = world.host(session)
        world.adrift += tuple(sent.batch for sent in host.sent.values() if sent.reply is None)
        host.runners, host.sent, host.releases, host.resting = {}, {}, (), {}
        host.is_up = host.taken_unknown = False
        if not world.is_alive(host):
            world.hosts.remove(host)
        world.new_host()

    return make


def _claiming(session: str, instance_id: str, *, lost: bool = False) -> Callable[[World], None]:
    def make(world: World) -> None:
        host, tables = world.host(session), world.tables
        holder = tables.holder(tables.instances[instance_id])
        key = world.registration.key
        reply = now_of(world.store.claim(session, (key,), 1, ids=[instance_id]))
        for each in reply.instances:
            taken(world, each, session, holder)
            if not lost:
                activate(world, host, each)
        if lost:
            world.spend("lost reply")
            host.taken_unknown = True

    return make


def activate(world: World, host: Host, row: LoadedInstance) -> None:
    """Begin to run what was taken, as the core of a host does."""
    host.resting.pop(row.id, None)
    old = host.runners.pop(row.id, None)
    if old is not None:
        old.drop()
        sent = host.sent.pop(row.id, None)
        if sent is not None and sent.reply is None:
            world.adrift += (sent.batch,)
    state = InstanceState.loaded(row)
    if state.head.status.is_terminal:
        host.releases += ((row.id, row.fence),)
        return
    core = cast("HostCore", StandIn(world, host))
    runner = host.runners[row.id] = Runner(core, world.registration, state, row.fence, ASKER)
    if row.activations > 1:
        host.resting[row.id] = tuple(row.inbox)
        return
    with meeting(world, host, runner):
        runner.activate(list(row.inbox))


def _leaves(_world: World, _host: Host, runner: Runner) -> None:
    runner.core.leaving.give_back(runner)


def _activate(world: World, host: Host, runner: Runner) -> None:
    """The pause before a further activation is over."""
    runner.activate(list(host.resting.pop(runner.id)))


def _releasing(session: str) -> Callable[[World], None]:
    def make(world: World) -> None:
        host = world.host(session)
        (instance_id, fence), *rest = host.releases
        host.releases = tuple(rest)
        _release(world, session, instance_id, fence)

    return make


def _release(world: World, session: str, instance_id: str, fence: int) -> None:
    instance = world.tables.instances.get(instance_id)
    owner = None if instance is None else instance.owner
    now_of(world.store.release(session, [(instance_id, fence)]))
    released(world, instance_id, fence, owner)


def _looking(session: str) -> Callable[[World], None]:
    """What is held without a runner is given back; all earlier requests are answered by then."""

    def make(world: World) -> None:
        host = world.host(session)
        for instance_id, fence in now_of(world.store.held(session)):
            runner = host.runners.get(instance_id)
            if runner is None or runner.fence != fence:
                _release(world, session, instance_id, fence)
        host.taken_unknown = False

    return make


# Reading, deciding, bodies


def _read(world: World, host: Host, runner: Runner) -> None:
    for row in now_of(world.store.inbox([runner.id])):
        runner.receive(row)


def _ring(world: World, host: Host, runner: Runner) -> None:
    runner.deliver(TimePassed())


def _begins(number: int) -> Callable[[World, Host, Runner], None]:
    def make(world: World, host: Host, runner: Runner) -> None:
        runner.awaited.discard(number)
        pointer = runner.state.pointers.get(number)
        if pointer is None or not pointer.runs_body:
            return
        begun(world, runner, pointer)
        set_body(runner, Body(number, pointer.attempt, runner.state.revision))

    return make


def _answers(body: Body) -> Callable[[World, Host, Runner], None]:
    patch = Patch({f"p{body.pointer}": b"true"})
    return _done(body, Answered(body.pointer, body.attempt, NEXT, patch, body.base))


def _fails(body: Body) -> Callable[[World, Host, Runner], None]:
    return _done(body, Failed(body.pointer, body.attempt, _FAILED, classes=_CLASSES))


def _stops(body: Body) -> Callable[[World, Host, Runner], None]:
    return _done(body, None)


def _done(body: Body, message: Answered | Failed | None) -> Callable[[World, Host, Runner], None]:
    def make(world: World, host: Host, runner: Runner) -> None:
        if isinstance(message, Failed):
            world.spend("failure")
        runner.body_done(body.pointer, runner.bodies[body.pointer], message)

    return make

"""Control structures: what a step without a body does when it is reached, and when a branch of it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from wfe.engine import failing, flow  # in a cycle: looked up when called
from wfe.engine.asking import AskFailed, ChildRequest
from wfe.engine.timers import wake_time
from wfe.engine.transition import Draft
from wfe.model.definition import StepKind
from wfe.model.document import check_size, encode_typed, encode_value
from wfe.model.durations import to_timedelta
from wfe.model.errors import DataError
from wfe.model.moment import from_datetime, microseconds
from wfe.model.pointer import Pointer
from wfe.model.status import LifecycleKind, PointerStatus
from wfe.ports.store import Subscribe

if TYPE_CHECKING:
    from wfe.model.definition import Block, Step

__all__ = [
    "ENTRIES",
    "TURNING",
    "arrived",
    "branch_out",
    "is_spreading",
    "matching_block",
    "spread_on",
    "subscribe",
    "turn",
]

_replace = msgspec.structs.replace

TURNING = "turn"
"""Phase of a loop whose condition is still to be read for the next turn."""
BRANCH = "branch"
"""Phase of a body's pointer while its children run."""

_MAX_SPREAD = 25_000
"""Branches of one loop that are open at a time, so that an instance stays below its limit of live pointers."""


def arrived(draft: Draft, step: Step, container: Pointer, slot: int) -> None:
    """A branch of a container has ended: begin the next one, or end the container when none is open."""
    kind = StepKind.FOR_EACH if container.phase == BRANCH else step.kind
    if kind is StepKind.WHILE and not container.failed:
        turn(draft, step, container, slot)
    elif kind is StepKind.FOR_EACH and _may_go_on(step, container):
        _spawn(draft, step, container, slot)
    elif container.open == 0:
        _end(draft, container)


def _may_go_on(step: Step, container: Pointer) -> bool:
    if container.spawned >= container.total:
        return False
    in_order = _width(step, container) == 1
    return not (container.failed and (in_order or step.option("fail_fast")))


def _end(draft: Draft, container: Pointer) -> None:
    if container.failed:
        failing.fail_container(draft, container)
    elif container.phase == BRANCH:
        flow.begin(draft, _replace(container, phase="", spawned=0, total=0, status=PointerStatus.PENDING))
    else:
        flow.complete(draft, container)


def _sequence(draft: Draft, step: Step, pointer: Pointer) -> None:
    _take(draft, step.blocks[0] if step.blocks else None, pointer)


def _if(draft: Draft, step: Step, pointer: Pointer) -> None:
    chosen = 0 if flow.ask_whether(draft, step, "condition", pointer.scope, pointer.index) else 1
    _take(draft, step.blocks[chosen] if chosen < len(step.blocks) else None, pointer, chosen)


def _decide(draft: Draft, step: Step, pointer: Pointer) -> None:
    value = flow.ask(draft, step, "selector", pointer.scope, pointer.index)
    chosen = matching_block(step, value)
    _take(draft, None if chosen is None else step.blocks[chosen], pointer, chosen or 0)


def matching_block(step: Step, value: object) -> int | None:
    """Find the block whose label equals a value (5 == 5.0, but true is not 1), else the default one."""
    default = None
    for number, block in enumerate(step.blocks):
        if block.is_default:
            default = number
        elif isinstance(block.label, bool) == isinstance(value, bool) and _are_equal(block.label, value):
            return number
    return default


def _are_equal(label: object, value: object) -> bool:
    try:
        return bool(label == value)
    except Exception as error:
        message = f"A {type(value).__qualname__} cannot be compared with {label!r}: {error}"
        raise flow.unusable(message, error) from error


def _take(draft: Draft, block: Block | None, pointer: Pointer, number: int = 0) -> None:
    """Run one block, then go on; without a block go on at once."""
    if block is None or not block.steps:
        flow.complete(draft, pointer)
        return
    container = _replace(pointer, block=number, open=1)
    draft.put(container)
    flow.open_block(draft, container, block, -1, 0)


def _while(draft: Draft, step: Step, pointer: Pointer) -> None:
    turn(draft, step, pointer, 0)


def turn(draft: Draft, step: Step, container: Pointer, slot: int) -> None:
    """Read the condition of a loop, and begin its next turn or end it."""
    draft.budget -= 1
    if draft.halted or draft.budget < 0:
        draft.put(_replace(container, status=PointerStatus.PENDING, phase=TURNING))
        draft.again = draft.again or not draft.halted
        return
    if not flow.ask_whether(draft, step, "condition", container.scope, container.index):
        flow.complete(draft, container)
        return
    container = _replace(container, status=PointerStatus.RUNNING, phase="", open=1, spawned=container.spawned + 1)
    draft.put(container)
    flow.open_block(draft, container, step.blocks[0], -1, slot)


def _parallel(draft: Draft, step: Step, pointer: Pointer) -> None:
    if not step.blocks:
        flow.complete(draft, pointer)
        return
    count = len(step.blocks)
    if count > draft.places_left:
        raise _too_many(draft, step)
    container = _replace(pointer, open=count, spawned=count, total=count)
    draft.put(container)
    for block in reversed(step.blocks):
        flow.open_block(draft, container, block, -1, 0)


def _for_each(draft: Draft, step: Step, pointer: Pointer) -> None:
    collection = flow.ask(draft, step, "collection", pointer.scope, pointer.index)
    if isinstance(collection, str | bytes | Mapping) or not isinstance(collection, Iterable):
        kind = type(collection).__name__
        raise flow.unusable(f"The collection of step {step.id!r} is a {kind}; a list or another iterable is needed.")
    spread(draft, step, pointer, _encoded_items(step, collection))


def _encoded_items(step: Step, collection: Iterable[object]) -> list[bytes]:
    try:
        return [encode_typed(item, path=f"$[{number}]") for number, item in enumerate(collection)]
    except DataError as error:
        raise flow.unusable(f"The collection of step {step.id!r} cannot be stored: {error}") from error
    except Exception as error:  # a generator is user code that runs here
        raise flow.unusable(f"The collection of step {step.id!r} has no items: {error}", error) from error


def spread(draft: Draft, step: Step, pointer: Pointer, items: list[bytes]) -> None:
    """Make a pointer the container of one branch per item."""
    if not items or not _loop_block(step, pointer).steps:
        _end(draft, pointer)
        return
    container = _replace(pointer, total=len(items), spawned=0, open=0)
    text = b"[" + b",".join(items) + b"]"
    try:
        check_size(text, draft.limits.max_data_bytes, f"The collection of step {step.id!r}")
    except DataError as error:
        raise flow.unusable(str(error)) from error
    draft.items[container.id] = text
    draft.put(container)
    _spawn(draft, step, container, 0)


def branch_out(draft: Draft, pointer: Pointer, items: tuple[bytes, ...], *, parallel: bool) -> None:
    """A body asked for its children to be run, once per value."""
    step = draft.step_of(pointer)
    container = _replace(pointer, phase=BRANCH, block=-1 if parallel else -2)
    spread(draft, step, container, list(items))


def _loop_block(step: Step, container: Pointer) -> Block:
    if container.phase == BRANCH:
        assert step.children is not None
        return step.children
    return step.blocks[0]


def _width(step: Step, container: Pointer) -> int:
    """How many branches may be open at a time."""
    if container.phase == BRANCH:
        return 1 if container.block == -2 else _MAX_SPREAD  # noqa: PLR2004 - see branch_out
    if step.option("parallel", default=True) is False:
        return 1
    limit = step.option("max_parallel")
    return min(limit, _MAX_SPREAD) if isinstance(limit, int) else _MAX_SPREAD


def _spawn(draft: Draft, step: Step, container: Pointer, slot: int) -> None:
    """Begin as many branches as may be open; the first takes over the slot of the branch that has just ended.

    Those for which this transition has no room are left to the next one.
    """
    wanted = min(_width(step, container) - container.open, container.total - container.spawned)
    places, steps_left = draft.places_left, draft.steps_left
    if wanted > places and not places and not container.open:
        raise _too_many(draft, step)
    count = min(wanted, places, steps_left)
    first = container.spawned
    status = PointerStatus.RUNNING
    if count == steps_left and count < min(wanted, places):
        status = PointerStatus.PENDING
        draft.again = draft.again or not draft.halted
    container = _replace(container, status=status, open=container.open + count, spawned=first + count)
    draft.put(container)
    block = _loop_block(step, container)
    for index in range(first + count - 1, first - 1, -1):
        flow.open_block(draft, container, block, index, slot if index == first else 0)


def _too_many(draft: Draft, step: Step) -> AskFailed:
    limit = draft.limits.max_live_pointers
    return flow.unusable(
        f"Step {step.id!r} cannot begin its branches: the instance has {limit:,} live pointers, which is the limit. "
        "Bound the loops around it with max_parallel."
    )


def is_spreading(container: Pointer) -> bool:
    """Whether a pending pointer is a loop with branches that have not begun because one transition had no room."""
    return container.total > container.spawned


def spread_on(draft: Draft, step: Step, container: Pointer) -> None:
    """Begin more branches of a loop."""
    _spawn(draft, step, container, 0)


def _delay(draft: Draft, step: Step, pointer: Pointer) -> None:
    value = flow.ask(draft, step, "duration", pointer.scope, pointer.index)
    until = _point_in_time(draft, step, value)
    if until <= draft.now:
        flow.complete(draft, pointer)
        return
    draft.put(pointer.slept(wake_time(until)))
    draft.note(LifecycleKind.STEP_SLEEPING, pointer)


def _point_in_time(draft: Draft, step: Step, value: object) -> int:
    try:
        if isinstance(value, datetime):
            return from_datetime(value)
        if isinstance(value, timedelta | int | float | str) and not isinstance(value, bool):
            return draft.now + microseconds(to_timedelta(value))
    except (ValueError, OverflowError) as error:
        raise flow.unusable(f"The duration of step {step.id!r} is not valid: {error}") from error
    kind = type(value).__name__
    raise flow.unusable(
        f"The duration of step {step.id!r} is a {kind}; give a timedelta, seconds, text or an aware datetime."
    )


def _wait_for(draft: Draft, step: Step, pointer: Pointer) -> None:
    scope, index = pointer.scope, pointer.index
    name = _text(step, "event name", flow.ask(draft, step, "event_name", scope, index))
    key = _text(step, "event key", flow.ask(draft, step, "event_key", scope, index))
    as_of = flow.ask(draft, step, "as_of", scope, index) if "as_of" in step.values else None
    limit = step.option("timeout_us")
    subscribe(draft, pointer, name, key, as_of=as_of, limit=limit if isinstance(limit, int) else None)


def _text(step: Step, what: str, value: object) -> str:
    if value is None or isinstance(value, bool | float | Mapping | list):
        raise flow.unusable(f"The {what} of step {step.id!r} is {value!r:.80}; text is needed.")
    try:
        return str(value)
    except Exception as error:
        kind = type(value).__qualname__
        raise flow.unusable(f"The {what} of step {step.id!r} is a {kind} without text: {error}", error) from error


def subscribe(
    draft: Draft, pointer: Pointer, name: str, key: str, *, as_of: object, limit: int | None, persisted: bytes = b""
) -> None:
    """Make a pointer wait for an event."""
    if not (as_of is None or as_of == "any" or (isinstance(as_of, datetime) and as_of.tzinfo is not None)):
        raise flow.unusable(f"as_of of step {pointer.step!r} is {as_of!r}; give an aware datetime, 'any' or None.")
    for text, what in ((name, "name"), (key, "key")):
        _check_event_text(pointer, text, what)
    since = from_datetime(as_of) if isinstance(as_of, datetime) else (0 if as_of == "any" else None)
    awaits = f"event {name!r} with key {key!r}"
    waiting = pointer.waited(0 if limit is None else wake_time(draft.now + limit), persisted, awaits=awaits)
    draft.put(waiting)
    draft.subscribe.append(Subscribe(waiting.id, waiting.waits, name, key, since))
    draft.note(LifecycleKind.STEP_WAITING, waiting, detail=awaits)


def _check_event_text(pointer: Pointer, text: str, what: str) -> None:
    if not text:
        raise flow.unusable(f"The event {what} of step {pointer.step!r} is empty, so no event can match.")
    try:
        encode_value(text, path=f"$.{what}")
    except DataError as error:
        raise flow.unusable(f"The event {what} of step {pointer.step!r} cannot be stored: {error}") from error


def _sub_workflow(draft: Draft, step: Step, pointer: Pointer) -> None:
    inputs = flow.ask(draft, step, "inputs", pointer.scope, pointer.index) if "inputs" in step.values else None
    version = step.option("version")
    child_id = f"{draft.state.id}~{draft.head.run}.{pointer.id}.{pointer.failures}"
    request = ChildRequest(
        child_id,
        str(step.option("definition_id")),
        version if isinstance(version, int) else None,
        inputs,
        draft.data,
        pointer.id,
        str(step.option("on_parent_end", "cancel")),
    )
    start = draft.asker.child(request)
    draft.children.append(start)
    limit = draft.definition.policies_of(step.id).timeout if draft.definition is not None else None
    waiting = pointer.waited(0 if limit is None else wake_time(draft.now + microseconds(limit)), child=child_id)
    draft.put(waiting)
    draft.note(LifecycleKind.STEP_WAITING, waiting, detail=f"child {child_id!r}")


def _end_workflow(draft: Draft, step: Step, pointer: Pointer) -> None:
    del step
    flow.end_now(draft, pointer)


ENTRIES: dict[StepKind, Callable[[Draft, Step, Pointer], None]] = {
    StepKind.SEQUENCE: _sequence,
    StepKind.IF: _if,
    StepKind.WHILE: _while,
    StepKind.FOR_EACH: _for_each,
    StepKind.PARALLEL: _parallel,
    StepKind.DECIDE: _decide,
    StepKind.DELAY: _delay,
    StepKind.WAIT_FOR: _wait_for,
    StepKind.SUB_WORKFLOW: _sub_workflow,
    StepKind.END: _end_workflow,
}

"""Checks of decisions: that one changes nothing but its result, and that the stored state leads to the same one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wfe.engine.advance import advance
from wfe.engine.state import InstanceState, decode_head, decode_pointers, encode_head, encode_pointer
from wfe.host import runner as deciding

if TYPE_CHECKING:
    from wfe.engine.transition import Transition
    from wfe.model.definition import WorkflowDefinition
    from wfe.model.message import Message
    from wfe.testing.simulation.watching import Watching

__all__ = ["decided_twice"]


@contextmanager
def decided_twice(watching: Watching, *, every: int) -> Generator[None]:
    """Decide every so many times twice: once as the host does, once from the state as it would be loaded."""
    counter = 0

    def checked(
        definition: WorkflowDefinition[Any] | None,
        state: InstanceState,
        messages: Sequence[Message],
        *,
        random: Callable[[], float],
        **given: Any,  # noqa: ANN401 - handed on
    ) -> Transition:
        nonlocal counter
        counter += 1
        if counter % every:
            return advance(definition, state, messages, random=random, **given)
        drawn: list[float] = []

        def drawing() -> float:
            drawn.append(random())
            return drawn[-1]

        before = _packed(state)
        transition = advance(definition, state, messages, random=drawing, **given)
        if _packed(state) != before:
            watching.broken("T10", f"deciding on {state.id}@{state.revision} has changed its state")
        again = advance(definition, _reloaded(state), messages, random=iter(drawn).__next__, **given)
        if (again.changes, again.run, again.stop) != (transition.changes, transition.run, transition.stop):
            watching.broken("T10", f"the stored state of {state.id}@{state.revision} leads to another decision")
        return transition

    original: Any = deciding.advance  # type: ignore[attr-defined]  # the runner's own import of it
    deciding.advance = checked  # type: ignore[assignment,attr-defined]
    try:
        yield
    finally:
        deciding.advance = original  # type: ignore[attr-defined]


def _packed(state: InstanceState) -> tuple[object, ...]:
    return (
        encode_head(state.head),
        state.revision,
        state.data,
        state.values,
        sorted((pointer.id, encode_pointer(pointer)) for pointer in state.pointers.values()),
        dict(state.items),
        set(state.running),
        set(state.pending),
        dict(state.writers),
        state.timers.earliest(),
    )


def _reloaded(state: InstanceState) -> InstanceState:
    fresh = InstanceState(
        state.id,
        state.definition_key,
        head=decode_head(encode_head(state.head)),
        revision=state.revision,
        data=bytes(bytearray(state.data)),
        values=state.values,
        created_at=state.created_at,
        name=state.name,
        reference=state.reference,
        parent=state.parent,
        pointers=decode_pointers([encode_pointer(pointer) for pointer in state.pointers.values()]),
        items=dict(state.items),
    )
    # Who wrote what, and when a body was begun again, is known to the holder alone; it decides about notes only.
    fresh.writers.update(state.writers)
    fresh.begun_again.update(state.begun_again)
    return fresh

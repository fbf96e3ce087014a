"""The decision: what messages and time make of an instance.

`advance` is a pure function. The same definition, state, messages, time and answers give the same transition, and
nothing but its result is changed. What it needs from outside (values of user code, children's definitions, randomness)
is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, assert_never

from wfe.engine import flow
from wfe.engine.answering import answered, attempt_failed, begun, body_stopped
from wfe.engine.control import controlled, stopped_if_idle
from wfe.engine.passing import child_ended, event_matched, go_on, time_passed
from wfe.engine.transition import Draft, Transition
from wfe.model.document import Limits
from wfe.model.message import (
    Answered,
    Begun,
    BodyStopped,
    ChildEnded,
    Control,
    EventMatched,
    Failed,
    Message,
    Started,
    TimePassed,
)
from wfe.model.moment import microseconds
from wfe.model.pointer import ROOT_SCOPE
from wfe.model.status import LifecycleKind, WorkflowStatus

if TYPE_CHECKING:
    from wfe.engine.asking import Asker
    from wfe.engine.state import InstanceState
    from wfe.model.definition import WorkflowDefinition
    from wfe.model.moment import Moment

__all__ = ["advance"]

_LIMITS = Limits()


def _no_jitter() -> float:
    return 0.0


def advance(
    definition: WorkflowDefinition | None,
    state: InstanceState,
    messages: Sequence[Message],
    *,
    now: Moment,
    asker: Asker,
    consumed: Sequence[int] = (),
    random: Callable[[], float] = _no_jitter,
    limits: Limits = _LIMITS,
) -> Transition:
    """Decide what happens to an instance.

    Args:
        definition: Its plan; None where the code is missing: then only control requests are applied.
        messages: What happened, in order. Answers and inbox messages first, `TimePassed` last: an event that is here
            was before a timeout that is not yet recorded.
        consumed: Ids of the inbox rows that the messages came from.
        random: Draws the jitter of retries.

    Returns:
        The transition. Bodies named in `run` may begin only after it is committed.
    """
    draft = Draft(definition, state, now=now, asker=asker, random=random, limits=limits)
    draft.consumed.extend(consumed)
    for message in messages:
        if draft.ended:
            break
        _take(draft, message)
        flow.settle(draft)
    if draft.is_overdue and not draft.ended:
        time_passed(draft)
    stopped_if_idle(draft)
    return draft.decided()


def _take(draft: Draft, message: Message) -> None:  # noqa: C901 - one case for each kind of message
    match message:
        case Answered():
            answered(draft, message)
        case EventMatched():
            event_matched(draft, message)
        case TimePassed():
            if draft.state.pending:
                go_on(draft)
            time_passed(draft)
        case Failed():
            attempt_failed(draft, message)
        case Started():
            _start(draft)
        case Control():
            controlled(draft, message)
        case ChildEnded():
            child_ended(draft, message)
        case BodyStopped():
            body_stopped(draft, message)
        case Begun():
            begun(draft, message)
        case _:
            assert_never(message)


def _start(draft: Draft) -> None:
    assert draft.definition is not None
    if draft.next_pointer > 1 or draft.head.start_at > draft.now:
        return  # it has begun, or is to begin later
    draft.note(LifecycleKind.WORKFLOW_STARTED)
    limit = draft.definition.workflow_timeout
    if limit is not None:
        draft.time_limit = microseconds(limit)
    steps = draft.definition.root.steps
    if not steps:
        flow.finish(draft, WorkflowStatus.COMPLETE)
        return
    draft.open = 1
    flow.enter(draft, steps[0].id, ROOT_SCOPE, -1, 0)

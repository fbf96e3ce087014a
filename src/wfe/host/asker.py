"""Answers the engine's questions with the definition's own code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from itertools import islice
from typing import TYPE_CHECKING, Any

from wfe.engine.asking import AskFailed, CodeMissing
from wfe.host.bodies import workflow_info
from wfe.host.errors_of import class_names, record_of
from wfe.host.settings import checked_text
from wfe.model.context import LoopFrame, StepExecutionContext, StepInfo
from wfe.model.document import decode_plain
from wfe.model.errors import DataError, DefinitionNotFound
from wfe.model.pointer import ErrorRecord
from wfe.model.step_body import WithContext

if TYPE_CHECKING:
    from wfe.engine.asking import ChildRequest, Question
    from wfe.engine.state import InstanceState
    from wfe.host.registry import Registration
    from wfe.model.context import WorkflowInfo
    from wfe.ports.store import Start

__all__ = ["RunnerAsker"]

_MAX_ITEMS = 1_000_000
_EVENT_TEXTS = ("event_name", "event_key")


class RunnerAsker:
    """Calls conditions, collections, selectors and mappings of one instance.

    One typed view per revision is shared by all of them; what they change in it is lost with it.
    """

    __slots__ = ("_make_child", "_registration", "_state", "_view", "_view_of")

    def __init__(
        self,
        registration: Registration,
        state: InstanceState,
        make_child: Callable[[InstanceState, ChildRequest], Start],
    ) -> None:
        self._registration = registration
        self._state = state
        self._make_child = make_child
        self._view: Any = None
        self._view_of: bytes | None = None

    def value(self, question: Question) -> object:
        """Call the code in the question's slot."""
        code = self._registration.definition.code.get((question.step.id, question.slot))
        if code is None:
            message = f"The {question.slot} of step {question.step.id!r} is code, which this host does not have."
            raise AskFailed(ErrorRecord("definition_error", message), retryable=False)
        try:
            if question.extra:
                return code(decode_plain(question.extra))
            data = self._typed(question.data)
            found = code(data, self._context(question, data)) if isinstance(code, WithContext) else code(data)
            if question.slot == "collection":
                return _whole(found)
            if question.slot in _EVENT_TEXTS and found is not None:
                found = checked_text(str(found), question.slot.replace("_", " "))
        except BaseException as error:  # user code may raise anything, and this is the loop that runs all instances
            note = f"the {question.slot.replace('_', ' ')} of step {question.step.id!r}: "
            raise AskFailed(record_of(error, prefix=note), classes=class_names(error)) from error
        return found

    def check(self, fields: Any, data: bytes) -> None:  # noqa: ANN401 - a Patch
        """Check that fields which no body wrote are JSON and fit the data class. Raises DataError."""
        for name, text in fields.changed.items():
            _check_json(name, text)
        self._registration.codec.check(fields, data)

    def child(self, request: ChildRequest) -> Start:
        """Make the start of a child."""
        try:
            return self._make_child(self._state, request)
        except DefinitionNotFound as error:  # deregistered since the instance was taken
            raise CodeMissing(str(error)) from error
        except DataError as error:
            raise AskFailed(record_of(error), classes=class_names(error)) from error

    def _typed(self, data: bytes) -> Any:  # noqa: ANN401 - the author's class
        if self._view_of is not data:
            self._view = self._registration.codec.decode(data)
            self._view_of = data
        return self._view

    def _context(self, question: Question, data: object) -> StepExecutionContext[Any]:
        step = question.step
        body = self._registration.bodies.get(step.id)
        return StepExecutionContext(
            _Asked(self._state, question, data),
            step=body.info if body is not None else StepInfo(step.id, step.name or step.id, step.config),
            pointer_id="",
        )


class _Asked:
    """What code that is asked for a value sees of its instance."""

    def __init__(self, state: InstanceState, question: Question, data: object) -> None:
        self._state = state
        self._question = question
        self._data = data

    def load_data(self) -> object:
        return self._data

    def load_workflow(self) -> WorkflowInfo:
        return workflow_info(self._state)

    def load_values(self) -> dict[str, Any]:
        return _mapping(self._question.values)

    def load_loops(self) -> list[LoopFrame]:
        return [LoopFrame(loop.item, loop.index) for loop in self._question.loops()]

    def write_log(self, stream: str, text: str) -> None:
        """A value has no log."""

    def beat(self, details: object) -> None:
        """Nobody looks for a heartbeat of what is asked at once."""


def _whole(collection: object) -> object:
    """Read a collection to its end here, where what its code raises belongs to the step; at most `_MAX_ITEMS` of it."""
    if isinstance(collection, Sized) or not isinstance(collection, Iterable):
        return collection
    items: list[object] = list(islice(collection, _MAX_ITEMS + 1))
    if len(items) > _MAX_ITEMS:
        msg = f"it has more than {_MAX_ITEMS:,} items"
        raise DataError(msg, reason="too_large")
    return items


def _check_json(name: str, text: bytes) -> None:
    try:
        decode_plain(text)
    except (ValueError, RecursionError) as error:
        msg = f"What came for the field {name!r} cannot be read: {error}"
        raise DataError(msg, path=f"$.{name}", reason="corrupt") from error


def _mapping(document: bytes) -> dict[str, Any]:
    plain = decode_plain(document)
    return dict(plain) if isinstance(plain, Mapping) else {}

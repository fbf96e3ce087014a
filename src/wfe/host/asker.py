"""Answers the engine's questions with the definition's own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from wfe.engine.asking import AskFailed
from wfe.host.errors_of import class_names, record_of
from wfe.model.context import LoopFrame, StepExecutionContext, WithContext
from wfe.model.document import decode_plain
from wfe.model.errors import DataError, DefinitionNotFound
from wfe.model.pointer import ErrorRecord

if TYPE_CHECKING:
    from wfe.engine.asking import ChildRequest, Question
    from wfe.engine.state import InstanceState
    from wfe.host.registry import Registration
    from wfe.ports.store import Start

__all__ = ["RunnerAsker"]


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
            if isinstance(code, WithContext):
                return code(data, self._context(question, data))
            return code(data)
        except BaseException as error:  # user code may raise anything, and this is the loop that runs all instances
            note = f"the {question.slot.replace('_', ' ')} of step {question.step.id!r}: "
            raise AskFailed(record_of(error, prefix=note), classes=class_names(error)) from error

    def check(self, fields: Any, data: bytes) -> None:  # noqa: ANN401 - a Patch
        """Check that fields which no body wrote fit the data class. Raises DataError."""
        self._registration.codec.check(fields, data)

    def child(self, request: ChildRequest) -> Start:
        """Make the start of a child."""
        try:
            return self._make_child(self._state, request)
        except (DefinitionNotFound, DataError) as error:
            raise AskFailed(record_of(error), classes=class_names(error)) from error

    def _typed(self, data: bytes) -> Any:  # noqa: ANN401 - the author's class
        if self._view_of is not data:
            self._view = self._registration.codec.decode(data)
            self._view_of = data
        return self._view

    def _context(self, question: Question, data: object) -> StepExecutionContext[Any]:
        from wfe.host.bodies import workflow_info

        step = question.step
        body = self._registration.bodies.get(step.id)
        from wfe.model.context import StepInfo

        return StepExecutionContext(
            load_data=lambda: data,
            load_workflow=lambda: workflow_info(self._state),
            step=body.info if body is not None else StepInfo(step.id, step.name or step.id, step.config),
            pointer_id="",
            load_values=lambda: _mapping(question.values),
            load_loops=lambda: [LoopFrame(loop.item, loop.index) for loop in question.loops()],
        )


def _mapping(document: bytes) -> dict[str, Any]:
    plain = decode_plain(document)
    return dict(plain) if isinstance(plain, Mapping) else {}

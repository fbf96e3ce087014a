"""Checks of a whole draft: what no single call of the builder can know."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from wfe.authoring.builder_drafts import BlockDraft, DraftPlace, StepDraft
from wfe.authoring.builder_ids import RESERVED_PREFIX, id_problem
from wfe.model.definition import Field, StepKind
from wfe.model.policies import Compensate, CompensateThenRetry, CompensateThenSuspend, ErrorBehavior, Retry, RetryPolicy

__all__ = ["check_steps", "check_whole"]

_COMPENSATING = (Compensate, CompensateThenRetry, CompensateThenSuspend)


def check_whole(
    definition_id: object,
    version: object,
    data_type: object,
    error: ErrorBehavior | None,
    retry: RetryPolicy | None,
) -> Iterator[str]:
    """Check what is said of the workflow as a whole."""
    problem = id_problem(definition_id, "the id of a definition")
    if problem is not None:
        yield problem
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        yield f"a version is a whole number of at least 1, got {version!r}"
    if not inspect.isclass(data_type):
        yield f"the data type must be a class, got {data_type!r:.80}"
    if retry is not None and isinstance(error, Retry):
        yield "default_retry and default_on_error(Retry(…)) are both given; the rule for retries must be one of them"
    yield from (f"default_on_error: {problem}" for problem in _compensation_problems(error))


def check_steps(
    root: BlockDraft, places: Sequence[DraftPlace], ids: Mapping[StepDraft, str], data_type: object
) -> Iterator[str]:
    """Check all steps; each problem names its step."""
    yield from root.problems
    fields = known_fields(data_type)
    where = {place.step: place for place in places}
    targets = {step_id: draft for draft, step_id in ids.items()}
    for draft in where:
        problems = [
            *draft.problems,
            *(problem for block in _blocks(draft) for problem in block.problems),
            *_policy_problems(draft),
            *_body_problems(draft),
            *_field_problems(draft, fields),
            *_jump_problems(draft, where, targets),
        ]
        yield from (f"step {ids[draft]!r}: {problem}" for problem in problems)
    yield from _double_names(where.values(), ids)


def known_fields(data_type: object) -> frozenset[str] | None:
    """Give the names of the fields of a data class; None where any name is possible."""
    if not inspect.isclass(data_type) or data_type is dict:
        return None
    if dataclasses.is_dataclass(data_type):
        return frozenset(field.name for field in dataclasses.fields(data_type))
    for attribute in ("__struct_fields__", "model_fields"):
        names = getattr(data_type, attribute, None)
        if names is not None:
            return frozenset(map(str, names))
    attributes = getattr(data_type, "__attrs_attrs__", None)
    if attributes is not None:
        return frozenset(str(attribute.name) for attribute in attributes)
    if hasattr(data_type, "__total__"):  # a TypedDict
        return frozenset(data_type.__annotations__)
    return None


def _blocks(draft: StepDraft) -> list[BlockDraft]:
    return [*draft.blocks, *([] if draft.children is None else [draft.children])]


def _policy_problems(draft: StepDraft) -> Iterator[str]:
    if draft.retry is not None and isinstance(draft.error, Retry):
        yield "retry(…) and on_error(Retry(…)) are both given; the rule for retries must be one of them"
    yield from (f"on_error: {problem}" for problem in _compensation_problems(draft.error))
    if draft.timeout is not None and draft.kind not in {StepKind.BODY, StepKind.WAIT_FOR, StepKind.SUB_WORKFLOW}:
        yield f"timeout(…) limits a body, a wait or a child; this is a {draft.kind.value}: set it on the steps inside"


def _compensation_problems(rule: ErrorBehavior | None) -> Iterator[str]:
    if isinstance(rule, Retry):
        rule = rule.then
    if isinstance(rule, _COMPENSATING):
        yield f"{type(rule).__name__} needs a compensation, and there is none"


def _body_problems(draft: StepDraft) -> Iterator[str]:
    """Check the inputs and outputs of a function, whose parameters are known."""
    function = draft.body
    if function is None or inspect.isclass(function):
        return
    if any(slot.startswith("output.") for slot in draft.values):
        yield "output(…) reads from a body object; this body is a function: write to context.data or answer a mapping"
    slots = [*draft.values, *draft.refused]
    given = {slot.removeprefix("input.") for slot in slots if slot.startswith("input.")}
    parameters = _further_parameters(function)
    if parameters is None:
        return
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        names = [parameter.name for parameter in parameters]
        for name in sorted(given - set(names)):
            yield f"the function has no argument {name!r} for its input{_nearest(name, names)}"
    for parameter in parameters:
        fixed = parameter.kind not in {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
        if fixed and parameter.default is inspect.Parameter.empty and parameter.name not in given:
            yield f"the function needs its argument {parameter.name!r}; give it by input({parameter.name!r}, …)"


def _further_parameters(function: Callable[..., object]) -> list[inspect.Parameter] | None:
    """Give the parameters after the context."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if parameters and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return parameters
    return parameters[1:]


def _field_problems(draft: StepDraft, fields: frozenset[str] | None) -> Iterator[str]:
    """Check the names of data fields that the plan writes or reads."""
    written = [slot.removeprefix("output.") for slot in draft.values if slot.startswith("output.")]
    output = draft.options.get("output")
    if output is not None:
        written.append(str(output))
    read = [
        value.path.partition(".")[0]
        for slot, value in draft.values.items()
        if isinstance(value, Field) and not slot.startswith("output.")
    ]
    for name in written:
        if not name or name.startswith(RESERVED_PREFIX):
            yield f"data fields must have a name that does not start with {RESERVED_PREFIX}, got {name!r}"
        elif fields is not None and name not in fields:
            yield f"the data has no field {name!r}{_nearest(name, fields)}"
    if fields is not None:
        yield from (f"the data has no field {name!r}{_nearest(name, fields)}" for name in read if name not in fields)


def _jump_problems(
    draft: StepDraft, where: Mapping[StepDraft, DraftPlace], targets: Mapping[str, StepDraft]
) -> Iterator[str]:
    if not draft.go_to:
        return
    target = targets.get(draft.go_to)
    if target is None:
        yield f"go_to: there is no step {draft.go_to!r}{_nearest(draft.go_to, targets)}"
        return
    if draft.kind is StepKind.END:
        yield f"go_to: the workflow ends at this step, so it never goes on at {draft.go_to!r}"
    wanted = where[target].block
    place = where[draft]
    while place.block is not wanted:
        container = place.container
        if container is None:
            yield f"go_to: {draft.go_to!r} is inside another block; a jump reaches steps of this or an enclosing block"
            return
        if container.runs_branches_apart or place.block is container.children:
            branch = f"a branch of {_kind(container)}, which may run beside others"
            yield f"go_to: {draft.go_to!r} is outside of {branch}; such a branch cannot be left by a jump"
            return
        place = where[container]


def _kind(container: StepDraft) -> str:
    return "do" if container.kind is StepKind.BODY else container.kind.value


def _double_names(places: Iterable[DraftPlace], ids: Mapping[StepDraft, str]) -> Iterator[str]:
    """Find steps of one block with the same name: people could not tell them apart."""
    seen: dict[tuple[int, str], str] = {}
    for draft, block, _ in places:
        if draft.name is None:
            continue
        first = seen.setdefault((id(block), draft.name), ids[draft])
        if first != ids[draft]:
            yield f"step {ids[draft]!r}: it has the name {draft.name!r}, as has step {first!r} of the same block"


def _nearest(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(map(repr, known[:10]))}" if known else ""

"""Arbitrary definitions, for property-based tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from wfe.model.definition import (
    Block,
    Code,
    ConditionTree,
    Field,
    Literal,
    Policies,
    Step,
    StepKind,
    WorkflowDefinition,
)
from wfe.model.policies import (
    CompensateThenRetry,
    Continue,
    Exponential,
    Fail,
    Fixed,
    Linear,
    Retry,
    RetryPolicy,
    Suspend,
    Terminate,
)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
json_objects = st.dictionaries(texts, json_values, max_size=2)
durations = st.timedeltas(timedelta(0), timedelta(days=9000))

backoffs = (
    st.builds(Fixed, durations)
    | st.builds(Exponential, durations, durations, st.floats(1, 100))
    | st.builds(Linear, durations, durations)
)
retry_policies = st.builds(RetryPolicy, st.integers(1, 50), backoffs, st.floats(0, 1))
final_rules = st.sampled_from([Fail(), Continue(), Suspend(), Terminate()]) | st.builds(
    CompensateThenRetry, durations, st.integers(0, 9)
)
class_names = st.none() | st.lists(texts, max_size=2).map(tuple)
error_rules = final_rules | st.builds(
    Retry,
    interval=durations,
    max_retries=st.integers(0, 9),
    backoff=st.none() | backoffs,
    max_interval=st.none() | durations,
    jitter=st.floats(0, 1),
    on=class_names,
    not_on=class_names,
    then=final_rules,
    policy=st.none() | retry_policies,
)
policies = st.builds(
    Policies, st.none() | error_rules, st.none() | retry_policies, st.none() | durations, count_crashes=st.booleans()
)
values = (
    st.builds(Literal, json_values)
    | st.builds(Field, texts)
    | st.builds(Code, texts)
    | st.builds(ConditionTree, json_objects)
)


def _steps(blocks: st.SearchStrategy[Block]) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        id=st.just("?"),
        kind=st.sampled_from(StepKind),
        name=texts,
        step_type=texts,
        blocks=st.lists(blocks, max_size=3).map(tuple),
        children=st.none() | blocks,
        values=st.dictionaries(texts, values, max_size=2),
        options=json_objects,
        config=json_objects,
    )


def _blocks(inner: st.SearchStrategy[Step]) -> st.SearchStrategy[Block]:
    return st.builds(Block, st.lists(inner, max_size=3).map(tuple), json_values, st.booleans())


leaves = _steps(st.just(Block()))
blocks: st.SearchStrategy[Block] = st.recursive(_blocks(leaves), lambda inner: _blocks(_steps(inner)), max_leaves=4)


def _numbered(block: Block, names: Iterator[str]) -> Block:
    """Give every step an id of its own, and some of them a jump."""
    steps: list[Step] = []
    for step in block.steps:
        name = next(names)
        steps.append(
            Step(
                id=name,
                kind=step.kind,
                name=step.name,
                step_type=step.step_type,
                blocks=tuple(_numbered(inner, names) for inner in step.blocks),
                children=None if step.children is None else _numbered(step.children, names),
                values=step.values,
                options=step.options,
                config=step.config,
                go_to=name if len(step.name) > 6 else "",
            )
        )
    return Block(tuple(steps), block.label, block.is_default)


@st.composite
def definitions(draw: st.DrawFn) -> WorkflowDefinition[Any]:
    """Any plan with valid structure, and policies for some of its steps."""
    names = (f"step {number}" for number in range(10_000))
    root = Block(_numbered(draw(blocks), names).steps)
    plan: WorkflowDefinition[Any] = WorkflowDefinition("any", draw(st.integers(1, 9)), root)
    chosen = draw(st.lists(st.sampled_from([each.id for each in plan.steps] or [""]), max_size=2, unique=True))
    return WorkflowDefinition(
        draw(texts.filter(bool)),
        plan.version,
        root,
        name=draw(texts),
        description=draw(texts),
        policies={step_id: draw(policies) for step_id in chosen if step_id},
        default_policies=draw(policies),
        workflow_timeout=draw(st.none() | durations),
        strict_data=draw(st.booleans()),
    )

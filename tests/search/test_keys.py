from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import fields
from typing import Any, cast

import pytest

from wfe.engine.state import InstanceState
from wfe.engine.transition import Transition
from wfe.host.runner import Runner
from wfe.ports.store import Batch
from wfe.providers.memory.tables import Instance, Tables
from wfe.testing.search import MODELS
from wfe.testing.search.explore import Model
from wfe.testing.search.keys import HOST, INSTANCE, NOT_TOLD, RUNNER, STATE, TABLES, TRANSITION, WORLD
from wfe.testing.search.ledger import Account
from wfe.testing.search.world import Host, World

FULL = 2_000
SHORT = 400
TOLD: list[tuple[str, Collection[str], Collection[str]]] = [
    ("World", World.__slots__, WORLD),
    ("Tables", [each.name for each in fields(Tables)], TABLES),
    ("Instance", [each.name for each in fields(Instance)], INSTANCE),
    ("Host", [each.name for each in fields(Host)], HOST),
    ("Runner", Runner.__slots__, RUNNER),
    ("InstanceState", InstanceState.__slots__, STATE),
    ("Transition", Transition.__slots__, TRANSITION),
    ("Batch", Batch.__struct_fields__, ["transitions"]),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Begin everywhere in a full run, and otherwise where each model has fewest states."""
    if "searched" in metafunc.fixturenames:
        is_full = metafunc.config.getoption("--full")
        names = [(model, name) for model in MODELS for name, _ in MODELS[model].beginnings()[: None if is_full else 1]]
        metafunc.parametrize("searched", names, ids=["-".join(each) for each in names])
        metafunc.parametrize("merges", [FULL if is_full else SHORT])


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """What hosts warn of happens in every second state."""
    logger = logging.getLogger("wfe.host")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize(("name", "there", "told"), TOLD, ids=[name for name, _, _ in TOLD])
def test_every_field_is_told_or_left_out_for_a_reason(name: str, there: Collection[str], told: Collection[str]) -> None:
    """Whoever adds a field to what a search copies decides whether states that differ in it are one."""
    left_out = NOT_TOLD.get(name, {})

    assert sorted([*told, *left_out]) == sorted(there)
    assert all(left_out.values())


def test_all_of_the_history_is_told_but_what_is_left_out_for_a_reason() -> None:
    """What the rules remember is a part of the state."""
    assert len(Account().history()) + len(NOT_TOLD["Account"]) == len(Account.__struct_fields__)
    assert set(NOT_TOLD["Account"]) < set(Account.__struct_fields__)


def test_from_states_that_are_one_the_same_follows(searched: tuple[str, str], merges: int) -> None:
    """The search goes on from one of two states with one key: from the other the same moves lead to the same."""
    model, beginning = searched

    assert merged_although_different(MODELS[model], beginning, merges) == []


@pytest.mark.parametrize(
    ("model", "beginning", "table", "field"),
    [
        ("lease", "one body and every fault", INSTANCE, "activations"),
        ("lease", "one body and every fault", HOST, "session"),
        ("rendezvous", "an event and a crash", RUNNER, "mailbox"),
        ("join", "a loop of three, two at a time, and a crash", RUNNER, "bodies"),
    ],
)
def test_a_field_that_is_not_told_is_noticed(
    monkeypatch: pytest.MonkeyPatch, model: str, beginning: str, table: Mapping[str, object], field: str
) -> None:
    """The test above fails if something that matters is left out."""
    monkeypatch.delitem(cast("MutableMapping[str, object]", table), field)

    assert merged_although_different(MODELS[model], beginning, 2 * SHORT)


def merged_although_different(model: Model[World], beginning: str, merges: int) -> list[str]:
    """Search until so many states were met a second time; give the moves that led to one from which others follow."""
    start = dict(model.beginnings())[beginning]
    first = {start.key(): start}
    follows: dict[bytes, object] = {}
    waiting = deque([start])
    found: list[str] = []
    while waiting and merges > 0:
        state = waiting.popleft()
        for move in model.moves(state):
            after = state.copy()
            move.make(after)
            key = after.key()
            if key not in first:
                first[key] = after
                waiting.append(after)
                continue
            merges -= 1
            if key not in follows:
                follows[key] = following(model, first[key])
            if following(model, after) != follows[key]:
                found.append(move.label)
    return found


def following(model: Model[World], state: World) -> set[tuple[Any, ...]]:
    """Give what the next moves lead to, whichever of the interchangeable hosts makes them."""
    found: set[tuple[Any, ...]] = {(state.is_end(), *state.problems())}
    for move in model.moves(state):
        after = state.copy()
        move.make(after)
        found.add((move.kind, after.key(), *sorted(text.partition(":")[0] for text in after.broken)))
    return found

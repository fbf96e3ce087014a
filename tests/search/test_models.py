from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from wfe.testing.search import MODELS, search
from wfe.testing.search.explore import Model
from wfe.testing.search.world import World

FULL = 100_000
SHORT = 2_000
SMALLEST = 3_000
BEGINNINGS = [(model, name) for model in MODELS for name, _ in MODELS[model].beginnings()]


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """What hosts warn of happens in every second state."""
    logger = logging.getLogger("wfe.host")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize(("model", "beginning"), BEGINNINGS, ids=[f"{model}-{name}" for model, name in BEGINNINGS])
def test_every_rule_holds_in_every_state(pytestconfig: pytest.Config, model: str, beginning: str) -> None:
    """Whatever the order of what happens: no rule is broken, and from everywhere an end can be reached."""
    states = FULL if pytestconfig.getoption("--full") else SHORT

    (outcome,) = search(MODELS[model], states, only=beginning)

    assert not outcome.violations, "\n".join(outcome.describe())
    assert outcome.is_complete or outcome.states >= states


@pytest.mark.parametrize("model", MODELS)
def test_searches_come_to_ends(model: str) -> None:
    """The sizes are no mere first steps: the smallest beginning of each model is searched to all its ends."""
    name, _ = MODELS[model].beginnings()[0]

    (outcome,) = search(MODELS[model], SMALLEST, only=name)

    assert outcome.is_complete
    assert outcome.ends > 5


def test_time_that_nobody_ran_a_body_is_no_part_of_the_decision() -> None:
    """A body that is begun again later is told as shorter than the stored state would have it: that breaks no rule."""
    world = followed(
        MODELS["join"],
        "branches, a crash and a request",
        "host1 takes A",
        "host1 crashes",
        "the session of host1 expires",
        "host3 takes A",
        "5 s pass",
        "host3 activates A",
        "host3 begins pointer 2",
        "pointer 2 on host3 answers",
        "host3 decides on A",
    )

    assert world.broken == []
    assert "A" in world.host("host3").sent


def followed(model: Model[World], beginning: str, *labels: str) -> World:
    """Make these moves, and give the world after them."""
    world = dict(model.beginnings())[beginning]
    for label in labels:
        (make,) = (move.make for move in model.moves(world) if move.label == label)
        world = world.copy()
        make(world)
    return world

"""The checks are checked: each fault of the table, planted in a copy of the source, is noticed by its layer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.canaries.layers import Layer, Search, Simulation, Tests
from tests.canaries.planting import Canary, copy_source, plant, run_on
from tests.canaries.table import CANARIES
from wfe.testing.search import MODELS

QUICK = [canary for canary in CANARIES if not canary.is_slow]
SLOW = [canary for canary in CANARIES if canary.is_slow]


@pytest.fixture
def copy() -> Iterator[Path]:
    """A copy of the source to plant a fault in."""
    with tempfile.TemporaryDirectory(prefix="wfe-canary-") as folder:
        yield copy_source(Path(folder) / "src")


@pytest.fixture
def needs_full(pytestconfig: pytest.Config) -> None:
    """What takes long, or needs a server, is left to `--full`."""
    if not pytestconfig.getoption("--full"):
        pytest.skip("runs with --full alone")


@pytest.mark.parametrize("canary", QUICK, ids=lambda canary: canary.name)
def test_canary_is_caught(canary: Canary, copy: Path) -> None:
    """The layer that is named for a fault fails on it, and says which rule is broken."""
    plant(copy, canary)

    run = run_on(copy, canary.layer)

    assert canary.layer.catches(run.status, run.output, canary.rule), run.output[-4000:]


@pytest.mark.usefixtures("needs_full")
@pytest.mark.parametrize("canary", SLOW, ids=lambda canary: canary.name)
def test_slow_canary_is_caught(canary: Canary, copy: Path) -> None:
    """As above, where it takes many seeds or a server to notice."""
    plant(copy, canary)

    run = run_on(copy, canary.layer)

    assert canary.layer.catches(run.status, run.output, canary.rule), run.output[-4000:]


def controls(canaries: list[Canary]) -> list[Layer]:
    """Give as few runs as there can be that do what the layers of these canaries do."""
    layers = [canary.layer for canary in canaries]
    searches: dict[tuple[str, str], Search] = {}
    for each in sorted((layer for layer in layers if isinstance(layer, Search)), key=lambda layer: layer.states):
        searches[each.model, each.beginning] = each
    seeds = max(layer.seeds for layer in layers if isinstance(layer, Simulation))
    tests: dict[str, dict[str, None]] = {}
    for layer in layers:
        if isinstance(layer, Tests):
            tests.setdefault(layer.name, {}).update(dict.fromkeys(layer.tests))
    return [*searches.values(), Simulation(seeds), *(Tests(name, tuple(chosen)) for name, chosen in tests.items())]


@pytest.mark.parametrize("layer", controls(QUICK), ids=lambda layer: " ".join(layer.command()[:4])[:60])
def test_sound_copy_passes(layer: Layer, copy: Path) -> None:
    """Nothing is noticed where nothing is planted, and what runs is the copy."""
    run = run_on(copy, layer)

    assert run.status == 0, run.output[-4000:]


@pytest.mark.usefixtures("needs_full")
@pytest.mark.parametrize("layer", controls(SLOW), ids=lambda layer: " ".join(layer.command()[:4])[:60])
def test_sound_copy_passes_slowly(layer: Layer, copy: Path) -> None:
    """As above, for what takes long."""
    run = run_on(copy, layer)

    assert run.status == 0, run.output[-4000:]


def test_the_copy_is_what_runs(copy: Path) -> None:
    """A copy that cannot be imported fails every layer: nothing is taken from the source beside it."""
    (copy / "wfe" / "engine" / "advance.py").write_text("raise RuntimeError('the copy')", "utf-8")

    for layer in (Search("join", "", 10), Simulation(1), Tests("tests", ("tests/unit/engine/test_chains.py",))):
        run = run_on(copy, layer)

        assert run.status != 0
        assert "the copy" in run.output
        assert not layer.catches(run.status, run.output, "T8")


def test_names_are_told_apart() -> None:
    """No two canaries have one name, and each has its place in the source once."""
    names = [canary.name for canary in CANARIES]

    assert len(set(names)) == len(names) >= 20


@pytest.mark.parametrize("model", MODELS)
def test_every_model_of_the_search_catches_something(model: str) -> None:
    """No model is searched that would notice nothing."""
    assert [canary for canary in QUICK if isinstance(canary.layer, Search) and canary.layer.model == model]

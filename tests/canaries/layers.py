"""The layers of checks that canaries are planted under: how each is run, and how it says which rule is broken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Layer", "Search", "Simulation", "Tests"]

_PYTEST = ("pytest", "-q", "-x", "--no-header", "--tb=short", "-n0", "-p", "no:cacheprovider")


class Layer(Protocol):
    """One way to check a copy of the source."""

    @property
    def name(self) -> str:
        """What the layer is called, in the table of canaries."""
        ...

    def command(self) -> Sequence[str]:
        """Give what to run with `python -m`."""
        ...

    def catches(self, status: int, output: str, rule: str) -> bool:
        """Tell whether a run that ended so has found the rule broken (and not merely failed to run)."""
        ...


@dataclass(frozen=True)
class Tests:
    """Tests by name: of the published suites on one provider, of the engine, of whole workflows."""

    name: str
    tests: tuple[str, ...]

    __test__ = False

    def command(self) -> Sequence[str]:
        return [*_PYTEST, *self.tests]

    def catches(self, status: int, output: str, rule: str) -> bool:
        """Status 1 and a count of failures are pytest's for tests that ran and failed, and not only their fixtures.

        A failed test may be followed by an error: the check of the store that it has left.
        """
        return status == 1 and re.search(r"^\d+ failed\b", output, re.MULTILINE) is not None


@dataclass(frozen=True)
class Search:
    """The search through all states of a model, from one of its beginnings."""

    model: str
    beginning: str
    states: int
    name: str = "search"

    def command(self) -> Sequence[str]:
        return [
            "wfe.testing.search",
            self.model,
            "--beginning",
            self.beginning,
            "--states",
            str(self.states),
        ]

    def catches(self, status: int, output: str, rule: str) -> bool:
        return status == 1 and re.search(rf"^{rule}: ", output, re.MULTILINE) is not None


@dataclass(frozen=True)
class Simulation:
    """Seeds of the simulation."""

    seeds: int
    first: int = 0
    name: str = "simulation"

    def command(self) -> Sequence[str]:
        return ["wfe.testing.simulation", "--no-shrink", "--first", str(self.first), "--seeds", str(self.seeds)]

    def catches(self, status: int, output: str, rule: str) -> bool:
        return status == 1 and re.search(rf"^seed \d+ breaks .*\b{rule}\b", output, re.MULTILINE) is not None

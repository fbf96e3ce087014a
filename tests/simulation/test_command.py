"""`python -m wfe.testing.simulation`, which `make simulate` runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wfe.providers.memory.commit import Commit
from wfe.providers.memory.tables import Instance
from wfe.testing.simulation import simulate_seed
from wfe.testing.simulation.__main__ import main
from wfe.testing.simulation.verdict import Judge
from wfe.testing.simulation.watching import Watching


def test_a_failure_is_reported_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken rule is printed with its seed, the least workload that breaks it, its trace, and how to see it again."""
    end = Commit.end

    def end_with_a_timer(self: Commit, instance: Instance) -> None:
        end(self, instance)
        instance.wake_at = 1

    monkeypatch.setattr(Commit, "end", end_with_a_timer)

    answer = main(["--first", "1", "--seeds", "1"])

    said = capsys.readouterr().out
    least, _, rest = said.partition("The least that was found to break it still:")[2].partition("The same for a test:")
    assert answer == 1
    assert "seed 1 breaks T1" in said
    assert "== seed 1 ==" in said
    assert least.count("StartOp(") == 1
    assert "FaultOp(" not in least
    assert "Scenario(seed=1, " in rest
    assert " commit start " in rest
    assert "Again: python -m wfe.testing.simulation --seed 1" in rest


def test_a_run_says_how_fast_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a failure: how many seeds, how many a second, and what never happened in them."""
    answer = main(["--seeds", "3"])

    said = capsys.readouterr().out
    assert answer == 0
    assert "3 seeds, " in said
    assert "seeds/s" in said
    assert "0 failed" in said
    assert "never happened: " in said


def test_one_seed_is_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    """`--seed` prints what the seed stands for and its whole trace."""
    answer = main(["--seed", "3"])

    said = capsys.readouterr().out
    assert answer == 0
    assert said.startswith("seed 3, ")
    assert "No rule was broken." in said


def test_a_checker_that_raises_is_reported_like_a_broken_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checker that meets what nobody foresaw costs no seed: it is told with its workload and its trace."""

    def answers(self: Judge) -> Iterator[str]:
        raise KeyError(self)

    monkeypatch.setattr(Judge, "answers", answers)

    answer = main(["--first", "1", "--seeds", "1"])

    said = capsys.readouterr().out
    assert answer == 1
    assert "seed 1 breaks crash" in said
    assert "answers raised KeyError" in said
    assert "The same for a test:" in said
    assert "Again: python -m wfe.testing.simulation --seed 1" in said


def test_a_checker_that_raises_within_a_request_is_no_error_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a checker raises while the store executes a request is a violation, whatever the host makes of it."""

    def created(self: Watching, *_: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(Watching, "created", created)

    outcome = simulate_seed(1)

    assert "crash: commit in the store: KeyError: 'unforeseen'" in outcome.violations

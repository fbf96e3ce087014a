"""`python -m wfe.testing.simulation`, which `make simulate` runs."""

from __future__ import annotations

import pytest

from wfe.providers.memory.commit import Commit
from wfe.providers.memory.tables import Instance
from wfe.testing.simulation.__main__ import main


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

"""`wfe run` to its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.scenarios.cli.command import RunningCommand, wfe

GREETING = """
workflow:
  id: greeting
  version: 1
  inputs:
    name: {type: string, default: world}
    loud: {type: bool, default: false}
  steps:
    - name: greet
      config:
        run: |
          echo "Hello, ((name))"
          echo "##wfe[output length=$(printf %s "((name))" | wc -c | tr -d ' ')]"
    - name: shout
      when: {field: loud, equals: true}
      config: {run: echo LOUD}
    - name: count
      config: {run: echo "((length)) bytes from ((var.place))"}
"""
FAILING = """
workflow:
  id: failing
  version: 1
  steps:
    - name: fine
      config: {run: "true"}
    - name: broken
      retry: {max_retries: 1, interval: 10ms}
      config: {run: "echo attempt $WFE_ATTEMPT; echo the reason >&2; exit 3"}
    - name: never
      config: {run: touch never}
"""


def test_a_pipeline_runs_to_its_end(folder: Path) -> None:
    """Exit code 0; inputs, config, outputs and conditions work together, and every step and line is told."""
    (folder / "greeting.yaml").write_text(GREETING, encoding="utf-8")

    result = wfe(folder, "run", "greeting.yaml", "-i", "name=Zoë; rm -rf .", "-c", "place=here", "--name", "first")

    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "first started: greeting version 1 in sqlite:///.wfe/wfe.db"
    assert "greet | Hello, Zoë; rm -rf ." in lines
    assert "shout: skipped" in lines
    assert "count | 14 bytes from here" in lines
    assert lines[-1].startswith("Complete in ")
    assert (folder / "greeting.yaml").exists()


def test_lines_of_a_step_stand_between_its_start_and_its_end(folder: Path) -> None:
    """However quick a step is, its lines are not shown before it is said to have started."""
    (folder / "greeting.yaml").write_text(GREETING, encoding="utf-8")

    lines = wfe(folder, "run", "greeting.yaml", "-c", "place=here").stdout.splitlines()

    start = lines.index("greet: started")
    end = next(number for number, line in enumerate(lines) if line.startswith("greet: done"))
    assert start < lines.index("greet | Hello, world") < end < lines.index("count: started")


def test_json_tells_the_same_to_programs(folder: Path) -> None:
    """Standard output is JSON lines only: the run, events in order without a gap, log lines, and the result last."""
    (folder / "greeting.yaml").write_text(GREETING, encoding="utf-8")

    result = wfe(folder, "run", "greeting.yaml", "-c", "place=here", "-i", "loud=true", "--json")

    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0
    assert objects[0]["type"] == "run"
    events = [each for each in objects if each["type"] == "event"]
    assert [each["sequence"] for each in events] == list(range(1, len(events) + 1))
    assert ("shout", "LOUD") in [(each["step"], each["text"]) for each in objects if each["type"] == "log"]
    assert objects[-1]["type"] == "result"
    assert (objects[-1]["status"], objects[-1]["exit_code"]) == ("complete", 0)
    assert objects[-1]["data"] == {"name": "world", "loud": True, "length": 5}


def test_a_failed_step_ends_the_run_with_its_last_lines(folder: Path) -> None:
    """Exit code 1 after the retries are used up; the last lines stand at the end; what follows does not run."""
    (folder / "failing.yaml").write_text(FAILING, encoding="utf-8")

    result = wfe(folder, "run", "failing.yaml")

    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("broken |")] == ["broken | attempt 1", "broken | attempt 2"]
    assert lines[-2].startswith("Failed in ")
    assert "Step broken: The command exited with code 3." in lines[-2]
    assert lines[-1] == "  the reason"
    assert not (folder / "never").exists()


def test_a_failed_run_is_told_to_programs(folder: Path) -> None:
    """The result names step, attempt and reason."""
    (folder / "failing.yaml").write_text(FAILING, encoding="utf-8")

    result = wfe(folder, "run", "failing.yaml", "--json")

    last = json.loads(result.stdout.splitlines()[-1])
    assert (result.returncode, last["exit_code"], last["status"]) == (1, 1, "failed")
    assert (last["error"]["step"], last["error"]["attempt"]) == ("broken", 2)


def test_an_invalid_file_is_refused_with_places(folder: Path) -> None:
    """Exit code 2, every problem with file:line:column, and nothing is left behind."""
    (folder / "bad.yaml").write_text(GREETING.replace("when:", "wen:").replace("((length))", "((outputs.x))"))

    result = wfe(folder, "run", "bad.yaml", "-c", "place=here")

    assert result.returncode == 2
    assert "bad.yaml:15:7: workflow.steps[1].wen:" in result.stderr
    assert "bad.yaml:18:" in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["bad.yaml", "long.yaml"]


def test_a_rule_that_suspends_leaves_the_run_unfinished(folder: Path) -> None:
    """Exit code 3 and how to resume; resuming tries the failed step again and completes."""
    text = (
        "workflow: {id: s, version: 1, steps: [{name: check, error_behavior: {type: suspend}, "
        'config: {run: "echo x >> ledger; test -e go"}}]}'
    )
    (folder / "s.yaml").write_text(text, encoding="utf-8")

    stopped = wfe(folder, "run", "s.yaml", "--name", "held")
    (folder / "go").touch()
    resumed = wfe(folder, "run", "--resume", "held")

    assert stopped.returncode == 3
    assert "wfe run --resume held" in stopped.stdout
    assert resumed.returncode == 0
    assert (folder / "ledger").read_text() == "x\nx\n"


def test_two_runs_share_one_store(folder: Path, begin: Callable[..., RunningCommand]) -> None:
    """Two processes run at the same time on one file: each shows its own run only, and both complete."""
    text = """
workflow:
  id: meet
  version: 1
  inputs: {me: string, other: string}
  steps:
    - name: meet
      config:
        run: |
          touch "here-((me))"
          until [ -e "here-((other))" ]; do sleep 0.02; done
          echo "((me)) met ((other))"
"""
    (folder / "meet.yaml").write_text(text, encoding="utf-8")

    one = begin("run", "meet.yaml", "-i", "me=a", "-i", "other=b")
    two = begin("run", "meet.yaml", "-i", "me=b", "-i", "other=a")
    codes = (one.end(), two.end())

    assert codes == (0, 0), one.output + two.output
    assert "meet | a met b" in one.output
    assert "b met a" not in one.output
    assert "meet | b met a" in two.output
    assert one.lines[0].split()[0] != two.lines[0].split()[0]


def test_every_run_gets_a_name_of_its_own(folder: Path) -> None:
    """A name is made up unless one is given, and a given one that is taken is refused."""
    (folder / "go").touch()
    first, second = wfe(folder, "run", "long.yaml"), wfe(folder, "run", "long.yaml", "--name", "mine")

    again = wfe(folder, "run", "long.yaml", "--name", "mine")

    assert first.stdout.split()[0] != second.stdout.split()[0] == "mine"
    assert again.returncode == 2
    assert "There is a run named 'mine' already" in again.stderr


def test_a_reader_that_goes_away_saves_the_run(folder: Path, begin: Callable[..., RunningCommand]) -> None:
    """`wfe run … | head -1` ends the run as Ctrl-C does, without a traceback, and it can be resumed."""
    command = begin("run", "long.yaml", "--name", "piped")
    command.read_until("started")

    code = command.stop_reading()
    (folder / "go").touch()
    resumed = wfe(folder, "run", "--resume", "piped")

    assert code == 130
    assert resumed.returncode == 0, resumed.stdout
    assert "a last" in (folder / "ledger").read_text()

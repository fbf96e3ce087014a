"""The page of guarantees names tests that exist, and the suites run on every provider."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.canaries.table import CANARIES
from wfe.host.fsck import RULES
from wfe.testing.simulation.rules import RULES as SIMULATED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
SUITES = ROOT / "src" / "wfe" / "testing" / "conformance"
PROMISE = re.compile(r"^\*\*([A-Z]\d+)\*\* (.*?)(?=^\*\*|^## )", re.MULTILINE | re.DOTALL)
CHECKER = re.compile(r"`(fsck|simulation|search) ([A-Z]\d+)`")
CANARY = re.compile(r"`(damage|fault):(\w+)`")
CHECKED = re.compile(r"^Checked by (.*?);\s+canaries\s+(.*?)\.$", re.MULTILINE | re.DOTALL)
"""The clause of a promise that names its checkers and canaries."""
TESTS_ALONE = re.compile(r"^## What tests alone check\n(.*?)^## ", re.MULTILINE | re.DOTALL)
NOT_PROMISED = re.compile(r"^## What is not promised\n(.*)", re.MULTILINE | re.DOTALL)
DESIGNED = {
    **dict.fromkeys("SVR", 4),
    **dict.fromkeys("XW", 2),
    **dict.fromkeys("LQC", 6),
    "T": 10,
    "E": 8,
    "M": 5,
    "A": 3,
}
"""How many rules of each letter the engine was designed to keep: starts, transitions, events, timers (M), compensation,
ownership (L), queues, definitions (V), requests (A), resources, secrets (X) and progress (W)."""
DAMAGES = ROOT / "tests" / "fsck" / "damages.py"
QUOTED = re.compile(r"`([^`]+)`")
NAME = re.compile(r"`((?:tests/[\w/]+\.py::|\w+Promises\.)test_\w+)`")


def promises() -> list[tuple[str, str]]:
    """Give the promises of the page: id and text."""
    return PROMISE.findall(PAGE)


@cache
def functions_of(path: Path) -> frozenset[str]:
    """Give the names of all functions in a file, also of those in classes."""
    tree = ast.parse(path.read_text("utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def suite_tests() -> frozenset[str]:
    """Give the tests of the published suites as `Class.test`."""
    return frozenset(
        f"{group.name}.{test.name}"
        for path in SUITES.glob("*.py")
        for group in ast.parse(path.read_text("utf-8")).body
        if isinstance(group, ast.ClassDef)
        for test in group.body
        if isinstance(test, ast.AsyncFunctionDef)
    )


def exists(name: str) -> bool:
    """Tell whether there is a test of this name."""
    path, _, function = name.rpartition("::")
    if not path:
        return name in suite_tests()
    return (ROOT / path).is_file() and function in functions_of(ROOT / path)


@pytest.mark.parametrize(("promise", "text"), promises(), ids=[promise for promise, _ in promises()])
def test_a_promise_is_shown_by_tests_that_exist(promise: str, text: str) -> None:
    """Each promise names at least one test, and every test that it names is there."""
    named = NAME.findall(text)

    assert named, f"{promise} names no test"
    assert [name for name in named if not exists(name)] == []


@pytest.mark.parametrize(("promise", "text"), promises(), ids=[promise for promise, _ in promises()])
def test_the_checkers_and_canaries_of_a_promise_exist(promise: str, text: str) -> None:
    """Each checker that a promise names checks a rule of that name, and each canary can be planted."""
    rules = {"fsck": frozenset(RULES), "simulation": frozenset(SIMULATED), "search": searched_rules()}
    canaries = {"damage": functions_of(DAMAGES), "fault": frozenset(canary.name for canary in CANARIES)}

    assert [f"{kind} {rule}" for kind, rule in CHECKER.findall(text) if rule not in rules[kind]] == []
    assert [name for kind, name in CANARY.findall(text) if name not in canaries[kind]] == []


@pytest.mark.parametrize(("promise", "text"), promises(), ids=[promise for promise, _ in promises()])
def test_a_promise_has_its_checkers_and_canaries(promise: str, text: str) -> None:
    """After "checked by" stand checkers and tests alone, after "canaries" canaries alone, and there is one of each."""
    clauses = CHECKED.findall(text)

    assert len(clauses) == text.count("Checked by") == 1, f"{promise} does not say 'Checked by …; canaries ….' once"
    ((checkers, canaries),) = clauses
    named, planted = QUOTED.findall(checkers), QUOTED.findall(canaries)
    assert named
    assert [each for each in named if not CHECKER.fullmatch(f"`{each}`") and not NAME.fullmatch(f"`{each}`")] == []
    assert planted
    assert [each for each in planted if not CANARY.fullmatch(f"`{each}`")] == []
    assert (CHECKER.findall(checkers), CANARY.findall(canaries)) == (CHECKER.findall(text), CANARY.findall(text))


def test_what_tests_alone_check_is_listed() -> None:
    """Promises whose only checkers are tests stand in a list of their own, with the reason."""
    alone = {promise for promise, text in promises() if not CHECKER.findall(text)}

    (listed,) = TESTS_ALONE.findall(PAGE)
    rows = re.findall(r"^- (`.+?`): (.+?)$", listed, re.MULTILINE)
    assert {promise for names, reason in rows if reason for promise in re.findall(r"`(\w+)`", names)} == alone


def test_every_rule_of_the_design_is_promised_or_said_not_to_be() -> None:
    """What was planned and is not there yet is named with the reason, instead of being passed over."""
    designed = {f"{letter}{number}" for letter, count in DESIGNED.items() for number in range(1, count + 1)}
    promised = {promise for promise, _ in promises()}

    (section,) = NOT_PROMISED.findall(PAGE)
    rows = re.findall(r"^- \*\*((?:[A-Z]\d+(?:, )?)+): [^*]+\*\* (\w.+)$", section, re.MULTILINE)
    given_up = {rule for rules, reason in rows if reason for rule in rules.split(", ")}

    assert designed - promised == given_up


@cache
def searched_rules() -> frozenset[str]:
    """Give the names of the rules that the search checks."""
    source = "".join(path.read_text("utf-8") for path in (ROOT / "src/wfe/testing/search").glob("*.py"))
    return frozenset(re.findall(r'(?:breaks\(|yield f|name = f|rule = |else |\[)"([A-Z]\d+)[":]', source))


def test_every_fault_is_named_by_its_promise() -> None:
    """Each canary of the program stands at the promise that it breaks, and at no other; `crash` and `log` are none."""
    named = {(promise, name) for promise, text in promises() for kind, name in CANARY.findall(text) if kind == "fault"}

    assert named == {(canary.rule, canary.name) for canary in CANARIES if canary.rule not in {"crash", "log"}}


def test_every_rule_that_is_searched_is_named_by_its_promise() -> None:
    """Each rule that holds in every state of the models belongs to the promise of the same name, which says so."""
    named = {promise for promise, text in promises() if ("search", promise) in CHECKER.findall(text)}

    assert named == searched_rules()


def test_every_rule_is_named_by_its_promise() -> None:
    """Each rule that is checked over stored rows belongs to the promise of the same name, which says so."""
    named = {promise for promise, text in promises() if ("fsck", promise) in CHECKER.findall(text)}

    assert named == set(RULES)


def test_every_rule_of_the_simulation_is_named_by_its_promise() -> None:
    """The same for the rules over simulated runs, apart from two about the program's own errors."""
    named = {promise for promise, text in promises() if ("simulation", promise) in CHECKER.findall(text)}

    assert named == set(SIMULATED) - {"crash", "log"}


def test_every_rule_is_listed() -> None:
    """The page says of each rule what the check looks at, in the words of the program."""
    listed = dict(re.findall(r"^\| `([A-Z]\d+)` \| (.+?) \|$", PAGE, re.MULTILINE))

    assert listed == dict(RULES)


def test_every_name_in_quotes_is_understood() -> None:
    """No test is named in a form that the check above would overlook."""
    quoted = re.findall(r"`([^`]*\btest_[^`]*)`", PAGE)

    assert [each for each in quoted if not NAME.fullmatch(f"`{each}`") and not (ROOT / each).exists()] == []


def test_promises_have_ids_of_their_own() -> None:
    """No id stands for two promises."""
    ids = [promise for promise, _ in promises()]

    assert ids
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("provider", ["memory", "sqlite", "postgres"])
def test_every_provider_runs_every_suite(provider: str) -> None:
    """The tests of each provider make a class of each published suite."""
    source = (ROOT / "tests" / "providers" / f"test_{provider}.py").read_text("utf-8")

    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    made = {called.id for called in calls if isinstance(called, ast.Name) and called.id.endswith("_suite")}

    assert made == {"persistence_suite", "lock_suite", "queue_suite", "lifecycle_suite"}

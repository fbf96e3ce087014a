from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfe.authoring.yaml.interpolation import BadExpression, Scope, UnknownName, interpolate
from wfe.model.templates import resolve

SCOPE = Scope(
    config={"name": "x; rm -rf /", "count": 3, "nested": {"list": [1, {"deep": "y"}]}},
    inputs=frozenset(("branch", "amount")),
    outputs=frozenset(("coverage",)),
    steps=frozenset(("build", "Run tests")),
    env={"REGION": "eu"},
)
DATA = {"branch": "main", "amount": 2.5, "coverage": [1, 2], "steps.build": {"stdout": "ok"}}


def filled(text: str) -> object:
    missing: list[str] = []
    value = resolve(interpolate(text, SCOPE), {"data": DATA, "workflow": {"id": "w-1"}}, missing.append)
    assert not missing
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("((var.count))", 3),
        ("${{ var.count }}", 3),
        ("(( var.count ))", 3),
        ("n=((var.count))", "n=3"),
        ("((var.nested.list[1].deep))", "y"),
        ("((name))", "x; rm -rf /"),
        ("((inputs.branch))", "main"),
        ("((branch))", "main"),
        ("((amount))", 2.5),
        ("((outputs.coverage))", [1, 2]),
        ("c: ((coverage))", "c: [1,2]"),
        ("((coverage[1]))", 2),
        ("((steps.build.stdout))", "ok"),
        ('${{ steps["build"].stdout }}', "ok"),
        ("((env.REGION))", "eu"),
        ("((workflow.id))", "w-1"),
        ("a ((branch)) b ${{ amount }} c", "a main b 2.5 c"),
        (r"\((branch))", "((branch))"),
        (r"\${{ branch }} ((branch))", "${{ branch }} main"),
        ("((i++))", "((i++))"),
        ("((", "(("),
        ("(((branch)))", "(main)"),
    ],
)
def test_values(text: str, value: object) -> None:
    """A scalar that is one expression keeps the type of its value; otherwise values become text."""
    assert filled(text) == value


def test_values_are_not_read_again() -> None:
    """A value that looks like an expression stays what it is."""
    scope = Scope(config={"a": "((var.b))", "b": "secret"})

    assert interpolate("((var.a)) x", scope) == "((var.b)) x"


@pytest.mark.parametrize(
    ("text", "message", "nearest"),
    [
        ("((var.nme))", "there is no config value 'nme'", "name"),
        ("((inputs.brnch))", "there is no input 'brnch'", "branch"),
        ("((outputs.covrage))", "there is no output 'covrage'", "coverage"),
        ("((steps.biuld.stdout))", "there is no step 'biuld'", "build"),
        ("((steps.build.stdot))", "a step has no 'stdot'", "stdout"),
        ("((input.branch))", "there is no root, config value, input or output named 'input'", "inputs"),
        ("((brnch))", "there is no config value, input or output named 'brnch'", "branch"),
        ("((env.REGIN))", "there is no variable 'REGIN' in env", "REGION"),
        ("((workflow.idd))", "a workflow has no 'idd'", "id"),
        ("((item))", "'item' has a meaning only inside for_each", ""),
        ("((secrets.token))", "the root 'secrets' is not supported by this version", ""),
    ],
)
def test_unknown_names(text: str, message: str, nearest: str) -> None:
    """An unknown name says what is missing, and which name it is most like."""
    with pytest.raises(UnknownName) as caught:
        interpolate(text, SCOPE)

    assert str(caught.value).startswith(message)
    assert caught.value.nearest == nearest


@pytest.mark.parametrize("text", ["${{ a + b }}", "${{ }}", "${{ a", "x ${{ f(1) }} y"])
def test_what_is_no_path_is_refused(text: str) -> None:
    """`${{ … }}` can be nothing but an expression, so anything else in it is an error."""
    with pytest.raises(BadExpression):
        interpolate(text, SCOPE)


def test_recorded_fields_are_collected() -> None:
    """The compiler learns what has to be recorded of which step."""
    scope = Scope(steps=frozenset(("build",)))

    interpolate("((steps.build.stdout)) ((steps.build.exit_code))", scope)

    assert scope.recorded == {"build": {"stdout", "exit_code"}}


def test_a_missing_value_is_told_by_its_path() -> None:
    """What is not there when the step runs is null, in text nothing, and named."""
    missing: list[str] = []

    value = resolve(interpolate("a((inputs.branch))b", SCOPE), {"data": {}}, missing.append)

    assert value == "ab"
    assert missing == ["branch"]


@given(st.text(alphabet="(){}$\\ ab.[]\"'", max_size=30))
def test_no_text_raises_anything_else(text: str) -> None:
    """Whatever is written, the answer is a setting or one of the two errors."""
    with contextlib.suppress(BadExpression, UnknownName):
        interpolate(text, SCOPE)

# ruff: noqa: E501 - documents and messages stand in one piece, as users see them
from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfe.model.patterns import MAX_TEXT_LENGTH, compile_pattern


def by_backtracking(pattern: str, text: str) -> bool:
    return re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None


@pytest.mark.parametrize(
    "text", ["", "a", "ab", "abccd", "aaa", "dxx", "dxxxx", "say hello", "1-2", "cb", "a\n", "]", "-", "é", "A_1"]
)
@pytest.mark.parametrize(
    "pattern",
    [
        "a(b|c)*d", "(a+)+$", "^[^a-c]x{2,3}$", "(?i)HeLLo", r"[\d\-]+", "a??b", "^$", "", "x|", r"\.", "[]a]", "^a$|b", "a.", ".$",
        r"\w+\s\W?", "(?:ab){1,2}", "[^]]", "a{2}", "a{,2}$", "x{", r"\D\S", "é", "[a-]", "(^a|b)c?$", "()*a",
    ],
)  # fmt: skip
def test_patterns_mean_what_they_mean_elsewhere(pattern: str, text: str) -> None:
    """Within the subset, a pattern matches exactly where Python's own engine finds a match."""
    assert compile_pattern(pattern).search(text) is by_backtracking(pattern, text)


ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", "^", "$", "(a|b)", "(ab)", "(?:|a)"])
SIGNS = st.sampled_from(["", "", "*", "+", "?", "{1,2}", "*?"])


@given(st.lists(st.tuples(ATOMS, SIGNS), max_size=5), st.text(alphabet="ab1\n", max_size=8))
def test_random_patterns(parts: list[tuple[str, str]], text: str) -> None:
    """The same for patterns put together at random."""
    pattern = "".join(atom + ("" if atom in "^$" else sign) for atom, sign in parts)

    assert compile_pattern(pattern).search(text) is by_backtracking(pattern, text)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*(a|b)*(a*)*c$", "(.*a){20}c", "(x.{80}){1}y", "a*a*a*a*a*a*b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    """Patterns that stop a backtracking engine for years are answered at once, on the longest text."""
    began = time.process_time()

    compile_pattern(pattern).search("a" * MAX_TEXT_LENGTH)

    assert time.process_time() - began < 20


def test_longer_texts_match_nothing() -> None:
    """The bound on the text is part of the promise."""
    assert not compile_pattern("a").search("a" * (MAX_TEXT_LENGTH + 1))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?=a)", "look-around"),
        ("(?P<n>a)", "look-around, named groups"),
        (r"\1", r"'\\1' is not supported"),
        (r"\bx", r"'\\b' is not supported"),
        ("(a", r"missing '\)'"),
        ("a)", r"unmatched '\)'"),
        ("*a", "nothing to repeat"),
        ("[z-a]", "runs backwards"),
        ("[a", "ends too early"),
        ("a\\", "ends too early"),
        ("a{200}", "a count must be"),
        ("a{2,1}", "a count must be"),
        ("a*+", "possessive"),
        ("(a{50}){50}", "too large"),
        ("(" * 100 + ")" * 100, "nest too deep"),
        ("a" * 1001, "at most 1000"),
    ],
)
def test_what_is_refused(pattern: str, message: str) -> None:
    """What the subset leaves out is refused when the pattern is compiled, with the place."""
    with pytest.raises(ValueError, match=message):
        compile_pattern(pattern)


@given(st.text(alphabet="ab()[]{}*+?|\\^$.,-1di:", max_size=15))
def test_no_pattern_raises_anything_else(pattern: str) -> None:
    """Any text is a pattern or a ValueError."""
    with contextlib.suppress(ValueError):
        assert compile_pattern(pattern).search("ab1") in {True, False}

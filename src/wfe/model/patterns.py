r"""Regular expressions whose matching time cannot explode: an automaton instead of backtracking.

A pattern may come from a pipeline file and the text from outside, so neither may stop the engine. The subset is the one
that an automaton can run: literals, `.`, classes such as `[a-z_]` and `\d \w \s` (ASCII) with their opposites,
groups `( )` and `(?: )`, `|`, `* + ? {m,n}` (also with a lazy `?`, which changes nothing here), `^` and `$` (ends of
the whole text) and a leading `(?i)`. Back-references and look-around are refused. A match may lie anywhere in the text;
`^…$` ties it to the ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

__all__ = ["MAX_TEXT_LENGTH", "Pattern", "compile_pattern"]

MAX_TEXT_LENGTH = 65_536
"""Longer texts match nothing."""
_MAX_PATTERN_LENGTH = 1_000
_MAX_STATES = 500
_MAX_REPEAT = 100
_MAX_CACHED_SETS = 500

_Accept: TypeAlias = Callable[[str], bool]
_StateSet: TypeAlias = frozenset[int]


@dataclass(slots=True)
class _State:
    """One instruction: consume a character that `accepts` allows, or go to `exits` without one (`anchor` must hold)."""

    exits: tuple[int, ...] = ()
    accepts: _Accept | None = None
    anchor: str = ""


class Pattern:
    """A compiled pattern. Matching takes time proportional to the text's length (times the pattern's, at worst)."""

    def __init__(self, text: str, states: list[_State], start: int, end: int) -> None:
        self.text = text
        self._states = states
        self._end = end
        self._start = start
        # Sets of states already seen and where a character led from them: the automaton is built as it is needed.
        self._moves: dict[tuple[_StateSet, str], _StateSet] = {}

    def search(self, text: str) -> bool:
        """Tell whether the pattern matches anywhere in *text*. Texts over `MAX_TEXT_LENGTH` do not match."""
        if len(text) > MAX_TEXT_LENGTH:
            return False
        current = self._closure([self._start], at_start=True, at_end=not text)
        last = len(text) - 1
        for position, character in enumerate(text):
            if self._end in current:
                return True
            current = self._last_move(current, character) if position == last else self._move(current, character)
        return self._end in current

    def _move(self, current: _StateSet, character: str) -> _StateSet:
        key = (current, character)
        found = self._moves.get(key)
        if found is None:
            # Starting afresh at each character is what makes it a search.
            found = self._closure([*self._steps(current, character), self._start], at_start=False, at_end=False)
            if len(self._moves) >= _MAX_CACHED_SETS:
                self._moves.clear()
            self._moves[key] = found
        return found

    def _last_move(self, current: _StateSet, character: str) -> _StateSet:
        return self._closure([*self._steps(current, character), self._start], at_start=False, at_end=True)

    def _steps(self, current: _StateSet, character: str) -> Iterable[int]:
        for number in current:
            state = self._states[number]
            if state.accepts is not None and state.accepts(character):
                yield from state.exits

    def _closure(self, starts: list[int], *, at_start: bool, at_end: bool) -> _StateSet:
        """Follow all moves that consume nothing. `$` holds only where the text ends."""
        seen: set[int] = set()
        pending = starts
        while pending:
            number = pending.pop()
            if number in seen:
                continue
            state = self._states[number]
            if (state.anchor == "^" and not at_start) or (state.anchor == "$" and not at_end):
                continue
            seen.add(number)
            if state.accepts is None:
                pending.extend(state.exits)
        return frozenset(seen)


@lru_cache(maxsize=256)
def compile_pattern(text: str) -> Pattern:
    """Compile a pattern.

    Raises:
        ValueError: It is not of the subset above, or too long or large; the text says what and where.
    """
    if len(text) > _MAX_PATTERN_LENGTH:
        raise ValueError(f"the pattern has {len(text)} characters; at most {_MAX_PATTERN_LENGTH} are allowed")
    return _Compiler(text).compile()


@dataclass(slots=True)
class _Fragment:
    """A piece of automaton: where it begins, and the state at which it is done."""

    start: int
    end: int


_Node: TypeAlias = tuple[object, ...]
"""("char", accept) | ("anchor", "^") | ("cat", nodes) | ("alt", nodes) | ("repeat", node, low, high or None)."""

_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_CLASSES: dict[str, frozenset[str]] = {"d": frozenset("0123456789"), "w": _WORD, "s": frozenset(" \t\n\r\f\v")}
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_MAX_NESTING = 50


class _Compiler:
    """Recursive descent over the pattern, then states for the tree."""

    def __init__(self, text: str) -> None:
        self._ignore_case = text.startswith("(?i)")
        self._text = text
        self._at = 4 if self._ignore_case else 0
        self._depth = 0
        self._states: list[_State] = []

    def compile(self) -> Pattern:
        tree = self._alternatives()
        if self._at < len(self._text):
            raise self._error("unmatched ')'")
        whole = self._build(tree)
        return Pattern(self._text, self._states, whole.start, whole.end)

    # --- reading

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        character = self._peek()
        if not character:
            raise self._error("the pattern ends too early")
        self._at += 1
        return character

    def _error(self, what: str) -> ValueError:
        return ValueError(
            f"{what} at position {self._at + 1} of the pattern {self._text!r}; allowed are literals, '.', classes, "
            "groups, '|', '*', '+', '?', '{m,n}', '^', '$' and a leading '(?i)'"
        )

    def _alternatives(self) -> _Node:
        self._depth += 1
        if self._depth > _MAX_NESTING:
            raise self._error("groups nest too deep")
        branches = [self._chain()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._chain())
        self._depth -= 1
        return branches[0] if len(branches) == 1 else ("alt", branches)

    def _chain(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in {"", "|", ")"}:
            parts.append(self._repeated(self._atom()))
        return ("cat", parts)

    def _repeated(self, atom: _Node) -> _Node:
        while (sign := self._peek()) and sign in "*+?{":
            if sign == "{" and not self._is_count():
                break
            low, high = self._bounds()
            atom = ("repeat", atom, low, high)
            if self._peek() == "?":
                self._at += 1  # lazy: the same texts match
            elif self._peek() == "+":
                raise self._error("possessive repetition is not supported")
        return atom

    def _is_count(self) -> bool:
        closing = self._text.find("}", self._at)
        inner = self._text[self._at + 1 : closing] if closing > 0 else ""
        return inner not in {"", ","} and all(c in "0123456789," for c in inner) and inner.count(",") <= 1

    def _bounds(self) -> tuple[int, int | None]:
        sign = self._next()
        if sign != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        closing = self._text.index("}", self._at)
        low_text, comma, high_text = self._text[self._at : closing].partition(",")
        self._at = closing + 1
        low = int(low_text or 0) if len(low_text) <= 4 else _MAX_REPEAT + 1  # noqa: PLR2004 - digits, see _MAX_REPEAT
        high = (int(high_text) if len(high_text) <= 4 else _MAX_REPEAT + 1) if high_text else None  # noqa: PLR2004
        if not comma:
            high = low
        if max(low, high or 0) > _MAX_REPEAT or (high is not None and high < low):
            raise self._error(f"a count must be {{m,n}} with m ≤ n ≤ {_MAX_REPEAT}")
        return low, high

    def _atom(self) -> _Node:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return self._char(self._class())
        if character == ".":
            return self._char(lambda c: c != "\n")
        if character in "^$":
            return ("anchor", character)
        if character in "*+?":
            raise self._error(f"nothing to repeat before '{character}'")
        if character == "\\":
            return self._char(self._escape())
        return self._char(_one_of(character))

    def _group(self) -> _Node:
        if self._peek() == "?":
            if self._text[self._at : self._at + 2] != "?:":
                raise self._error("look-around, named groups and inline flags are not supported")
            self._at += 2
        inner = self._alternatives()
        if self._peek() != ")":
            raise self._error("missing ')'")
        self._at += 1
        return inner

    def _escape(self) -> _Accept:
        character = self._next()
        if character.lower() in _CLASSES:
            return _members(_CLASSES[character.lower()], negated=character.isupper())
        if character in _CONTROL:
            return _one_of(_CONTROL[character])
        if character.isalnum():
            raise self._error(f"'\\{character}' is not supported")
        return _one_of(character)

    def _class(self) -> _Accept:
        negated = self._peek() == "^"
        self._at += negated
        tests: list[_Accept] = []
        first = True
        while first or self._peek() != "]":
            first = False
            tests.append(self._class_item())
        self._at += 1
        fold = _folded if self._ignore_case else _same

        def accept(character: str) -> bool:
            return any(test(form) for form in fold(character) for test in tests) != negated

        return accept

    def _class_item(self) -> _Accept:
        low = self._next()
        if low == "\\":
            test = self._escape()
            if self._text[self._at - 1].lower() in _CLASSES:
                return test
            low = _CONTROL.get(self._text[self._at - 1], self._text[self._at - 1])
        if self._peek() != "-" or self._text[self._at + 1 : self._at + 2] in {"]", ""}:
            return _one_of(low)
        self._at += 1
        high = self._next()
        if high == "\\":
            self._escape()
            high = _CONTROL.get(self._text[self._at - 1], self._text[self._at - 1])
        if high < low:
            raise self._error(f"the range {low}-{high} runs backwards")
        return lambda c: low <= c <= high

    def _char(self, accept: _Accept) -> _Node:
        if not self._ignore_case:
            return ("char", accept)
        return ("char", lambda c: any(accept(form) for form in _folded(c)))

    # --- states

    def _add(self, state: _State) -> int:
        if len(self._states) >= _MAX_STATES:
            raise ValueError(f"the pattern {self._text!r} is too large; repeat less with {{m,n}}")
        self._states.append(state)
        return len(self._states) - 1

    def _build(self, node: _Node) -> _Fragment:
        match node:
            case ("char", accepts):
                end = self._add(_State())
                return _Fragment(self._add(_State((end,), accepts)), end)  # type: ignore[arg-type]  # see _Node
            case ("anchor", str(sign)):
                end = self._add(_State())
                return _Fragment(self._add(_State((end,), anchor=sign)), end)
            case ("cat", list(parts)):
                return self._chained([self._build(part) for part in parts])
            case ("alt", list(branches)):
                built = [self._build(branch) for branch in branches]
                end = self._add(_State())
                for fragment in built:
                    self._connect(fragment.end, end)
                return _Fragment(self._add(_State(tuple(fragment.start for fragment in built))), end)
            case ("repeat", tuple(inner), int(low), None):
                return self._chained([*(self._build(inner) for _ in range(low)), self._star(inner)])
            case ("repeat", tuple(inner), int(low), int(high)):
                optional = [self._optional(inner) for _ in range(high - low)]
                return self._chained([*(self._build(inner) for _ in range(low)), *optional])
            case _:
                raise AssertionError(node)

    def _chained(self, fragments: list[_Fragment]) -> _Fragment:
        if not fragments:
            alone = self._add(_State())
            return _Fragment(alone, alone)
        for left, right in pairwise(fragments):
            self._connect(left.end, right.start)
        return _Fragment(fragments[0].start, fragments[-1].end)

    def _star(self, node: _Node) -> _Fragment:
        inner = self._build(node)
        end = self._add(_State())
        fork = self._add(_State((inner.start, end)))
        self._connect(inner.end, fork)
        return _Fragment(fork, end)

    def _optional(self, node: _Node) -> _Fragment:
        inner = self._build(node)
        fork = self._add(_State((inner.start, inner.end)))
        return _Fragment(fork, inner.end)

    def _connect(self, source: int, target: int) -> None:
        state = self._states[source]
        state.exits = (*state.exits, target)


def _one_of(character: str) -> _Accept:
    return lambda c: c == character


def _members(characters: frozenset[str], *, negated: bool) -> _Accept:
    if negated:
        return lambda c: c not in characters
    return lambda c: c in characters


def _same(character: str) -> tuple[str, ...]:
    return (character,)


def _folded(character: str) -> tuple[str, ...]:
    return (character, character.lower(), character.upper())

"""From YAML text to nodes with positions: YAML 1.2's core schema, anchors and merge keys, within strict limits.

PyYAML's parser gives the events; what they mean is decided here, because PyYAML's own rules are those of YAML 1.1,
where `no`, `on`, `12:30` and `007` are not the texts they look like. Built from events with a stack of its own, so that
depth is checked before anything nests, and aliases are counted as if they were written out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from wfe.authoring.yaml.nodes import Entry, ListNode, MapNode, Node, ScalarNode
from wfe.authoring.yaml.problems import Position, Problems

__all__ = ["MAX_ALIASES", "MAX_DEPTH", "MAX_FILE_BYTES", "MAX_NODES", "read_document"]

MAX_FILE_BYTES = 1 << 20
MAX_NODES = 100_000
"""How many nodes a file may have with all aliases written out."""
MAX_ALIASES = 200
MAX_DEPTH = 64

_TOO_COMPLEX = "definition_too_complex"
_TAG = "tag:yaml.org,2002:"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_document(text: str | bytes, problems: Problems) -> Node | None:
    """Read one document; None when there is none, or when the text is not YAML.

    Every problem is added to *problems*; what could be read is returned all the same.
    """
    decoded = _decode(text, problems)
    if decoded is None:
        return None
    reader = _Reader(problems)
    try:
        for event in yaml.parse(decoded, Loader=_Loader):
            reader.take(event)
    except _Abandoned:
        return None
    except yaml.YAMLError as error:
        _add_syntax_error(error, decoded, problems)
        return None
    if reader.document is None:
        problems.add(Position(1, 1), "", "the file is empty", expected="a map with the key 'workflow' or 'workflows'")
    return reader.document


def _decode(text: str | bytes, problems: Problems) -> str | None:
    start = Position(1, 1)
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_FILE_BYTES:
        problems.add(start, "", f"the file has {size} bytes; at most {MAX_FILE_BYTES} are allowed", code=_TOO_COMPLEX)
        return None
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        decoded.encode()
    except UnicodeError as error:
        before = text[: error.start] if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else text[:0]
        position = _position_after(before if isinstance(before, str) else before.decode("utf-8", "replace"))
        problems.add(position, "", "the file is not valid UTF-8", expected="text in UTF-8")
        return None
    return decoded


def _position_after(text: str) -> Position:
    return Position(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


def _add_syntax_error(error: yaml.YAMLError, text: str, problems: Problems) -> None:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        position = Position(mark.line + 1, mark.column + 1) if mark is not None else Position(1, 1)
        message = ": ".join(part for part in (error.context, error.problem) if part)
    else:
        # Characters that YAML forbids; the parser gives an offset only, and not always a right one.
        forbidden = _FORBIDDEN.search(text)
        position = _position_after(text[: forbidden.start()]) if forbidden else Position(1, 1)
        shown = f"the character U+{ord(forbidden[0]):04X} is not allowed in YAML" if forbidden else str(error)
        message = shown
    problems.add(position, "", f"not valid YAML: {message}", code="yaml_syntax")


_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Abandoned(Exception):
    """A limit was passed; reading on makes no sense."""


@dataclass(slots=True)
class _Built:
    """A finished node, and what it counts for with all aliases in it written out."""

    node: Node
    size: int
    height: int


@dataclass(slots=True)
class _Open:
    """A list or map whose end has not come yet."""

    position: Position
    is_map: bool
    path: str
    anchor: str | None
    tag: str | None
    items: list[Node] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    merges: list[tuple[Node, Position]] = field(default_factory=list)
    key: ScalarNode | None = None
    is_merge: bool = False
    size: int = 1
    height: int = 1

    def path_of_next(self) -> str:
        if not self.is_map:
            return f"{self.path}[{len(self.items)}]"
        if self.key is None:
            return self.path
        return f"{self.path}.{self.key.text}" if self.path else self.key.text


class _Reader:
    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._stack: list[_Open] = []
        self._anchors: dict[str, _Built | None] = {}
        """Anchor → its node, None while that is still open."""
        self._aliases = 0
        self._documents = 0
        self.document: Node | None = None

    def take(self, event: object) -> None:
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._begin(event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._end()
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._abandon(
                        _position(event), "a second document begins here", "one document per file", "definition_invalid"
                    )
            case _:
                pass

    def _path(self) -> str:
        return self._stack[-1].path_of_next() if self._stack else ""

    def _abandon(self, position: Position, message: str, expected: str = "", code: str = _TOO_COMPLEX) -> None:
        self._problems.add(position, self._path(), message, expected=expected, code=code)
        raise _Abandoned

    # --- nodes

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        position = _position(event)
        node = ScalarNode(self._resolve(event, position), event.value, position)
        parent = self._stack[-1] if self._stack else None
        if parent is not None and parent.is_map and parent.key is None:
            self._key(parent, node, is_plain=event.style in (None, ""))
            if event.anchor:
                self._anchors[event.anchor] = _Built(node, 1, 0)
            return
        built = _Built(node, 1, 0)
        if event.anchor:
            self._anchors[event.anchor] = built
        self._place(built)

    def _key(self, parent: _Open, node: ScalarNode, *, is_plain: bool) -> None:
        parent.key = node
        parent.is_merge = is_plain and node.text == "<<"
        parent.size += 1

    def _alias(self, event: yaml.AliasEvent) -> None:
        position = _position(event)
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self._abandon(position, f"there are more than {MAX_ALIASES} aliases")
        name = event.anchor or ""
        if name not in self._anchors:
            self._abandon(position, f"the alias *{name} has no anchor before it", code="definition_invalid")
        built = self._anchors[name]
        if built is None:
            self._abandon(position, f"the alias *{name} stands inside what it refers to", code="definition_cycle")
            return
        parent = self._stack[-1]
        if parent.is_map and parent.key is None:
            if isinstance(built.node, ScalarNode):
                self._key(parent, ScalarNode(built.node.value, built.node.text, position), is_plain=False)
                return
            self._abandon(position, "a list or map cannot be a key", "text", "definition_invalid")
        self._place(built)

    def _begin(self, event: yaml.SequenceStartEvent | yaml.MappingStartEvent) -> None:
        position = _position(event)
        is_map = isinstance(event, yaml.MappingStartEvent)
        if len(self._stack) >= MAX_DEPTH:
            self._abandon(position, f"lists and maps are nested deeper than {MAX_DEPTH}")
        parent = self._stack[-1] if self._stack else None
        if parent is not None and parent.is_map and parent.key is None:
            self._abandon(position, "a list or map cannot be a key", "text", "definition_invalid")
        path = self._path()
        if event.tag not in (None, f"{_TAG}map" if is_map else f"{_TAG}seq"):
            self._refuse_tag(event.tag or "", position)
        self._stack.append(_Open(position, is_map, path, event.anchor, event.tag))
        if event.anchor:
            self._anchors[event.anchor] = None

    def _end(self) -> None:
        done = self._stack.pop()
        node: Node
        if done.is_map:
            entries = list(self._merged(done)) if done.merges else done.entries
            node = MapNode(tuple(self._unique(entries, done.path)), done.position)
        else:
            node = ListNode(tuple(done.items), done.position)
        built = _Built(node, done.size, done.height)
        if done.anchor:
            self._anchors[done.anchor] = built
        self._place(built)

    def _place(self, built: _Built) -> None:
        if not self._stack:
            self.document = built.node
            return
        parent = self._stack[-1]
        parent.size += built.size
        parent.height = max(parent.height, built.height + 1)
        if parent.size > MAX_NODES:
            self._abandon(parent.position, f"the file has more than {MAX_NODES} values with its aliases written out")
        if len(self._stack) + built.height > MAX_DEPTH:
            self._abandon(
                built.node.position, f"lists and maps are nested deeper than {MAX_DEPTH} with aliases written out"
            )
        if not parent.is_map:
            parent.items.append(built.node)
            return
        key = parent.key
        if key is None:
            raise AssertionError("the parser gives a key before each value")
        if parent.is_merge:
            parent.merges.append((built.node, key.position))
        else:
            parent.entries.append(Entry(key.text, key.position, built.node))
        parent.key = None

    # --- maps

    def _merged(self, done: _Open) -> Iterator[Entry]:
        """Give the map's own entries and those merged in: own keys win, then earlier sources; shallow."""
        for _, position in done.merges[1:]:
            self._problems.add(
                position, done.path, "the key '<<' stands twice", expected="one '<<' with a list of maps"
            )
        own = {entry.key for entry in done.entries}
        yield from done.entries
        for source, position in done.merges:
            for node in source.items if isinstance(source, ListNode) else (source,):
                if not isinstance(node, MapNode):
                    self._problems.add(
                        position, done.path, "'<<' merges something else", expected="a map or a list of maps"
                    )
                    continue
                yield from (entry for entry in node.entries if entry.key not in own)
                own |= {entry.key for entry in node.entries}

    def _unique(self, entries: list[Entry], path: str) -> Iterator[Entry]:
        seen: dict[str, Entry] = {}
        for entry in entries:
            if entry.key in seen:
                first = seen[entry.key].position
                self._problems.add(
                    entry.position,
                    f"{path}.{entry.key}" if path else entry.key,
                    f"the key {entry.key!r} stands twice; first at line {first.line}, column {first.column}",
                    code="duplicate_key",
                )
            else:
                seen[entry.key] = entry
                yield entry

    # --- scalars

    def _resolve(self, event: yaml.ScalarEvent, position: Position) -> bool | int | float | str | None:
        if event.tag in (None, "!"):
            return _core_value(event.value) if event.tag is None and event.style in (None, "") else event.value
        tag = event.tag or ""
        accepted = _TAGGED.get(tag.removeprefix(_TAG)) if tag.startswith(_TAG) else None
        if accepted is None:
            self._refuse_tag(tag, position)
            return event.value
        if accepted is str:
            return event.value
        value = _core_value(event.value)
        if accepted is float and type(value) is int:
            return float(value)
        if type(value) is not accepted:
            self._problems.add(
                position, self._path(), f"{event.value[:40]!r} is not of its tag !!{tag.removeprefix(_TAG)}"
            )
        return value

    def _refuse_tag(self, tag: str, position: Position) -> None:
        shown = f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag
        self._problems.add(
            position,
            self._path(),
            f"the tag {shown[:60]} is not allowed",
            expected="no tag, or one of !!str, !!int, !!float, !!bool, !!null, !!map, !!seq",
            code="definition_tag",
        )


_TAGGED: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_MAX_DIGITS = 300


def _core_value(text: str) -> bool | int | float | str | None:  # noqa: PLR0911 - one form after another
    """Give what the core schema makes of a plain scalar, except that a number with leading zeros stays text.

    `007` and `+1` would lose what they look like; nothing in a pipeline means a number by them. Infinities,
    not-a-numbers and numbers too large to hold stay text as well, since no value of a workflow can hold them.
    """
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if text[0] not in "+-.0123456789" or len(text) > _MAX_DIGITS:
        return text
    if _INTEGER.fullmatch(text):
        return text if re.match(r"[-+]?0[0-9]", text) else int(text)
    if _OCTAL.fullmatch(text):
        return int(text, 0)
    if _HEXADECIMAL.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def _position(event: yaml.Event) -> Position:
    mark = event.start_mark
    return Position(mark.line + 1, mark.column + 1) if mark is not None else Position(1, 1)

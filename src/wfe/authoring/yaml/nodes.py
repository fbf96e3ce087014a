"""A file as a tree of values that know where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from wfe.authoring.yaml.problems import Position

__all__ = ["Entry", "ListNode", "MapNode", "Node", "ScalarNode", "describe", "plain_value"]


@dataclass(frozen=True, slots=True, eq=False)
class ScalarNode:
    """A single value."""

    value: bool | int | float | str | None
    """What YAML 1.2's core schema makes of it."""
    text: str
    """What is written there, without quotes."""
    position: Position


@dataclass(frozen=True, slots=True, eq=False)
class ListNode:
    """A list."""

    items: tuple[Node, ...]
    position: Position


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A key of a map with its value."""

    key: str
    position: Position
    """Where the key stands."""
    value: Node


@dataclass(frozen=True, slots=True, eq=False)
class MapNode:
    """A map; keys are text, in the order of the file, each once."""

    entries: tuple[Entry, ...]
    position: Position

    def get(self, key: str) -> Entry | None:
        """Give the entry of a key, or None."""
        return next((entry for entry in self.entries if entry.key == key), None)


Node: TypeAlias = ScalarNode | ListNode | MapNode


def describe(node: Node) -> str:
    """Say what a node is, for messages: `a list`, `the text 'abc'`, `the number 5`, `nothing`."""
    match node:
        case ListNode():
            return "a list"
        case MapNode():
            return "a map"
        case ScalarNode(value=None):
            return "nothing" if not node.text else "null"
        case ScalarNode(value=bool()):
            return node.text
        case ScalarNode(value=str()):
            shown = node.text if len(node.text) <= 40 else node.text[:40] + "…"  # noqa: PLR2004 - one line
            return f"the text {shown!r}"
        case _:
            return f"the number {node.text}"


def plain_value(node: Node) -> object:
    """Give the node's value as plain Python: lists, dicts and scalars."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [plain_value(item) for item in node.items]
        case MapNode():
            return {entry.key: plain_value(entry.value) for entry in node.entries}

"""What a check finds, and the names of the rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from wfe.model.definition import DefinitionKey

__all__ = ["RULES", "Finding", "Problem", "see_definition", "see_rows"]

RULES: Mapping[str, str] = MappingProxyType(
    {
        "S1": "what was started is there with its data, and is what the fingerprint of the start says",
        "S3": "an instance is there whole: its first log row, and nothing that began before it began",
        "T1": "state, log and errors of an instance tell of the same transitions",
        "T2": "a pointer has one result at most, and is gone when it has it",
        "T3": "each revision of an instance has exactly one log row",
        "T4": "each attempt of a pointer has one recorded failure at most",
        "T5": "no step begins after its result was recorded",
        "T7": "an instance that has ended has nothing left that could go on, and announced exactly one end",
        "T8": "containers count the branches that they have, and loops walk the items that they were given",
        "T10": "everything stored can be read, and is what this version would write",
        "E1": "no published event is missing between the oldest and the newest one",
        "E2": "a wait has at most one event delivered, and none that was never published",
        "E3": "whoever waits for an event has a subscription, and no stored event was overlooked",
        "E4": "a wait that has its event waits no more, and no position is ahead of the events",
        "E5": "events of one name and key are in the order of their numbers",
        "E7": "no event is both published and still to be published",
        "E8": "a subscription belongs to a pointer that waits",
        "M2": "an instance wakes up for the earliest of its timers",
        "K1": "whoever waits for a child has a child that lives, or has been told of its end",
        "L1": "whoever holds an instance took it with a fence",
        "Q1": "claims find every instance that has something to do",
        "Q5": "activations are counted",
        "V1": "unfinished instances have their definition recorded, under its hash, with the steps they stand on",
        "A1": "what is being cancelled has a body that is still to stop, and children of what has ended are told",
        "A3": "what was purged is gone whole: no row belongs to nothing",
        "W1": "every unfinished instance runs, is due, is suspended or waits for something that can come",
    }
)
"""Rules that are checked, by name (the names of `docs/guarantees.md`), and what is true where one is kept."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Problem(NamedTuple):
    """A broken rule of one instance."""

    rule: str
    what: str
    table: str = "instance"
    """Where to look."""
    pointer: int | None = None


@dataclass(frozen=True)
class Finding:
    """One broken rule."""

    rule: str
    """A name of `RULES`."""
    what: str
    """What is wrong, in one sentence."""
    see: str
    """How to see it: a statement for the database, or another hint."""
    instance_id: str | None = None
    pointer: int | None = None

    def __str__(self) -> str:
        where = "" if self.instance_id is None else f" instance {self.instance_id!r}"
        pointer = "" if self.pointer is None else f" pointer {self.pointer}"
        return f"{self.rule}{where}{pointer}: {self.what}"


def see_rows(table: str, instance_id: str) -> str:
    """Give the statement that shows rows of an instance, for a session whose path has the store's schema."""
    found = _is_id(instance_id)
    if table == "instance":
        return f"SELECT * FROM instance WHERE {found}"  # noqa: S608 - shown to people, never run
    return f"SELECT * FROM {table} WHERE n = (SELECT n FROM instance WHERE {found})"  # noqa: S608 - as above


def see_definition(key: DefinitionKey) -> str:
    """Give the statement that shows a recorded definition."""
    named = f"{_is_id(key.id)} AND version = {key.version}"
    return f"SELECT * FROM definition WHERE {named}"  # noqa: S608 - shown to people, never run


def _is_id(instance_id: str) -> str:
    """Give the condition in one line, which every database understands."""
    quoted = "'" + instance_id.replace("'", "''") + "'"
    if not _CONTROL.search(quoted):
        return f"id = {quoted}"
    pattern = _CONTROL.sub("_", re.sub("([%_!])", r"!\1", quoted))
    return f"id LIKE {pattern} ESCAPE '!'"

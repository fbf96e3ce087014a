"""The memory provider's own indexes are checked, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.fsck.stage import populate
from wfe import MemoryProvider
from wfe.ports.store import LogRow, Publish
from wfe.providers.memory.tables import Subscription, Tables
from wfe.testing import fsck


def _later(tables: Tables, event_id: str) -> None:
    event = tables.events[event_id]
    tables.future[event_id] = Publish(event_id, event.name, event.key, event.payload, tables.latest * 2)


def _remove_second_event(tables: Tables) -> None:
    event = list(tables.events.values())[1]
    del tables.events[event.id]
    tables.topics[event.name, event.key].remove(event)


def _age_last_event(tables: Tables) -> None:
    event = list(tables.events.values())[-1]
    aged = msgspec.structs.replace(event, time=1)
    tables.events[event.id] = aged
    topic = tables.topics[event.name, event.key]
    topic[topic.index(event)] = aged


_DAMAGES: dict[str, tuple[Callable[[Tables], Any], str, str | None]] = {
    "live": (lambda tables: tables.live.pop("sleeper"), "Q1", "sleeper"),
    "stirring": (lambda tables: tables.stirring.pop("sleeper"), "Q1", "sleeper"),
    "waiting": (lambda tables: tables.waiting.pop(("never", "k")), "E3", "limited"),
    "waits": (lambda tables: tables.waiting["never", "k"].update(_foreign(tables)), "E8", "nobody"),
    "topics": (lambda tables: tables.topics["news", "k"].pop(), "E3", None),
    "log": (lambda tables: tables.log.update({10**6: _log_of_nobody(tables)}), "A3", "nobody"),
    "events": (_remove_second_event, "E1", None),
    "order": (_age_last_event, "E5", None),
    "future": (lambda tables: _later(tables, next(iter(tables.events))), "E7", None),
}


def _foreign(tables: Tables) -> dict[tuple[str, int, int], Subscription]:
    (wait,) = tables.waiting["never", "k"].values()
    return {("nobody", 1, 1): replace(wait, instance_id="nobody")}


def _log_of_nobody(tables: Tables) -> LogRow:
    return msgspec.structs.replace(next(iter(tables.log.values())), instance_id="nobody")


@pytest.fixture
async def provider() -> MemoryProvider:
    """The stage, in memory."""
    provider = MemoryProvider()
    await populate(provider)
    return provider


async def test_a_sound_store_gives_no_finding(provider: MemoryProvider) -> None:
    """Where nothing is damaged nothing is found."""
    assert await fsck(provider) == []


@pytest.mark.parametrize("name", _DAMAGES)
async def test_each_damage_is_found_exactly(name: str, provider: MemoryProvider) -> None:
    """Each damage is found under its rule, and nothing else is."""
    plant, rule, instance_id = _DAMAGES[name]

    plant(provider._tables)

    assert {(each.rule, each.instance_id) for each in await fsck(provider)} == {(rule, instance_id)}

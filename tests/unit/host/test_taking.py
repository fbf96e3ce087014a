"""Taking instances: what is left for want of room is taken when the room comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from wfe.host.taking import Taking
from wfe.host.trials import Trials
from wfe.model.definition import DefinitionKey

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.ports.store import UnclaimedRow

_KEY = DefinitionKey("w", 1, "hash")


class _Core:
    """The little of a host that taking and trials ask for."""

    def __init__(self) -> None:
        self.draining = False
        self.runners: dict[str, object] = {}
        self.work: list[Any] = []
        self.claimed: list[list[str]] = []
        self.registry = self
        self.runnable = [_KEY]
        self.taking = self
        self.room = 10
        self.fails = False
        self.loop = self

    def alone(self) -> bool:
        return True

    def background(self, work: Any) -> None:
        self.work.append(work)
        work.close()

    def call_later(self, *_: object) -> None:
        """Time does not pass."""

    async def claim(self, _: int, *, ids: list[str], suspects: bool) -> Any:
        assert suspects
        self.claimed.append(ids)
        if self.fails:
            raise ConnectionError
        return self

    @property
    def instances(self) -> list[object]:
        return []


class _Suspect:
    def __init__(self, name: str) -> None:
        self.id = name
        self.definition = _KEY
        self.activations = 4


def test_places_that_come_back_unused_are_offered() -> None:
    """Who found all places kept for a request under way is taken once that is answered, not with the next sweep."""
    core = _Core()
    taking = Taking(cast("HostCore", core), max_active=3)
    with taking.kept(3):
        assert taking.room == 0
        taking.left_some()

    assert len(core.work) == 1


def test_a_full_host_begins_nothing_for_what_is_left() -> None:
    """While all places are taken, what is left waits for room: not every answer of the store is a reason to look."""
    core = _Core()
    core.runners = {"a": 1, "b": 2}
    taking = Taking(cast("HostCore", core), max_active=2)
    taking.left_some()

    for _ in range(3):
        with taking.kept(0):
            pass
    assert core.work == []

    del core.runners["a"]
    taking.room_came()
    assert len(core.work) == 1


async def test_who_was_wanted_while_the_store_is_away_is_wanted_afterwards() -> None:
    """A claim that fails forgets nobody: the next request to the store leads to another one."""
    core = _Core()
    taking = Taking(cast("HostCore", core), max_active=3)
    taking.want_for_request("child")
    with pytest.raises(AttributeError):  # this core has no store to ask
        await taking._take_on()

    with taking.kept(1):
        pass

    assert list(taking._wanted) == ["child"]
    assert len(core.work) == 2


async def test_a_trial_whose_claim_fails_is_no_trial() -> None:
    """The next look tries suspects again, although the store did not answer the first time."""
    core = _Core()
    trials = Trials(cast("HostCore", core))
    rows = cast("list[UnclaimedRow]", [_Suspect("a")])
    core.fails = True
    try:
        await trials.take_next(rows)
    except ConnectionError:
        core.fails = False
    await trials.take_next(rows)

    assert core.claimed == [["a"], ["a"]]


async def test_who_is_taken_but_does_not_run_is_not_tried() -> None:
    """One that is damaged, or has ended, keeps no other suspect waiting."""
    core = _Core()
    trials = Trials(cast("HostCore", core))
    await trials.take_next(cast("list[UnclaimedRow]", [_Suspect("damaged")]))
    await asyncio.sleep(0)

    await trials.take_next(cast("list[UnclaimedRow]", [_Suspect("b")]))

    assert core.claimed == [["damaged"], ["b"]]

"""Starts on their way: whatever becomes of them, what comes meanwhile for their id is seen to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import pytest

from wfe.host.committer import PendingStart
from wfe.host.transit import Transit, Want
from wfe.model.definition import DefinitionKey
from wfe.ports.store import Changes, CommitReply, Start, StartOutcome

if TYPE_CHECKING:
    from wfe.host.core import HostCore


class _Core:
    """The little of a host that a start asks for."""

    def __init__(self) -> None:
        self.transit = Transit()
        self.taking = self
        self.incoming = self
        self.places = 0
        self.seen_to: list[str] = []

    def keep(self, places: int) -> None:
        self.places += places

    def let_go(self, places: int) -> None:
        self.places -= places

    def want(self, instance_id: str) -> None:
        """Take an instance."""

    def came(self, instance_id: str, _: Want) -> None:
        self.seen_to.append(instance_id)


def _settle(pending: PendingStart) -> None:
    pending.settled(StartOutcome.EXISTS, CommitReply(now=1))


def _refuse(pending: PendingStart) -> None:
    pending.refused(ValueError("it cannot be written"))


@pytest.mark.parametrize("end", [_settle, _refuse])
async def test_what_comes_meanwhile_is_seen_to(end: Callable[[PendingStart], None]) -> None:
    """An instance may have had the id before: what comes for it must not go with a start that was not made."""
    core = _Core()
    changes = Changes(status="runnable", head=b"", wake_at=None, hold=True)
    start = Start(id="a", definition=DefinitionKey("w", 1, "hash"), digest=b"", changes=changes)
    future: asyncio.Future[StartOutcome] = asyncio.get_running_loop().create_future()
    pending = PendingStart(cast("HostCore", core), start, future, None)
    assert core.transit.note("a", core.want)

    end(pending)

    assert (core.seen_to, core.places, core.transit.note("a", core.want)) == (["a"], 0, False)
    assert future.done()
    future.exception()

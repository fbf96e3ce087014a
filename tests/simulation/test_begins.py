"""Whether a body may begin is looked up in the store, whatever its host knows of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from wfe.ports.store import Batch, CommitReply
from wfe.testing.simulation import Scenario, simulate
from wfe.testing.simulation.loop import Process
from wfe.testing.simulation.machines import Life
from wfe.testing.simulation.network import CALM
from wfe.testing.simulation.scenario import Machine, StartOp
from wfe.testing.simulation.shapes import Plan, Work
from wfe.testing.simulation.world import World

_SCENE = Scenario(
    seed=0,
    plans=(Plan("flow0", (Work("first", slow=0.1), Work("second", slow=0.1))),),
    machines=(Machine(),),
    weather=CALM,
    starts=(StartOp(0.5, "i0", "flow0", x=0, host=0),),
    controls=(),
    events=(),
    faults=(),
    length=3.0,
)


@pytest.mark.parametrize(("lives", "broken"), [(True, True), (False, False)])
def test_a_body_is_checked_before_its_host_knows(monkeypatch: pytest.MonkeyPatch, lives: bool, broken: bool) -> None:
    """A body that begins again while the reply to its own result is on its way breaks T5 and T7.

    It is excused where its host has lost its session, and counted.
    """
    after_commit = World.after_commit

    def begin_again(self: World, process: Process, batch: Batch, reply: CommitReply) -> None:
        after_commit(self, process, batch, reply)
        life: Any = process.owner
        assert isinstance(life, Life)
        ended = [entry for entry in self.ledger.bodies if entry.what != "begin"]
        if batch.transitions and ended:
            again = replace(ended[-1], what="begin", lives=lives)
            self.watching.begun(life, again, last_renewed=life.clock.monotonic(), ttl=6.0, limit=1000, was_ready=False)
            self.watching.ended(again)

    monkeypatch.setattr(World, "after_commit", begin_again)

    outcome = simulate(_SCENE)

    assert outcome.rules == ({"T5", "T7"} if broken else frozenset())
    assert outcome.seen["body begun by who had lost it"] == (0 if broken else 2)

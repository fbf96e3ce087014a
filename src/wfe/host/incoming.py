"""What comes in from other hosts: hints, and the inboxes of held instances that are read because of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wfe.host.settings import may_be_an_id
from wfe.ports.hints import HintKind

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.ports.hints import Hint

__all__ = ["Incoming"]


class Incoming:
    """Reads what others have left for this host; what comes while it reads is read together with the next."""

    def __init__(self, core: HostCore) -> None:
        self._core = core
        self._wanted: dict[str, None] = {}
        """Instances whose inbox is to be read."""
        self._is_reading = False
        self._is_looking = False

    def hear(self, hint: Hint) -> None:
        """Another host says that there is something to look at."""
        core = self._core
        if hint.kind is HintKind.ENDED:
            if core.waiters.look(hint.ids) and not self._is_looking:
                self._is_looking = True
                core.background(self._look_for_ends())
            return
        for each in hint.ids or list(core.runners):
            if each in core.runners:
                self.read(each)
            elif each in core.parked:
                core.background(core.parked.look_for_request(each))
            elif may_be_an_id(each):  # the store would refuse the others, and all that is asked for together with them
                core.taking.want_as_told(each)

    async def _look_for_ends(self) -> None:
        """Read the ends that hints told of, for those who wait for them."""
        waiters, store = self._core.waiters, self._core.store
        try:
            while ids := waiters.take_to_look():
                waiters.found(await store.ended(ids, until=waiters.untils()))
        finally:
            self._is_looking = False

    def read(self, instance_id: str) -> None:
        """Read the inbox of a held instance, soon, together with those of others."""
        self._core.leaving.note_call(instance_id)
        self._wanted[instance_id] = None
        if not self._is_reading:
            self._is_reading = True
            self._core.background(self._read())

    async def _read(self) -> None:
        core = self._core
        try:
            while self._wanted:
                asking = {each: core.runners[each] for each in self._wanted if each in core.runners}
                for each in self._wanted:
                    core.leaving.note_call(each)
                self._wanted.clear()
                if not asking:
                    return
                for row in await core.store.inbox(list(asking)):
                    runner = asking[row.instance_id]
                    # One that took the instance anew since may have been given rows that are consumed by now.
                    if runner is core.runners.get(row.instance_id):
                        runner.receive(row)
                for runner in asking.values():
                    core.schedule(runner)
        finally:
            self._is_reading = False

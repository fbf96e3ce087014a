"""What comes in for instances: deliveries of batches, hints of other hosts, and the inboxes that are read for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wfe.host.settings import may_be_an_id
from wfe.ports.hints import Hint, HintKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wfe.host.core import HostCore
    from wfe.host.transit import Want
    from wfe.ports.store import Delivery

__all__ = ["Incoming"]


class Incoming:
    """Brings each message to where its instance is, or has the instance taken.

    Reads inboxes together: what is wanted while it reads is read next.
    """

    def __init__(self, core: HostCore) -> None:
        self._core = core
        self._wanted: dict[str, None] = {}
        """Held instances whose inbox is to be read."""
        self._is_reading = False
        self._is_looking = False

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """A batch of this host has put these into inboxes."""
        core = self._core
        foreign: dict[str, list[str]] = {}
        for delivery in deliveries:
            instance_id, is_event = delivery.instance_id, delivery.row.message is None
            runner = core.runners.get(instance_id)
            if runner is not None and is_event:
                runner.receive(delivery.row)
            elif runner is not None or delivery.owner is None or delivery.owner == core.session_id:
                # Requests are read from the store: a row told of twice must not be applied twice.
                self.came(instance_id, core.taking.want if is_event else core.taking.want_for_request)
            else:
                foreign.setdefault(delivery.owner, []).append(instance_id)
        for owner, ids in foreign.items():
            core.background(core.hints.send(owner, [Hint(HintKind.WORK, tuple(ids))]))

    def hear(self, hint: Hint) -> None:
        """Another host says that there is something to look at."""
        core = self._core
        if hint.kind is HintKind.ENDED:
            if core.waiters.look(hint.ids) and not self._is_looking:
                self._is_looking = True
                core.background(self._look_for_ends())
            return
        for each in hint.ids or list(core.runners):
            if may_be_an_id(each):  # the store would refuse the others, and all that is asked for together with them
                self.came(each, core.taking.want_as_told)

    def came(self, instance_id: str, want: Want) -> None:
        """Something is in the inbox of an instance. If it is neither here nor on the way, `want` takes it."""
        core = self._core
        if instance_id in core.runners:
            self.read(instance_id)
        elif core.transit.note(instance_id, want):
            pass
        elif instance_id in core.parked:
            core.background(core.parked.look_for_request(instance_id))
        else:
            want(instance_id)

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
        self._wanted[instance_id] = None
        if not self._is_reading:
            self._is_reading = True
            self._core.background(self._read())

    async def _read(self) -> None:
        core = self._core
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, {}
                asking = {each: core.runners[each] for each in wanted if each in core.runners}
                for each in wanted:
                    if each not in asking:
                        core.transit.note(each, core.taking.want)
                if not asking:
                    continue
                for row in await core.store.inbox(list(asking)):
                    runner = asking[row.instance_id]
                    # One that took the instance anew since may have been given rows that are consumed by now.
                    if runner is core.runners.get(row.instance_id):
                        runner.receive(row)
                    elif row.instance_id not in core.runners:
                        self.came(row.instance_id, core.taking.want)
                for runner in asking.values():
                    core.schedule(runner)
        finally:
            self._is_reading = False

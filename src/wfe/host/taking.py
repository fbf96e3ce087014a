"""Taking instances: as many as there is room for, and the next ones as soon as room becomes free.

A place is kept for each instance that is on its way (a start being written, a claim being answered), so that no more
are held than may be, however many requests are under way at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wfe.host.trials import SUSPECT_FROM
from wfe.ports.hints import Hint, HintKind

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.model.moment import Moment
    from wfe.ports.store import ClaimReply

__all__ = ["Taking"]

_AT_ONCE = 1000


class Taking:
    """Knows who is wanted and how much room there is; asks the store, one request after the other."""

    def __init__(self, core: HostCore, max_active: int) -> None:
        self._core = core
        self._max_active = max_active
        self._coming = 0
        """Places kept for instances on their way."""
        self._wanted: dict[str, Moment] = {}
        self._told: set[str] = set()
        """Those that another host has told of. It has told all others too: passed on, such a hint would never end."""
        self._with_requests: set[str] = set()
        """Unheld instances that a message other than an event has reached."""
        self._more_is_due = False
        """Whether something that is due may have been left for want of room; nobody tells of it again."""
        self._is_taking = False

    # Room

    @property
    def room(self) -> int:
        """How many more instances this host may hold."""
        core = self._core
        return 0 if core.draining else max(0, self._max_active - len(core.runners) - self._coming)

    @property
    def is_half_empty(self) -> bool:
        """Whether no more than half of the places are taken."""
        return self.room * 2 >= self._max_active

    def keep(self, places: int) -> None:
        """Keep places for instances on their way. Each comes back by `let_go`, before the instance takes it."""
        self._coming += places

    def let_go(self, places: int) -> None:
        """Give back places that were kept."""
        self._coming -= places
        self.room_came()

    def kept(self, places: int) -> _Kept:
        """Keep places while something is asked of the store."""
        return _Kept(self, places)

    def not_used(self, places: int) -> None:
        """What was asked failed. Nobody is told of the room: the next request that succeeds looks at what is left."""
        self._coming -= places

    def left_some(self) -> None:
        """Something that is due was, or may have been, left for want of room: look again when there is some."""
        self._more_is_due = True

    def room_came(self) -> None:
        """An instance has gone, or one that was expected has not come."""
        if self._more_is_due:
            self._go_on()

    # Who is wanted

    def want(self, *ids: str, wake: Moment = 0) -> None:
        """Try to take instances, soon."""
        for each in ids:
            if each not in self._core.runners:
                self._wanted[each] = wake
        self._go_on()

    def want_as_told(self, instance_id: str) -> None:
        """Try to take an instance that another host has told of."""
        self._told.add(instance_id)
        self.want(instance_id)

    def want_for_request(self, instance_id: str) -> None:
        """Try to take an instance that a request (a parent's cancel) has reached, if need be without its code."""
        self._with_requests.add(instance_id)
        self.want(instance_id)

    def _go_on(self) -> None:
        if (self._wanted or (self._more_is_due and self.room)) and not self._is_taking and not self._core.draining:
            self._is_taking = True
            self._core.background(self._take_on())

    async def _take_on(self) -> None:
        try:
            while not self._core.draining:
                room = min(self.room, _AT_ONCE)
                if room == 0:
                    self._leave()
                if self._wanted:
                    await self._take_wanted(room or len(self._wanted))
                elif self._more_is_due and room:
                    self._more_is_due = False
                    reply = await self.claim(room)
                    self._more_is_due |= len(reply.instances) == room
                else:
                    return
        except BaseException:
            self.left_some()  # whatever the store answers next leads back here
            raise
        finally:
            self._is_taking = False

    def _leave(self) -> None:
        """There is no room: what is wanted is due, and so found again. Requests are applied all the same."""
        core = self._core
        core.residents.give_back_all()
        asked = {each: wake for each, wake in self._wanted.items() if each in self._with_requests}
        left = [each for each in self._wanted if each not in asked]
        self._wanted = asked
        if left:
            self._more_is_due = True
            news = [each for each in left if each not in self._told]
            self._told.difference_update(left)
            if news and not core.alone():
                core.background(core.hints.send(None, [Hint(HintKind.WORK, tuple(news[:_AT_ONCE]))]))

    async def _take_wanted(self, count: int) -> None:
        ids = list(self._wanted)[:count]
        wakes = {each: self._wanted.pop(each) for each in ids}
        asked = self._with_requests.intersection(ids)
        self._with_requests -= asked
        self._told.difference_update(ids)
        try:
            reply = await self.claim(len(ids), ids=ids)
            for loaded in reply.instances:
                del wakes[loaded.id]
            await self.apply_without_code([each for each in wakes if each in asked])
        except BaseException:
            self._wanted = {**wakes, **self._wanted}  # wanted as before: a request may have nobody else to find it
            self._with_requests |= asked & wakes.keys()
            raise
        for each, wake in wakes.items():
            if wake > reply.now:  # asked a little early by the store's clock
                self._core.wake_at(each, wake)

    async def apply_without_code(self, ids: list[str]) -> None:
        """Apply requests that reached instances which nobody holds and which cannot run here."""
        if ids:
            for loaded in (await self.take(len(ids), ids=ids, any_definition=True)).instances:
                self._core.activate(loaded)

    # Asking the store

    async def claim(self, limit: int, *, ids: list[str] | None = None, suspects: bool = False) -> ClaimReply:
        """Take instances that are due and let them run; suspects only if asked to."""
        reply = await self.take(limit, ids=ids, suspects=suspects)
        for loaded in reply.instances:
            self._core.activate(loaded)
        return reply

    async def take(
        self, limit: int, *, ids: list[str] | None = None, any_definition: bool = False, suspects: bool = False
    ) -> ClaimReply:
        """Take instances without running them yet; suspects, and those whose code is missing, only if asked to."""
        core = self._core
        session, sent = core.session_id, core.monotonic()
        with core.strays.request(), self.kept(limit):
            reply = await core.store.claim(
                session,
                core.registry.runnable,
                limit,
                ids=ids,
                any_definition=any_definition,
                activations_below=None if suspects or any_definition else SUSPECT_FROM,
            )
        core.time.saw(reply.now, sent)
        if session != core.session_id:  # lost while it asked: what it took then is not this session's
            return msgspec.structs.replace(reply, instances=())
        return reply


class _Kept:
    """Places that are kept while something is asked of the store."""

    __slots__ = ("_places", "_taking")

    def __init__(self, taking: Taking, places: int) -> None:
        self._taking = taking
        self._places = places

    def __enter__(self) -> None:
        self._taking.keep(self._places)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._taking.let_go(self._places)
        else:
            self._taking.not_used(self._places)

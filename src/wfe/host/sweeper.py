"""The sweep: the safety net under hints, timers and notifications. It runs all the time, in every host."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from wfe.host.unclaimed import Unclaimed
from wfe.model.errors import ProviderUnavailable
from wfe.model.repetition import Repetition

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.host.recall import Recall

__all__ = ["Sweeper"]

_log = logging.getLogger("wfe.host")

_CLAIM_AT_ONCE = 500
_PROMOTE_AT_ONCE = 500
_INBOX_EVERY = 5
_LONG_ACTIVATION = 60.0


class Sweeper:
    """Finds what is due, what is stuck, and who waits for something that ended elsewhere."""

    def __init__(self, core: HostCore, recall: Recall, interval: float) -> None:
        self._core = core
        self._interval = interval
        self._unclaimed = Unclaimed(core, recall)
        core.trials.on_end = self.soon
        self._round = 0
        self._task: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self._trouble = Repetition()
        self.sweeps = 0
        """How many sweeps have ended; tests wait for the next one."""
        self.swept = asyncio.Event()

    def start(self) -> None:
        """Begin to sweep."""
        self._task = self._core.loop.create_task(self._sweep_on())

    async def stop(self) -> None:
        """Sweep no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def soon(self) -> None:
        """Sweep at once instead of at the next interval: something was registered, or hints may have been lost."""
        self._more.set()

    async def _sweep_on(self) -> None:
        while True:
            again = False
            try:
                again = await self.sweep()
                self._trouble.over()
            except ProviderUnavailable as error:
                if self._trouble.again():
                    _log.warning(
                        "The sweep could not reach the store (failure %d in a row): %s", self._trouble.count, error
                    )
            except Exception:  # noqa: BLE001 - a safety net that ends with its first error is none
                # Whatever was not done now, the next sweep finds again: its questions are asked of the store.
                _log.exception("The sweep failed")
            self.sweeps += 1
            self.swept.set()
            self.swept.clear()
            if again:
                continue
            # A random phase, so that many hosts do not ask at the same moments.
            pause = self._interval * (0.75 + 0.5 * self._core.entropy.random())
            try:
                async with asyncio.timeout(pause):
                    await self._more.wait()
            except TimeoutError:
                pass
            self._more.clear()

    async def sweep(self) -> bool:
        """Sweep once. True: there was more than one round could take."""
        core = self._core
        self._round += 1
        again = False
        await core.strays.look()
        if not core.draining:
            core.residents.look()
            room = min(core.room, _CLAIM_AT_ONCE)
            reply = await core.taking.claim(room)  # without room too: it tells of the time ahead
            core.alarms.look_again()
            again = 0 < room == len(reply.instances)
            if core.room == 0:
                core.taking.left_some()
            if reply.next_wake is not None:
                core.alarms.look(reply.next_wake, self.soon)
            if reply.next_event is not None:
                if reply.next_event <= reply.now:
                    core.committer.promote(_PROMOTE_AT_ONCE)
                    core.pump()
                else:
                    core.alarms.look(reply.next_event, self.soon)
            if not again:
                again = await self._unclaimed.look()
            await core.parked.look()
        await self._tell_waiters()
        self._keep_long_ones_alive()
        if self._round % _INBOX_EVERY == 0:
            for instance_id in list(core.runners):
                core.incoming.read(instance_id)
        return again

    async def _tell_waiters(self) -> None:
        waiters = self._core.waiters
        ids = [each for each in waiters.waited_for() if each not in self._core.runners]
        if ids:
            waiters.found(await self._core.store.ended(ids, until=waiters.untils()))

    def _keep_long_ones_alive(self) -> None:
        """A body that has run for long shows that its instance does not kill its host."""
        now = self._core.monotonic()
        for runner in list(self._core.runners.values()):
            if runner.bodies and now - runner.since > _LONG_ACTIVATION:
                runner.prove_harmless()

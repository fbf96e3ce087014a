"""A host among the others on its store: its session, the hints between them, and whether it is alone."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from wfe.host.ending import all_of
from wfe.host.session import Renewal, Session
from wfe.host.system import steady
from wfe.model.errors import ProviderUnavailable
from wfe.model.repetition import Repetition
from wfe.ports.hints import Hint, HintKind

if TYPE_CHECKING:
    from wfe.host.core import HostCore
    from wfe.host.settings import Settings
    from wfe.ports.lease import Lease

__all__ = ["Membership"]

_log = logging.getLogger("wfe.host")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


class Membership:
    """Begins sessions, one after another as they are lost, and ends every one that it has begun."""

    def __init__(
        self,
        core: HostCore,
        settings: Settings,
        lease: Lease,
        *,
        renewal: Callable[[], Renewal],
        look_around: Callable[[], None],
    ) -> None:
        self._core = core
        self._settings = settings
        self._lease = lease
        self._renewal = renewal
        self._look_around = look_around
        self.is_alone = True
        """No other session lives, as far as is known."""
        self._session: Session | None = None
        """The one that is used, or was used last."""
        self._begun: list[Session] = []
        """Those that may have been begun and have not been ended."""
        self._listens = False
        self._is_leaving = False

    async def join(self) -> None:
        """Begin a session, and let the host work in it.

        Raises:
            ProviderUnavailable: The store did not answer, or too slowly.
        """
        core = self._core
        session = self._new_session()
        # Noted before: who is cancelled here does not know whether it was begun, and leaves it to `end_sessions`.
        self._begun.append(session)
        try:
            await session.begin(self._settings.name or f"pid {os.getpid()}")
        except Exception:
            self._begun.remove(session)
            raise
        try:
            self._listens = True
            await core.hints.open(session.id, self._received)
            await self.look()
        except Exception:
            await self._end(session)  # or its thread would renew it for ever
            raise
        if session.is_over:
            await self._end(session)
            msg = "The session was over before the host could use it: the store answers too slowly. Try again."
            raise ProviderUnavailable(msg)
        # All at once: what is taken for a session while the host begins nothing would be held, and never begin.
        self._session = session
        core.session_id = session.id
        core.is_sure = session.is_sure
        core.draining = self._is_leaving
        if not self.is_alone:
            # Others learn that they are not alone any more, and tell this host from now on.
            await core.hints.send(None, [Hint(HintKind.WORK, ())])

    def _new_session(self) -> Session:
        return Session(
            self._lease,
            self._core.entropy.new_id(),
            ttl=self._settings.lease_ttl,
            clock=steady(self._core.clock),
            stall_limit=self._settings.loop_stall_limit.total_seconds(),
            lost=self.lost,
            renewal=self._renewal,
        )

    async def look(self) -> None:
        """See whether other sessions live."""
        self.is_alone = len(await self._lease.alive()) <= 1

    def _received(self, hint: Hint) -> None:
        self.is_alone = False
        if not self._is_leaving:
            self._core.incoming.hear(hint)
            if not hint.ids:
                self._look_around()

    # Losing a session

    def lost(self, reason: str) -> None:
        """The lease is lost: stop every body, write nothing, and begin anew."""
        core = self._core
        if self._session is None or self._session.id != core.session_id:
            return
        _log.error("This host lost its session (%s): it stops its bodies and writes nothing of what they did", reason)
        core.draining = True
        core.session_id = ""  # replies still on their way are to one that is over
        core.drop_all()
        core.background(self._renew())

    async def _renew(self) -> None:
        pause, trouble = _FIRST_PAUSE, Repetition()
        while not self._is_leaving:
            try:
                await self.close_hints()
                await self.join()
            except ProviderUnavailable as error:
                if trouble.again():
                    _log.warning(
                        "A new session could not be begun, trying again (failure %d in a row): %s", trouble.count, error
                    )
            except Exception:  # noqa: BLE001 - without a session the host would do nothing for ever
                if trouble.again():
                    _log.exception("A new session could not be begun, trying again (failure %d)", trouble.count)
            else:
                self._look_around()
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        for session in [each for each in self._begun if each is not self._session]:
            # What it held is free at once, and not when it would have expired.
            await self._end(session)

    # Leaving

    def leave(self) -> None:
        """Begin no session any more. The present one is renewed until `end_sessions`."""
        self._is_leaving = True

    async def close_hints(self) -> None:
        """Hear nothing more."""
        if self._listens:
            self._listens = False
            await self._core.hints.close()

    async def end_sessions(self) -> None:
        """End every session that was begun: what they held is free at once."""
        self._session = None
        await all_of([("end a session", partial(self._end, session)) for session in self._begun])

    async def _end(self, session: Session) -> None:
        await session.end()
        self._begun = [each for each in self._begun if each is not session]

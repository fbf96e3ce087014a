"""Sessions and hints, broken."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from tests.providers.canaries import cuts
from tests.providers.canaries.planting import breaks
from wfe.providers.memory.hints import HintExchange, MemoryHints
from wfe.providers.memory.hints import _Receiver as Receiver
from wfe.providers.memory.lease import MemoryLease, MemoryRenewer
from wfe.providers.memory.tables import Session, Tables


@breaks(MemoryLease, "end", "test_ended_session_is_dead_at_once", "test_another_process_sees_the_sessions")
async def ending_does_nothing(original: Any, self: Any, session: str) -> None:
    return


@breaks(MemoryLease, "begin", "test_names_are_labels")
async def sessions_are_told_apart_by_name(original: Any, self: Any, session: str, *, name: str, **named: Any) -> None:
    for other in [one for one, found in self._tables.sessions.items() if found.name == name]:
        del self._tables.sessions[other]
    await original(self, session, name=name, **named)


@breaks(
    Tables,
    "is_alive",
    "test_session_expires",
    "test_renewal_is_for_its_time_alone",
    "test_expired_session_cannot_be_renewed",
    "test_sessions_are_independent",
)
def sessions_do_not_expire(original: Any, self: Any, session: str) -> Any:
    return session in self.sessions


@breaks(
    MemoryRenewer,
    "renew",
    "test_renewed_session_goes_on",
    "test_expired_session_cannot_be_renewed",
    "test_ended_session_cannot_be_renewed",
    "test_unknown_session_cannot_be_renewed",
)
def renewing_does_nothing(original: Any, self: Any) -> None:
    return


@breaks(
    MemoryRenewer,
    "renew",
    "test_expired_session_cannot_be_renewed",
    "test_ended_session_cannot_be_renewed",
    "test_unknown_session_cannot_be_renewed",
)
def renewing_brings_sessions_back(original: Any, self: Any) -> None:
    self._tables.sessions[self._session] = Session("back", self._tables.clock.monotonic() + 3600)


@breaks(MemoryRenewer, "renew", "test_renewal_is_for_its_session_alone")
def renewing_renews_all(original: Any, self: Any) -> None:
    for session in self._tables.sessions.values():
        session.expires += self._ttl.total_seconds()


@breaks(MemoryRenewer, "close", "test_session_outlives_its_renewer", "test_unused_renewer_can_be_closed")
def closing_ends_the_session(original: Any, self: Any) -> None:
    self._tables.sessions.pop(self._session, None)


@breaks(cuts.RemoteLease, "renewer", "test_renewer_works_while_the_loop_is_busy")
def renewing_needs_the_loop(original: Any, self: Any, *args: Any) -> Any:
    renewer = original(self, *args)
    loop = asyncio.get_running_loop()

    async def renew() -> None:
        MemoryRenewer.renew(renewer)

    renewer.renew = lambda: asyncio.run_coroutine_threadsafe(renew(), loop).result()
    return renewer


@breaks(cuts.RemoteRenewer, "connect", "test_renewer_survives_a_lost_connection")
def renewer_does_not_connect_again(original: Any, self: Any) -> None:
    return


@breaks(MemoryLease, "end", "test_ending_what_is_over_is_harmless", "test_sessions_are_independent")
async def ending_ends_all(original: Any, self: Any, session: str) -> None:
    self._tables.sessions.clear()


@breaks(MemoryLease, "alive", "test_begun_session_lives", "test_many_sessions_begin_at_the_same_time")
async def only_one_session_is_told(original: Any, self: Any) -> Any:
    return list(await original(self))[:1]


@breaks(HintExchange, "send", "test_hint_reaches_that_session_alone")
def hints_reach_everybody(original: Any, self: Any, to: str | None, hint: Any, origins: Any) -> None:
    original(self, None, hint, ())


@breaks(HintExchange, "send", "test_hint_to_all_reaches_all_others")
def hints_reach_their_sender(original: Any, self: Any, to: str | None, hint: Any, origins: Any) -> None:
    original(self, to, hint, ())


@breaks(MemoryHints, "close", "test_closed_hints_are_silent")
async def closing_does_nothing(original: Any, self: Any) -> None:
    return


@breaks(
    HintExchange,
    "send",
    "test_hints_of_both_kinds_are_told_apart",
    "test_hint_reaches_a_session",
    "test_hints_of_odd_ids",
    "test_several_hints_at_once",
    "test_big_hint_does_no_harm",
    "test_hints_may_be_opened_again",
    "test_sending_to_nobody_is_harmless",
    "test_received_in_the_loop",
)
def hints_are_all_lost(original: Any, self: Any, to: str | None, hint: Any, origins: Any) -> None:
    return


@breaks(Receiver, "take", "test_received_in_the_loop")
def hints_come_in_another_thread(original: Any, self: Any, hint: Any) -> None:
    thread = threading.Thread(target=self.receive, args=(hint,))
    thread.start()
    thread.join()


@breaks(cuts, "tell_receivers", "test_mended_connection_says_look_at_everything")
def mending_tells_nobody(original: Any, provider: Any) -> None:
    return


@breaks(cuts, "tell_receivers", "test_mended_connection_says_look_at_everything")
def mended_connection_brings_no_hints(original: Any, provider: Any) -> None:
    original(provider)
    provider._exchange.receivers.clear()

"""Hints between the hosts of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeAlias

from wfe.ports.hints import Hint
from wfe.providers.memory.loops import call_in
from wfe.providers.memory.tables import Tables

__all__ = ["HintExchange", "MemoryHints"]

Receive: TypeAlias = Callable[[Hint], None]


@dataclass(eq=False)
class _Receiver:
    receive: Receive
    loop: asyncio.AbstractEventLoop

    def take(self, hint: Hint) -> None:
        call_in(self.loop, lambda: self.receive(hint))


@dataclass(eq=False)
class HintExchange:
    """Who receives hints, in the order in which they began to."""

    receivers: dict[str, _Receiver] = field(default_factory=dict[str, _Receiver])

    def send(self, to: str | None, hint: Hint, origins: Collection[str]) -> None:
        """Hand a hint to one session, or (None) to all but its origins."""
        for session, receiver in tuple(self.receivers.items()):
            if session == to or (to is None and session not in origins):
                receiver.take(hint)


class MemoryHints:
    """One view's end of the exchange.

    Several hosts may use one view. It cannot know which of them sends, so a hint to all reaches the sender too, which
    is harmless; nor which of them closes, so it goes on for each until its session has ended.
    """

    def __init__(self, exchange: HintExchange, tables: Tables) -> None:
        self._exchange = exchange
        self._tables = tables
        self._sessions: list[str] = []
        self._leaving = 0

    async def open(self, session: str, receive: Receive) -> None:
        self._exchange.receivers[session] = _Receiver(receive, asyncio.get_running_loop())
        if session not in self._sessions:
            self._sessions.append(session)

    async def send(self, session: str | None, hints: Collection[Hint]) -> None:
        self._drop_those_who_left()
        own = self._sessions if len(self._sessions) == 1 else ()
        for hint in hints:
            self._exchange.send(session, hint, own)

    async def close(self) -> None:
        self._leaving += 1
        self._drop_those_who_left()

    def _drop_those_who_left(self) -> None:
        if not self._leaving:
            return
        everybody = self._leaving >= len(self._sessions)
        for session in [one for one in self._sessions if everybody or not self._tables.is_alive(one)]:
            self._sessions.remove(session)
            self._exchange.receivers.pop(session, None)
            self._leaving -= 1
        self._leaving = self._leaving if self._sessions else 0

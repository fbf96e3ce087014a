"""Hints between the processes of a run in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextvars import Context, copy_context
from typing import TypeAlias

from wfe.ports.hints import Hint

__all__ = ["Exchange", "ExchangeHints"]

_Receiver: TypeAlias = tuple[Context, Callable[[Hint], None]]


class Exchange:
    """Who receives hints."""

    def __init__(self) -> None:
        self.receivers: dict[str, _Receiver] = {}


class ExchangeHints:
    """One process's end. A hint is handed over in the process that receives it; what is for a dead one is lost."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._own: list[str] = []

    async def open(self, session: str, receive: Callable[[Hint], None]) -> None:
        self._exchange.receivers[session] = (copy_context(), receive)
        self._own.append(session)

    async def send(self, session: str | None, hints: Collection[Hint]) -> None:
        loop = asyncio.get_running_loop()
        for receiver, (context, receive) in self._exchange.receivers.items():
            if receiver == session or (session is None and receiver not in self._own):
                for hint in hints:
                    loop.call_soon(receive, hint, context=context)

    async def close(self) -> None:
        for session in self._own:
            self._exchange.receivers.pop(session, None)
        self._own.clear()

"""Hints by LISTEN and NOTIFY, on a connection of their own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

import msgspec

from wfe.model.repetition import Repetition
from wfe.ports.hints import Hint, HintKind
from wfe.providers.postgres.connector import Connector
from wfe.providers.postgres.faults import connection_errors

if TYPE_CHECKING:
    import asyncpg

__all__ = ["PostgresHints"]

Receive: TypeAlias = Callable[[Hint], None]

_log = logging.getLogger(__name__)
_GATHER_SECONDS = 0.005
_LONGEST_PAUSE = 5.0
_PING_SECONDS = 15.0
_ANSWER_SECONDS = 10.0
_PAYLOAD_BYTES = 7_900
"""PostgreSQL refuses 8,000 and more."""
_ECHO_SECONDS = 2.0
_ECHO = "echo "
"""Begins what a host sends in order to hear it itself."""
_PAYLOADS_AT_ONCE = 16
"""Of work, more than fits here is told as "look at everything"."""


class _Note(msgspec.Struct, frozen=True, array_like=True):
    """What one NOTIFY carries."""

    origin: str
    """The session that sends to all others, or empty."""
    hints: tuple[Hint, ...]


@dataclass(eq=False)
class _Receiver:
    receive: Receive
    loop: asyncio.AbstractEventLoop

    def take(self, hint: Hint) -> None:
        if self.loop.is_closed():
            return
        self.loop.call_soon_threadsafe(self.receive, hint)


class PostgresHints:
    """One host's end of the channels: one for each session, one for all.

    What is sent while the connection is down is lost, as hints may be; when it is back, every receiver is told to look.
    Through a pooler that lends its connections nothing arrives, unless the URL names a direct way; that is noticed and
    told, and the sweep of the hosts finds the work.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._place = connector.place
        self._receivers: dict[str, _Receiver] = {}
        self._outbox: dict[str | None, dict[Hint, None]] = {}
        self._connection: asyncpg.Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._asking = asyncio.Lock()
        self._echo = ""
        self._echoed = asyncio.Event()
        self._is_deaf = False
        self._trouble = Repetition()

    async def open(self, session: str, receive: Receive) -> None:
        self._receivers[session] = _Receiver(receive, asyncio.get_running_loop())
        if self._keeper is None:
            self._connected, self._lost, self._echoed = asyncio.Event(), asyncio.Event(), asyncio.Event()
            self._asking = asyncio.Lock()
            self._keeper = asyncio.create_task(self._keep(), name="wfe hints")
        elif self._connection is not None:
            with contextlib.suppress(*connection_errors()):
                async with self._asking:
                    await self._connection.add_listener(self._channel(session), self._heard)
        # A host that starts while the server is away is told to look once it is back.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._connected.wait()

    async def send(self, session: str | None, hints: Collection[Hint]) -> None:
        self._outbox.setdefault(session, {}).update(dict.fromkeys(hints))
        if self._sender is None and self._keeper is not None:
            self._sender = asyncio.create_task(self._send_soon(), name="wfe hints, sending")

    async def close(self) -> None:
        self._receivers.clear()
        tasks = [task for task in (self._sender, self._keeper) if task is not None]
        self._sender = self._keeper = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._outbox.clear()

    # The connection

    async def _keep(self) -> None:
        errors = connection_errors()
        pause = 0.05
        first = True
        while True:
            try:
                await self._listen(told=first)
                first = False
                pause = 0.05
                await self._listen_to_itself()
                await self._watch()
            except errors as error:
                if self._trouble.again():
                    _log.warning(
                        "Hints of PostgreSQL at %s are interrupted (failure %d in a row): %s",
                        self._place.url,
                        self._trouble.count,
                        str(error) or type(error).__name__,
                    )
                first = False
            finally:
                self._drop()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads hosts, guards nothing
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _listen(self, *, told: bool) -> None:
        self._lost.clear()
        connection = await self._connector.connect("wfe hints", direct=True, prepares=False)
        self._connection = connection
        connection.add_termination_listener(lambda _: self._lost.set())
        async with self._asking:
            for session in (None, *self._receivers):
                await connection.add_listener(self._channel(session), self._heard)
        self._trouble.over()
        self._connected.set()
        if not told:
            for receiver in tuple(self._receivers.values()):
                receiver.take(Hint(HintKind.WORK, ()))

    async def _listen_to_itself(self) -> None:
        """Behind a pooler: find out whether hints arrive at all, and say once if they do not.

        They are sent on a connection of their own: on this one, they would come back with the answer.
        """
        connection = self._connection
        if self._is_deaf or connection is None:
            return
        async with asyncio.timeout(_ANSWER_SECONDS), self._asking:
            if await connection.fetchval("SELECT pg_backend_pid()") == connection.get_server_pid():
                return
        self._echoed.clear()
        self._echo = f"{_ECHO}{uuid4().hex}"
        other = await self._connector.connect("wfe hints", direct=True, prepares=False)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await other.execute("SELECT pg_notify($1, $2)", self._channel(None), self._echo)
        finally:
            other.terminate()
        try:
            async with asyncio.timeout(_ECHO_SECONDS):
                await self._echoed.wait()
        except TimeoutError:
            self._is_deaf = True
            _log.warning(
                "Hints do not arrive from PostgreSQL at %s: a pooler is in the way, and what other hosts do is seen by "
                "the sweep only. Name the way past it in the URL: direct=host:port.",
                self._place.url,
            )

    async def _watch(self) -> None:
        """Return once the connection is lost; a silent one is asked now and then."""
        connection = self._connection
        while connection is not None and not self._lost.is_set() and not connection.is_closed():
            try:
                async with asyncio.timeout(_PING_SECONDS):
                    await self._lost.wait()
            except TimeoutError:
                # One question at a time: a second one beside it would be taken for a lost connection.
                async with asyncio.timeout(_ANSWER_SECONDS), self._asking:
                    await connection.execute("SELECT 1")

    def _drop(self) -> None:
        self._connected.clear()
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _channel(self, session: str | None) -> str:
        name = f"{self._place.schema} {'' if session is None else session}".encode("utf-8", "surrogatepass")
        return f"wfe_{blake2b(name, digest_size=16).hexdigest()}"

    # What comes and goes

    def _heard(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        if str(payload).startswith(_ECHO):
            if payload == self._echo:
                self._echoed.set()
            return
        try:
            note = msgspec.json.decode(str(payload), type=_Note)
        except msgspec.MsgspecError:
            _log.warning("Dropped a hint that cannot be read, on channel %s of %s.", channel, self._place.url)
            return
        to_all = channel == self._channel(None)
        for session, receiver in tuple(self._receivers.items()):
            if note.origin != session if to_all else channel == self._channel(session):
                for hint in note.hints:
                    receiver.take(hint)

    async def _send_soon(self) -> None:
        try:
            while self._outbox:
                await asyncio.sleep(_GATHER_SECONDS)
                outbox, self._outbox = self._outbox, {}
                await self._notify([(to, text) for to, hints in outbox.items() for text in self._payloads(to, hints)])
        finally:
            self._sender = None

    async def _notify(self, notes: list[tuple[str | None, bytes]]) -> None:
        connection = self._connection
        if connection is None or not notes:
            return
        channels = [self._channel(to) for to, _ in notes]
        payloads = [payload.decode() for _, payload in notes]
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), self._asking:
                await connection.execute(
                    "SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS t(c, p)", channels, payloads
                )
        except connection_errors():
            _log.warning("Hints to other hosts were lost: PostgreSQL at %s does not answer.", self._place.url)
            self._lost.set()

    def _payloads(self, to: str | None, hints: Collection[Hint]) -> list[bytes]:
        origin = next(iter(self._receivers)) if to is None and len(self._receivers) == 1 else ""
        payloads = list(_packed(origin, tuple(hints)))
        if len(payloads) <= _PAYLOADS_AT_ONCE:
            return payloads
        # Work is looked for by itself; who waits for ends does not look, and needs their ids.
        ends = tuple(hint for hint in hints if hint.kind is HintKind.ENDED)
        return list(_packed(origin, (Hint(HintKind.WORK, ()), *ends)))


def _packed(origin: str, hints: tuple[Hint, ...]) -> Iterator[bytes]:
    """Give the payloads that carry all hints, none too long; a hint of too many ids becomes several."""
    try:
        payload = msgspec.json.encode(_Note(origin, hints))
    except UnicodeEncodeError:
        payload = b""
    if payload and len(payload) <= _PAYLOAD_BYTES:
        if hints:
            yield payload
        return
    if len(hints) == 1:
        ids = hints[0].ids
        if len(ids) < 2:  # noqa: PLR2004 - what cannot be split any more is lost
            return
        middle = len(ids) // 2
        hints = Hint(hints[0].kind, ids[:middle]), Hint(hints[0].kind, ids[middle:])
    middle = len(hints) // 2
    yield from _packed(origin, hints[:middle])
    yield from _packed(origin, hints[middle:])

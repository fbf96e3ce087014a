"""A proxy before PostgreSQL that understands where messages begin, and cuts a connection between two of a commit.

The exchange of a commit begins with the message that names the statement (to prepare it, or to run it) and ends with
the server's ReadyForQuery. The messages of both directions are numbered in the order in which they pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit, urlunsplit

__all__ = ["COMMITS", "Cut", "How", "MessageProxy", "proxied_by_message"]

COMMITS = frozenset({"commit_v1", "transition_v1", "start_v1", "publish_v1"})
"""By the functions that write batches, a statement is known to be a commit."""
_SSL_REQUEST, _STARTUP = 80877103, 196608
_FOR_EVER = 3600.0


class How(Enum):
    """What a cut leaves."""

    CLOSED = "both sides learn of it"
    CLIENT_ONLY = "only the client learns of it; the server waits on an open connection"
    SERVER_ONLY = "only the server learns of it; the client waits on an open connection"
    SILENT = "neither learns of it: nothing passes any more"


@dataclass(frozen=True)
class Cut:
    """Where to cut: in which commit of the run (from 1), after how many of its messages.

    Batches are put together a little otherwise in each run; if that commit has fewer messages, a later one is cut.
    """

    commit: int
    after: int
    how: How

    def __str__(self) -> str:
        return f"commit {self.commit}, after {self.after} messages, {self.how.name.lower()}"


@dataclass(eq=False)
class MessageProxy:
    """One proxy; it cuts at most once."""

    cut: Cut | None = None
    port: int = 0
    exchanges: list[str] = field(default_factory=list)
    """The messages of each commit that has begun, by their letters: `>` to the server, `<` to the client."""
    functions: list[str] = field(default_factory=list[str])
    """The function of each: one of `COMMITS`."""
    has_cut: bool = False

    def url(self, direct: str, **options: object) -> str:
        """Give the URL that leads through this proxy."""
        parts = urlsplit(direct)
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{self.port}", query=query))

    def passes(self, exchange: int) -> bool:
        """Tell whether the next message of an exchange may pass."""
        cut = self.cut
        if cut is None or self.has_cut or exchange + 1 < cut.commit:
            return True
        return len(self.exchanges[exchange]) // 2 < cut.after


@asynccontextmanager
async def proxied_by_message(direct: str, cut: Cut | None = None) -> AsyncIterator[MessageProxy]:
    """Run a proxy before the server of a URL."""
    parts = urlsplit(direct)
    proxy = MessageProxy(cut)
    tasks: set[asyncio.Task[None]] = set()
    clients: list[asyncio.StreamWriter] = []

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.append(writer)
        wire = _Wire(proxy, reader, writer)
        task = asyncio.create_task(wire.run(parts.hostname or "", parts.port or 0))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in clients:  # also of those whose task was cancelled before it had a server to lead to
            await _abort(writer)


class _CutNow(Exception):
    """The connection is cut here."""


class _Wire:
    """One connection through the proxy."""

    def __init__(self, proxy: MessageProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client, self._to_client = reader, writer
        self._statements: dict[bytes, str] = {}
        """Names of prepared statements that commit, and their functions."""
        self._exchange: int | None = None
        self._is_cut = asyncio.Event()

    async def run(self, host: str, port: int) -> None:
        self._server, self._to_server = await asyncio.open_connection(host, port)
        both = [asyncio.create_task(self._upwards()), asyncio.create_task(self._downwards())]
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if any(isinstance(task.exception(), _CutNow) for task in done):
                await self._part(both)
        except asyncio.CancelledError:
            pass
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for writer in (self._to_client, self._to_server):
                await _abort(writer)

    async def _part(self, both: list[asyncio.Task[None]]) -> None:
        """Cut the connection as told; what is not told to a side, that side is left with."""
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        assert self._proxy.cut is not None
        how = self._proxy.cut.how
        if how in {How.CLOSED, How.CLIENT_ONLY}:
            self._to_client.transport.abort()
        if how in {How.CLOSED, How.SERVER_ONLY}:
            self._to_server.transport.abort()
        self._proxy.has_cut = True
        if how is not How.CLOSED:
            await asyncio.sleep(_FOR_EVER)

    async def _upwards(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._greet()
            while True:
                kind, rest = await _message(self._client)
                self._look_up(kind, rest)
                self._pass(b">", kind)
                self._to_server.write(kind + rest)
                await self._to_server.drain()

    async def _greet(self) -> None:
        """Pass what comes before messages have a kind: the wish for encryption, which is denied, and the start."""
        while True:
            length = await self._client.readexactly(4)
            rest = await self._client.readexactly(struct.unpack("!i", length)[0] - 4)
            (code,) = struct.unpack("!i", rest[:4])
            if code == _SSL_REQUEST:
                self._to_client.write(b"N")
                continue
            self._to_server.write(length + rest)
            if code == _STARTUP:
                return

    def _look_up(self, kind: bytes, rest: bytes) -> None:
        """See whether a commit begins."""
        payload = rest[4:]
        if kind == b"P":
            name, _, query = payload.partition(b"\0")
            function = _function_in(query)
            if function is not None:
                self._statements[name] = function
                self._begin(function)
        elif kind == b"B":
            statement = payload.split(b"\0", 2)[1]
            if statement in self._statements and self._exchange is None:
                self._begin(self._statements[statement])

    def _begin(self, function: str) -> None:
        self._exchange = len(self._proxy.exchanges)
        self._proxy.exchanges.append("")
        self._proxy.functions.append(function)

    def _pass(self, direction: bytes, kind: bytes) -> None:
        if self._exchange is None:
            return
        if not self._proxy.passes(self._exchange):
            raise _CutNow
        self._proxy.exchanges[self._exchange] += (direction + kind).decode()

    async def _downwards(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, rest = await _message(self._server)
                self._pass(b"<", kind)
                self._to_client.write(kind + rest)
                await self._to_client.drain()
                if kind == b"Z":
                    self._after_ready()

    def _after_ready(self) -> None:
        """The server waits for the next request: a commit that was run is over, one only prepared goes on."""
        if self._exchange is None:
            return
        if ">E" in self._proxy.exchanges[self._exchange]:
            if not self._proxy.passes(self._exchange):
                raise _CutNow
            self._exchange = None


def _function_in(query: bytes) -> str | None:
    return next((each for each in COMMITS if f".{each}(".encode() in query), None)


async def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    length = await reader.readexactly(4)
    return kind, length + await reader.readexactly(struct.unpack("!i", length)[0] - 4)

"""A TCP proxy before PostgreSQL that cuts a connection at a chosen moment of the request that carries a given mark."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Moment", "Proxy", "proxied"]

_CHUNK = 1 << 20


class Moment(Enum):
    """When the connection is cut."""

    BEFORE = "before the request"
    HALFWAY = "within the request"
    DURING = "once the request is with the server"
    AFTER = "once the server has answered"
    SILENT = "never, but no answer comes any more"
    LATE = "before the request, which reaches the server all the same, when it is let go"


@dataclass(eq=False)
class Proxy:
    """One proxy. Set `moment` and `mark`, and the next request with that mark is treated so, once."""

    port: int = 0
    moment: Moment | None = None
    mark: bytes = b""
    requests: int = 0
    """How often a client sent something after an answer: the round trips begun."""
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a connection was cut as told."""
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    """For LATE: set it to send what was held back."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """For LATE: set when the server has answered what was held back."""

    wires: set[_Wire] = field(default_factory=set)

    def freeze(self) -> None:
        """Swallow what comes on the connections that there are, both ways: nobody learns that they lead nowhere."""
        for wire in self.wires:
            wire.is_frozen = True

    def arm(self, moment: Moment, mark: bytes) -> None:
        """Cut the next request with that mark."""
        self.moment, self.mark = moment, mark
        self.cut.clear()

    def url(self, direct: str, **options: object) -> str:
        """Give the URL that leads through this proxy."""
        parts = urlsplit(direct)
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{self.port}", query=query))


@asynccontextmanager
async def proxied(direct: str) -> AsyncIterator[Proxy]:
    """Run a proxy before the server of a URL."""
    parts = urlsplit(direct)
    proxy = Proxy()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            wire = _Wire(proxy, reader, writer)
            proxy.wires.add(wire)
            await wire.run(parts.hostname or "", parts.port or 0)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_CHUNK)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Wire:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client, self._to_client = reader, writer
        self._answered = True
        self._deaf = False
        self._cut_after_answer = False
        self.is_frozen = False

    async def run(self, host: str, port: int) -> None:
        self._server, self._to_server = await asyncio.open_connection(host, port, limit=_CHUNK)
        try:
            await asyncio.gather(self._upwards(), self._downwards())
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            for writer in (self._to_client, self._to_server):
                writer.transport.abort()
                with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                    await writer.wait_closed()

    async def _upwards(self) -> None:
        while data := await self._client.read(_CHUNK):
            if self.is_frozen:
                continue
            self._proxy.requests += self._answered
            self._answered = False
            moment = self._proxy.moment
            if moment is not None and self._proxy.mark in data:
                self._proxy.moment = None
                await self._fail(moment, data)
                continue
            self._to_server.write(data)
            await self._to_server.drain()
        raise ConnectionAbortedError

    async def _fail(self, moment: Moment, data: bytes) -> None:
        if moment is Moment.LATE:
            self._to_client.transport.abort()
            self._proxy.cut.set()
            await self._proxy.let_go.wait()
            self._deaf = True
            self._to_server.write(data)
            await asyncio.sleep(3600)  # until the answer is there, see _downwards
        if moment is Moment.HALFWAY:
            self._to_server.write(data[: len(data) // 2])
        elif moment is not Moment.BEFORE:
            self._deaf = moment is Moment.SILENT
            self._cut_after_answer = moment is Moment.AFTER
            self._to_server.write(data)
            await self._to_server.drain()
        if moment in (Moment.BEFORE, Moment.HALFWAY, Moment.DURING):
            self._proxy.cut.set()
            raise ConnectionAbortedError

    async def _downwards(self) -> None:
        while data := await self._server.read(_CHUNK):
            if self.is_frozen:
                continue
            self._answered = True
            if self._cut_after_answer:
                self._proxy.cut.set()
                raise ConnectionAbortedError
            if self._deaf:
                self._proxy.arrived.set()
                # As behind a broken line: nothing is read from the server any more, either.
                await asyncio.sleep(3600)
            self._to_client.write(data)
            with contextlib.suppress(ConnectionError):
                await self._to_client.drain()
        raise ConnectionAbortedError

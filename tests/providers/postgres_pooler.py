"""A pooler before PostgreSQL, as unhelpful as poolers are: after each transaction a client gets another connection.

It refuses settings at the beginning of a connection, and forwards no notifications.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Pooler", "pooled"]

_SSL_REQUEST = 80877103
_KNOWN = {"user", "database", "application_name", "client_encoding"}
_NOTIFICATION, _READY, _TERMINATE = b"A", b"Z", b"X"


@dataclass(eq=False)
class _Server:
    """One connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    greeting: bytes = b""


@dataclass(eq=False)
class Pooler:
    """One pooler. At least two connections go round, so that no client meets the same one twice in a row."""

    server: tuple[str, int]
    port: int = 0
    refused: set[str] = field(default_factory=set)
    """Settings that clients wanted to have from the beginning."""
    transactions: int = 0
    _idle: deque[_Server] = field(default_factory=deque)
    _all: list[_Server] = field(default_factory=list)

    def url(self, direct: str, /, **options: object) -> str:
        """Give the URL that leads through this pooler."""
        parts = urlsplit(direct)
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{self.port}", query=query))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            startup = await self._startup(reader, writer)
            if startup is None:
                return
            while len(self._all) < 2 or not self._idle:
                self._idle.append(await self._connect(startup))
            # A process id that is none: clients cannot tell which server they will get.
            writer.write(self._idle[0].greeting)
            while True:
                await self._transaction(reader, writer, startup)
        writer.transport.abort()

    async def _startup(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        while True:
            (size,) = struct.unpack("!i", await reader.readexactly(4))
            packet = await reader.readexactly(size - 4)
            (code,) = struct.unpack("!i", packet[:4])
            if code != _SSL_REQUEST:
                break
            writer.write(b"N")
        words = packet[4:].split(b"\0")
        names = {name.decode() for name in words[:-2:2]}
        if unknown := names - _KNOWN:
            self.refused |= unknown
            text = f"SFATAL\0C08P01\0Munsupported startup parameter: {min(unknown)}\0\0".encode()
            writer.write(b"E" + struct.pack("!i", len(text) + 4) + text)
            await writer.drain()
            writer.close()
            return None
        return struct.pack("!i", size) + packet

    async def _connect(self, startup: bytes) -> _Server:
        server = _Server(*await asyncio.open_connection(*self.server))
        self._all.append(server)
        server.writer.write(startup)
        while not server.greeting.endswith(b"Z\0\0\0\x05I"):
            kind, message = await _message(server.reader)
            server.greeting += b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x01" if kind == b"K" else message
        return server

    async def _transaction(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, startup: bytes) -> None:
        kind, message = await _message(reader)
        if kind == _TERMINATE:
            raise ConnectionAbortedError
        server = self._idle.popleft() if self._idle else await self._connect(startup)
        self.transactions += 1
        upwards = asyncio.create_task(_upwards(reader, server, message))
        try:
            while True:
                kind, message = await _message(server.reader)
                if kind != _NOTIFICATION:
                    writer.write(message)
                if kind == _READY and message.endswith(b"I"):
                    break
        except BaseException:
            server.writer.transport.abort()
            raise
        finally:
            upwards.cancel()
            await asyncio.gather(upwards, return_exceptions=True)
        self._idle.append(server)

    def close(self) -> None:
        """Cut every connection to the server."""
        for server in self._all:
            server.writer.transport.abort()


@asynccontextmanager
async def pooled(direct: str) -> AsyncIterator[Pooler]:
    """Run a pooler before the server of a URL."""
    parts = urlsplit(direct)
    pooler = Pooler((parts.hostname or "", parts.port or 0))
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await pooler.serve(reader, writer)
        tasks.discard(task)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    pooler.port = listening.sockets[0].getsockname()[1]
    try:
        yield pooler
    finally:
        listening.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        pooler.close()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    (size,) = struct.unpack("!i", head[1:])
    return head[:1], head + await reader.readexactly(size - 4)


async def _upwards(reader: asyncio.StreamReader, server: _Server, message: bytes) -> None:
    server.writer.write(message)
    while True:
        # Only whole messages, as this is ended between transactions; a client sends none before it has its answer.
        _, message = await _message(reader)
        server.writer.write(message)

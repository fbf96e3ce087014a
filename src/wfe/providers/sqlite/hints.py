"""Hints between processes on one machine: datagrams to a socket for each session, beside the database."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import msgspec

from wfe.ports.hints import Hint
from wfe.providers.sqlite.place import Place

__all__ = ["SQLiteHints"]

Receive: TypeAlias = Callable[[Hint], None]

_LONGEST_PATH = 104
_LONGEST_SESSION = 40
_LARGEST_DATAGRAM = 32_768
_TAKEN_AT_ONCE = 64
_YOUNG_SECONDS = 10.0
_encoder = msgspec.msgpack.Encoder(enc_hook=str)  # of ids that are no UTF-8; all others never ask the hook
_decoder = msgspec.msgpack.Decoder(list[Hint])


class SQLiteHints:
    """Sends without waiting: a receiver that is full, gone or out of reach misses the hint.

    A database in memory has no other processes, so there is nobody to send to.
    """

    def __init__(self, place: Place) -> None:
        self._stem = _stem(place)
        self._socket: socket.socket | None = None
        self._path: Path | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receive: Receive = _drop
        self._process = 0

    async def open(self, session: str, receive: Receive) -> None:
        await self.close()
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        if self._stem is None:
            return
        self._path = _path_of(self._stem, session)
        self._socket = _bound(self._path)
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._take)
            for path in self._others():
                _remove_if_dead(path)

    async def send(self, session: str | None, hints: Collection[Hint]) -> None:
        if self._socket is None or self._stem is None or not hints:
            return
        paths = [_path_of(self._stem, session)] if session is not None else [*self._others()]
        for datagram in _packed(hints):
            for path in paths:
                self._send(path, datagram)

    async def close(self) -> None:
        ours, self._socket = self._socket, None
        if ours is None or self._loop is None or os.getpid() != self._process:
            return
        self._loop.remove_reader(ours)
        ours.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _send(self, path: Path, datagram: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.sendto(datagram, str(path))
        except ConnectionRefusedError:
            _remove_if_dead(path)
        except OSError:
            # Full, gone or not ours to write to: hints may be lost, the sweep finds the work.
            return

    def _others(self) -> Iterator[Path]:
        assert self._stem is not None
        prefix = self._stem.name
        try:
            with os.scandir(self._stem.parent) as entries:
                names = [entry.name for entry in entries if entry.name.startswith(prefix)]
        except OSError:
            return
        for name in names:
            path = self._stem.with_name(name)
            if path != self._path:
                yield path

    def _take(self) -> None:
        """Take what has come, but leave the loop to others after some."""
        for _ in range(_TAKEN_AT_ONCE):
            if self._socket is None:
                return
            try:
                datagram = self._socket.recv(_LARGEST_DATAGRAM * 2)
            except OSError:
                return
            try:
                hints = _decoder.decode(datagram)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            for hint in hints:
                self._receive(hint)


def _drop(_: Hint) -> None:
    """Nobody receives yet."""


def _stem(place: Place) -> Path | None:
    """Give the path that all sockets of a database begin with; the same in every process that uses it."""
    if place.path is None:
        return None
    real = place.path.resolve()
    beside = real.with_name(f"{real.name}-hint-")
    if len(os.fsencode(beside)) + _LONGEST_SESSION <= _LONGEST_PATH:
        return beside
    # Socket paths are short by the system's law.
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:24]
    return Path(tempfile.gettempdir()) / f"wfe-{digest}-"


def _path_of(stem: Path, session: str) -> Path:
    name = quote(session, safe="")
    if len(name) > _LONGEST_SESSION:
        name = hashlib.sha256(session.encode()).hexdigest()[:_LONGEST_SESSION]
    return stem.with_name(stem.name + name)


def _bound(path: Path) -> socket.socket | None:
    """Make a socket that only this user may send to; None where that is not possible, then there are no hints."""
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        path.unlink(missing_ok=True)
        ours.bind(str(path))
        path.chmod(0o600)
    except OSError:
        ours.close()
        return None
    return ours


def _remove_if_dead(path: Path) -> None:
    """Remove a socket that a process has left behind when it was killed.

    Not a young one: between its name and its being there, the system refuses to send to it, too.
    """
    try:
        if time.time() - path.stat().st_mtime < _YOUNG_SECONDS:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as probe:
            probe.connect(str(path))
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except OSError:
        return  # gone, or not ours to look at


def _packed(hints: Collection[Hint]) -> Iterator[bytes]:
    """Pack hints into as few datagrams as fit; one that is too large by itself becomes several."""
    packed = _encoder.encode(list(hints))
    if len(packed) <= _LARGEST_DATAGRAM:
        yield packed
        return
    for hint in hints:
        ids: list[str] = []
        size = 0
        for one in hint.ids:
            size += 2 * len(one) + 8
            if ids and size > _LARGEST_DATAGRAM // 2:
                yield _encoder.encode([Hint(hint.kind, tuple(ids))])
                ids, size = [], 2 * len(one) + 8
            ids.append(one)
        yield _encoder.encode([Hint(hint.kind, tuple(ids))])

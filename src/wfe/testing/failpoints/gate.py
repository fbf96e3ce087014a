"""The gate that all calls of a run go through: it counts them, lets one blow fall, and shuts behind the dead."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar

from wfe.model.errors import ProviderUnavailable
from wfe.testing.failpoints.points import Mode

__all__ = ["Blow", "Crashed", "Gate", "Victim"]

_T = TypeVar("_T")
_CRASHES = {Mode.CRASH_BEFORE, Mode.CRASH_AFTER}
_LOST_HINT = "hints.send"


class Crashed(BaseException):
    """Raised in a process that has just died, to leave code that cannot be left standing."""


class Victim(Protocol):
    """A process that may die."""

    @property
    def is_dead(self) -> bool:
        """Whether it has died."""
        ...

    def die(self, why: str) -> None:
        """End it at once: nothing of it may ever have an effect again."""
        ...


@dataclass(frozen=True)
class Blow:
    """One fault."""

    point: str
    passage: int
    """At which passage of the point, counted from 1 over all processes of a run."""
    mode: Mode

    def __str__(self) -> str:
        return f"{self.mode} {self.point} #{self.passage}"


class Gate:
    """Every failpoint of a run leads through here.

    A process that dies in a coroutine waits for ever; where it cannot wait, `Crashed` is raised. What it would still
    do afterwards is kept from every backend: its calls do not come back either.

    A blow has struck once it has had its effect, and not when a call begins that it is meant for: that call may be
    cancelled first. The threads of a process may pass, too.
    """

    def __init__(
        self, blow: Blow | None = None, *, latency: Callable[[], Awaitable[None]] | None = None, open_end: bool = False
    ) -> None:
        """Make a gate.

        Args:
            latency: Awaited before and after each asynchronous call, as a request and its reply take their time.
            open_end: Let the blow fall at the first passage from its number on: for runs that do not repeat exactly.
        """
        self.passages: Counter[str] = Counter()
        """How often each failpoint was reached."""
        self.has_struck = False
        self._blow = blow
        self._latency = latency
        self._open_end = open_end
        self._is_aimed = False
        """A call is under way that the blow is meant for."""
        self._counting = threading.Lock()

    async def call(self, victim: Victim, point: str, work: Callable[[], Awaitable[_T]]) -> _T:
        """Lead an asynchronous call through."""
        if victim.is_dead:
            await _for_ever()
        mode = self._aim(point)
        if mode is None:
            await self._take_time()
            answer = await _alive(victim, work)
            await self._take_time()
            return answer
        try:
            return await self._strike(victim, point, work, mode)
        except asyncio.CancelledError:
            if mode in _CRASHES and not victim.is_dead:
                await self._die(victim, mode, point)  # while the call that is given up is still under way
            raise
        finally:
            self._is_aimed = False

    async def _strike(self, victim: Victim, point: str, work: Callable[[], Awaitable[_T]], mode: Mode) -> _T:
        if mode is Mode.REFUSED:
            self.has_struck = True  # be it that the caller gives it up: it will not happen
        if mode is not Mode.REPLY_LOST:  # which nobody shall give up before it has happened
            await self._take_time()
        if mode is Mode.CRASH_BEFORE:
            await self._die(victim, mode, point)
        if mode is Mode.REFUSED:
            if point == _LOST_HINT:
                return None  # type: ignore[return-value]  # sending gives nothing
            raise _unavailable(point, mode)
        # An error is an answer, too, of which nobody is told.
        with contextlib.suppress(Exception):
            await _alive(victim, work)
        if mode is Mode.CRASH_AFTER:
            await self._die(victim, mode, point)
        self.has_struck = True
        await self._take_time()
        raise _unavailable(point, mode)

    async def _take_time(self) -> None:
        if self._latency is not None:
            await self._latency()

    def call_now(self, victim: Victim, point: str, work: Callable[[], _T]) -> _T:
        """Lead a call through that does not wait."""
        if victim.is_dead:
            raise Crashed
        mode = self._aim(point)
        if mode is None:
            return work()
        if mode is Mode.CRASH_BEFORE:
            self._die_now(victim, mode, point)
        if mode is not Mode.REFUSED:
            with contextlib.suppress(Exception):
                work()
        if mode is Mode.CRASH_AFTER:
            self._die_now(victim, mode, point)
        self.has_struck = True
        raise _unavailable(point, mode)

    def pass_by(self, victim: Victim, point: str) -> None:
        """Pass a place at which nothing is called."""
        if victim.is_dead:
            raise Crashed
        mode = self._aim(point)
        if mode is Mode.CRASH_BEFORE:
            self._die_now(victim, mode, point)
        if mode is Mode.REFUSED:
            self.has_struck = True
            raise _failure_at(point)

    def _aim(self, point: str) -> Mode | None:
        """Count a passage; give the mode of the blow if it is meant for this one."""
        with self._counting:
            self.passages[point] += 1
            blow = self._blow
            if blow is None or self.has_struck or self._is_aimed or blow.point != point:
                return None
            passage = self.passages[point]
            if passage == blow.passage or (self._open_end and passage > blow.passage):
                self._is_aimed = True
                return blow.mode
            return None

    async def _die(self, victim: Victim, mode: Mode, point: str) -> NoReturn:
        self.has_struck = True
        victim.die(f"{mode} {point}")
        await _for_ever()

    def _die_now(self, victim: Victim, mode: Mode, point: str) -> NoReturn:
        self.has_struck = True
        victim.die(f"{mode} {point}")
        raise Crashed


async def _alive(victim: Victim, work: Callable[[], Awaitable[_T]]) -> _T:
    """Do something, of which a process learns only if it has not died meanwhile."""
    try:
        answer = await work()
    except Crashed:
        await _for_ever()
    if _has_died(victim):
        await _for_ever()
    return answer


def _has_died(victim: Victim) -> bool:
    """Look again: another call of the process may have been its last."""
    return victim.is_dead


async def _for_ever() -> NoReturn:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nobody ends this future")


def _unavailable(point: str, mode: Mode) -> ProviderUnavailable:
    return ProviderUnavailable(f"No answer to {point}, as planned ({mode}).")


def _failure_at(point: str) -> Exception:
    """Make the error that the backend's own library would raise there."""
    if point.startswith("sqlite."):
        error = sqlite3.OperationalError("disk I/O error (planned)")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        return error
    return ConnectionResetError("connection lost (planned)")
